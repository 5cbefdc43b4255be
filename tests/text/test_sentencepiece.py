"""SentencePiece models against the library that made them and against transformers."""

import json
import shutil
import sys
import unicodedata
from pathlib import Path

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
)
from transformers import (
    PreTrainedTokenizerFast,
)

from kbert.errors import InputError
from kbert.text.form import Form
from kbert.text.tokenizer import Tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from tokenizer_check.known import published_json  # noqa: E402

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
