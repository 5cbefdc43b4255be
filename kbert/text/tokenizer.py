"""Strings to token ids and back: WordPiece (Devlin et al. 2018) on the Rust `tokenizers` library.

A tokenizer comes from a Hugging Face folder and goes back to one, so `transformers` and kbert
give the same ids for the same files.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from kbert.errors import InputError

# BERT's names (google-research/bert, tokenization.py), where a folder gives no others.
SPECIAL_TOKENS = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}
REQUIRED_TOKENS = ("cls_token", "sep_token", "pad_token", "unk_token")
# transformers writes 10**30 where it knows no limit; no encoder reads a million tokens.
MAX_SANE_LENGTH = 1_000_000
# Bounds the memory that Rust holds in encodings until their ids are taken out.
TEXTS_PER_CALL = 10_000
# tokenizer_class values for which transformers takes all settings from tokenizer.json.
GENERIC_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
# tokenizer_config.json's names for the switches of BERT's normaliser in tokenizer.json.
NORMALIZER_KEYS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


class Tokenizer:
    """Texts to token ids, without [CLS] and [SEP], which the packer adds.

    A special token's name written in a text ("[SEP]") becomes its id, as in `transformers`.

    Attributes:
        rust: the wrapped `tokenizers.Tokenizer`, without padding and truncation.
        vocab: list of str, the tokens in id order, added tokens included.
        vocab_size: int, the length of `vocab`.
        cls_id, sep_id, pad_id, unk_id: int.
        mask_id: int, or None where the vocabulary has no mask token.
        special_tokens: dict from "cls_token" and so on to the token's text, or to None for
            "mask_token" where there is none.
        lowercase, strip_accents, tokenize_chinese_chars: bool, as BERT's normaliser is set
            (strip_accents may be None: as `lowercase`); None where another normaliser stands.
        max_length: int, the longest input in tokens with the special ones, or None if unknown.
    """

    def __init__(self, rust: tokenizers.Tokenizer, special_tokens=None, max_length=None):
        """Wraps a Rust tokenizer; `from_folder` reads one from files.

        Args:
            rust: a `tokenizers.Tokenizer` with a WordPiece model. It is changed: padding and
                truncation go, special tokens are registered.
            special_tokens: dict, the names that differ from `SPECIAL_TOKENS`, or None.
            max_length: int or None, in tokens with the special ones.

        Raises:
            InputError: the model is not WordPiece, a special token is not in the vocabulary, or
                the ids have gaps.
        """
        if not isinstance(rust.model, models.WordPiece):
            raise InputError(
                f"Expected a WordPiece tokenizer, got {type(rust.model).__name__}: this release "
                "serves WordPiece only (BERT and the models that share its tokenizer)."
            )
        rust.no_padding()
        rust.no_truncation()
        self.rust = rust
        self.special_tokens = _register_special_tokens(rust, special_tokens or {})
        self.cls_id, self.sep_id, self.pad_id, self.unk_id, self.mask_id = (
            token and rust.token_to_id(token) for token in self.special_tokens.values()
        )
        self.vocab = _in_id_order(rust.get_vocab(with_added_tokens=True))
        self.vocab_size = len(self.vocab)
        self.max_length = max_length
        normalizer = rust.normalizer
        is_bert = isinstance(normalizer, normalizers.BertNormalizer)
        self.lowercase = normalizer.lowercase if is_bert else None
        self.strip_accents = normalizer.strip_accents if is_bert else None
        self.tokenize_chinese_chars = normalizer.handle_chinese_chars if is_bert else None

    @classmethod
    def from_folder(cls, folder) -> "Tokenizer":
        """Reads tokenizer.json, else vocab.txt, with tokenizer_config.json beside either.

        Where tokenizer_config.json sets `do_lower_case`, `strip_accents` or
        `tokenize_chinese_chars`, it wins over tokenizer.json, as it does in `transformers`.

        Args:
            folder: str or Path, a Hugging Face model folder.

        Raises:
            InputError: a file is missing or cannot be used; the text says which and why.
        """
        folder = Path(folder)
        config = _read_config(folder)
        if (folder / "tokenizer.json").is_file():
            rust = _read_tokenizer_json(folder / "tokenizer.json", config)
        elif (folder / "vocab.txt").is_file():
            rust = _read_vocab_txt(folder, config)
        else:
            raise InputError(
                f"Expected tokenizer.json or vocab.txt in {folder}; {_contents(folder)}."
            )
        length = config.get("model_max_length")
        is_sane = isinstance(length, int) and 0 < length <= MAX_SANE_LENGTH
        try:
            return cls(rust, _special_token_names(config), length if is_sane else None)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from None

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens added; runs on all cores."""
        if isinstance(texts, str):
            raise TypeError(f"Expected a sequence of texts, got one str: pass [{texts[:20]!r}].")
        texts = list(texts)
        ids = []
        for start in range(0, len(texts), TEXTS_PER_CALL):
            chunk = texts[start : start + TEXTS_PER_CALL]
            encodings = self.rust.encode_batch_fast(chunk, add_special_tokens=False)
            ids.extend(encoding.ids for encoding in encodings)
        return ids

    def tokenize(self, text: str) -> list[str]:
        """The word pieces of one text, as they stand in the vocabulary."""
        return self.rust.encode(text, add_special_tokens=False).tokens

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of token ids: pieces joined, blanks before punctuation taken out."""
        return self.rust.decode([int(i) for i in ids], skip_special_tokens=skip_special_tokens)

    def save(self, folder) -> None:
        """Writes tokenizer.json, vocab.txt, tokenizer_config.json and special_tokens_map.json.

        `transformers.AutoTokenizer` and `Tokenizer.from_folder` read them back to the same ids.

        Args:
            folder: str or Path, made if it is missing.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.rust.save(str(folder / "tokenizer.json"))
        lines = "".join(f"{token}\n" for token in self.vocab)
        (folder / "vocab.txt").write_text(lines, encoding="utf-8", newline="\n")
        config = {"tokenizer_class": _transformers_class(self.rust), **self.special_tokens}
        if self.lowercase is not None:
            config["do_lower_case"] = self.lowercase
            config["strip_accents"] = self.strip_accents
            config["tokenize_chinese_chars"] = self.tokenize_chinese_chars
        if self.max_length:
            config["model_max_length"] = self.max_length
        present = {name: token for name, token in self.special_tokens.items() if token}
        _write_json(folder / "tokenizer_config.json", config)
        _write_json(folder / "special_tokens_map.json", present)


def _register_special_tokens(rust, names) -> dict:
    """Makes Rust match the special tokens in texts; returns all their names."""
    names = SPECIAL_TOKENS | names
    missing = [names[name] for name in REQUIRED_TOKENS if rust.token_to_id(names[name]) is None]
    if missing:
        raise InputError(
            f"The vocabulary lacks the special token(s) {', '.join(missing)}. Add them to it, or "
            "give the names it has for them in tokenizer_config.json (cls_token, sep_token, "
            "pad_token, unk_token)."
        )
    if names["mask_token"] and rust.token_to_id(names["mask_token"]) is None:
        names["mask_token"] = None
    rust.add_special_tokens([token for token in names.values() if token])
    rust.model.unk_token = names["unk_token"]
    return names


def _in_id_order(vocab: dict) -> list[str]:
    """The tokens by id; the ids must be 0 to V - 1, the rows of the embedding."""
    tokens = sorted(vocab, key=vocab.get)
    for expected, token in enumerate(tokens):
        if vocab[token] != expected:
            raise InputError(
                f"Expected token ids from 0 to {len(tokens) - 1} without gaps, got "
                f"{vocab[token]} for {token!r} where {expected} was due."
            )
        if "\n" in token or "\r" in token:
            raise InputError(
                f"Token {token!r} (id {expected}) holds a line break, which vocab.txt cannot "
                "keep. Take it out of the vocabulary."
            )
    return tokens


def _contents(folder: Path) -> str:
    if not folder.is_dir():
        return "there is no such folder"
    return "it holds " + (", ".join(sorted(path.name for path in folder.iterdir())) or "no files")


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON or of UTF-8
        raise InputError(f"{path} is not valid JSON in UTF-8: {error}.") from None
    if not isinstance(content, dict):
        raise InputError(f"Expected a JSON object in {path}, got {type(content).__name__}.")
    return content


def _write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def _read_config(folder: Path) -> dict:
    """tokenizer_config.json over special_tokens_map.json; both may be missing."""
    config = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            config |= _read_json(folder / name)
    return config


def _token_text(token) -> str:
    """Folders spell a special token as its text or as a dict of an `AddedToken`."""
    return token["content"] if isinstance(token, dict) else token


def _special_token_names(config: dict) -> dict:
    names = {name: _token_text(config[name]) for name in SPECIAL_TOKENS if config.get(name)}
    # An explicit null says that there is none; only the mask may be missing.
    if config.get("mask_token", "") is None:
        names["mask_token"] = None
    return names


def _read_tokenizer_json(path: Path, config: dict) -> tokenizers.Tokenizer:
    parts = _read_json(path)
    normalizer = parts.get("normalizer") or {}
    is_bert = normalizer.get("type") == "BertNormalizer"
    if is_bert and config.get("tokenizer_class") not in GENERIC_CLASSES:
        for ours, theirs in NORMALIZER_KEYS.items():
            normalizer[theirs] = config.get(ours, normalizer.get(theirs))
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(parts))
    except Exception as error:  # tokenizers raises the bare class
        raise InputError(f"{path} is not a tokenizer that `tokenizers` reads: {error}.") from None


def _read_vocab_txt(folder: Path, config: dict) -> tokenizers.Tokenizer:
    """BERT's tokenizer around vocab.txt, a token on each line (google-research/bert)."""
    vocab = {token: token_id for token_id, token in enumerate(_read_lines(folder / "vocab.txt"))}
    names = SPECIAL_TOKENS | _special_token_names(config)
    rust = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token=names["unk_token"]))
    rust.normalizer = normalizers.BertNormalizer(
        lowercase=config.get("do_lower_case", True),
        strip_accents=config.get("strip_accents"),
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
    )
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.decoder = decoders.WordPiece()
    cls_token, sep_token = names["cls_token"], names["sep_token"]
    if cls_token in vocab and sep_token in vocab:
        rust.post_processor = processors.TemplateProcessing(
            single=f"{cls_token}:0 $A:0 {sep_token}:0",
            pair=f"{cls_token}:0 $A:0 {sep_token}:0 $B:1 {sep_token}:1",
            special_tokens=[(cls_token, vocab[cls_token]), (sep_token, vocab[sep_token])],
        )
    _add_tokens(rust, folder, config)
    return rust


def _add_tokens(rust, folder: Path, config: dict) -> None:
    """Tokens beyond vocab.txt get the next ids, in the order that transformers gives them."""
    added = config.get("added_tokens_decoder")
    if added is None and (folder / "added_tokens.json").is_file():
        raise InputError(
            f"{folder} adds tokens to vocab.txt in added_tokens.json alone, which kbert does not "
            "read. Load the folder with transformers.AutoTokenizer and save it: that writes "
            "tokenizer.json."
        )
    for token_id in sorted(added or {}, key=int):
        rust.add_tokens([tokenizers.AddedToken(**added[token_id])])
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    extra = extra.values() if isinstance(extra, dict) else extra
    rust.add_special_tokens([_token_text(token) for token in extra])


def _read_lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 (byte {error.start}: {error.reason}). Convert it to UTF-8."
        ) from None
    # Not splitlines: bert-base-chinese has U+2028 as a token.
    tokens = text.removesuffix("\n").split("\n")
    twice = [token for token, count in Counter(tokens).items() if count > 1]
    if twice:
        lines = [number for number, token in enumerate(tokens, start=1) if token == twice[0]]
        raise InputError(
            f"{path} holds {len(twice)} token(s) more than once, such as {twice[0]!r} on lines "
            f"{', '.join(map(str, lines[:5]))}. Each token has one id: make them unique."
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
        and parts["model"]["continuing_subword_prefix"] == "##"
        and parts["model"]["max_input_chars_per_word"] == 100
    )
    return "BertTokenizer" if is_bert else "PreTrainedTokenizerFast"
