"""A SentencePiece model file (Kudo and Richardson 2018) → a Rust Unigram tokenizer.

The file holds pieces with log probabilities and a table that normalises characters. What a model
does beside that stands in its own code, not in the file, so each family is known here by the
special tokens of its vocabulary: the text is cleaned first (ALBERT, XLNet), ids are shifted
(XLM-R), tokens are added (T5, DeBERTa-v2).

Rust finds the pieces of the library `sentencepiece`, and of the Python code that ALBERT and XLNet
came with, with these exceptions, which `transformers` shares:

- Where two ways to cut a word are equally probable, Rust adds up 64 bits and SentencePiece 32,
  and chance decides: `▁ha bit` or `▁ hab it`.
- A number before a comma. The Python code cuts it a second time without the comma, Rust cuts it
  as best it goes with the pieces that have none: XLNet's `▁30 73 4 ,` or `▁30 7 34 ,`.
- Rust looks up a character with its marks at once, up to five bytes, or else single characters,
  where SentencePiece takes the longest entry of its table: decomposed Hangul stays decomposed.
- Lower-casing: Python makes of the last letter of ΟΔΥΣΣΕΥΣ a ς, Rust a σ. And a control token
  that it makes ("<PAD>") is a token to Rust, and three pieces or more to SentencePiece.
"""

from collections import Counter
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from kbert.errors import InputError
from kbert.text import special_tokens

SPACE = "\u2581"  # ▁, what SentencePiece writes for a space
UNIGRAM = 1  # TrainerSpec.ModelType
CONTROL, USER_DEFINED = 3, 4  # ModelProto.SentencePiece.Type
# fairseq's dictionary, which XLM-R and CamemBERT go by, has its own tokens first.
XLM_R_FILE = "sentencepiece.bpe.model"
XLM_R_START = ("<s>", "<pad>", "</s>", "<unk>")
# Of ALBERT and XLNet: a piece "1," is looked up as "1" and ",". As in transformers, such pieces
# get a probability that makes them lose.
PENALTY = 100.0
NUM_SENTINELS = 100  # of T5: <extra_id_0> to <extra_id_99>


def read(path: Path, config: dict) -> tokenizers.Tokenizer:
    """The Rust tokenizer of a model file.

    Args:
        path: the file. One called sentencepiece.bpe.model is XLM-R's.
        config: tokenizer_config.json beside it: `do_lower_case` and `keep_accents` (ALBERT, XLNet),
            `extra_ids` (T5), names of special tokens.

    Raises:
        InputError: it is no SentencePiece model, or one that Rust's Unigram model cannot be.
    """
    proto = _read_proto(path)
    family = _family(path, proto, config)
    pieces, unk_id = _vocabulary(proto, family, config)
    byte_fallback = proto.trainer_spec.byte_fallback
    try:
        rust = tokenizers.Tokenizer(models.Unigram(pieces, unk_id, byte_fallback))
        steps = _cleaning(family, config)
        if table := proto.normalizer_spec.precompiled_charsmap:
            steps.append(normalizers.Precompiled(table))
    except Exception as error:  # tokenizers raises the bare class
        raise InputError(f"{path} is not a model that `tokenizers` reads: {error}.") from None
    _set_spaces(rust, proto.normalizer_spec, steps)
    names = special_tokens.resolve(rust, special_tokens.given_names(config), path)
    _add_special_tokens(rust, proto, names)
    _set_form(rust, family, names)
    # Rust reads a number of 17 digits from JSON with its last bit changed. As nearly all
    # tokenizers were read from there, and this one may be saved there, so is it here.
    return tokenizers.Tokenizer.from_str(rust.to_str())


def _read_proto(path: Path):
    """The file as a `ModelProto`."""
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError:
        proto.Clear()
    if not proto.pieces:
        raise InputError(
            f"{path} is not a SentencePiece model, or only a part of one. Fetch it again; a file "
            "of a few lines of text is a pointer that Git LFS has not replaced."
        )
    if proto.trainer_spec.model_type != UNIGRAM:
        kind = proto.trainer_spec.ModelType.Name(proto.trainer_spec.model_type)
        raise InputError(
            f"{path}: expected a SentencePiece model of kind UNIGRAM, got {kind}. Load the folder "
            "with transformers.AutoTokenizer and save it: that writes tokenizer.json."
        )
    twice = [p for p, count in Counter(p.piece for p in proto.pieces).items() if count > 1]
    if twice:
        raise InputError(
            f"{path} holds {len(twice)} piece(s) more than once, such as {twice[0]!r}. Each piece "
            "has one id: make them unique."
        )
    return proto


def _family(path: Path, proto, config: dict) -> str | None:
    """Whose the model is: by the class that the folder names, its file, its special tokens."""
    if path.name == XLM_R_FILE or "XLMRoberta" in (config.get("tokenizer_class") or ""):
        return "XLM-R"
    # DeBERTa-v2 has BERT's names.
    return special_tokens.family({piece.piece for piece in proto.pieces})


def _vocabulary(proto, family: str | None, config: dict) -> tuple[list, int]:
    """(piece, log probability) in id order, and the id of the unknown token."""
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    unk_id = proto.trainer_spec.unk_id
    if family in ("ALBERT", "XLNet"):
        pieces = [(piece, score - PENALTY * _is_number(piece)) for piece, score in pieces]
    elif family == "XLM-R":
        # The file begins with <unk> <s> </s>.
        pieces = [(token, 0.0) for token in XLM_R_START] + pieces[3:] + [("<mask>", 0.0)]
        unk_id = XLM_R_START.index("<unk>")
    elif family == "T5" and "<extra_id_0>" not in dict(pieces):
        last = config.get("extra_ids", NUM_SENTINELS) - 1
        pieces += [(f"<extra_id_{number}>", 0.0) for number in range(last, -1, -1)]
    elif family == "BERT" and "[MASK]" not in dict(pieces):
        pieces.append(("[MASK]", 0.0))
    return pieces, unk_id


def _is_number(piece: str) -> bool:
    return piece.endswith(",") and piece[-2:-1].isdigit()


def _cleaning(family: str | None, config: dict) -> list:
    """What comes before SentencePiece (albert/tokenization.py, xlnet/prepro_utils.py)."""
    if family not in ("ALBERT", "XLNet"):
        return []
    steps = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not config.get("keep_accents", False):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if config.get("do_lower_case", family == "ALBERT"):
        steps.append(normalizers.Lowercase())
    return steps


def _set_spaces(rust: tokenizers.Tokenizer, spec, steps: list) -> None:
    """Normaliser, pre-tokenizer and decoder, as the file treats spaces.

    Args:
        rust: to set them on.
        spec: the file's `NormalizerSpec`.
        steps: the normaliser's steps so far.
    """
    scheme = "always" if spec.add_dummy_prefix else "never"
    metaspace = pre_tokenizers.Metaspace(SPACE, scheme)
    if spec.remove_extra_whitespaces and spec.add_dummy_prefix:
        # Every word gets its ▁, and offsets leave out the space before it.
        metaspace = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    elif spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(" +"), " "), normalizers.Strip()]
    else:
        # Pieces may hold several spaces, and the one put before stands beside others.
        steps += [normalizers.Prepend(" ")] * spec.add_dummy_prefix
        metaspace = pre_tokenizers.Metaspace(SPACE, "never", split=False)
    if steps:
        rust.normalizer = normalizers.Sequence(steps)
    rust.pre_tokenizer = metaspace
    rust.decoder = decoders.Metaspace(SPACE, scheme)


def _add_special_tokens(rust: tokenizers.Tokenizer, proto, names: dict) -> None:
    """Control tokens of the file, and the model's own, as tokens that texts may name.

    User-defined pieces stay pieces: as SentencePiece does, Rust takes them wherever they stand,
    since no other piece is as probable, and unlike added tokens they leave words whole.
    """
    control = [p.piece for p in proto.pieces if p.type == CONTROL]
    sentinels = [t for t in rust.get_vocab() if t.startswith("<extra_id_")]
    for token in (*control, *sorted(sentinels, key=rust.token_to_id), *names.values()):
        if token and rust.token_to_id(token) is not None:
            # A mask takes the space before it, as in the published tokenizer.json files.
            is_mask = token == names["mask_token"]
            rust.add_tokens([AddedToken(token, lstrip=is_mask, normalized=False, special=True)])


def _set_form(rust: tokenizers.Tokenizer, family: str | None, names: dict) -> None:
    cls, sep, eos = names["cls_token"], names["sep_token"], names["eos_token"]
    if family in ("BERT", "ALBERT"):
        rust.post_processor = special_tokens.bert_form(rust, names)
    elif family == "XLNet":
        rust.post_processor = special_tokens.form(
            rust, f"$A:0 {sep}:0 {cls}:2", f"$A:0 {sep}:0 $B:1 {sep}:1 {cls}:2"
        )
    elif family == "T5":
        rust.post_processor = special_tokens.form(
            rust, f"$A:0 {eos}:0", f"$A:0 {eos}:0 $B:0 {eos}:0"
        )
    elif family in ("XLM-R", "RoBERTa"):
        rust.post_processor = special_tokens.form(
            rust, f"{cls}:0 $A:0 {sep}:0", f"{cls}:0 $A:0 {sep}:0 {sep}:0 $B:0 {sep}:0"
        )
