"""SentencePiece models against the library that made them and against transformers."""

import json
import shutil
import types
import unicodedata

import pytest
import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from test_tokenizer import (
    banking,
    encodings,
    machado,
    mismatches,
    transformers_encodings,
    transformers_ids,
)
from transformers import (
    AddedToken,
    CamembertTokenizer,
    PreTrainedTokenizerFast,
    T5Tokenizer,
    XLMRobertaTokenizer,
)
from transformers.convert_slow_tokenizer import (
    AlbertConverter,
    CamembertConverter,
    DebertaV2Converter,
    XLNetConverter,
)

from kbert.errors import InputError
from kbert.text.form import Form
from kbert.text.special_tokens import BERT
from kbert.text.tokenizer import Tokenizer

FILES = {"albert": "30k-clean.model", "xlnet": "spiece.model"}
# Numbers with commas, quotes, user-defined pieces glued and alone, white space of all kinds.
TEXTS = [
    "It cost 1,000,000 in 1999, 10, and 2,5 more.",
    "``quoted'' \"text\" (in brackets) [and] e.g. the U.S.A. - £5–€6 – ok-ish.",
    "  two  spaces\tand\u00a0others\u3000of\u2028them \u2581 and x\u2581y ",
    "Crédito ação, cafe\u0301, Ångström ﬁ ½ № Ｆｕｌｌ",
    "",
    " ",
    "日本 語 한국",
]


@pytest.fixture(scope="module", params=FILES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def tokenizer(name, data_dir) -> Tokenizer:
    return Tokenizer.from_folder(data_dir / "vocab" / name)


def lines(data_dir) -> list[str]:
    english = (data_dir / "corpus" / "en_gutenberg").rglob("*.txt")
    read = [line for path in sorted(english) for line in path.read_text("utf-8").split("\n")]
    return [*machado(data_dir)[::40], *banking()[::40], *read[::200], *TEXTS]


def published_pieces(model, text: str, lowercase: bool) -> list[str]:
    """albert/tokenization.py and xlnet/prepro_utils.py: preprocess_text, encode_pieces."""
    text = " ".join(text.split()).replace("``", '"').replace("''", '"')
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    pieces = []
    for piece in model.encode(text.lower() if lowercase else text, out_type=str):
        if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit():
            number = model.encode(piece[:-1].replace("\u2581", ""), out_type=str)
            if piece[0] != "\u2581" and number[0][0] == "\u2581":
                number[0] = number[0][1:]
            pieces += [*filter(None, number), piece[-1]]
        else:
            pieces.append(piece)
    return pieces


def test_pieces_are_those_of_the_published_code(name, tokenizer, data_dir):
    model = sentencepiece.SentencePieceProcessor(
        model_file=str(data_dir / "vocab" / name / FILES[name])
    )
    texts = lines(data_dir)
    pieces = [published_pieces(model, text, name == "albert") for text in texts]
    expected = [[model.piece_to_id(piece) for piece in row] for row in pieces]
    assert mismatches(texts, expected, tokenizer(texts)) == []


def published_json(name, path) -> str:
    """tokenizer.json as the hub has it for these models.

    It is what transformers' converter gives, but that user-defined pieces are no added tokens (a
    newer converter makes them some, so that "a-b" becomes a, -, ▁b, which is no piece sequence of
    SentencePiece) and that words are split at white space before they get their ▁.
    """
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    original = types.SimpleNamespace(
        vocab_file=str(path),
        keep_accents=False,
        do_lower_case=name == "albert",
        convert_tokens_to_ids=model.piece_to_id,
    )
    converter = {"albert": AlbertConverter, "xlnet": XLNetConverter}[name]
    parts = json.loads(converter(original).converted().to_str())
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["special"]]
    split = [{"type": "WhitespaceSplit"}, parts["pre_tokenizer"]]
    parts["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": split}
    return json.dumps(parts)


def test_ids_offsets_and_words_agree_with_transformers(name, tokenizer, data_dir):
    path = data_dir / "vocab" / name / FILES[name]
    rust = tokenizers.Tokenizer.from_str(published_json(name, path))
    reference = PreTrainedTokenizerFast(tokenizer_object=rust)
    texts = lines(data_dir)
    expected = transformers_encodings(reference, texts)
    assert mismatches(texts, expected, encodings(tokenizer, texts)) == []
    words = [text.split(" ") for text in texts]
    expected = transformers_encodings(reference, words, True)
    assert mismatches(words, expected, encodings(tokenizer, words)) == []


def test_a_saved_model_is_the_same_to_the_last_bit(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    assert Tokenizer.from_folder(tmp_path).rust.to_str() == tokenizer.rust.to_str()


def test_special_tokens_and_forms_are_those_of_the_models(data_dir):
    albert = Tokenizer.from_folder(data_dir / "vocab" / "albert")
    assert (albert.pad_id, albert.unk_id, albert.cls_id, albert.sep_id, albert.mask_id) == (
        *range(5),
    )
    assert albert.form == Form(prefix=(2,), between=(3,), suffix=(3,), segments=(0, 1))
    xlnet = Tokenizer.from_folder(data_dir / "vocab" / "xlnet")
    assert (xlnet.unk_id, xlnet.bos_id, xlnet.eos_id, xlnet.cls_id) == (0, 1, 2, 3)
    assert (xlnet.sep_id, xlnet.pad_id, xlnet.mask_id) == (4, 5, 6)
    form = Form(between=(4,), suffix=(4, 3), segments=(0, 1), last_segment=2)
    assert xlnet.form == form
    # Control tokens that play no part are special too, user-defined ones are pieces.
    assert xlnet.decode(xlnet(["a<eod> b<eop>"])[0]) == "a b<eop>"
    # The mask takes the spaces before it.
    assert xlnet.tokenize("a  <mask> b") == ["▁a", "<mask>", "▁", "b"]


def test_lower_casing_and_accents_are_the_folders_to_say(data_dir, tmp_path):
    shutil.copy(data_dir / "vocab" / "albert" / FILES["albert"], tmp_path / "spiece.model")
    assert Tokenizer.from_folder(tmp_path).tokenize("Café") == ["▁ca", "fe"]
    config = {"do_lower_case": False, "keep_accents": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.decode(tokenizer(["éa ÉA"])[0]) == "éa ÉA"


# Models of other families and settings, made here


CORPUS = [
    "the cat sat on the mat",
    "a cat and a dog",
    "the dogs sat  on mats",
    "on and on, cat!",
    "é ü ção",
] * 20


def train(path, **settings):
    """A SentencePiece model of about 40 pieces, and the library's tokenizer for it."""
    settings = {"vocab_size": 40, "model_type": "unigram", "hard_vocab_limit": False} | settings
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_prefix=str(path).removesuffix(".model"),
        minloglevel=2,
        **settings,
    )
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def write_json(folder, **files):
    """JSON files, named without their suffix."""
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def own_texts():
    return [*CORPUS[:5], *TEXTS, " the  cat ", "cat  dog", "x the zcat"]


def test_t5_has_sentinels_after_its_pieces_and_one_end(tmp_path):
    model = train(tmp_path / "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    tokenizer, size = Tokenizer.from_folder(tmp_path), model.vocab_size()
    assert tokenizer.vocab_size == size + 100
    assert tokenizer.vocab[size] == "<extra_id_99>" and tokenizer.vocab[-1] == "<extra_id_0>"
    assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2)
    assert tokenizer.form == Form(between=(1,), suffix=(1,), segments=(0, 0))
    texts = [*own_texts(), "the <extra_id_0>cat</s>"]
    reference = T5Tokenizer.from_pretrained(tmp_path)
    assert (
        mismatches(texts, transformers_encodings(reference, texts), encodings(tokenizer, texts))
        == []
    )
    assert mismatches(own_texts(), model.encode(own_texts()), tokenizer(own_texts())) == []


def test_xlm_r_has_fairseqs_tokens_first(tmp_path):
    model = train(tmp_path / "sentencepiece.bpe.model", unk_id=0, bos_id=1, eos_id=2)
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.vocab[:5] == ["<s>", "<pad>", "</s>", "<unk>", model.id_to_piece(3)]
    assert tokenizer.mask_id == tokenizer.vocab_size - 1 == model.vocab_size() + 1
    assert tokenizer.form == Form(prefix=(0,), between=(2, 2), suffix=(2,), segments=(0, 0))
    texts = [*own_texts(), "the <mask>cat</s>"]
    mask = AddedToken("<mask>", lstrip=True)  # as the published tokenizer.json has it
    reference = XLMRobertaTokenizer.from_pretrained(tmp_path, mask_token=mask)
    assert (
        mismatches(texts, transformers_encodings(reference, texts), encodings(tokenizer, texts))
        == []
    )


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"tokenizer_class": "CamembertTokenizer"}},
        {
            "tokenizer_config": {
                "tokenizer_class": "CamembertTokenizerFast",
                "model_max_length": 512,
            }
        },
        {"config": {"model_type": "camembert"}, "tokenizer_config": {"model_max_length": 512}},
    ],
    ids=["class", "fast class", "model type"],
)
def test_camembert_has_tokens_that_it_never_used(files, tmp_path):
    """As the hub has it: one file, and a class or a model type that tells it from XLM-R's."""
    model = train(tmp_path / "sentencepiece.bpe.model", unk_id=0, bos_id=1, eos_id=2)
    write_json(tmp_path, **files)
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.vocab[:5] == ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"]
    assert tokenizer.vocab[5:8] == ["<s>", "</s>", model.id_to_piece(3)]
    assert tokenizer.mask_id == tokenizer.vocab_size - 1 == model.vocab_size() + 4
    ids = (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.unk_id)
    assert ids == (5, 6, 1, 3)
    assert tokenizer.form == Form(prefix=(5,), between=(6, 6), suffix=(6,), segments=(0, 0))
    texts = [*own_texts(), "the <mask>cat</s> <s>NOTUSED a <unk>"]
    reference = CamembertTokenizer.from_pretrained(tmp_path)
    assert len(reference) == tokenizer.vocab_size
    expected = transformers_encodings(reference, texts)
    assert mismatches(texts, expected, encodings(tokenizer, texts)) == []
    original = types.SimpleNamespace(
        vocab_file=str(tmp_path / "sentencepiece.bpe.model"),
        convert_tokens_to_ids={"<s>": 5, "</s>": 6}.get,
    )
    converted = CamembertConverter(original).converted()
    assert converted.get_vocab(with_added_tokens=False) == tokenizer.rust.get_vocab(False)
    tokenizer.save(tmp_path / "saved")
    again = Tokenizer.from_folder(tmp_path / "saved")
    assert mismatches(texts, encodings(tokenizer, texts), encodings(again, texts)) == []


# DeBERTa's files have four of its special tokens, and the mask is added; or all, or none.
DEBERTA_FILES = {
    "four inside": {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3},
    "five inside": {
        "pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "control_symbols": ["[MASK]"],
    },
    "none inside": {"unk_id": 0, "bos_id": -1, "eos_id": -1, "unk_piece": "<unk>"},
}  # fmt: skip


@pytest.mark.parametrize("inside", DEBERTA_FILES)
@pytest.mark.parametrize("settings", [{}, {"do_lower_case": True}, {"split_by_punct": True}])
def test_deberta_v2_has_the_special_tokens_that_its_file_lacks(inside, settings, tmp_path):
    """As the hub has it: spm.model, tokenizer_config.json and config.json."""
    special = {
        "unk_piece": "[UNK]",
        "pad_piece": "[PAD]",
        "bos_piece": "[CLS]",
        "eos_piece": "[SEP]",
    }
    model = train(tmp_path / "spm.model", **special | DEBERTA_FILES[inside])
    config = {"do_lower_case": False, "vocab_type": "spm", **settings}
    write_json(tmp_path, tokenizer_config=config, config={"model_type": "deberta-v2"})
    tokenizer, size = Tokenizer.from_folder(tmp_path), model.vocab_size()
    names = {part: token for part, token in BERT.items() if part != "unk_token"}
    assert {part: tokenizer.special_tokens[part] for part in names} == names
    more = {"four inside": ["[MASK]"], "five inside": []}.get(inside, [*names.values()])
    assert sorted(tokenizer.vocab[size:]) == sorted(more)
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    assert tokenizer.form == Form(prefix=(cls,), between=(sep,), suffix=(sep,), segments=(0, 1))
    assert tokenizer(["\u3042"])[0][-1] == tokenizer.unk_id == model.unk_id()

    original = types.SimpleNamespace(
        vocab_file=str(tmp_path / "spm.model"),
        do_lower_case=settings.get("do_lower_case", False),
        split_by_punct=settings.get("split_by_punct", False),
        convert_tokens_to_ids=tokenizer.rust.token_to_id,
    )
    rust = DebertaV2Converter(original).converted()
    ends = {"bos_token": "[CLS]", "eos_token": "[SEP]"}  # as DebertaV2Tokenizer has them
    reference = PreTrainedTokenizerFast(tokenizer_object=rust, **names, **ends)
    assert {t: reference.convert_tokens_to_ids(t) for t in names.values()} == {
        t: tokenizer.rust.token_to_id(t) for t in names.values()
    }
    texts = [*own_texts(), "The Cat, (a) dog-cat!", "the [MASK] cat[SEP]a"]
    expected = transformers_ids(reference, texts)
    assert mismatches(texts, expected, tokenizer(texts)) == []


def test_deberta_v2_is_known_by_its_special_tokens_alone(tmp_path):
    special = {
        "unk_piece": "[UNK]",
        "pad_piece": "[PAD]",
        "bos_piece": "[CLS]",
        "eos_piece": "[SEP]",
    }
    model = train(tmp_path / "spm.model", **special | DEBERTA_FILES["four inside"])
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.mask_id == model.vocab_size() and tokenizer.vocab[-1] == "[MASK]"
    assert tokenizer.form == Form(prefix=(1,), between=(2,), suffix=(2,), segments=(0, 1))
    assert mismatches(own_texts(), model.encode(own_texts()), tokenizer(own_texts())) == []


def test_a_mask_of_added_tokens_json_is_the_one_that_is_added(tmp_path):
    """As transformers 4 saved fine-tuned models."""
    special = {
        "unk_piece": "[UNK]",
        "pad_piece": "[PAD]",
        "bos_piece": "[CLS]",
        "eos_piece": "[SEP]",
    }
    size = train(tmp_path / "spm.model", **special | DEBERTA_FILES["four inside"]).vocab_size()
    write_json(
        tmp_path, added_tokens={"[MASK]": size}, special_tokens_map={"mask_token": "[MASK]"},
        tokenizer_config={"tokenizer_class": "DebertaV2Tokenizer"},
    )  # fmt: skip
    assert Tokenizer.from_folder(tmp_path).mask_id == size


@pytest.mark.parametrize("add_dummy_prefix", [True, False])
@pytest.mark.parametrize("remove_extra_whitespaces", [True, False])
@pytest.mark.parametrize("rule", ["nmt_nfkc", "identity"])
def test_spaces_are_treated_as_the_file_says(
    add_dummy_prefix, remove_extra_whitespaces, rule, tmp_path
):
    model = train(
        tmp_path / "own.model",
        add_dummy_prefix=add_dummy_prefix,
        remove_extra_whitespaces=remove_extra_whitespaces,
        normalization_rule_name=rule,
    )
    texts = [text for text in own_texts() if rule == "nmt_nfkc" or "\t" not in text]
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert mismatches(texts, model.encode(texts), tokenizer(texts)) == []
    for text in CORPUS[:4]:
        assert tokenizer.decode(tokenizer([text])[0]) == model.decode(model.encode(text))


# Errors


def broken(tmp_path, change):
    train(tmp_path / "own.model")
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString((tmp_path / "own.model").read_bytes())
    change(proto)
    (tmp_path / "own.model").write_bytes(proto.SerializeToString())
    return tmp_path


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs\n", b"\x00\xff" * 50])
def test_a_file_that_is_no_model_is_told(content, tmp_path):
    (tmp_path / "spiece.model").write_bytes(content)
    with pytest.raises(
        InputError, match="spiece.model is not a SentencePiece model, or only a part"
    ):
        Tokenizer.from_folder(tmp_path)


def test_half_a_model_is_told(data_dir, tmp_path):
    whole = (data_dir / "vocab" / "albert" / FILES["albert"]).read_bytes()
    (tmp_path / "spiece.model").write_bytes(whole[: len(whole) // 2 + 1])
    with pytest.raises(
        InputError, match="spiece.model is not a SentencePiece model, or only a part"
    ):
        Tokenizer.from_folder(tmp_path)


def test_a_broken_table_of_characters_is_told(tmp_path):
    def cut(proto):
        proto.normalizer_spec.precompiled_charsmap = b"\xff" * 9

    with pytest.raises(InputError, match="own.model is not a model that `tokenizers` reads: "):
        Tokenizer.from_folder(broken(tmp_path, cut))


def test_a_piece_that_stands_twice_is_told(tmp_path):
    def repeat(proto):
        proto.pieces.append(proto.pieces[-1])

    with pytest.raises(InputError, match=r"own.model holds 1 piece\(s\) more than once, such as "):
        Tokenizer.from_folder(broken(tmp_path, repeat))


def test_a_model_of_another_kind_is_told(tmp_path):
    train(tmp_path / "own.model", model_type="bpe")
    with pytest.raises(InputError, match="expected a SentencePiece model of kind UNIGRAM, got BPE"):
        Tokenizer.from_folder(tmp_path)


def test_two_models_in_one_folder_are_told(tmp_path):
    for name in ("source.model", "target.model"):
        (tmp_path / name).touch()
    with pytest.raises(
        InputError, match="expected one SentencePiece model, got source.model, target.model"
    ):
        Tokenizer.from_folder(tmp_path)


def test_a_special_token_that_a_model_lacks_is_told(data_dir, tmp_path):
    shutil.copy(data_dir / "vocab" / "xlnet" / FILES["xlnet"], tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"cls_token": "[CLS]"}')
    with pytest.raises(
        InputError, match=r"spiece.model: The vocabulary lacks the special token\(s\) \[CLS\]"
    ):
        Tokenizer.from_folder(tmp_path)
