"""Strings to token ids and back, on the Rust `tokenizers` library.

WordPiece (Devlin et al. 2018), byte-pair encoding of characters or bytes (Sennrich et al. 2016;
Radford et al. 2019) and Unigram (Kudo 2018) are models of one Rust tokenizer, which also cleans the
text before and keeps the way back to its characters. A tokenizer comes from a Hugging Face folder
and goes back to one, so `transformers` and kbert give the same ids for the same files.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from kbert.errors import InputError
from kbert.text import files, special_tokens
from kbert.text.form import Form

# transformers writes 10**30 where it knows no limit; no encoder reads a million tokens.
MAX_SANE_LENGTH = 1_000_000
# Bounds the memory that Rust holds in encodings until their ids are taken out.
TEXTS_PER_CALL = 10_000
NO_PIECE = "\U0010fffd"  # private use: a character that no vocabulary has


@dataclass(frozen=True)
class Encoding:
    """One text's tokens, without special tokens added.

    Attributes:
        ids: the token ids.
        offsets: for each token, the characters of the original text that it covers, [start, end),
            counted as Python counts them. For a text given as words: of its word.
        words: for each token, the number of its word: the place in the list for a text that was
            given as words, else counted as the tokenizer splits the text.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]
    words: list[int | None]


class Tokenizer:
    """Texts to token ids, without the special tokens around them, which the packer adds.

    A special token's name written in a text ("[SEP]") becomes its id, as in `transformers`.

    Attributes:
        rust: the wrapped `tokenizers.Tokenizer`, without padding and truncation.
        vocab: list of str, the tokens in id order, added tokens included.
        vocab_size: int, the length of `vocab`.
        cls_id, sep_id, pad_id, unk_id, mask_id, bos_id, eos_id: int, or None where the vocabulary
            has no such token (`special_id` is for who cannot do without); BERT has the first four.
        special_tokens: dict from "cls_token" and so on to the token's text, of those there are.
        form: `Form`, the special tokens around one text or more.
        with_segments: bool, whether its model takes segment ids (a loaded checkpoint says so).
        lowercase, strip_accents, tokenize_chinese_chars: bool, as BERT's normaliser is set
            (strip_accents may be None: as `lowercase`); None where another normaliser stands.
        max_length: int, the longest input in tokens with the special ones, or None if unknown.
    """

    def __init__(self, rust: tokenizers.Tokenizer, special_tokens=None, max_length=None):
        """Wraps a Rust tokenizer; `from_folder` reads one from files.

        Args:
            rust: a `tokenizers.Tokenizer` of any model. It is changed: padding and truncation go,
                special tokens are registered.
            special_tokens: dict, the names that differ from those of the published models
                (special_tokens.py), or None.
            max_length: int or None, in tokens with the special ones.

        Raises:
            InputError: a special token is not in the vocabulary, the ids have gaps, or there is no
                token for unknown text.
        """
        rust.no_padding()
        rust.no_truncation()
        self.rust = rust
        self.special_tokens = _register(rust, special_tokens or {})
        _check_unknown(rust)
        ids = {part: rust.token_to_id(token) for part, token in self.special_tokens.items()}
        self.cls_id, self.sep_id = ids.get("cls_token"), ids.get("sep_token")
        self.pad_id, self.unk_id = ids.get("pad_token"), ids.get("unk_token")
        self.bos_id, self.eos_id = ids.get("bos_token"), ids.get("eos_token")
        self.mask_id = ids.get("mask_token")
        self.vocab = _in_id_order(rust)
        self.vocab_size = len(self.vocab)
        self.with_segments = True
        self.max_length = max_length
        normalizer = rust.normalizer
        is_bert = isinstance(normalizer, normalizers.BertNormalizer)
        self.lowercase = normalizer.lowercase if is_bert else None
        self.strip_accents = normalizer.strip_accents if is_bert else None
        self.tokenize_chinese_chars = normalizer.handle_chinese_chars if is_bert else None

    @classmethod
    def from_folder(cls, folder) -> "Tokenizer":
        """Reads the tokenizer files of a Hugging Face model folder (files.py says which).

        Where tokenizer_config.json sets `do_lower_case`, `strip_accents`,
        `tokenize_chinese_chars` or `add_prefix_space`, it wins over tokenizer.json, as it does in
        `transformers`.

        Args:
            folder: str or Path.

        Raises:
            InputError: a file is missing or cannot be used; the text says which and why.
        """
        folder = Path(folder)
        config = files.read_config(folder)
        rust = files.read_rust(folder, config)
        length = config.get("model_max_length")
        is_sane = isinstance(length, int) and 0 < length <= MAX_SANE_LENGTH
        try:
            return cls(rust, special_tokens.given_names(config), length if is_sane else None)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from None

    @cached_property
    def form(self) -> Form:
        return Form.from_rust(self.rust)

    def special_id(self, part: str) -> int:
        """The id of a special token that the caller cannot do without.

        Args:
            part: "mask_token", "pad_token" and so on.

        Raises:
            InputError: this tokenizer has none.
        """
        if part not in self.special_tokens:
            there = ", ".join(self.special_tokens.values()) or "no special tokens"
            raise InputError(
                f"Expected a tokenizer with a {part}, this one has {there}. Add "
                f"one to the vocabulary and name it in tokenizer_config.json ({part})."
            )
        return self.rust.token_to_id(self.special_tokens[part])

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens added; runs on all cores."""
        ids = []
        for chunk in _chunks(texts):
            encodings = self.rust.encode_batch_fast(chunk, add_special_tokens=False)
            ids.extend(encoding.ids for encoding in encodings)
        return ids

    def encode(self, texts: Sequence[str | Sequence[str]]) -> list[Encoding]:
        """Ids, offsets and word numbers of each text; runs on all cores.

        Args:
            texts: strings, or each a sequence of words. Models that tell a word after a space from
                one that begins a text (GPT-2, RoBERTa) read all given words as after a space, as
                `transformers` does under `add_prefix_space=True`.
        """
        encoded = []
        for chunk in _chunks(texts):
            is_split = not isinstance(chunk[0], str)
            if any(isinstance(text, str) is is_split for text in chunk):
                raise TypeError("Expected all texts as str, or all as words; got some of each.")
            rust = self._rust_for_words if is_split else self.rust
            chunk = [list(text) for text in chunk] if is_split else chunk
            encoded.extend(
                Encoding(encoding.ids, encoding.offsets, encoding.word_ids)
                for encoding in rust.encode_batch(
                    chunk, is_pretokenized=is_split, add_special_tokens=False
                )
            )
        return encoded

    @cached_property
    def _rust_for_words(self) -> tokenizers.Tokenizer:
        """For texts given as words: a tokenizer that puts a space before each."""
        spaced = (pre_tokenizers.ByteLevel, pre_tokenizers.Metaspace)
        if not isinstance(self.rust.pre_tokenizer, spaced):
            return self.rust
        return files.with_prefix_space(self.rust, True)

    def tokenize(self, text: str) -> list[str]:
        """The pieces of one text, as they stand in the vocabulary."""
        return [self.vocab[i] for i in self.rust.encode(text, add_special_tokens=False).ids]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of token ids: pieces joined as the tokenizer's decoder does."""
        return self.rust.decode([int(i) for i in ids], skip_special_tokens=skip_special_tokens)

    def save(self, folder) -> None:
        """Writes tokenizer.json, tokenizer_config.json, special_tokens_map.json and vocabulary.

        The vocabulary stands in tokenizer.json, and for tools that want it plain in vocab.txt
        (WordPiece) or vocab.json and merges.txt (byte-pair encoding of bytes).
        `transformers.AutoTokenizer` and `Tokenizer.from_folder` read them back to the same ids.

        Args:
            folder: str or Path, made if it is missing.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.rust.save(str(folder / "tokenizer.json"))
        if isinstance(self.rust.model, models.WordPiece):
            lines = "".join(f"{token}\n" for token in self.vocab)
            (folder / "vocab.txt").write_text(lines, encoding="utf-8", newline="\n")
        elif isinstance(self.rust.pre_tokenizer, pre_tokenizers.ByteLevel):
            self.rust.model.save(str(folder))
        files.write_json(folder / "tokenizer_config.json", self._transformers_settings())
        files.write_json(folder / "special_tokens_map.json", self.special_tokens)

    def _transformers_settings(self) -> dict:
        """tokenizer_config.json: what `transformers` must know beside tokenizer.json."""
        settings = {"tokenizer_class": _transformers_class(self.rust), **self.special_tokens}
        # A null keeps transformers from adding BERT's [MASK] to a vocabulary without it.
        settings.setdefault("mask_token", None)
        if self.lowercase is not None:
            settings["do_lower_case"] = self.lowercase
            settings["strip_accents"] = self.strip_accents
            settings["tokenize_chinese_chars"] = self.tokenize_chinese_chars
        if self.max_length:
            settings["model_max_length"] = self.max_length
        if settings["tokenizer_class"] in files.GENERIC_CLASSES:
            # A T5 in transformers stops at segment numbers, a GPT-2 reads them as words.
            has_segments = self.form.num_special() and self.form.segments != (0, 0)
            names = ["input_ids", *["token_type_ids"] * bool(has_segments), "attention_mask"]
            settings["model_input_names"] = names
        if self.form.suffix and self.form.suffix[-1] == self.cls_id:
            settings["padding_side"] = "left"  # XLNet's heads in transformers read the last column
        return settings


def _chunks(texts: Sequence) -> Iterator[list]:
    if isinstance(texts, str):
        raise TypeError(f"Expected a sequence of texts, got one str: pass [{texts[:20]!r}].")
    texts = list(texts)
    for start in range(0, len(texts), TEXTS_PER_CALL):
        yield texts[start : start + TEXTS_PER_CALL]


def _register(rust: tokenizers.Tokenizer, given: dict) -> dict[str, str]:
    names = special_tokens.resolve(rust, given)
    special_tokens.register(rust, names)
    return {part: token for part, token in names.items() if token}


def _check_unknown(rust: tokenizers.Tokenizer) -> None:
    try:
        rust.encode(NO_PIECE)
    except Exception as error:  # tokenizers raises the bare class
        raise InputError(
            f"Expected a tokenizer that has a token for unknown text; this one stops: {error}. "
            'Name one of its vocabulary in tokenizer.json, as the model\'s "unk_id" or "unk_token".'
        ) from None


def _in_id_order(rust: tokenizers.Tokenizer) -> list[str]:
    """The tokens by id; the ids must be 0 to V - 1, the rows of the embedding."""
    vocab = rust.get_vocab(with_added_tokens=True)
    tokens = sorted(vocab, key=vocab.get)
    has_lines = isinstance(rust.model, models.WordPiece)
    for expected, token in enumerate(tokens):
        if vocab[token] != expected:
            raise InputError(
                f"Expected token ids from 0 to {len(tokens) - 1} without gaps, got "
                f"{vocab[token]} for {token!r} where {expected} was due."
            )
        if has_lines and ("\n" in token or "\r" in token):
            raise InputError(
                f"Token {token!r} (id {expected}) holds a line break, which vocab.txt cannot "
                "keep. Take it out of the vocabulary."
            )
    return tokens


def _transformers_class(rust) -> str:
    """`BertTokenizer` in transformers keeps a vocabulary and three switches, and no more."""
    parts = json.loads(rust.to_str())
    normalizer, pre_tokenizer = parts["normalizer"] or {}, parts["pre_tokenizer"] or {}
    is_bert = (
        normalizer.get("type") == "BertNormalizer"
        and normalizer["clean_text"]
        and pre_tokenizer.get("type") == "BertPreTokenizer"
        and parts["model"].get("continuing_subword_prefix") == "##"
        and parts["model"].get("max_input_chars_per_word") == 100
    )
    return "BertTokenizer" if is_bert else "PreTrainedTokenizerFast"
