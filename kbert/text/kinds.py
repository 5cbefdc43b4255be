"""What a tokenizer of each kind is made of, besides its vocabulary.

- wordpiece, as BERT's: words are cut into letters, punctuation stands apart; `##` begins what
  goes on within a word.
- bpe, as SentencePiece's: characters; `▁` is the blank before a word.
- byte-bpe, as GPT-2's and RoBERTa's: bytes, all of them in the vocabulary; `Ġ` is the blank.
- unigram, as ALBERT's, XLNet's and T5's: characters; `▁` is the blank, and begins a text.
"""

from collections.abc import Iterable

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from kbert.text import special_tokens

# Special tokens in the order of their ids: BERTaú's, RoBERTa's, ALBERT's.
BERT_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROBERTA_TOKENS = {
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
SPECIAL_TOKENS = {
    "wordpiece": BERT_TOKENS,
    "bpe": ROBERTA_TOKENS,
    "byte-bpe": ROBERTA_TOKENS,
    "unigram": BERT_TOKENS | {"pad_token": "<pad>", "unk_token": "<unk>"},
}
KINDS = tuple(SPECIAL_TOKENS)

# (regular expression, what is written for it), where numbers are not learned: blanks.
WITHOUT_NUMBERS = ((r"\p{N}+(?:[.,]\p{N}+)*", " "),)
# And where they are to be unknown: zeros, as many as the number has characters, so that its place
# in the text is told exactly. They are a word by themselves, and no piece holds one.
WITH_ZEROS = ((r"\p{N}", "0"), (r"(?<=0)[.,](?=0)", "0"))
# A character of punctuation (or of ASCII's symbols) with the blank before it.
PUNCTUATION = r"▁?[\p{P}$+<=>^`|~]"


def empty_model(kind: str) -> models.Model:
    """What a trainer fills."""
    unk_token = SPECIAL_TOKENS[kind]["unk_token"]
    if kind == "unigram":
        return models.Unigram()
    if kind == "wordpiece":
        return models.WordPiece(unk_token=unk_token)
    return models.BPE(unk_token=unk_token, fuse_unk=True)


def normalizer(
    kind: str, lowercase: bool, strip_accents: bool, replaced: Iterable[tuple[str, str]] = ()
) -> normalizers.Normalizer | None:
    """What is done to a text before it is cut into words.

    Args:
        replaced: (regular expression, what is written for it), done one after another.
    """
    if kind == "wordpiece":
        parts = [normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)]
    else:
        nfkc = kind == "unigram"  # as ALBERT's SentencePiece: ① is 1
        composed = normalizers.NFKC() if nfkc else normalizers.NFC()
        decomposed = normalizers.NFKD() if nfkc else normalizers.NFD()
        parts = [] if kind == "byte-bpe" else [composed]  # RoBERTa's bytes are the text's own
        if strip_accents:
            parts = [decomposed, normalizers.StripAccents(), composed]
        if lowercase:
            parts.append(normalizers.Lowercase())
    parts += [normalizers.Replace(Regex(pattern), text) for pattern, text in replaced]
    if kind in ("bpe", "unigram"):
        parts += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    return normalizers.Sequence(parts) if len(parts) > 1 else parts[0] if parts else None


def pre_tokenizer(kind: str, numbers_to_unk: bool) -> pre_tokenizers.PreTokenizer:
    """What cuts a text into words."""
    if kind == "byte-bpe":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind != "wordpiece":
        return _metaspace(kind, pre_tokenizers)
    words = pre_tokenizers.BertPreTokenizer()
    if not numbers_to_unk:
        return words
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex("0+"), "isolated"), words])


def learning_pre_tokenizer(kind: str) -> pre_tokenizers.PreTokenizer:
    """What cuts the texts that are learned from: where `▁` is, also at punctuation.

    So no piece goes across it, and other texts need not be cut there.
    """
    words = pre_tokenizer(kind, numbers_to_unk=False)
    if kind not in ("bpe", "unigram"):
        return words
    return pre_tokenizers.Sequence([words, pre_tokenizers.Split(Regex(PUNCTUATION), "isolated")])


def whole(
    kind: str, model: models.Model, tokens: Iterable[str], *settings, numbers_to_unk: bool
) -> tokenizers.Tokenizer:
    """A learned model as a whole tokenizer.

    Args:
        tokens: the special tokens, which the model's vocabulary has.
        settings: `lowercase` and `strip_accents`, as in `normalizer`.
        numbers_to_unk: whether any number is to be the unknown token.
    """
    rust = tokenizers.Tokenizer(model)
    if before := normalizer(kind, *settings, WITH_ZEROS if numbers_to_unk else ()):
        rust.normalizer = before
    rust.pre_tokenizer = pre_tokenizer(kind, numbers_to_unk)
    names = SPECIAL_TOKENS[kind]
    if kind == "wordpiece":
        rust.decoder = decoders.WordPiece()
    elif kind == "byte-bpe":
        rust.decoder = decoders.ByteLevel()
    else:
        rust.decoder = _metaspace(kind, decoders)
    cls, sep = ((names[part], rust.token_to_id(names[part])) for part in ("cls_token", "sep_token"))
    if kind == "byte-bpe":
        rust.post_processor = processors.RobertaProcessing(sep, cls, add_prefix_space=False)
    elif kind == "bpe":
        rust.post_processor = special_tokens.form(
            rust, "<s>:0 $A:0 </s>:0", "<s>:0 $A:0 </s>:0 </s>:0 $B:0 </s>:0"
        )
    else:
        rust.post_processor = special_tokens.bert_form(rust, names)
    # As RoBERTa and ALBERT have it, the mask stands for a piece with the blank before it.
    wide = None if kind == "wordpiece" else names["mask_token"]
    rust.add_special_tokens([AddedToken(t, special=True, lstrip=t == wide) for t in tokens])
    return rust


def _metaspace(kind: str, part):
    """`▁` for a blank. Unigram writes one before the text too; BPE, as RoBERTa's, does not."""
    return part.Metaspace(prepend_scheme="always" if kind == "unigram" else "never")
