"""A preset's tokenizer ⇄ Hugging Face's tokenizer files."""

import json
from collections.abc import Mapping
from pathlib import Path

from kbert.errors import InputError
from kbert.weights.keras_hub.tables import Kind

CONFIG, ASSETS = "tokenizer.json", "assets/tokenizer"
WORD_PIECE = ("Bert", "DistilBert", "Electra")
# keras-hub's SentencePiece file is vocabulary.spm; Hugging Face's is called after the model.
SENTENCE_PIECE = {
    "Albert": ("AlbertTokenizer", "spiece.model"),
    "XLMRoberta": ("XLMRobertaTokenizer", "sentencepiece.bpe.model"),
    "DebertaV3": ("DebertaV2Tokenizer", "spm.model"),
}
ALBERTS_CASE = (
    "keras-hub's ALBERT takes texts as they are; transformers and kbert put them in lower case and "
    "take their accents away first."
)


def read(folder: Path, kind: Kind) -> dict[str, bytes]:
    """Hugging Face's file name → contents.

    Raises:
        InputError: a file is missing.
    """
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))["config"]
        assets = {file.name: file.read_bytes() for file in (folder / ASSETS).iterdir()}
        if kind.stem in WORD_PIECE:
            settings = {
                "do_lower_case": config["lowercase"],
                "strip_accents": config["strip_accents"],
                "tokenize_chinese_chars": config.get("split_on_cjk", True),
            }
            files = {"vocab.txt": assets["vocabulary.txt"]}
        elif kind.stem in SENTENCE_PIECE:
            settings = {"tokenizer_class": SENTENCE_PIECE[kind.stem][0]}
            files = {SENTENCE_PIECE[kind.stem][1]: assets["vocabulary.spm"]}
        else:
            settings = {
                "tokenizer_class": "RobertaTokenizer",
                "add_prefix_space": config.get("add_prefix_space", False),
            }
            files = {"vocab.json": assets["vocabulary.json"], "merges.txt": assets["merges.txt"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder}: expected keras-hub's {CONFIG} and vocabulary in {ASSETS} ({error}). Save "
            "the tokenizer beside its backbone: tokenizer.save_to_preset(folder)."
        ) from error
    return {**files, "tokenizer_config.json": json.dumps(settings).encode()}


def make(kind: Kind, files: Mapping[str, bytes]):
    """keras-hub's tokenizer of Hugging Face's files.

    Returns:
        The tokenizer, or None where the files do not make one; notes on what is not the same.
    """
    import keras_hub

    config = json.loads(files.get("tokenizer_config.json", b"{}"))
    settings, notes = _settings(kind, files, config)
    if settings is None:
        return None, [f"No tokenizer was written: {notes[0]}"]
    return getattr(keras_hub.models, f"{kind.stem}Tokenizer")(**settings), notes


def _settings(kind: Kind, files, config):
    """Arguments of the tokenizer's class, or None; notes."""
    if kind.stem in SENTENCE_PIECE:
        protos = [data for name, data in sorted(files.items()) if name.endswith(".model")]
        if not protos:
            return None, ["keras-hub needs the SentencePiece file *.model, and there is none."]
        return {"proto": protos[0]}, [ALBERTS_CASE] if kind.stem == "Albert" else []
    if kind.stem not in WORD_PIECE:
        if "vocab.json" not in files or "merges.txt" not in files:
            return None, ["keras-hub needs vocab.json and merges.txt of bytes."]
        merges = files["merges.txt"].decode("utf-8").split("\n")
        merges = [line for line in merges if line and not line.startswith("#version")]
        return {"vocabulary": json.loads(files["vocab.json"]), "merges": merges}, []
    if "vocab.txt" not in files or config.get("tokenizer_class") != "BertTokenizer":
        return None, ["keras-hub needs WordPiece's vocab.txt, cleaned and split as BERT's."]
    pieces = files["vocab.txt"].decode("utf-8").removesuffix("\n").split("\n")
    lowercase = config.get("do_lower_case", True)
    strip_accents = config.get("strip_accents")
    notes = []
    if not config.get("tokenize_chinese_chars", True):
        notes = ["keras-hub splits Chinese characters from each other; this tokenizer does not."]
    return {
        "vocabulary": pieces,
        "lowercase": lowercase,
        "strip_accents": lowercase if strip_accents is None else strip_accents,
        "special_tokens_in_strings": True,  # as in transformers: "[SEP]" in a text is the token
    }, notes
