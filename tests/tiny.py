"""A BERT so small that fine-tuning it takes seconds, and a set of texts that it can learn."""

import csv
import random
import sys
from pathlib import Path
from unittest import mock

import keras

from kbert import checkpoint, cli
from kbert.models.bert import BertConfig, bert, config_to_hugging_face
from kbert.text.tokenizer import Tokenizer

# Distinct primes, so that swapped axes cannot pass; the vocabulary's size is a checkpoint's own.
SIZES = {"num_layers": 3, "width": 35, "num_heads": 5, "inner_width": 53, "max_length": 61}
# Wider than BERT's 0.02, or a model of this width would hardly tell texts apart.
DEVIATION = 0.2
WORDS = {
    "cat's": ["cat", "whiskers", "mouse", "kitten"],
    "dog": ["dog", "bone", "bark", "leash"],
    "vogel, ö": ["bird", "wing", "feather", "nest"],
}
FILLERS = ["the", "a", "my", "is", "was", "here", "and", "big", "small", "very", "not", "today"]
LABELS = tuple(sorted(WORDS))


def write_vocabulary(folder: Path, source: Path, num_pieces: int = 3001) -> None:
    """vocab.txt of BERT's special tokens, all its letters, and its most frequent words."""
    pieces = source.read_text("utf-8").removesuffix("\n").split("\n")
    letters = [piece for piece in pieces if len(piece.removeprefix("##")) == 1]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [word for group in WORDS.values() for word in group]
    chosen = list(dict.fromkeys([*special, *letters, *FILLERS, *words, *pieces[999:]]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(chosen[:num_pieces]) + "\n", "utf-8")


def write_checkpoint(folder: Path, vocabulary: Path, **sizes) -> Path:
    """A bare encoder with random weights, as a Hugging Face folder."""
    write_vocabulary(folder, vocabulary)
    tokenizer = Tokenizer.from_folder(folder)
    config = BertConfig(tokenizer.vocab_size, initializer_range=DEVIATION, **SIZES | sizes)
    keras.utils.set_random_seed(3)
    checkpoint.save(folder, bert(config, "float32"), config_to_hugging_face(config), tokenizer)
    return folder


def write_encoder(folder: Path, vocabulary: Path, architecture, config_class, **sizes) -> Path:
    """As `write_checkpoint`, of another architecture: its file of models/ and its config."""
    write_vocabulary(folder, vocabulary)
    tokenizer = Tokenizer.from_folder(folder)
    config = config_class(tokenizer.vocab_size, initializer_range=DEVIATION, **SIZES | sizes)
    keras.utils.set_random_seed(3)
    settings = architecture.config_to_hugging_face(config)
    checkpoint.save(folder, architecture.encoder(config, "float32"), settings, tokenizer)
    return folder


def animals(number: int, seed: int) -> list[dict[str, str]]:
    """Records whose label is the animal of the one word that is no filler."""
    chance = random.Random(seed)
    records = []
    for _ in range(number):
        label = chance.choice(LABELS)
        words = chance.choices(FILLERS, k=chance.randrange(1, 17))
        words.insert(chance.randrange(len(words) + 1), chance.choice(WORDS[label]))
        records.append({"text": " ".join(words), "label": label})
    return records


def write_csv(file: Path, records, encoding="utf-8") -> Path:
    """Records of one shape as a CSV with a header."""
    with file.open("w", newline="", encoding=encoding) as opened:
        writer = csv.DictWriter(opened, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
    return file


# Settings of `kbert finetune` that learn it within seconds.
FAST = (
    "--epochs", "11", "--learning-rate", "0.005", "--max-length", "23", "--dtype", "float32",
)  # fmt: skip


def files(folder: Path) -> list[str]:
    """Options for the three files of a folder."""
    return [
        x for name in ("train", "test", "validation") for x in (f"--{name}", folder / f"{name}.csv")
    ]


def kbert(*arguments) -> int:
    """Run the command in this process; its exit code."""
    with mock.patch.object(sys, "argv", ["kbert", *map(str, arguments)]):
        try:
            cli.main()
        except SystemExit as exit:
            return exit.code
    return 0
