"""The eager tokenizer against published goldens and against transformers, text by text."""

import csv
import functools
import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import tokenizers
from transformers import (
    AutoTokenizer,
    BertTokenizerFast,
    GPT2Tokenizer,
    RobertaTokenizer,
    T5Tokenizer,
)

import kbert
from kbert.errors import InputError
from kbert.text.form import Form
from kbert.text.special_tokens import BERT
from kbert.text.tokenizer import Tokenizer

FAMILY = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}\u200d\N{BOY}"
# What breaks tokenizers: each line says what for.
TORTURE = [
    "",
    " ",
    "\t\n \r\u00a0\u3000\u2028\u2029\u0085",
    # Case: ß and its capital, dotted and dotless I, final sigma, titlecase and ligatures.
    "ß ẞ Straße STRASSE İstanbul IĞDIR ı Σίσυφος ΟΔΥΣΣΕΥΣ Σ ǅ ﬁ ﬃ",
    # What NFKC would change and BERT does not.
    "1º lugar 2ª via… ½ ² x² ™ № ℃ Ａｂｃ １２３ ㎏ Ⅷ ﷺ",
    # Accents, composed and decomposed, stacked, and marks with nothing below them.
    "São João às 15h, açaí, pingüim, N\u0303ANDU n\u0303andu",
    unicodedata.normalize("NFD", "crédito ação Ångström ệ Việt Nam"),
    unicodedata.normalize("NFC", "crédito ação Ångström ệ Việt Nam"),
    "Z\u0351\u036b\u0343\u032aalgo\u0321\u0353 \u0301\u0301 a\u0327\u0301\u0323b",
    "क्षत्रिय हिन्दी ไทยภาษา தமிழ் বাংলা မြန်မာ ខ្មែរ",
    # Chinese, Japanese, Korean, an ideograph beyond the BMP, a compatibility one.
    "漢字とかな交じり文。我爱北京天安门！한국어 韓國語 \U00020000\U0002b820\U0002b920 豈 ｶﾅ",
    # Right to left, with and without points and marks.
    "שלום עולם שָׁלוֹם السلام عليكم مُحَمَّد \u200fRTL\u200e \u202eabc\u202c",
    # Emoji: skin tone, joined, flag, keycap, variation selectors, newer than Rust's tables.
    f"ok👍🏽 {FAMILY} 🇧🇷🇵🇹 1️⃣ ❤️ ☎︎ 🫠🪿🫨 :-) ¯\\_(ツ)_/¯",
    # Zero width, soft hyphen, byte order mark, control, NUL, private use, noncharacters.
    "zero\u200bwidth soft\u00adhyphen \ufeffbom word\u2060joiner x\u180ey",
    "a\x00b \x01\x02 c\x7fd \x1b[0m e\x85f \x1c\x1d\x1e\x1f g",
    "\ufffd a\ufffdb \ue000 c\ue001d \uf8ff \U000f0000x \ufdd0 \uffff \U0010ffff",
    # Punctuation: ASCII, Unicode's, and what only one edition of Unicode calls punctuation.
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ a!b don't R$1.234,56 e-mail@x.com https://a.b/c?d=e#f",
    "«aspas» “curly” ‘q’ — – … • ¿qué? ¡ole! § ¶ † ‰ ₿ € £ ¥ ¬ × ÷ ± · 、。「」",
    "⸮ \u166d \u2e4e \U00011fff",
    # Words at the limit of 100 characters, in one, two, three and four bytes, and far past it.
    f"{'a' * 100} {'a' * 101} {'a' * 99}. {'a' * 60}-{'a' * 60}",
    f"{'ж' * 100} {'ж' * 101} {'ก' * 100} {'ก' * 101} {'𝐱' * 100} {'𝐱' * 101}",
    "e\u0301" * 100 + " " + "e\u0301" * 101 + " " + "漢" * 200 + " " + "\u200b" * 300 + "x",
    "x" * 10_000,
    "long text " * 1_000,
    # Special tokens in the text: glued, in other case, broken, nested, twice.
    "[CLS] a [SEP] b [PAD][MASK]c[UNK] x[SEP]y ..[SEP].. [[SEP]] [SEP",
    "[sep] [Mask] [ SEP ] [S\u200bEP] [SEP\u0301] [MASK\ufffd] [CLS] [SEP][SEP]",
    "[unused1] ##ing a##b # ## ### [unused99]",
]


@functools.cache
def machado(data_dir) -> list[str]:
    """20,000 lines of Machado de Assis, as they are in the files."""
    lines = []
    for path in sorted((data_dir / "corpus" / "pt_machado").rglob("*.txt")):
        lines += [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    assert len(lines) >= 20_000
    return lines[:20_000]


@functools.cache
def banking() -> list[str]:
    """Every message of Banking77, 13,083."""
    folder = Path(kbert.__file__).parent / "datasets" / "banking77"
    texts = []
    for name in ("train.csv", "test.csv"):
        with open(folder / name, encoding="utf-8", newline="") as file:
            texts += [row["text"] for row in csv.DictReader(file)]
    assert len(texts) == 13_083
    return texts


def mismatches(texts, expected, found) -> list:
    """The first texts whose ids differ, with both; an empty list is what a test wants."""
    triples = zip(texts, expected, found, strict=True)
    return [triple for triple in triples if triple[1] != triple[2]][:3]


def transformers_ids(reference, texts) -> list[list[int]]:
    return reference(texts, add_special_tokens=False, return_token_type_ids=False)["input_ids"]


def write_folder(folder, tokens, **files) -> Path:
    """A folder with vocab.txt and JSON files, whose names are given without the suffix."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


# BERTaú's order of special tokens (lectures.md, section 3), not BERT's 0, 100, 101, 102, 103.
TINY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "uma", "sente", "##n", "##ca", ".", "!", "e"]
VOCABULARIES = ["bert-base-uncased", "bertimbau-cased", "mbert-cased"]


@pytest.fixture(scope="module")
def uncased(data_dir) -> Tokenizer:
    return Tokenizer.from_folder(data_dir / "vocab" / "bert-base-uncased")


@pytest.fixture(scope="module")
def bertimbau(data_dir) -> Tokenizer:
    return Tokenizer.from_folder(data_dir / "vocab" / "bertimbau-cased")


def test_ids_of_squad_questions_are_the_published_ones(uncased, data_dir):
    goldens = data_dir / "tokenizer_goldens"
    questions = json.loads((goldens / "question_tokens.json").read_text(encoding="utf-8"))
    ids = json.loads((goldens / "tokenized_questions.json").read_text(encoding="utf-8"))
    texts = [question["original"] for question in questions]
    assert len(texts) == 10_570
    assert mismatches(texts, ids, uncased(texts)) == []
    pieces = [question["wordpiece"] for question in questions]
    assert mismatches(texts, pieces, map(uncased.tokenize, texts)) == []


def test_banking77_agrees_with_transformers(minilm_dir):
    texts = banking()
    expected = transformers_ids(AutoTokenizer.from_pretrained(minilm_dir), texts)
    assert mismatches(texts, expected, Tokenizer.from_folder(minilm_dir)(texts)) == []


@pytest.mark.parametrize("name", ["bertimbau-cased", "bert-base-uncased"])
def test_machado_agrees_with_transformers(name, data_dir):
    folder = data_dir / "vocab" / name
    texts = machado(data_dir)
    expected = transformers_ids(BertTokenizerFast.from_pretrained(folder), texts)
    assert mismatches(texts, expected, Tokenizer.from_folder(folder)(texts)) == []


@pytest.mark.parametrize("name", [*VOCABULARIES, "bert-base-chinese"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_lower_case": False},
        {"do_lower_case": True, "strip_accents": False},
        {"do_lower_case": False, "strip_accents": True},
        {"do_lower_case": True, "tokenize_chinese_chars": False},
    ],
    ids=lambda settings: ",".join(f"{k}={v}" for k, v in settings.items()) or "defaults",
)
def test_torture_agrees_with_transformers(name, settings, data_dir, tmp_path):
    tokens = (data_dir / "vocab" / name / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    folder = write_folder(tmp_path, tokens, tokenizer_config=settings)
    expected = transformers_ids(BertTokenizerFast.from_pretrained(folder), TORTURE)
    assert mismatches(TORTURE, expected, Tokenizer.from_folder(folder)(TORTURE)) == []


def test_pieces_of_the_lecture_sentences(bertimbau):
    odds = "Ne ##ver tel ##l me the o ##dd ##s ."
    assert bertimbau.tokenize("Never tell me the odds.") == odds.split()
    card = "Quer ##o um cartão de crédito ."  # the slide drops the full stop
    assert bertimbau.tokenize("Quero um cartão de crédito.") == card.split()


def test_ids_come_from_the_vocabulary(tmp_path, bertimbau):
    tiny = Tokenizer.from_folder(write_folder(tmp_path, TINY))
    assert (tiny.pad_id, tiny.unk_id, tiny.cls_id, tiny.sep_id, tiny.mask_id) == (0, 1, 2, 3, 4)
    assert tiny(["Uma sentença.", "E outra!"]) == [[5, 6, 7, 8, 9], [11, 1, 10]]
    assert tiny(["[MASK] uma[SEP]"]) == [[4, 5, 3]]
    assert tiny.vocab == TINY and tiny.vocab_size == 12
    assert (bertimbau.pad_id, bertimbau.unk_id) == (0, 100)
    assert (bertimbau.cls_id, bertimbau.sep_id, bertimbau.mask_id) == (101, 102, 103)


def test_settings_are_those_of_the_folder(minilm_dir, bertimbau, tmp_path):
    minilm = Tokenizer.from_folder(minilm_dir)
    assert (minilm.lowercase, minilm.strip_accents, minilm.tokenize_chinese_chars) == (
        True,
        None,
        True,
    )
    assert minilm.max_length == 512
    assert not bertimbau.lowercase
    assert bertimbau.max_length is None  # its file says 10**30
    settings = {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False}
    tiny = Tokenizer.from_folder(write_folder(tmp_path, TINY, tokenizer_config=settings))
    assert (tiny.lowercase, tiny.strip_accents, tiny.tokenize_chinese_chars) == (False, True, False)


def test_padding_and_truncation_of_tokenizer_json_are_off(minilm_dir, tmp_path):
    parts = json.loads((minilm_dir / "tokenizer.json").read_text(encoding="utf-8"))
    assert parts["padding"] and parts["truncation"]["max_length"] == 128
    tokenizer = Tokenizer.from_folder(minilm_dir)
    assert [len(ids) for ids in tokenizer(["card", "card " * 200])] == [1, 200]
    tokenizer.save(tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert saved["padding"] is None and saved["truncation"] is None


def test_many_texts_come_back_in_order(uncased, monkeypatch):
    texts = banking()[:50]
    expected = uncased(texts)
    monkeypatch.setattr("kbert.text.tokenizer.TEXTS_PER_CALL", 7)
    assert uncased(texts) == expected
    assert uncased(iter(texts)) == expected
    assert uncased([]) == []


@pytest.mark.parametrize("skip_special_tokens", [True, False])
def test_decode_agrees_with_transformers(data_dir, skip_special_tokens):
    folder = data_dir / "vocab" / "bertimbau-cased"
    tokenizer, reference = Tokenizer.from_folder(folder), AutoTokenizer.from_pretrained(folder)
    texts = machado(data_dir)[:200] + ["[CLS] Olá, mundo! [SEP][PAD]"]
    for ids in tokenizer(texts):
        found = tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
        assert found == reference.decode(ids, skip_special_tokens=skip_special_tokens)
    assert tokenizer.decode(tokenizer(["Quero um cartão."])[0]) == "Quero um cartão."


@pytest.mark.parametrize("name", [*VOCABULARIES, "bert-base-chinese", "minilm"])
def test_a_saved_folder_gives_the_same_ids_to_kbert_and_transformers(
    name, data_dir, minilm_dir, tmp_path
):
    tokenizer = Tokenizer.from_folder(minilm_dir if name == "minilm" else data_dir / "vocab" / name)
    tokenizer.save(tmp_path / "saved")
    expected = tokenizer(TORTURE)
    again = Tokenizer.from_folder(tmp_path / "saved")
    reference = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert mismatches(TORTURE, expected, again(TORTURE)) == []
    assert mismatches(TORTURE, expected, transformers_ids(reference, TORTURE)) == []
    assert again.vocab == tokenizer.vocab and again.max_length == tokenizer.max_length
    pair = reference("a", "b")
    assert [pair["input_ids"][i] for i in (0, -1)] == [tokenizer.cls_id, tokenizer.sep_id]
    assert pair["token_type_ids"] == [0, 0, 0, 1, 1]


def test_vocab_txt_of_a_saved_folder_stands_alone(bertimbau, tmp_path):
    bertimbau.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert mismatches(TORTURE, bertimbau(TORTURE), Tokenizer.from_folder(tmp_path)(TORTURE)) == []


@pytest.mark.parametrize(
    "config",
    [
        {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False},
        {"additional_special_tokens": ["<e1>", "</e1>"]},
        {"extra_special_tokens": ["<e1>", "[unused3]"]},
        {
            "added_tokens_decoder": {
                "30522": {"content": "<e1>", "normalized": True, "special": False},
                "30523": {"content": "</e1>", "normalized": False, "special": True},
                "103": {"content": "[MASK]", "lstrip": True, "special": True},
            }
        },
    ],
    ids=lambda config: next(iter(config)),
)
def test_settings_and_added_tokens_survive_saving(config, data_dir, tmp_path):
    texts = [*TORTURE, "x <e1>ab</e1> y <E1> [unused3]z", "a  [MASK] b"]
    path = data_dir / "vocab" / "bert-base-uncased" / "vocab.txt"
    tokens = path.read_text(encoding="utf-8").split("\n")[:-1]
    folder = write_folder(tmp_path / "given", tokens, tokenizer_config=config)
    expected = transformers_ids(BertTokenizerFast.from_pretrained(folder), texts)
    tokenizer = Tokenizer.from_folder(folder)
    assert mismatches(texts, expected, tokenizer(texts)) == []
    tokenizer.save(tmp_path / "saved")
    assert mismatches(texts, expected, Tokenizer.from_folder(tmp_path / "saved")(texts)) == []
    reference = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert mismatches(texts, expected, transformers_ids(reference, texts)) == []


def test_a_tokenizer_that_is_not_quite_berts_keeps_its_parts_in_transformers(tmp_path, bertimbau):
    rust = tokenizers.Tokenizer.from_str(bertimbau.rust.to_str())
    rust.model.max_input_chars_per_word = 5
    Tokenizer(rust).save(tmp_path)
    expected = [[bertimbau.unk_id, bertimbau.rust.token_to_id("de")]]
    assert Tokenizer.from_folder(tmp_path)(["cartão de"]) == expected
    reference = AutoTokenizer.from_pretrained(tmp_path)
    assert transformers_ids(reference, ["cartão de"]) == expected


def test_tokenizer_config_wins_over_tokenizer_json(minilm_dir, tmp_path):
    Tokenizer.from_folder(minilm_dir).save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"do_lower_case": False}
    path.write_text(json.dumps(config), encoding="utf-8")
    texts = ["Card CARD card çá"]
    expected = transformers_ids(AutoTokenizer.from_pretrained(tmp_path), texts)
    assert Tokenizer.from_folder(tmp_path)(texts) == expected
    assert expected != Tokenizer.from_folder(minilm_dir)(texts)


def test_a_missing_mask_token_is_fine(tmp_path):
    tokens = [token for token in TINY if token != "[MASK]"]
    tokenizer = Tokenizer.from_folder(write_folder(tmp_path / "given", tokens))
    assert tokenizer.mask_id is None
    tokenizer.save(tmp_path / "saved")
    assert Tokenizer.from_folder(tmp_path / "saved").mask_id is None
    reference = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert len(reference) == len(tokens) and reference.mask_token is None


def test_special_tokens_may_have_other_names(tmp_path):
    names = {"[PAD]": "<pad>", "[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>"}
    tokens = [names.get(token, token) for token in TINY]
    config = {
        "pad_token": "<pad>",
        "unk_token": {"content": "<unk>", "lstrip": False},
        "cls_token": "<s>",
    }
    folder = write_folder(
        tmp_path / "given",
        tokens,
        tokenizer_config=config,
        special_tokens_map={"sep_token": "</s>"},
    )
    tokenizer = Tokenizer.from_folder(folder)
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id) == (0, 1, 2, 3)
    texts = ["<s>uma outra</s>", "[SEP]"]
    assert tokenizer(texts) == [[2, 5, 1, 3], [1, 1, 1]]
    tokenizer.save(tmp_path / "saved")
    reference = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert transformers_ids(reference, texts) == tokenizer(texts)


def test_unknown_words_get_the_unknown_token_that_was_named():
    vocab = {"<unk>" if token == "[UNK]" else token: row for row, token in enumerate(TINY)}
    rust = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab))  # which looks for [UNK]
    assert Tokenizer(rust, {"unk_token": "<unk>"})(["outra"]) == [[1]]


def test_a_token_that_is_a_line_separator_keeps_its_row(data_dir):
    tokenizer = Tokenizer.from_folder(data_dir / "vocab" / "bert-base-chinese")
    assert tokenizer.vocab[343] == "\u2028"
    assert tokenizer.vocab_size == 21_128


def test_tokenizing_imports_neither_tensorflow_nor_keras():
    code = (
        "import sys, kbert.text.tokenizer;"
        "print([name for name in ('tensorflow', 'keras', 'torch', 'jax') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def transformers_encodings(reference, texts, is_split=False) -> list[tuple]:
    """What `Encoding` holds, as transformers gives it."""
    found = reference(
        texts,
        add_special_tokens=False,
        return_offsets_mapping=True,
        is_split_into_words=is_split,
    )
    triples = zip(found["input_ids"], found["offset_mapping"], strict=True)
    return [(ids, offsets, found.word_ids(row)) for row, (ids, offsets) in enumerate(triples)]


def encodings(tokenizer, texts) -> list[tuple]:
    return [(e.ids, e.offsets, e.words) for e in tokenizer.encode(texts)]


def some_lines(data_dir) -> list[str]:
    """Portuguese and English, both with what breaks tokenizers."""
    return [*machado(data_dir)[::40], *banking()[::40], *TORTURE]


@pytest.mark.parametrize("name", [*VOCABULARIES, "bert-base-chinese", "gpt2", "roberta-base", "t5"])
def test_offsets_and_words_agree_with_transformers(name, data_dir):
    classes = {"gpt2": GPT2Tokenizer, "roberta-base": RobertaTokenizer, "t5": T5Tokenizer}
    folder = data_dir / "vocab" / ("t5-small" if name == "t5" else name)
    tokenizer, read = Tokenizer.from_folder(folder), classes.get(name, BertTokenizerFast)
    texts = [
        *some_lines(data_dir),
        "<s>a</s> b  <mask> c <pad><unk>",
        "a<extra_id_0> <|endoftext|>",
    ]
    expected = transformers_encodings(read.from_pretrained(folder), texts)
    assert mismatches(texts, expected, encodings(tokenizer, texts)) == []
    assert [ids for ids, _, _ in expected] == tokenizer(texts)
    # Words that begin a text or follow a bracket are read as after a space, as they must be.
    is_byte_level = name in ("gpt2", "roberta-base")
    settings = {"add_prefix_space": True} if is_byte_level else {}
    words = [text.split(" ") for text in texts]
    expected = transformers_encodings(read.from_pretrained(folder, **settings), words, True)
    assert mismatches(words, expected, encodings(tokenizer, words)) == []


def test_offsets_are_characters_of_the_original_text(uncased):
    text = "\N{MAN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4} Crédito É\u0301 [MASK]n"
    (encoding,) = uncased.encode([text])
    found = [text[start:end] for start, end in encoding.offsets]
    assert [uncased.vocab[i] for i in encoding.ids] == [
        "[UNK]",
        "credit",
        "##o",
        "e",
        "[MASK]",
        "n",
    ]
    assert found == [text[:2], "Crédit", "o", "É", "[MASK]", "n"]
    assert encoding.words == [0, 1, 1, 2, 3, 4]


def test_words_that_were_given_keep_their_numbers_and_their_own_offsets(bertimbau):
    (encoding,) = bertimbau.encode([["Quero", "um", "cartão!"]])
    assert [bertimbau.vocab[i] for i in encoding.ids] == ["Quer", "##o", "um", "cartão", "!"]
    assert encoding.words == [0, 0, 1, 2, 2]
    assert encoding.offsets == [(0, 4), (4, 5), (0, 2), (0, 6), (6, 7)]
    # A word of nothing that the vocabulary has, and an empty one, have no tokens.
    assert bertimbau.encode([["a", "", "\u200b", "b"]])[0].words == [0, 3]


def test_words_that_were_given_are_read_as_in_running_text(data_dir):
    vocab = {"▁": 0, "a": 1, "b": 2, "▁a": 3, "▁b": 4, "<unk>": 5}
    model = tokenizers.models.BPE(vocab, [("▁", "a"), ("▁", "b")], unk_token="<unk>")
    rust = tokenizers.Tokenizer(model)
    rust.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="never")
    for tokenizer in (Tokenizer(rust), Tokenizer.from_folder(data_dir / "vocab" / "gpt2")):
        text, words = tokenizer.encode(["a b ab"]) + tokenizer.encode([["a", "b", "ab"]])
        assert words.ids[1:] == text.ids[1:]
        assert tokenizer.vocab[words.ids[0]] in ("▁a", "Ġa")
        assert words.words == text.words


def test_many_encodings_come_back_in_order(uncased, monkeypatch):
    texts = banking()[:50]
    words = [text.split() for text in texts]
    expected = uncased.encode(texts), uncased.encode(words)
    monkeypatch.setattr("kbert.text.tokenizer.TEXTS_PER_CALL", 7)
    assert (uncased.encode(iter(texts)), uncased.encode(map(tuple, words))) == expected
    assert uncased.encode([]) == []


def test_the_form_is_that_of_the_model(uncased, data_dir):
    assert uncased.form == Form(prefix=(101,), between=(102,), suffix=(102,), segments=(0, 1))
    roberta = Tokenizer.from_folder(data_dir / "vocab" / "roberta-base")
    assert roberta.form == Form(prefix=(0,), between=(2, 2), suffix=(2,), segments=(0, 0))


def test_a_word_piece_tokenizer_without_a_form_gets_berts():
    vocab = {token: token_id for token_id, token in enumerate(TINY)}
    tokenizer = Tokenizer(tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab)))
    assert tokenizer.form == Form(prefix=(2,), between=(3,), suffix=(3,), segments=(0, 1))


@pytest.mark.parametrize("name", ["gpt2", "roberta-base", "t5-small", "albert", "xlnet"])
def test_every_kind_is_saved_for_kbert_and_transformers(name, data_dir, tmp_path):
    tokenizer = Tokenizer.from_folder(data_dir / "vocab" / name)
    tokenizer.max_length = 77
    tokenizer.save(tmp_path)
    again, reference = Tokenizer.from_folder(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    texts = [*some_lines(data_dir), "a <mask> b<s> <extra_id_3> <eop> <|endoftext|>"]
    expected = encodings(tokenizer, texts)
    assert mismatches(texts, expected, encodings(again, texts)) == []
    assert mismatches(texts, expected, transformers_encodings(reference, texts)) == []
    assert again.special_tokens == tokenizer.special_tokens and again.form == tokenizer.form
    for part, token in tokenizer.special_tokens.items():
        assert getattr(reference, part) == token
    assert len(reference) == tokenizer.vocab_size and reference.model_max_length == 77
    pair = reference("a", "b", return_token_type_ids=True)
    joined = tokenizer.form.join(tokenizer(["a", "b"]))
    assert (pair["input_ids"], pair["token_type_ids"]) == joined
    has_segments = name in ("albert", "xlnet")
    assert ("token_type_ids" in reference("a")) == has_segments
    assert reference.padding_side == ("left" if name == "xlnet" else "right")


def test_vocab_json_and_merges_txt_of_a_saved_folder_stand_alone(data_dir, tmp_path):
    roberta = Tokenizer.from_folder(data_dir / "vocab" / "roberta-base")
    roberta.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    again, texts = Tokenizer.from_folder(tmp_path), some_lines(data_dir)
    assert mismatches(texts, encodings(roberta, texts), encodings(again, texts)) == []
    assert again.form == roberta.form


def test_a_special_token_keeps_how_it_matches(data_dir, tmp_path):
    roberta = Tokenizer.from_folder(data_dir / "vocab" / "roberta-base")
    roberta.save(tmp_path)
    for tokenizer in (roberta, Tokenizer.from_folder(tmp_path)):
        # The mask takes the spaces before it.
        assert tokenizer.tokenize("a  <mask> b") == ["a", "<mask>", "Ġb"]


# Errors


def test_an_empty_or_missing_folder_is_told(tmp_path):
    with pytest.raises(InputError, match="it holds no files"):
        Tokenizer.from_folder(tmp_path)
    with pytest.raises(InputError, match="there is no such folder"):
        Tokenizer.from_folder(tmp_path / "absent")


@pytest.mark.parametrize("token", ["[CLS]", "[SEP]", "[PAD]", "[UNK]"])
def test_a_missing_special_token_is_named_with_the_way_out(token, tmp_path):
    tokens = ["x" if there == token else there for there in TINY]
    part = {name: part for part, name in BERT.items()}[token]
    with pytest.raises(InputError) as caught:
        Tokenizer.from_folder(write_folder(tmp_path, tokens))
    assert str(caught.value) == (
        f"{tmp_path}: The vocabulary lacks the special token(s) {token}. Add them to it, or give "
        f"the names it has for them in tokenizer_config.json ({part}), such as "
        f'{{"{part}": "<its name>"}}.'
    )
    write_folder(tmp_path, tokens, tokenizer_config={part: "x"})
    assert Tokenizer.from_folder(tmp_path).special_tokens[part] == "x"


def test_all_missing_special_tokens_are_named(tmp_path):
    tokens = [token for token in TINY if token not in ("[CLS]", "[PAD]")]
    with pytest.raises(InputError, match=r"lacks the special token\(s\) \[CLS\], \[PAD\]\. Add"):
        Tokenizer.from_folder(write_folder(tmp_path, tokens))
    with pytest.raises(InputError, match=r"lacks the special token\(s\) <s>"):
        Tokenizer.from_folder(write_folder(tmp_path, TINY, tokenizer_config={"cls_token": "<s>"}))


def test_a_missing_mask_is_told_where_it_is_asked_for(tmp_path, uncased):
    tokens = [token for token in TINY if token != "[MASK]"]
    tokenizer = Tokenizer.from_folder(write_folder(tmp_path, tokens))
    with pytest.raises(
        InputError,
        match=r"Expected a tokenizer with a mask_token, this one has \[CLS\], \[SEP\], \[PAD\], "
        r"\[UNK\]\. Add one .* name it in tokenizer_config.json \(mask_token\)\.",
    ):
        tokenizer.special_id("mask_token")
    assert uncased.special_id("mask_token") == 103


def test_a_model_without_a_token_for_unknown_text_is_told():
    rust = tokenizers.Tokenizer(tokenizers.models.Unigram([("a", -1.0)], None, False))
    with pytest.raises(InputError, match="has a token for unknown text; this one stops: .*unk_id"):
        Tokenizer(rust)


def test_strings_among_words_are_told(uncased):
    with pytest.raises(TypeError, match="all texts as str, or all as words; got some of each"):
        uncased.encode(["card", ["not", "working"]])
    with pytest.raises(TypeError, match="all texts as str, or all as words; got some of each"):
        uncased.encode([["not", "working"], "card"])


def test_tokens_that_stand_twice_are_shown_with_their_lines(tmp_path):
    with pytest.raises(
        InputError, match=r"2 token\(s\) more than once, such as 'uma' on lines 6, 13"
    ):
        Tokenizer.from_folder(write_folder(tmp_path, [*TINY, "uma", "e"]))


def test_vocab_txt_in_another_encoding_is_told(tmp_path):
    write_folder(tmp_path, TINY)
    (tmp_path / "vocab.txt").write_bytes("[PAD]\ncartão\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"vocab.txt is not UTF-8 \(byte 10: .*Convert it"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"tokenizer.json is not valid JSON in UTF-8: .*line 1"),
        ("[1]", r"Expected a JSON object in .*tokenizer.json, got list\."),
        ('{"model": {"type": "WordPiece"}}', r"is not a tokenizer that `tokenizers` reads: "),
        ("{}", r"is not a tokenizer that `tokenizers` reads: "),
    ],
)
def test_a_broken_tokenizer_json_is_told(content, message, tmp_path):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=message):
        Tokenizer.from_folder(tmp_path)


def test_ids_with_gaps_are_told():
    vocab = {token: token_id for token_id, token in enumerate(TINY)} | {"far": 20}
    rust = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab))
    with pytest.raises(
        InputError, match="ids from 0 to 12 without gaps, got 20 for 'far' where 12"
    ):
        Tokenizer(rust)


def test_a_token_with_a_line_break_is_told():
    vocab = {token: token_id for token_id, token in enumerate([*TINY, "a\nb"])}
    rust = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab))
    with pytest.raises(InputError, match=r"Token 'a\\nb' \(id 12\) holds a line break"):
        Tokenizer(rust)


def test_one_text_in_place_of_many_is_told(uncased):
    with pytest.raises(TypeError, match=r"Expected a sequence of texts, got one str: pass \['card"):
        uncased("card not working")
