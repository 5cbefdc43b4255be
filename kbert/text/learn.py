"""Learn a vocabulary from plain text: WordPiece, BPE, byte-level BPE or Unigram.

The trainers are those of the Rust `tokenizers`. What is added here: files of any size, looked
through before hours are spent on them; a whole tokenizer around the vocabulary (kinds.py); and
one vocabulary for one input. Rust keeps words in hash maps that are seeded by chance, and two of
its trainers show it:

- WordPiece's numbers the letters within words (`##a`) as the map has them, and the numbers
  decide between merges that are equally frequent. So it is handed the letters, in their order.
- Unigram's adds up probabilities as the map has them, which changes the eleventh digit, and gives
  the letters that it saw too seldom 0.0001 more one after another. So scores are rounded, and
  such letters sorted.
"""

import json
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from kbert.errors import InputError
from kbert.text import corpus, kinds
from kbert.text.kinds import KINDS, SPECIAL_TOKENS
from kbert.text.tokenizer import Tokenizer

SCORE_DIGITS = 5  # chance changes the eleventh; float32 holds seven
LETTER_STEP = 1e-4  # what Rust puts between the scores of letters that it saw too seldom
OUR_FILES = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
}


def learn(
    files: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    kind: str = "wordpiece",
    vocab_size: int = 30_000,
    *,
    lowercase: bool = False,
    strip_accents: bool = False,
    numbers_to_unk: bool = False,
    special: Sequence[str] = (),
    overwrite: bool = False,
    progress: bool = False,
) -> Tokenizer:
    """Learn a vocabulary and write its Hugging Face folder, whole or not at all.

    Args:
        files: plain text in UTF-8, of any size: each is read at least twice, a block at a time.
        output: the folder to make.
        kind: one of `KINDS`.
        vocab_size: pieces, with the special ones and the alphabet; fewer where the files give no
            more.
        lowercase: whether the tokenizer takes texts in lower case.
        strip_accents: whether it takes them without accents.
        numbers_to_unk: whether every number becomes the unknown token; no digit is learned.
        special: special tokens beyond the five of the kind; they get the ids after those.
        overwrite: whether `output` may be there, as a folder with a tokenizer and nothing else.
        progress: whether to show bars on standard error.

    Returns:
        The tokenizer that `Tokenizer.from_folder(output)` gives.

    Raises:
        InputError: the kind is unknown, a special token is given twice, a file is missing or not
            UTF-8, all are empty, the vocabulary is smaller than the alphabet, or `output` is
            there and not to be overwritten.
    """
    if kind not in KINDS:
        raise InputError(f"Expected a kind of {', '.join(KINDS)}, came {kind!r}.")
    tokens = _all_special(kind, special)
    output = Path(output)
    _check_output(output, overwrite)
    settings = (lowercase, strip_accents)
    learner = tokenizers.Tokenizer(kinds.empty_model(kind))
    replaced = kinds.WITHOUT_NUMBERS if numbers_to_unk else ()
    if normalizer := kinds.normalizer(kind, *settings, replaced):
        learner.normalizer = normalizer
    learner.pre_tokenizer = kinds.learning_pre_tokenizer(kind)
    model = _learned_model(learner, kind, files, vocab_size, tokens, progress)
    rust = kinds.whole(kind, model, tokens, *settings, numbers_to_unk=numbers_to_unk)
    tokenizer = Tokenizer(rust, SPECIAL_TOKENS[kind])
    _write(tokenizer, output)
    return tokenizer


def _all_special(kind: str, further: Sequence[str]) -> list[str]:
    """The special tokens of a kind and further ones, in the order of their ids."""
    tokens = [*SPECIAL_TOKENS[kind].values(), *further]
    if blank := [token for token in tokens if not token.strip()]:
        raise InputError(f"Expected the text of a special token, came {blank[0]!r}.")
    if twice := [token for token in tokens if tokens.count(token) > 1]:
        raise InputError(
            f"Expected special tokens that differ, came {twice[0]!r} twice: give each once. A "
            f"vocabulary of kind {kind} has {', '.join(SPECIAL_TOKENS[kind].values())} by itself."
        )
    return tokens


# Learning


def _learned_model(learner, kind, files, vocab_size, tokens, progress) -> models.Model:
    """What a Rust trainer makes of files: the same each time.

    Args:
        learner: `tokenizers.Tokenizer` with an empty model.
    """
    characters, num_blocks, num_lines = corpus.survey(files, progress)
    text = _normalized(learner, "".join(characters)).replace(".", "").replace(",", "")
    if not text.strip():  # those two may have been parts of numbers
        raise InputError(
            "Expected text to learn from, came an empty corpus: there is nothing to learn in "
            f"{', '.join(map(str, files)) or 'no files'}."
        )

    def train(trainer: trainers.Trainer):
        trainer.show_progress = progress
        texts, length = (lines for file in files for lines in corpus.lines(file)), num_lines
        if (
            kind == "wordpiece"
        ):  # to which a line's end is any blank: fewer, longer texts are faster
            texts, length = map("\n".join, texts), num_blocks
        _interruptibly(lambda: learner.train_from_iterator(texts, trainer, length=length))

    if kind != "unigram":
        train(_trainer(kind, vocab_size, tokens, learner, characters))
        _check_size(vocab_size, learner.get_vocab_size(with_added_tokens=False), len(tokens))
        return learner.model
    # Unigram's trainer may never end where the alphabet finds no room. BPE's gives the alphabet,
    # which is all that it takes where merges find none.
    learner.model = models.BPE()
    train(trainers.BpeTrainer(vocab_size=0))
    _check_size(vocab_size, len(tokens) + learner.get_vocab_size(), len(tokens))
    learner.model = kinds.empty_model(kind)
    train(_trainer(kind, vocab_size, tokens, learner, characters))
    return _settled(learner, tokens)


def _check_size(vocab_size: int, needed: int, num_special: int):
    """A trainer takes the whole alphabet, and where that is too much, more than it was told."""
    if needed > vocab_size:
        raise InputError(
            f"Expected a vocabulary size of {needed} or more, came {vocab_size}: there are "
            f"{num_special} special tokens, and {needed - num_special} pieces for the alphabet of "
            "the files. Choose a greater one, or take rare characters out of the files."
        )


def _normalized(learner: tokenizers.Tokenizer, text: str) -> str:
    return learner.normalizer.normalize_str(text) if learner.normalizer else text


def _trainer(kind, vocab_size, tokens, learner, characters) -> trainers.Trainer:
    if kind == "wordpiece":
        # "Special" is what a trainer calls the pieces that it numbers first.
        first = dict.fromkeys([*tokens, *_letters(learner, characters)])
        return trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=list(first))
    if kind == "unigram":
        size = max(1, vocab_size - len(tokens) + 1)  # it counts the unknown token alone
        return trainers.UnigramTrainer(vocab_size=size, unk_token=SPECIAL_TOKENS[kind]["unk_token"])
    # All bytes; without the digits, where numbers are not learned.
    alphabet = pre_tokenizers.ByteLevel.alphabet() if kind == "byte-bpe" else []
    alphabet = [letter for letter in alphabet if _normalized(learner, letter).strip()]
    return trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=tokens, initial_alphabet=alphabet
    )


def _letters(learner: tokenizers.Tokenizer, characters: Sequence[str]) -> list[str]:
    """The pieces of one letter: `a` that begins a word and `##a` that goes on, each sorted.

    Every letter gets both, as in BERT's vocabularies, so that no word of known letters is
    unknown; punctuation, a word by itself, gets the first.
    """
    begins, goes_on = set(), set()
    for character in characters:
        text = _normalized(learner, f"a{character}a")
        words = [word for word, _ in learner.pre_tokenizer.pre_tokenize_str(text)]
        if len(words) == 1:
            goes_on.update(words[0][1:-1])
        else:
            begins.update(*words[1:-1])
    return [*sorted(begins | goes_on), *(f"##{letter}" for letter in sorted(goes_on))]


def _settled(learner: tokenizers.Tokenizer, tokens: Sequence[str]) -> models.Unigram:
    """Unigram's model without what chance did to it, its special tokens first."""
    learned = json.loads(learner.to_str())["model"]["vocab"]
    scores = {piece: round(score, SCORE_DIGITS) for piece, score in learned if piece not in tokens}
    # The letters with the least scores there are: those seen too seldom, and a few like them.
    letters = [piece for piece in scores if len(piece) == 1]
    most = min(scores.values()) + LETTER_STEP * len(letters)
    seldom = sorted(letter for letter in letters if scores[letter] <= most)
    scores |= zip(seldom, sorted(scores[letter] for letter in seldom), strict=True)
    pieces = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    unk_id = tokens.index(SPECIAL_TOKENS["unigram"]["unk_token"])
    return models.Unigram([*((token, 0.0) for token in tokens), *pieces], unk_id, False)


def _interruptibly(function: Callable):
    """Calls it where Ctrl-C need not wait for it: Rust does not look up before it is done."""
    future = Future()

    def run():
        try:
            future.set_result(function())
        except BaseException as error:  # raised where the result is awaited
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result()


# The folder


def _check_output(output: Path, overwrite: bool):
    if not output.exists():
        return
    if not output.is_dir():
        raise InputError(f"{output}: expected a folder, it is a file.")
    if not overwrite:
        raise InputError(f"{output} exists. Choose another folder, or pass --overwrite.")
    if others := sorted({path.name for path in output.iterdir()} - OUR_FILES):
        raise InputError(
            f"{output} exists and holds more than a tokenizer ({', '.join(others[:5])}): it is "
            "not overwritten. Choose another folder."
        )


def _write(tokenizer: Tokenizer, output: Path):
    """Written beside and renamed, so that the folder is whole whenever it is there."""
    work, old = (output.with_name(output.name + ending) for ending in (".partial", ".old"))
    for folder in (work, old):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        tokenizer.save(work)
        if output.exists():  # --overwrite: the old one goes when the new one is whole
            os.rename(output, old)
        os.rename(work, output)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
