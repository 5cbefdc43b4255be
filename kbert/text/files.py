"""The tokenizer files of a model folder → a Rust tokenizer.

    tokenizer.json            any model, with all its settings
    vocab.txt                 BERT: a WordPiece token on each line
    vocab.json + merges.txt   GPT-2, RoBERTa: byte-pair encoding of bytes
    *.model                   ALBERT, XLNet, T5, XLM-R, DeBERTa-v2: SentencePiece (sentencepiece.py)

The first of them that a folder has is read. Beside each, tokenizer_config.json and
special_tokens_map.json may name special tokens and set switches, and added_tokens.json or
tokenizer_config.json's `added_tokens_decoder` may add tokens.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from kbert.errors import InputError
from kbert.text import sentencepiece, special_tokens
from kbert.text.special_tokens import token_text

# tokenizer_class values for which transformers takes all settings from tokenizer.json.
GENERIC_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
# tokenizer_config.json's names for the switches of BERT's normaliser in tokenizer.json.
NORMALIZER_KEYS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def read_rust(folder: Path, config: dict) -> tokenizers.Tokenizer:
    """The Rust tokenizer of a folder.

    Args:
        folder: of a model.
        config: its `read_config`.

    Raises:
        InputError: there is no tokenizer file, or it cannot be used.
    """
    if (folder / "tokenizer.json").is_file():
        return _read_tokenizer_json(folder / "tokenizer.json", config)
    if (folder / "vocab.txt").is_file():
        rust = _read_vocab_txt(folder, config)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        rust = _read_vocab_json(folder, config)
    elif path := _model_file(folder):
        model = folder / "config.json"
        model_type = _read_json(model).get("model_type") if model.is_file() else None
        rust = sentencepiece.read(path, model_type, config)
    else:
        raise InputError(
            "Expected tokenizer.json, vocab.txt, vocab.json with merges.txt, or a SentencePiece "
            f"*.model in {folder}; {_contents(folder)}."
        )
    _add_tokens(rust, folder, config)
    return rust


def read_config(folder: Path) -> dict:
    """tokenizer_config.json over special_tokens_map.json; both may be missing."""
    config = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            config |= _read_json(folder / name)
    return config


def write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def with_prefix_space(rust: tokenizers.Tokenizer, is_on: bool) -> tokenizers.Tokenizer:
    """The same tokenizer with or without a space put before each text.

    Args:
        rust: with a pre-tokenizer that can put one there: `ByteLevel` or `Metaspace`.
        is_on: whether it is to.
    """
    parts = json.loads(rust.to_str())
    for part in (parts["pre_tokenizer"], parts["post_processor"] or {}):
        if "add_prefix_space" in part:
            part["add_prefix_space"] = is_on
        if "prepend_scheme" in part:
            part["prepend_scheme"] = "always" if is_on else "never"
    return tokenizers.Tokenizer.from_str(json.dumps(parts))


def _read_tokenizer_json(path: Path, config: dict) -> tokenizers.Tokenizer:
    parts = _read_json(path)
    is_generic = config.get("tokenizer_class") in GENERIC_CLASSES
    normalizer = parts.get("normalizer") or {}
    if normalizer.get("type") == "BertNormalizer" and not is_generic:
        for ours, theirs in NORMALIZER_KEYS.items():
            normalizer[theirs] = config.get(ours, normalizer.get(theirs))
    model = parts.get("model") or {}
    for number, merge in enumerate(model.get("merges") or [], start=1):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        prefix = model.get("continuing_subword_prefix") or ""
        _check_merge(pair, model["vocab"], f"{path}, merge {number}", prefix)
    try:
        rust = tokenizers.Tokenizer.from_str(json.dumps(parts))
    except Exception as error:  # tokenizers raises the bare class
        raise InputError(f"{path} is not a tokenizer that `tokenizers` reads: {error}.") from None
    is_byte_level = isinstance(rust.pre_tokenizer, pre_tokenizers.ByteLevel)
    if "add_prefix_space" in config and is_byte_level and not is_generic:
        return with_prefix_space(rust, config["add_prefix_space"])
    return rust


def _read_vocab_txt(folder: Path, config: dict) -> tokenizers.Tokenizer:
    """BERT's tokenizer around vocab.txt (google-research/bert)."""
    path = folder / "vocab.txt"
    # Not splitlines: bert-base-chinese has U+2028 as a token.
    tokens = _read_text(path).removesuffix("\n").split("\n")
    _check_twice(tokens, path, "lines")
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    names = special_tokens.BERT | special_tokens.given_names(config)
    rust = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token=names["unk_token"]))
    rust.normalizer = normalizers.BertNormalizer(
        lowercase=config.get("do_lower_case", True),
        strip_accents=config.get("strip_accents"),
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
    )
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.decoder = decoders.WordPiece()
    return rust


def _read_vocab_json(folder: Path, config: dict) -> tokenizers.Tokenizer:
    """GPT-2's byte-pair encoding (openai/gpt-2, encoder.py), with RoBERTa's ends if it has them."""
    path = folder / "vocab.json"
    vocab = _read_json(path)
    _check_ids(vocab, path)
    whole = [token for token in vocab if token.endswith("</w>")]
    if whole:
        raise InputError(
            f"{path}: expected tokens of bytes, as GPT-2 and RoBERTa have them, got {whole[0]!r}: "
            "where tokens end words, two files do not tell how text is split. Load the folder with "
            "transformers.AutoTokenizer and save it: that writes tokenizer.json."
        )
    merges = _read_merges(folder / "merges.txt", vocab)
    rust = tokenizers.Tokenizer(models.BPE(vocab, merges))
    prefix = config.get("add_prefix_space", False)
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    rust.decoder = decoders.ByteLevel()
    names = special_tokens.resolve(rust, special_tokens.given_names(config), folder)
    sep, cls = names["sep_token"], names["cls_token"]
    if sep and cls:
        rust.post_processor = processors.RobertaProcessing(
            (sep, vocab[sep]), (cls, vocab[cls]), trim_offsets=True, add_prefix_space=prefix
        )
    else:
        rust.post_processor = processors.ByteLevel(trim_offsets=False)
    if mask := names["mask_token"]:  # takes the space before it, as RoBERTa's tokenizer.json has it
        rust.add_special_tokens([tokenizers.AddedToken(mask, lstrip=True, special=True)])
    return rust


def _read_merges(path: Path, vocab: dict) -> list[tuple[str, str]]:
    """A merge on each line."""
    merges = []
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = tuple(line.split(" "))
        if len(pair) != 2:
            raise InputError(f"{path}, line {number}: expected two tokens, got {line!r}.")
        _check_merge(pair, vocab, f"{path}, line {number}")
        merges.append(pair)
    return merges


def _check_merge(pair: Sequence[str], vocab: dict, where: str, prefix: str = "") -> None:
    """Raises InputError unless the vocabulary has both tokens of a merge and what they make."""
    left, right = pair
    lacking = [t for t in (left, right, left + right.removeprefix(prefix)) if t not in vocab]
    if lacking:
        raise InputError(
            f"{where}: the merge '{left} {right}' names {lacking[0]!r}, which the vocabulary does "
            "not have. They belong to different tokenizers."
        )


def _model_file(folder: Path) -> Path | None:
    paths = sorted(folder.glob("*.model"))
    if len(paths) > 1:
        raise InputError(
            f"{folder}: expected one SentencePiece model, got "
            f"{', '.join(path.name for path in paths)}. Take out those that are not this model's."
        )
    return paths[0] if paths else None


def _add_tokens(rust: tokenizers.Tokenizer, folder: Path, config: dict) -> None:
    """Tokens beyond the vocabulary get the next ids, in the order that transformers gives them."""
    added = config.get("added_tokens_decoder") or {}
    path = folder / "added_tokens.json"
    if not added and path.is_file():
        special = set(special_tokens.given_names(config).values())
        added = {
            token_id: {
                "content": token,
                "normalized": token not in special,
                "special": token in special,
            }
            for token, token_id in _read_json(path).items()
        }
    for token_id in sorted(added, key=int):
        token = tokenizers.AddedToken(**added[token_id])
        rust.add_tokens([token])
        if (got := rust.token_to_id(token.content)) != int(token_id):
            raise InputError(
                f"{folder} gives the added token {token.content!r} the id {token_id}, but its "
                f"vocabulary gives it {got}. The files belong to different tokenizers."
            )
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    extra = extra.values() if isinstance(extra, dict) else extra
    special_tokens.add(rust, [token_text(token) for token in extra])


def _contents(folder: Path) -> str:
    if not folder.is_dir():
        return "there is no such folder"
    return "it holds " + (", ".join(sorted(path.name for path in folder.iterdir())) or "no files")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 (byte {error.start}: {error.reason}). Convert it to UTF-8."
        ) from None


def _read_json(path: Path) -> dict:
    def unique(pairs: list) -> dict:
        _check_twice([key for key, _ in pairs], path, "places")
        return dict(pairs)

    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)
    except InputError:
        raise
    except ValueError as error:  # of JSON or of UTF-8
        raise InputError(f"{path} is not valid JSON in UTF-8: {error}.") from None
    if not isinstance(content, dict):
        raise InputError(f"Expected a JSON object in {path}, got {type(content).__name__}.")
    return content


def _check_twice(tokens: list, path: Path, what: str) -> None:
    """Raises InputError if a token stands more than once, and says where."""
    twice = [token for token, count in Counter(tokens).items() if count > 1]
    if twice:
        numbers = [number for number, token in enumerate(tokens, start=1) if token == twice[0]]
        raise InputError(
            f"{path} holds {len(twice)} token(s) more than once, such as {twice[0]!r} on {what} "
            f"{', '.join(map(str, numbers[:5]))}. Each token has one id: make them unique."
        )


def _check_ids(vocab: dict, path: Path) -> None:
    """Raises InputError unless every token has an id of its own."""
    tokens = {}
    for token, token_id in vocab.items():
        if type(token_id) is not int or token_id in tokens:
            came = f"{token_id!r} for {token!r}"
            if token_id in tokens:
                came += f" and for {tokens[token_id]!r}"
            raise InputError(f"{path}: expected an id of its own for each token, got {came}.")
        tokens[token_id] = token
