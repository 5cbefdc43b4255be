"""The tokenizers that are checked, each as a folder, and `transformers`' own reading of it."""

import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts/, for benchmarks

from benchmarks import material

from tokenizer_check.comparison import Ids

# Name → its class in transformers, and what the published tokenizer_config.json says beside.
PUBLISHED = {
    "bert-base-uncased": ("BertTokenizer", {"do_lower_case": True}),
    "bert-base-cased": ("BertTokenizer", {"do_lower_case": False}),
    "bert-base-chinese": ("BertTokenizer", {"do_lower_case": False}),
    "mbert-cased": ("BertTokenizer", {"do_lower_case": False}),
    "bertimbau-cased": ("BertTokenizer", {}),
    "minilm": ("BertTokenizer", {}),
    "roberta-base": ("RobertaTokenizer", {}),
    "gpt2": ("GPT2Tokenizer", {}),
    "albert": ("AlbertTokenizer", {}),
    "xlnet": ("XLNetTokenizer", {}),
    "t5-small": ("T5Tokenizer", {}),
}
# Name → the kind and the settings of `kbert tokenizer learn`; transformers opens all by itself.
LEARNED = {
    "learned-wordpiece": ("wordpiece", {"lowercase": True, "strip_accents": True}),
    "learned-bpe": ("bpe", {}),
    "learned-byte-bpe": ("byte-bpe", {}),
    "learned-unigram": ("unigram", {"lowercase": True}),
}
NAMES = (*PUBLISHED, *LEARNED)
WITHOUT_OFFSETS = ("gpt2", "roberta-base", "learned-byte-bpe")  # in the graph: parts of characters
SLOW = ("albert", "xlnet", "t5-small", "learned-bpe", "learned-unigram")  # get twice the time
VOCAB_SIZE = 3001
LEARNED_FROM = ("pt_machado/poesia/*.txt", "en_gutenberg/carroll*.txt")


def prepare(name: str, data: Path, folder: Path) -> Path:
    """The Hugging Face folder of a tokenizer, made in `folder`."""
    target = folder / name
    if name in LEARNED:
        return _learn(name, data, target)
    if name == "minilm":
        return Path(material.minilm())
    source = data / "vocab" / name
    if not source.is_dir():
        raise FileNotFoundError(f"no vocabulary at {source}: nothing to check {name} with")
    target.mkdir()
    for file in source.iterdir():
        # transformers looks for a SentencePiece model under this name.
        shutil.copy(file, target / ("spiece.model" if file.suffix == ".model" else file.name))
    if not (target / "tokenizer_config.json").exists():
        (target / "tokenizer_config.json").write_text(json.dumps(PUBLISHED[name][1]), "utf-8")
    return target


def reference(name: str, folder: Path) -> tuple[Ids, list[str]]:
    """What `transformers` makes of texts, without special tokens added; and its special tokens."""
    import transformers

    transformers.logging.set_verbosity_error()
    kind = PUBLISHED[name][0] if name in PUBLISHED else "AutoTokenizer"
    theirs = getattr(transformers, kind).from_pretrained(os.fspath(folder))

    def ids(texts: list[str]) -> list[list[int]]:
        settings = {"return_attention_mask": False, "return_token_type_ids": False}
        return theirs(texts, add_special_tokens=False, **settings)["input_ids"]

    return ids, list(theirs.all_special_tokens)


def _learn(name: str, data: Path, target: Path) -> Path:
    from kbert.text.learn import learn

    kind, settings = LEARNED[name]
    files = [file for part in LEARNED_FROM for file in sorted((data / "corpus").glob(part))]
    if not files:
        raise FileNotFoundError(f"no corpus in {data / 'corpus'} to learn {name} from")
    learn(files, target, kind, VOCAB_SIZE, **settings)
    return target
