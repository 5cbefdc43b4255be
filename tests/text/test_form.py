"""Forms compared with what `transformers` puts around one text and two."""

import shutil

import pytest
import tokenizers
from tokenizers import models, processors

from kbert.errors import InputError
from kbert.text.form import Form

FIRST, SECOND = "Uma sentença.", "E outra! It is."


def theirs(data_dir, tmp_path, name):
    """transformers' own tokenizer of a folder of vocabularies."""
    import transformers

    classes = {
        "roberta-base": transformers.RobertaTokenizer,
        "gpt2": transformers.GPT2Tokenizer,
        "t5-small": transformers.T5Tokenizer,
        "albert": transformers.AlbertTokenizer,
        "xlnet": transformers.XLNetTokenizer,
    }
    folder = data_dir / "vocab" / name
    for model in folder.glob("*.model"):
        folder = tmp_path
        shutil.copy(model, folder / "spiece.model")  # the name that transformers looks for
    return classes.get(name, transformers.BertTokenizer).from_pretrained(folder)


FORMS = {
    "bert-base-uncased": Form((101,), (102,), (102,)),
    "bert-base-cased": Form((101,), (102,), (102,)),
    "bert-base-chinese": Form((101,), (102,), (102,)),
    "mbert-cased": Form((101,), (102,), (102,)),
    "bertimbau-cased": Form((101,), (102,), (102,)),
    "albert": Form((2,), (3,), (3,)),
    "roberta-base": Form((0,), (2, 2), (2,), segments=(0, 0)),
    "t5-small": Form((), (1,), (1,), segments=(0, 0)),
    "xlnet": Form((), (4,), (4, 3), last_segment=2),
    "gpt2": Form(),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_form_is_that_of_transformers(data_dir, tmp_path, name):
    reference = theirs(data_dir, tmp_path, name)
    rust = reference._tokenizer
    rust.no_padding()
    rust.no_truncation()
    form = Form.from_rust(rust)
    assert form == FORMS[name]
    reference.padding_side = "right"
    texts = [reference(text, add_special_tokens=False)["input_ids"] for text in (FIRST, SECOND, "")]
    for pair in ([0], [2], [0, 1], [1, 0], [2, 1]):  # to transformers, an empty second is none
        expected = reference(
            *([FIRST, SECOND, ""][number] for number in pair), return_token_type_ids=True
        )
        token_ids, segment_ids = form.join([texts[number] for number in pair])
        assert token_ids == expected["input_ids"], pair
        assert segment_ids == expected["token_type_ids"], pair
        assert len(token_ids) - sum(len(texts[n]) for n in pair) == form.num_special(len(pair))


def bare(post_processor=None):
    vocab = {"[UNK]": 0, "<s>": 1, "</s>": 2, "é": 3}
    rust = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    if post_processor:
        rust.post_processor = post_processor
    return rust


@pytest.mark.parametrize(
    ("post_processor", "form"),
    [
        (None, Form()),
        (processors.ByteLevel(), Form()),
        (processors.BertProcessing(("</s>", 2), ("<s>", 1)), Form((1,), (2,), (2,))),
        (processors.RobertaProcessing(("</s>", 2), ("<s>", 1)), Form((1,), (2, 2), (2,), (0, 0))),
        (
            processors.Sequence(
                [
                    processors.ByteLevel(),
                    processors.TemplateProcessing("$A </s>", "$A </s> $B:0 </s>", [("</s>", 2)]),
                ]
            ),
            Form((), (2,), (2,), (0, 0)),
        ),
    ],
)
def test_the_form_is_read_from_every_kind_of_post_processor(post_processor, form):
    assert Form.from_rust(bare(post_processor)) == form


def test_a_vocabulary_without_the_letter_a_has_a_form_too():
    rust = tokenizers.Tokenizer(models.BPE({"<s>": 0, "é": 1}, []))
    rust.add_special_tokens(["<s>"])
    assert rust.encode("a").ids == []
    rust.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B:0", [("<s>", 0)])
    assert Form.from_rust(rust) == Form(prefix=(0,), segments=(0, 0))


def test_a_vocabulary_that_knows_no_text_is_refused():
    rust = tokenizers.Tokenizer(models.BPE({}, []))
    with pytest.raises(InputError, match="a vocabulary with tokens for some text, came one with"):
        Form.from_rust(rust)


def test_a_pair_of_another_form_than_a_single_text_is_refused():
    rust = bare(processors.TemplateProcessing("<s> $A", "$A </s> $B", [("<s>", 1), ("</s>", 2)]))
    with pytest.raises(
        InputError,
        match=r"the same for one text as for two; came '<s> \[UNK\]' with segments \[0, 0\] for "
        r"one text and '\[UNK\] </s> \[UNK\]' with \[0, 0, 0\] for two. Set rust.post_processor",
    ):
        Form.from_rust(rust)


def test_more_texts_than_two_are_joined_as_two_are():
    texts = [[11, 13], [], [17]]
    bert = Form((2,), (3,), (3,))
    assert bert.join(texts) == ([2, 11, 13, 3, 3, 17, 3], [0, 0, 0, 0, 1, 1, 1])
    assert bert.num_special(3) == 4
    xlnet = Form((), (4,), (4, 3), last_segment=2)
    assert xlnet.join(texts) == ([11, 13, 4, 4, 17, 4, 3], [0, 0, 0, 1, 1, 1, 2])


def test_the_origin_of_every_column_is_a_text_and_a_token():
    assert Form((1,), (2, 2), (2,), (0, 0)).origins([2, 1]) == [
        (-1, -1), (0, 0), (0, 1), (-1, -1), (-1, -1), (1, 0), (-1, -1),
    ]  # fmt: skip
    assert Form().origins([1, 0, 2]) == [(0, 0), (2, 0), (2, 1)]
