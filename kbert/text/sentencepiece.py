"""A SentencePiece model file (Kudo and Richardson 2018) → a Rust Unigram tokenizer.

The file holds pieces with log probabilities and a table that normalises characters. What a model
does beside that stands in its own code, not in the file. So each family is known here, by the class
or the model type that its folder names, or else by the special tokens of its vocabulary: the text
is cleaned first (ALBERT, XLNet, DeBERTa-v2), ids are shifted (XLM-R, CamemBERT), tokens are added
(T5, DeBERTa-v2).

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
# fairseq's dictionary, which XLM-R and CamemBERT go by, has its own tokens first. CamemBERT's never
# used four of them: <s>, </s> and <unk> of the file got ids of their own.
XLM_R_FILE = "sentencepiece.bpe.model"
XLM_R_START = ("<s>", "<pad>", "</s>", "<unk>")
NOT_USED = ("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED")
CAMEMBERT_START = (NOT_USED[0], "<pad>", NOT_USED[1], "<unk>", NOT_USED[2])
# What a tokenizer's class begins with, and config.json's model_type, where special tokens do not
# tell, or are not there.
NAMED = {
    "Camembert": "CamemBERT",
    "XLMRoberta": "XLM-R",
    "DebertaV2": "DeBERTa-v2",
    "camembert": "CamemBERT",
    "xlm-roberta": "XLM-R",
    "deberta-v2": "DeBERTa-v2",
}
# Of ALBERT and XLNet: a piece "1," is looked up as "1" and ",". As in transformers, such pieces
# get a probability that makes them lose.
PENALTY = 100.0
# In the order in which transformers adds those that a file lacks; of the published, only [MASK].
DEBERTA_TOKENS = ("[CLS]", "[SEP]", "[PAD]", "[MASK]")
NUM_SENTINELS = 100  # of T5: <extra_id_0> to <extra_id_99>


def read(path: Path, model_type: str | None, config: dict) -> tokenizers.Tokenizer:
    """The Rust tokenizer of a model file.

    Args:
        path: the file. One called sentencepiece.bpe.model is XLM-R's or CamemBERT's.
        model_type: of config.json beside it, if there is one.
        config: tokenizer_config.json beside it: `tokenizer_class`, `do_lower_case` (ALBERT, XLNet,
            DeBERTa-v2), `keep_accents` (ALBERT, XLNet), `split_by_punct` (DeBERTa-v2), `extra_ids`
            (T5), names of special tokens.

    Raises:
        InputError: it is no SentencePiece model, or one that Rust's Unigram model cannot be.
    """
    proto = _read_proto(path)
    family = _family(path, proto, model_type, config)
    pieces, unk_id = _vocabulary(proto, family, config)
    byte_fallback = proto.trainer_spec.byte_fallback
    try:
        rust = tokenizers.Tokenizer(models.Unigram(pieces, unk_id, byte_fallback))
        steps = _cleaning(family, config)
        if table := proto.normalizer_spec.precompiled_charsmap:
            steps.append(normalizers.Precompiled(table))
    except Exception as error:  # tokenizers raises the bare class
        raise InputError(f"{path} is not a model that `tokenizers` reads: {error}.") from None
    is_cut = family == "DeBERTa-v2" and config.get("split_by_punct", False)
    _set_spaces(rust, proto.normalizer_spec, steps, is_cut)
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


def _family(path: Path, proto, model_type: str | None, config: dict) -> str | None:
    """Whose the model is: by the class or model type that the folder names, its special tokens."""
    class_name = config.get("tokenizer_class") or ""
    for name, family in NAMED.items():
        if class_name.startswith(name) or model_type == name:
            return family
    if path.name == XLM_R_FILE:
        return "XLM-R"
    family = special_tokens.family({piece.piece for piece in proto.pieces})
    return "DeBERTa-v2" if family == "BERT" else family


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
    elif family == "CamemBERT":
        start = [(token, -PENALTY if token == NOT_USED[2] else 0.0) for token in CAMEMBERT_START]
        pieces = start + pieces[1:] + [("<mask>", 0.0)]
        unk_id = CAMEMBERT_START.index("<unk>")
    elif family == "T5" and "<extra_id_0>" not in dict(pieces):
        last = config.get("extra_ids", NUM_SENTINELS) - 1
        pieces += [(f"<extra_id_{number}>", 0.0) for number in range(last, -1, -1)]
    elif family == "DeBERTa-v2":
        pieces += [(token, 0.0) for token in DEBERTA_TOKENS if token not in dict(pieces)]
    return pieces, unk_id


def _is_number(piece: str) -> bool:
    return piece.endswith(",") and piece[-2:-1].isdigit()


def _cleaning(family: str | None, config: dict) -> list:
    """What comes before SentencePiece (albert/tokenization.py, xlnet/prepro_utils.py)."""
    if family not in ("ALBERT", "XLNet", "DeBERTa-v2"):
        return []
    steps = []
    if family != "DeBERTa-v2":
        steps += [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
        if not config.get("keep_accents", False):
            steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if config.get("do_lower_case", family == "ALBERT"):
        steps.append(normalizers.Lowercase())
    return steps


def _set_spaces(rust: tokenizers.Tokenizer, spec, steps: list, is_cut: bool) -> None:
    """Normaliser, pre-tokenizer and decoder, as the file treats spaces.

    Args:
        rust: to set them on.
        spec: the file's `NormalizerSpec`.
        steps: the normaliser's steps so far.
        is_cut: whether punctuation stands apart (DeBERTa-v2's `split_by_punct`).
    """
    scheme = "always" if spec.add_dummy_prefix else "never"
    metaspace = pre_tokenizers.Metaspace(SPACE, scheme)
    # A blank between two punctuation marks is a word of DeBERTa's.
    if spec.remove_extra_whitespaces and spec.add_dummy_prefix and not is_cut:
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
    cut = [pre_tokenizers.Punctuation("isolated")] if is_cut else []
    rust.pre_tokenizer = pre_tokenizers.Sequence([*cut, metaspace]) if cut else metaspace
    rust.decoder = decoders.Metaspace(SPACE, scheme)


def _add_special_tokens(rust: tokenizers.Tokenizer, proto, names: dict) -> None:
    """Control tokens of the file, and the model's own, as tokens that texts may name.

    User-defined pieces stay pieces: as SentencePiece does, Rust takes them wherever they stand,
    since no other piece is as probable, and unlike added tokens they leave words whole.
    """
    control = [p.piece for p in proto.pieces if p.type == CONTROL]
    sentinels = [t for t in rust.get_vocab() if t.startswith("<extra_id_")]
    sentinels = sorted(sentinels, key=rust.token_to_id)
    for token in (*control, *sentinels, *names.values()):
        if token and rust.token_to_id(token) is not None:
            # A mask takes the space before it, as in the published tokenizer.json files.
            is_mask = token == names["mask_token"]
            rust.add_tokens([AddedToken(token, lstrip=is_mask, normalized=False, special=True)])


def _set_form(rust: tokenizers.Tokenizer, family: str | None, names: dict) -> None:
    cls, sep, eos = names["cls_token"], names["sep_token"], names["eos_token"]
    if family in ("DeBERTa-v2", "ALBERT"):
        rust.post_processor = special_tokens.bert_form(rust, names)
    elif family == "XLNet":
        rust.post_processor = special_tokens.form(
            rust, f"$A:0 {sep}:0 {cls}:2", f"$A:0 {sep}:0 $B:1 {sep}:1 {cls}:2"
        )
    elif family == "T5":
        rust.post_processor = special_tokens.form(
            rust, f"$A:0 {eos}:0", f"$A:0 {eos}:0 $B:0 {eos}:0"
        )
    elif family in ("XLM-R", "CamemBERT", "RoBERTa"):
        rust.post_processor = special_tokens.form(
            rust, f"{cls}:0 $A:0 {sep}:0", f"{cls}:0 $A:0 {sep}:0 {sep}:0 $B:0 {sep}:0"
        )
