"""Which tokenizers have a form in the graph."""

from kbert.errors import InputError
from kbert.text.in_graph.normalizer import SPACE, parts_of

# Normalisers of which the graph's table of characters is all, or nearly all.
BY_CHARACTER = {"NFKD", "NFD", "NFC", "NFKC", "StripAccents", "Lowercase", "Precompiled"}
JOINED_BLANKS = (r"\s+", " +", " {2,}")


def refuse(expected: str, came) -> None:
    raise InputError(
        f"The TensorFlow graph serves tokenizers with {expected}; this one has {came}. Turn its "
        "texts to ids outside the graph, with kbert.text.tokenizer: an exported model takes ids "
        "by its signature `tokens`."
    )


def check_added(parts: dict, flags: tuple[str, ...] = ("single_word", "rstrip")) -> None:
    """Raises InputError for added tokens that match otherwise than by their name."""
    flagged = [token["content"] for token in parts["added_tokens"] if any(map(token.get, flags))]
    if flagged:
        refuse(f"added tokens without {', '.join(flags)}", flagged)


def check_merges(model: dict) -> None:
    if any(model[name] for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix")):
        refuse("BPE without dropout, prefix and suffix", "one of them")


def check_metaspace(parts: dict) -> str:
    """Raises InputError unless the graph can do all that the Rust tokenizer does.

    Returns:
        which words get a ▁: "always" all, "never" those after white space.
    """
    splits = parts_of(parts["pre_tokenizer"])
    check_added(parts)
    if parts["model"].get("byte_fallback"):
        refuse("an unknown token", "byte_fallback in its place")
    if list(splits) not in (["Metaspace"], ["WhitespaceSplit", "Metaspace"]):
        refuse("a Metaspace pre-tokenizer", " and ".join(splits) or "none")
    metaspace = splits["Metaspace"][0]
    scheme = metaspace["prepend_scheme"]
    if not metaspace["split"] or metaspace["replacement"] != SPACE or scheme == "first":
        refuse("a Metaspace that cuts at \u2581, and prepends it always or never", metaspace)
    collapses = False
    for kind, steps in parts_of(parts["normalizer"]).items():
        for step in steps:
            pattern = step.get("pattern", {})
            if pattern.get("Regex") in JOINED_BLANKS and step["content"] == " ":
                collapses = True
            elif kind not in BY_CHARACTER | {"Strip"} and "String" not in pattern:
                refuse("a normaliser that goes character by character", pattern or kind)
    if list(splits) == ["Metaspace"]:
        if not collapses or "Strip" not in parts_of(parts["normalizer"]):
            refuse("a normaliser that joins blanks and strips them", "one that keeps them")
    elif scheme == "never":
        refuse("a Metaspace that prepends \u2581 to whole words", "one that never does")
    return scheme
