"""Plain splits, as text was cut before subwords; for teaching.

    "Chewie, we're home!"   by spaces        Chewie, | we're | home!
                            by punctuation   Chewie | , | we | ' | re | home | !

Both need a vocabulary of all words: `home!` and `home` are two of them, and a new word is none.
"""

from tokenizers import pre_tokenizers


def by_spaces(text: str) -> list[str]:
    """What stands between white space."""
    return text.split()


def by_punctuation(text: str) -> list[str]:
    """What stands between white space and punctuation, and each character of punctuation."""
    return [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)]
