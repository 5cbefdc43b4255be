"""The lectures' worked examples of tokenizers (lectures.md, sections 3 and 4) come true."""

from collections import Counter
from itertools import pairwise

import pytest

from kbert.inputs.packer import Packer
from kbert.text import show
from kbert.text.learn import learn
from kbert.text.splits import by_punctuation, by_spaces
from kbert.text.tokenizer import Tokenizer

ODDS, CARD = "Never tell me the odds.", "Quero um cartão de crédito."

# BERTaú's vocabulary is not published. These are the ids that the lectures print …
BERTAU_IDS = {
    "[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "!": 5, ".": 18, "e": 37,
    "##n": 155, "uma": 335, "outra": 929, "##ca": 951, "sente": 12286,
}  # fmt: skip
# … and the pieces that they print without ids.
BERTAU_ODDS = "neve ##r tel ##l me the od ##ds"
BERTAU_CARD = "quero um cartao de credito"


@pytest.fixture(scope="module")
def bertau(tmp_path_factory) -> Tokenizer:
    """BERTaú as far as the lectures show it: 30,000 pieces, of which 26 are known."""
    pieces = [f"[unused{number}]" for number in range(30_000)]
    for piece, token_id in BERTAU_IDS.items():
        pieces[token_id] = piece
    printed = f"{BERTAU_ODDS} {BERTAU_CARD}".split()
    pieces[20_000 : 20_000 + len(printed)] = printed
    folder = tmp_path_factory.mktemp("bertau")
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", "utf-8")
    return Tokenizer.from_folder(folder)


@pytest.fixture(scope="module")
def published(data_dir):
    return lambda name: Tokenizer.from_folder(data_dir / "vocab" / name)


# Section 3


def test_text_is_split_by_spaces_or_by_punctuation():
    text = "Chewie, we're home!"
    assert by_spaces(text) == ["Chewie,", "we're", "home!"]
    assert by_punctuation(text) == ["Chewie", ",", "we", "'", "re", "home", "!"]


# A slide first prints 10 for "uau"; all that follows on it is counted with 4.
COUNTS = {"mau": 10, "baú": 5, "itaú": 7, "uau": 4}
FIVE = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # kbert's; the slide has none but <unk>


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """The example's words, each on as many lines as it counts."""
    file = tmp_path_factory.mktemp("words") / "words.txt"
    file.write_text("".join(f"{word}\n" * count for word, count in COUNTS.items()), "utf-8")
    return file


def pairs(tokenizer):
    """How often two pieces stand side by side in the words."""
    counts = Counter()
    for word, count in COUNTS.items():
        for pair in pairwise(tokenizer.tokenize(word)):
            counts[pair] += count
    return counts


def test_bpe_merges_by_hand(words, tmp_path):
    base = learn([words], tmp_path / "0", "bpe", 12)
    assert base.vocab == [*FIVE, *"abimtuú"]
    assert pairs(base).most_common(2) == [(("a", "u"), 14), (("a", "ú"), 12)]
    first = learn([words], tmp_path / "1", "bpe", 13)
    assert first.vocab == [*base.vocab, "au"]
    assert pairs(first).most_common(1) == [(("a", "ú"), 12)]
    second = learn([words], tmp_path / "2", "bpe", 14)
    assert second.vocab == [*first.vocab, "aú"]
    assert [second.tokenize(word) for word in COUNTS] == [
        ["m", "au"], ["b", "aú"], ["i", "t", "aú"], ["u", "au"],
    ]  # fmt: skip
    assert [second.vocab[token_id] for token_id in second(["auê"])[0]] == ["au", "<unk>"]


def test_with_ten_of_uau_the_merges_would_be_the_same(tmp_path):
    """The slide's slip does no harm: 20 of a+u and 12 of a+ú."""
    file = tmp_path / "words.txt"
    file.write_text("".join(f"{w}\n" * c for w, c in (COUNTS | {"uau": 10}).items()), "utf-8")
    assert learn([file], tmp_path / "v", "bpe", 14).vocab[-2:] == ["au", "aú"]


def test_word_piece_is_said_to_merge_by_likelihood_and_is_learned_by_frequency(words, tmp_path):
    """WordPiece (Schuster and Nakajima 2012) merges what raises the likelihood of the corpus most.

    Google never published its trainer. That of `tokenizers` is BPE's: it takes the most frequent
    pair, which the slide says that WordPiece does not.
    """
    base = learn([words], tmp_path / "0", "wordpiece", 19)
    counts = pairs(base)
    letters = Counter()
    for word, count in COUNTS.items():
        for piece in base.tokenize(word):
            letters[piece] += count
    gain = {(a, b): n / letters[a] / letters[b] for (a, b), n in counts.items()}
    assert max(gain, key=gain.get) == ("i", "##t")
    assert max(counts, key=counts.get) == ("##a", "##u")
    assert learn([words], tmp_path / "1", "wordpiece", 20).vocab[-1] == "##au"


@pytest.mark.parametrize(
    ("name", "odds", "card"),
    [
        # mBERT uncased's first line; for its second see below.
        ("bert-base-uncased", "never tell me the odds .", None),
        (
            "bertimbau-cased",
            "Ne ##ver tel ##l me the o ##dd ##s .",
            "Quer ##o um cartão de crédito",
        ),
    ],
)
def test_published_vocabularies_cut_the_sentences(published, name, odds, card):
    tokenizer = published(name)
    assert tokenizer.tokenize(ODDS) == odds.split()
    if card:
        # The slide drops the full stop of this sentence, for all three tokenizers.
        assert tokenizer.tokenize(CARD) == [*card.split(), "."]


def test_bertau_cuts_the_sentences(bertau):
    assert bertau.tokenize(ODDS) == [*BERTAU_ODDS.split(), "."]
    assert bertau.tokenize(CARD) == [*BERTAU_CARD.split(), "."]


def test_mbert_uncased_cuts_the_card_sentence(tmp_path):
    """Its vocabulary is not at hand: with the pieces that the slide shows, it is cut so."""
    card = ["quer", "##o", "um", "carta", "##o", "de", "credito"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(dict.fromkeys([*special, *card])), "utf-8")
    assert Tokenizer.from_folder(tmp_path).tokenize(CARD) == [*card, "."]


def test_the_tokenizers_stand_side_by_side(published, bertau):
    compared = {
        "bert-base-uncased": published("bert-base-uncased"),
        "bertimbau-cased": published("bertimbau-cased"),
        "BERTaú": bertau,
    }
    assert show.comparison(compared, [ODDS]) == (
        "Never tell me the odds.  pieces\n"
        "bert-base-uncased             6  never tell me the odds .\n"
        "bertimbau-cased              10  Ne ##ver tel ##l me the o ##dd ##s .\n"
        "BERTaú                        9  neve ##r tel ##l me the od ##ds ."
    )


def test_ids_of_special_tokens_come_from_the_vocabulary(published, bertau):
    """[PAD], [UNK], [CLS], [SEP], [MASK]; mBERT uncased's are those of the cased one."""
    for tokenizer, ids in (
        (bertau, [0, 1, 2, 3, 4]),
        (published("mbert-cased"), [0, 100, 101, 102, 103]),
        (published("bertimbau-cased"), [0, 100, 101, 102, 103]),
    ):
        assert [
            tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id,
            tokenizer.mask_id,
        ] == ids  # fmt: skip


def test_any_number_is_unknown(bertau, words, tmp_path):
    """BERTaú learned from anonymised text; so does kbert, with numbers_to_unk."""
    assert bertau.tokenize("uma e 1234") == ["uma", "e", "[UNK]"]
    tokenizer = learn([words], tmp_path / "v", "wordpiece", 30, numbers_to_unk=True)
    assert tokenizer.tokenize("mau 7 baú 1.234,56") == ["mau", "[UNK]", "baú", "[UNK]"]


# Section 4

PIECES = "[CLS] uma sente ##n ##ca . [SEP] e outra ! [SEP] [PAD]"
TOKEN_IDS = [2, 335, 12286, 155, 951, 18, 3, 37, 929, 5, 3, 0]
SEGMENT_IDS = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0]
PADDING_MASK = [True] * 11 + [False]


def test_a_pair_becomes_model_inputs(bertau):
    packer = Packer(bertau.form, bertau.pad_id, max_length=12)
    batch = packer.pad([packer.pack(*bertau(["Uma sentença.", "E outra!"]))], 12)
    assert batch["token_ids"].tolist() == [TOKEN_IDS]
    assert batch["segment_ids"].tolist() == [SEGMENT_IDS]
    assert batch["padding_mask"].tolist() == [PADDING_MASK]
    assert [bertau.vocab[token_id] for token_id in TOKEN_IDS] == PIECES.split()


def test_a_pair_becomes_model_inputs_in_a_table(bertau):
    packer = Packer(bertau.form, bertau.pad_id, max_length=12)
    assert show.table(bertau, ["Uma sentença.", "E outra!"], packer) == (
        "position  piece     id  segment  mask  characters\n"
        "       0  [CLS]      2        0     1\n"
        "       1  uma      335        0     1  0:3 Uma\n"
        "       2  sente  12286        0     1  4:9 sente\n"
        "       3  ##n      155        0     1  9:10 n\n"
        "       4  ##ca     951        0     1  10:12 ça\n"
        "       5  .         18        0     1  12:13 .\n"
        "       6  [SEP]      3        0     1\n"
        "       7  e         37        1     1  0:1 E\n"
        "       8  outra    929        1     1  2:7 outra\n"
        "       9  !          5        1     1  7:8 !\n"
        "      10  [SEP]      3        1     1\n"
        "      11  [PAD]      0        0     0"
    )


def test_single_sentences_become_model_inputs(bertau):
    packer = Packer(bertau.form, bertau.pad_id, max_length=10)
    rows = [packer.pack(ids) for ids in bertau(["Uma sentença", "E outra"])]
    assert packer.pad(rows, 10)["token_ids"].tolist() == [
        [2, 335, 12286, 155, 951, 3, 0, 0, 0, 0],
        [2, 37, 929, 3, 0, 0, 0, 0, 0, 0],
    ]
