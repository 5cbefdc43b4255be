"""Vocabularies learned from text: the same each time, and as transformers reads them."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_tokenizer import TORTURE, mismatches
from transformers import AutoTokenizer

from kbert.errors import InputError
from kbert.text.learn import KINDS, OUR_FILES, learn
from kbert.text.tokenizer import Tokenizer

SIZE = 2003
WORDS = {"mau": 10, "baú": 5, "itaú": 7, "uau": 4}
FIVE = {
    "wordpiece": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "bpe": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    "byte-bpe": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    "unigram": ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"],
}
# With blanks at the ends, and numbers of all sorts.
TEXTS = [*TORTURE, " Olá, mundo ", "1.234,56 R$ 0,5 15h 2ª x1y 12/05/1900 ٣٤ ½", "1.,2 .5. 1. 2"]


@pytest.fixture(scope="module")
def novels(data_dir) -> list[Path]:
    folder = data_dir / "corpus" / "pt_machado" / "conto"
    return [folder / "paginasRecolhidas.txt", folder / "reliquias.txt"]


@pytest.fixture(scope="module", params=KINDS)
def learned(request, novels, tmp_path_factory):
    """A kind, a tokenizer that was learned of it with numbers unknown, and its folder."""
    folder = tmp_path_factory.mktemp(request.param) / "new" / "vocabulary"
    tokenizer = learn(
        novels, folder, request.param, SIZE, lowercase=True, numbers_to_unk=True,
        special=["<e1>", "</e1>"],
    )  # fmt: skip
    return request.param, tokenizer, folder


@pytest.fixture(scope="module", params=KINDS)
def plain(request, novels, tmp_path_factory):
    """A kind, a tokenizer that was learned of it as it comes, and its folder."""
    folder = tmp_path_factory.mktemp(request.param) / "vocabulary"
    return request.param, learn(novels, folder, request.param, SIZE), folder


def write(folder, text, name="corpus.txt"):
    file = folder / name
    file.write_text(text, "utf-8")
    return file


def lecture_corpus(folder):
    return write(folder, "".join(f"{word}\n" * count for word, count in WORDS.items()))


def transformers_ids(folder, texts):
    reference = AutoTokenizer.from_pretrained(folder)
    return [reference(text, add_special_tokens=False)["input_ids"] for text in texts]


# What is learned


def assert_opens_to_the_same_ids(tokenizer, folder):
    texts = [*TEXTS, "x <e1>ab</e1> y"]
    expected = transformers_ids(folder, texts)
    assert mismatches(texts, expected, tokenizer(texts)) == []
    again = Tokenizer.from_folder(folder)
    assert mismatches(texts, expected, again(texts)) == []
    assert again.vocab == tokenizer.vocab and again.vocab_size == SIZE
    assert again.special_tokens == tokenizer.special_tokens
    assert again.form == tokenizer.form


def test_transformers_and_kbert_open_the_folder_to_the_same_ids(plain):
    assert_opens_to_the_same_ids(*plain[1:])


def test_they_do_where_case_and_numbers_are_dropped_and_tokens_added(learned):
    assert_opens_to_the_same_ids(*learned[1:])


def test_transformers_gives_pairs_their_form(plain):
    kind, tokenizer, folder = plain
    pair = AutoTokenizer.from_pretrained(folder)("mau", "mau")
    (ids,) = tokenizer(["mau"])
    assert pair["input_ids"] == tokenizer.form.join([ids, ids])[0]
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    seps = [sep] if kind in ("wordpiece", "unigram") else [sep, sep]
    assert pair["input_ids"] == [cls, *ids, *seps, *ids, sep]
    assert tokenizer.form.segments == ((0, 1) if len(seps) == 1 else (0, 0))


def test_the_special_tokens_come_first(learned):
    kind, tokenizer, _ = learned
    assert tokenizer.vocab[:7] == [*FIVE[kind], "<e1>", "</e1>"]
    roles = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id)
    assert [tokenizer.vocab[i] for i in roles] == [
        {"[": "[PAD]", "<": "<pad>"}[FIVE[kind][1][0] if kind != "unigram" else "<"],
        *([t for t in FIVE[kind] if "unk" in t.lower()]),
        *(["<s>", "</s>"] if kind.endswith("bpe") else ["[CLS]", "[SEP]"]),
    ]
    assert tokenizer.vocab[tokenizer.mask_id] == FIVE[kind][4]


def test_a_text_comes_back(plain):
    kind, tokenizer, _ = plain
    text = "A casa da mãe, no campo: bela (e velha)!"
    decoded = tokenizer.decode(tokenizer([text])[0])
    if kind == "wordpiece":  # which does not keep blanks around punctuation
        decoded, text = decoded.replace(" ", ""), text.replace(" ", "")
    assert decoded == text


SCRIPT = """
import sys
from kbert.text.learn import learn
kind, output, *files = sys.argv[1:]
learn(files, output, kind, 1009, special=["<e1>"])
"""


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_input_gives_the_same_folder(kind, novels, tmp_path):
    digests = set()
    for seed in ("1", "2", "3"):
        folder = tmp_path / seed
        command = [sys.executable, "-c", SCRIPT, kind, folder, *novels]
        # As many threads as there are cores, then one: what is added up meets in another order.
        threads = {"RAYON_NUM_THREADS": seed} if seed == "1" else {}
        subprocess.run(command, check=True, env=os.environ | threads | {"PYTHONHASHSEED": seed})
        files = sorted(folder.iterdir())
        content = [(file.name, file.read_bytes()) for file in files]
        digests.add(hashlib.sha256(repr(content).encode()).hexdigest())
    assert len(digests) == 1


def test_files_are_one_corpus_in_any_order_and_cut(novels, tmp_path):
    texts = [file.read_text("utf-8").rstrip("\n") + "\n" for file in novels]
    joined = write(tmp_path, texts[1].replace("\n", "\r\n") + texts[0])
    for kind in ("wordpiece", "byte-bpe"):
        apart = learn(novels, tmp_path / f"{kind}-apart", kind, SIZE)
        together = learn([joined], tmp_path / f"{kind}-together", kind, SIZE)
        assert apart.vocab == together.vocab


def test_the_lecture_corpus_gives_the_lecture_merges(tmp_path):
    tokenizer = learn([lecture_corpus(tmp_path)], tmp_path / "bpe", "bpe", 14)
    assert tokenizer.vocab == [*FIVE["bpe"], "a", "b", "i", "m", "t", "u", "ú", "au", "aú"]
    merges = json.loads(tokenizer.rust.to_str())["model"]["merges"]
    assert merges == [["a", "u"], ["a", "ú"]]
    assert [tokenizer.vocab[i] for i in tokenizer(["auê"])[0]] == ["au", "<unk>"]


def test_a_new_word_of_known_letters_is_not_unknown(tmp_path):
    tokenizer = learn([write(tmp_path, "ab, cb\nd! 漢")], tmp_path / "v", vocab_size=100)
    assert tokenizer.vocab[5:17] == [
        "!", ",", "a", "b", "c", "d", "漢", "##a", "##b", "##c", "##d", "ab",
    ]  # fmt: skip
    pieces = ["b", "##a", "##d", "d", "##a", "##b", ",", "漢", "!"]
    assert tokenizer.tokenize("bad dab,漢!") == pieces


def test_fewer_pieces_where_the_files_give_no_more(tmp_path):
    for kind in KINDS:
        tokenizer = learn([lecture_corpus(tmp_path)], tmp_path / kind, kind, 1000)
        assert 13 <= tokenizer.vocab_size < 300


@pytest.mark.parametrize("kind", KINDS)
def test_case_and_accents_are_as_asked(kind, tmp_path):
    file = write(tmp_path, "Sentença SENTENÇA sentença, água e pão de ló\n" * 7)

    def pieces(**settings):
        folder = tmp_path / "-".join(["v", *settings])
        tokenizer = learn([file], folder, kind, 1000, **settings)
        assert transformers_ids(folder, ["A SENTENÇA"]) == tokenizer(["A SENTENÇA"])
        text = tokenizer.decode(tokenizer(["a SENTENÇA"])[0])
        return text.strip()

    assert pieces() == "a SENTENÇA"
    assert pieces(lowercase=True) == "a sentença"
    assert pieces(lowercase=True, strip_accents=True) == "a sentenca"


# Numbers


def test_no_digit_is_learned(learned):
    _, tokenizer, _ = learned
    assert [piece for piece in tokenizer.vocab[7:] if re.search(r"\d", piece)] == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("paguei 1.234,56 reais", ["1.234,56"]),
        ("às 15h de 1900", ["15", "1900"]),
        ("12-05-1900", ["12", "05", "1900"]),
        ("a ٣٤ b½ c２", ["٣٤", "½", "２"]),
        ("1, 2. 3", ["1", "2", "3"]),
        ("casa1casa", ["1"]),
    ],
)
def test_every_number_is_the_unknown_token(learned, text, numbers):
    _, tokenizer, _ = learned
    (encoding,) = tokenizer.encode([text])
    found = [
        text[start:end]
        for token_id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
        if token_id == tokenizer.unk_id
    ]
    assert found == numbers


def test_numbers_are_learned_where_nothing_else_is_said(plain):
    _, tokenizer, _ = plain
    assert any(re.search(r"\d", piece) for piece in tokenizer.vocab)
    assert tokenizer.unk_id not in tokenizer(["em 1870"])[0]


# The folder


def test_nothing_but_the_folder_is_left(learned):
    _, _, folder = learned
    assert [path.name for path in folder.parent.iterdir()] == ["vocabulary"]
    assert {path.name for path in folder.iterdir()} <= OUR_FILES


def test_a_tokenizer_is_overwritten_where_asked(tmp_path):
    file, output = lecture_corpus(tmp_path), tmp_path / "v"
    learn([file], output, "byte-bpe", 263)
    with pytest.raises(InputError, match="v exists. Choose another folder, or pass --overwrite"):
        learn([file], output, "bpe", 13)
    learn([file], output, "bpe", 13, overwrite=True)
    assert Tokenizer.from_folder(output).vocab_size == 13
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", "v"]
    assert not (output / "merges.txt").exists()


def test_other_files_are_never_overwritten(tmp_path):
    file, output = lecture_corpus(tmp_path), tmp_path / "v"
    output.mkdir()
    (output / "model.safetensors").write_text("mine")
    words = r"v exists and holds more than a tokenizer \(model.safetensors\): it is not overwritten"
    with pytest.raises(InputError, match=words):
        learn([file], output, "bpe", 13, overwrite=True)
    with pytest.raises(InputError, match="corpus.txt: expected a folder, it is a file"):
        learn([file], file, "bpe", 13, overwrite=True)


def test_a_write_that_breaks_off_leaves_the_old_folder(tmp_path, monkeypatch):
    file, output = lecture_corpus(tmp_path), tmp_path / "v"
    learn([file], output, "bpe", 13)

    def broken(self, folder):
        folder.mkdir()
        (folder / "tokenizer.json").write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(Tokenizer, "save", broken)
    with pytest.raises(KeyboardInterrupt):
        learn([file], output, "bpe", 14, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", "v"]
    assert Tokenizer.from_folder(output).vocab_size == 13


def test_ctrl_c_stops_and_leaves_nothing(data_dir, tmp_path):
    files = sorted((data_dir / "corpus" / "pt_machado").rglob("*.txt"))
    output = tmp_path / "v"
    command = [sys.executable, "-m", "kbert.cli", "tokenizer", "learn", "--kind", "unigram"]
    command += ["--output", str(output), *map(str, files * 4)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    time.sleep(4)  # it takes half a minute
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert errors.strip() == "kbert: interrupted"
    assert list(tmp_path.iterdir()) == []


# Bad input


NEEDED = {"wordpiece": 5 + 7 + 7, "bpe": 5 + 7, "byte-bpe": 5 + 256, "unigram": 5 + 7 + 1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_smaller_than_the_alphabet_is_told(kind, tmp_path):
    file, output, needed = lecture_corpus(tmp_path), tmp_path / "v", NEEDED[kind]
    for size in (1, needed - 1):
        words = (
            f"Expected a vocabulary size of {needed} or more, came {size}: there are 5 special "
            f"tokens, and {needed - 5} pieces for the alphabet"
        )
        with pytest.raises(InputError, match=words):
            learn([file], output, kind, size)
        assert not output.exists()
    assert learn([file], output, kind, needed).vocab_size == needed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", " \n\t\n\u00a0", "12 3,4\n"])
def test_an_empty_corpus_is_told(kind, text, tmp_path):
    file = write(tmp_path, text)
    with pytest.raises(InputError, match="came an empty corpus: there is nothing to learn in .*xt"):
        learn([file], tmp_path / "v", kind, 1000, numbers_to_unk=True)
    assert not (tmp_path / "v").exists()


def test_no_files_are_an_empty_corpus(tmp_path):
    with pytest.raises(InputError, match="nothing to learn in no files"):
        learn([], tmp_path / "v")


def test_a_bad_file_is_told_before_anything_is_learned(tmp_path):
    good, bad = lecture_corpus(tmp_path), tmp_path / "bad.txt"
    with pytest.raises(InputError, match="bad.txt: expected a text file, came none"):
        learn([good, bad], tmp_path / "v")
    bad.write_bytes(b"a\nol\xe1\n")
    with pytest.raises(InputError, match=r"bad.txt, line 2: expected UTF-8, .*\(byte 4 of"):
        learn([good, bad], tmp_path / "v")
    assert not (tmp_path / "v").exists()


def test_an_unknown_kind_is_told(tmp_path):
    words = "Expected a kind of wordpiece, bpe, byte-bpe, unigram, came 'sentencepiece'"
    with pytest.raises(InputError, match=words):
        learn([lecture_corpus(tmp_path)], tmp_path / "v", "sentencepiece")


@pytest.mark.parametrize("special", [["<e1>", "<e2>", "<e1>"], ["[MASK]"]])
def test_a_special_token_given_twice_is_told(special, tmp_path):
    words = rf"came {re.escape(repr(special[-1]))} twice: give each once. .*wordpiece has \[PAD\], "
    with pytest.raises(InputError, match=words):
        learn([lecture_corpus(tmp_path)], tmp_path / "v", special=special)


def test_a_blank_special_token_is_told(tmp_path):
    with pytest.raises(InputError, match="the text of a special token, came ' '"):
        learn([lecture_corpus(tmp_path)], tmp_path / "v", special=[" "])
