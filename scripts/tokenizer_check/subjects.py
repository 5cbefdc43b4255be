"""The tokenizers that are checked, each as a folder, and `transformers`' own reading of it."""

import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts/, for benchmarks

from benchmarks import material

from tokenizer_check.comparison import Ids, Known

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
VOCAB_SIZE = 3001
LEARNED_FROM = ("pt_machado/poesia/*.txt", "en_gutenberg/c*.txt")


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


def known_differences(name: str, folder: Path) -> list[Known]:
    """Where `transformers` reads files otherwise than another library, with which kbert agrees."""
    import tokenizers

    if name in ("albert", "xlnet"):
        rust = tokenizers.Tokenizer.from_str(_published_json(name, folder / "spiece.model"))
        rust.add_special_tokens(["<unk>"])
        return [
            Known(
                "transformers 5 cuts words at user-defined pieces, has pieces such as '1,', and "
                "keeps the blank before a mask; kbert goes by the published tokenizer.json",
                "eager",
                _ids(rust),
            )
        ]
    if name == "t5-small":
        rust = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        return [
            Known(
                "pieces that are equally likely: Rust and Python read the last digit of a score in "
                "tokenizer.json differently; kbert's ids are those of tokenizers itself",
                "eager",
                _ids(rust),
            )
        ]
    return []


def _ids(rust) -> Ids:
    rust.no_padding()
    rust.no_truncation()
    return lambda texts: [
        encoding.ids for encoding in rust.encode_batch_fast(texts, add_special_tokens=False)
    ]


def _published_json(name: str, path: Path) -> str:
    """tokenizer.json as the hub has it, which an older converter of `transformers` wrote.

    The newer one makes user-defined pieces added tokens: "a-b" becomes a, -, ▁b, which is no
    sequence of pieces to SentencePiece. (tests/text/test_sentencepiece.py compares kbert with
    SentencePiece itself.)
    """
    import sentencepiece
    from transformers.convert_slow_tokenizer import AlbertConverter, XLNetConverter

    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    original = SimpleNamespace(
        vocab_file=str(path),
        keep_accents=False,
        do_lower_case=name == "albert",
        convert_tokens_to_ids=model.piece_to_id,
    )
    converter = {"albert": AlbertConverter, "xlnet": XLNetConverter}[name]
    parts = json.loads(converter(original).converted().to_str())
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["special"]]
    split = [{"type": "WhitespaceSplit"}, parts["pre_tokenizer"]]
    parts["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": split}
    return json.dumps(parts)


def _learn(name: str, data: Path, target: Path) -> Path:
    from kbert.text.learn import learn

    kind, settings = LEARNED[name]
    files = [file for part in LEARNED_FROM for file in sorted((data / "corpus").glob(part))]
    if not files:
        raise FileNotFoundError(f"no corpus in {data / 'corpus'} to learn {name} from")
    learn(files, target, kind, VOCAB_SIZE, **settings)
    return target
