"""Which token of a vocabulary plays which part: cls, sep, pad, unk, mask, bos, eos.

A folder says so in tokenizer_config.json or special_tokens_map.json. Many of the published ones do
not: there the names that a vocabulary has tell whose it is.
"""

import json
from collections.abc import Iterable

import tokenizers
from tokenizers import models, processors

from kbert.errors import InputError

PARTS = (
    "cls_token",
    "sep_token",
    "pad_token",
    "unk_token",
    "mask_token",
    "bos_token",
    "eos_token",
)
# google-research/bert, tokenization.py; DeBERTa-v2 has the same names.
BERT = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}
# A model without them cannot be given a row: WordPiece is BERT's, and BERT's rows hold the three.
NEEDED_BY_BERT = ("cls_token", "sep_token", "pad_token", "unk_token")
# A vocabulary is of the first family all of whose names, except for unknown words and for masks,
# it has. The names are those of the classes in transformers.
FAMILIES = {
    "BERT": BERT,
    "ALBERT": BERT
    | {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "[CLS]", "eos_token": "[SEP]"},
    "XLNet": {
        "cls_token": "<cls>",
        "sep_token": "<sep>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
        "bos_token": "<s>",
        "eos_token": "</s>",
    },
    "RoBERTa": {
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
        "bos_token": "<s>",
        "eos_token": "</s>",
    },
    "T5": {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"},
    "GPT-2": {
        "unk_token": "<|endoftext|>",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
    },
}
MAY_LACK = ("unk_token", "mask_token")  # names that do not tell a family


def family(vocabulary) -> str | None:
    """The name of the family whose special tokens the vocabulary has, or None.

    Args:
        vocabulary: the tokens, as anything that answers `in`.
    """
    for name, tokens in FAMILIES.items():
        if all(token in vocabulary for part, token in tokens.items() if part not in MAY_LACK):
            return name
    return None


def resolve(rust: tokenizers.Tokenizer, given: dict, path="") -> dict[str, str | None]:
    """The token of each of `PARTS`, or None where there is none.

    Args:
        rust: the tokenizer.
        given: part → the token that a folder names for it, or None where it says there is none.
        path: of the vocabulary, for errors.

    Raises:
        InputError: a token that was named, or that BERT needs, is not in the vocabulary.
    """
    vocabulary = rust.get_vocab(with_added_tokens=True)
    if is_word_piece := isinstance(rust.model, models.WordPiece):
        known = BERT
    else:
        known = FAMILIES.get(family(vocabulary), {"unk_token": "<unk>"})
        known = {part: token for part, token in known.items() if token in vocabulary}
    names = dict.fromkeys(PARTS) | known | given
    needed = {part for part in PARTS if given.get(part)} | set(NEEDED_BY_BERT * is_word_piece)
    missing = {
        part: names[part]
        for part in PARTS
        if part in needed and part != "mask_token" and names[part] not in vocabulary
    }
    if missing:
        raise InputError(
            f"{path}{': ' if path else ''}The vocabulary lacks the special token(s) "
            f"{', '.join(map(str, missing.values()))}. "
            "Add them to it, or give the names it has for them in tokenizer_config.json "
            f'({", ".join(missing)}), such as {{"{next(iter(missing))}": "<its name>"}}.'
        )
    if names["mask_token"] not in vocabulary:
        names["mask_token"] = None
    if names["unk_token"] is None and "unk_token" not in given:
        names["unk_token"] = _unknown(rust)
    return names


def _unknown(rust: tokenizers.Tokenizer) -> str | None:
    """What the model itself gives for unknown text, by whatever name."""
    if not isinstance(rust.model, models.Unigram):
        return rust.model.unk_token
    unk_id = json.loads(rust.to_str())["model"]["unk_id"]
    return None if unk_id is None else rust.id_to_token(unk_id)


def register(rust: tokenizers.Tokenizer, names: dict[str, str | None]) -> None:
    """Makes Rust find the special tokens in texts, and a WordPiece model its unknown token."""
    add(rust, filter(None, names.values()))
    if isinstance(rust.model, models.WordPiece):
        rust.model.unk_token = names["unk_token"]
        if rust.post_processor is None:  # BERT has no other form
            rust.post_processor = bert_form(rust, names)


def add(rust: tokenizers.Tokenizer, tokens: Iterable[str]) -> None:
    """Makes tokens special; those that are added tokens already keep how they match."""
    added = {token.content: token for token in rust.get_added_tokens_decoder().values()}
    for content in dict.fromkeys(tokens):
        token = added.get(content) or tokenizers.AddedToken(content, normalized=False)
        if not token.special:
            token.special = True
            rust.add_tokens([token])


def given_names(config: dict) -> dict[str, str | None]:
    """The special tokens that a folder's tokenizer_config.json names."""
    names = {part: token_text(config[part]) for part in PARTS if config.get(part)}
    # An explicit null says that there is none.
    nulls = [part for part in PARTS if part in config and part not in NEEDED_BY_BERT]
    return dict.fromkeys(nulls) | names


def token_text(token) -> str:
    """Folders spell a special token as its text or as a dict of an `AddedToken`."""
    return token["content"] if isinstance(token, dict) else token


def bert_form(rust: tokenizers.Tokenizer, names: dict) -> processors.TemplateProcessing:
    """[CLS] a [SEP] b [SEP], under the names that the vocabulary has."""
    cls_token, sep_token = names["cls_token"], names["sep_token"]
    return form(
        rust,
        f"{cls_token}:0 $A:0 {sep_token}:0",
        f"{cls_token}:0 $A:0 {sep_token}:0 $B:1 {sep_token}:1",
    )


def form(rust: tokenizers.Tokenizer, single: str, pair: str) -> processors.TemplateProcessing:
    """A post-processor from templates such as "$A:0 </s>:0", whose tokens the vocabulary has."""
    tokens = {piece.rpartition(":")[0] for piece in pair.split()} - {"$A", "$B"}
    tokens = [(token, rust.token_to_id(token)) for token in sorted(tokens)]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=tokens)
