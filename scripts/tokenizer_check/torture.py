"""Texts that break tokenizers, by kind; the same in every run."""

import functools
import random
import sys
import unicodedata
from collections.abc import Iterator, Sequence

MARKS = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.combining(c)]
LONG = (99, 100, 101, 199, 200, 201, 256, 511, 1000)
SENTENCES = [
    "Quero um cartão de crédito: ação, coração, pão-de-ló, às 10h.",
    "Tiếng Việt có nhiều dấu: phở, bánh mì, Nguyễn, ở đây.",
    "Ελληνικά με τόνους: ΆΈΉΊΌΎΏ ϊϋΐΰ ᾳῃῳ ς Σ.",
    "Crème brûlée, naïve, Ångström, façade, Łódź, İstanbul, ıspanak, Straße, ﬁne ﬂow.",
    "한국어 문장입니다. 각각의 글자를 나눕니다. 값 읽다.",
    "ガギグゲゴ ﾊﾝｶｸ パピプペポ ヴァイオリン",
    "हिन्दी में क्षत्रिय ज्ञान, ड़ ढ़ क़, தமிழ் கொ, ไทยน้ำ ที่, བོད་ཡིག",
    "Ⅷ ½ ² ™ № ﷺ ㎏ ㍿ ℌ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ＡＢＣ１２３ ªº …",
]
CJK = [
    "\u3400㐂㿰",
    "一丁七丈中国人漢字龥",
    "\U00020000\U0002a6d6\U0002b740",
    "豈更車",
    "ぁあアｱー々〆〇",
]
EMOJI = [
    "👨‍👩‍👧‍👦", "👩🏽‍💻", "🏳️‍🌈", "🇧🇷🇵🇹", "1️⃣#️⃣", "☎️☎︎", "🤷🏿‍♀️", "👍🏻👍🏿", "😀😂", "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "❤️‍🔥", "🧑‍🤝‍🧑",
]  # fmt: skip
RIGHT_TO_LEFT = [
    "שָׁלוֹם עוֹלָם", "مَرْحَبًا بِالْعَالَم", "السلام عليكم 123 abc", "‏שלום‎ hello", "ﻻ ﷲ لا", "فارسی می‌خواهم",
    "\u202babc\u202c \u202edef\u202c", "\u2066abc\u2069", "ܫܠܡܐ", "𐤀𐤁 𞤀𞤣𞤤𞤢𞤥",
]  # fmt: skip
ZERO_WIDTH = "\u200b\u200c\u200d\u200e\u200f\u2060\u2061\ufeff\u00ad\u034f\u061c\u180e\ufe0f\u115f"
CONTROL = [*map(chr, range(32)), *map(chr, range(127, 160)), "\u2028", "\u2029", "\ufffe", "\uffff"]
SPACES = [c for c in map(chr, range(sys.maxunicode + 1)) if c.isspace()]
SYNTAX = [
    "▁", "▁▁a", " ▁ a", "<0x0A>", "``quoted''", "'' ``", "##ing", "a##b", "Ġ", "Ċa",
    "I'm you'LL it'S", "'s 't 're", "a  b   c", "a \n\n b", "\ta\t", "a\r\nb", " a", "a ", "  a  ",
    "1,234.5", "1, 2,", "9,", "a1b2", "x_y", "<unk>", "<pad>", "[unk]", "</s", "<extra_id_0>",
    "<extra_id_99>a", "<|endoftext|>", "[MASK].", "a[MASK]b", "[CLS][SEP]", "[ MASK ]", "<mask>",
    " <mask> ", "a <mask>b", "[mask]", "<SEP>",
]  # fmt: skip
BROKEN = [
    b"\xff", b"\xfe\xff", b"cat \xff dog", b"\xc3", b"\xc3\x28", b"\xe2\x82", b"\xe2\x82 a",
    b"\xf0\x9f\x98", b"\xf0\x9f\x98a", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80",
    b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80", b"\x80\x80\x80", b"a\x80b\xbfc", b"\xe4\xb8", b"\xe4\xb8\xad\xe5",
    b"[SEP]\xff[SEP]", b"\xef\xbf\xbd", b"\xef\xbf", b"x" * 300 + b"\xe2", b"\xff" * 101,
    "naïve".encode("latin-1"), "漢字".encode("utf-16"), "漢字かな".encode("shift-jis"),
]  # fmt: skip


def torture(special_tokens: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(kind, text) of all kinds; `special_tokens` are the tokenizer's."""
    for kind in KINDS:
        yield from ((kind, text) for text in _of_kind(kind))
    for kind, texts in (("special tokens", _special), ("by chance", _by_chance)):
        yield from ((kind, text) for text in texts(_chance(kind), special_tokens))


@functools.cache
def _of_kind(kind: str) -> list[str]:
    return list(KINDS[kind](_chance(kind)))


def _chance(kind: str) -> random.Random:
    return random.Random(f"20240229 {kind}")


def broken_bytes() -> Iterator[bytes]:
    """Bytes that are not UTF-8, and some that are."""
    chance = random.Random(20240301)
    yield from BROKEN
    whole = " ".join([*SENTENCES, *EMOJI, *RIGHT_TO_LEFT]).encode()
    for _ in range(400):
        start = chance.randrange(len(whole))
        part = bytearray(whole[start : start + chance.randrange(1, 60)])  # cut within characters
        if chance.random() < 0.5:
            part[chance.randrange(len(part))] = chance.randrange(256)
        yield bytes(part)
    for _ in range(400):
        yield chance.randbytes(chance.randrange(1, 40))


def _marks(chance) -> Iterator[str]:
    for mark in MARKS:
        yield f"a{mark}b {mark} E{mark}{chance.choice(MARKS)}"
    for _ in range(300):
        word = "".join(c + "".join(chance.choices(MARKS[:112], k=3)) for c in "Zalgo é")
        yield word + "".join(chance.choices(MARKS, k=4))


def _forms() -> Iterator[str]:
    composed = "".join(c for c in map(chr, range(0x3000)) if unicodedata.decomposition(c))
    texts = [*SENTENCES, *(composed[i : i + 16] for i in range(0, len(composed), 16))]
    texts += [f"x{c}y {c}" for c in composed]
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield from (unicodedata.normalize(form, text) for text in texts)
    yield from (case(text) for text in texts for case in (str.upper, str.lower, str.title))


def _mixed(chance, parts: Sequence[str], number: int) -> Iterator[str]:
    yield from parts
    fillers = ["a", "Word", ",", "1", "é", ".", "漢", "👍", "-"]
    for _ in range(number):
        chosen = chance.choices([*parts, *fillers], k=chance.randrange(1, 6))
        yield chance.choice(["", " "]).join(chosen)


def _among(chance, characters: Sequence[str], number: int) -> Iterator[str]:
    for c in characters:
        yield from (c, f"a{c}b", f"a {c} b", f"{c}a", f"a{c}", f"é{c}{c}漢", f"[SE{c}P]")
    for _ in range(number):
        word = list("Some words, and more.")
        for _ in range(chance.randrange(1, 5)):
            word.insert(chance.randrange(len(word) + 1), chance.choice(characters))
        yield "".join(word)


def _blank() -> Iterator[str]:
    yield from ("", "\u3000\u00a0 \t", "\0", "\u200b", "\ufeff", " " * 1000, "\n" * 100)
    for space in SPACES:
        yield from (space, space * 3, f"a{space}b", f"{space}a", f"a{space}", f"a {space}b")


def _long_words() -> Iterator[str]:
    for letter in (
        "a",
        "Z",
        "é",
        "e\u0301",
        "漢",
        "👍",
        "1",
        "-",
        "ß",
        "ab",
        "'",
        "\u0301",
        "한",
        "_",
    ):
        yield from (letter * length for length in LONG)
        yield f"before {letter * 101} after"
        yield letter * (10_000 // len(letter))
    yield "".join(chr(ord("a") + i * i % 26) for i in range(10_000))
    yield "internationalization" * 500
    yield " ".join("word" for _ in range(10_000))


def _special(chance, tokens: Sequence[str]) -> Iterator[str]:
    for token in tokens:
        yield from (token, f"a{token}b", f"a {token} b", f"  {token}  ", token * 3, token.lower())
        yield from (token.upper(), token[:-1], token[1:], f"{token}é", f"é{token}", f"\n{token}\n")
        yield from (f"{token}\u0301", f"\u0301{token}", f"{token},{token}", " ".join(token))
        yield from (f"{token[:-1]}\u200b{token[-1]}", f"{token}\u3000{token}", f"x\t{token}")
    for _ in range(300 * bool(tokens)):
        parts = chance.choices([*tokens, "a", " ", "É", "##s", ".", "漢"], k=chance.randrange(1, 8))
        yield "".join(parts)


def _every_character() -> Iterator[str]:
    """Each of Unicode's, alone and within words, but for surrogates, which UTF-8 cannot write."""
    assigned = [
        c
        for c in map(chr, range(1, sys.maxunicode + 1))
        if unicodedata.category(c) not in ("Cs", "Cn")
    ]
    private = [c for c in assigned if unicodedata.category(c) == "Co"]
    assigned = [c for c in assigned if unicodedata.category(c) != "Co"] + private[::97]
    for i in range(0, len(assigned), 8):
        part = assigned[i : i + 8]
        yield " ".join(part)
        yield " ".join(f"a{c}b" for c in part)
    unassigned = [c for c in map(chr, range(0x20000)) if unicodedata.category(c) == "Cn"]
    yield from ("a" + "b".join(unassigned[i : i + 16]) for i in range(0, len(unassigned), 16))


def _by_chance(chance, tokens: Sequence[str]) -> Iterator[str]:
    alphabet = [*"abzAZ019 .,'-#▁ \n\t", *MARKS[:60:7], *ZERO_WIDTH, *CJK, *EMOJI, *SYNTAX, *tokens]
    alphabet += [*"".join(SENTENCES), "\0", "\ufffd", "\U0010ffff", "\ue000"]
    for _ in range(3000):
        yield "".join(chance.choices(alphabet, k=chance.randrange(1, 30)))


# Kind → its texts, by chance.
KINDS = {
    "combining marks": _marks,
    "NFC and NFD": lambda chance: _forms(),
    "CJK": lambda chance: _mixed(chance, CJK, 300),
    "emoji": lambda chance: _mixed(chance, EMOJI, 300),
    "right to left": lambda chance: _mixed(chance, RIGHT_TO_LEFT, 300),
    "zero width": lambda chance: _among(chance, ZERO_WIDTH, 400),
    "control characters": lambda chance: _among(chance, CONTROL, 400),
    "blank": lambda chance: _blank(),
    "long words": lambda chance: _long_words(),
    "syntax": lambda chance: _mixed(chance, SYNTAX, 600),
    "every character": lambda chance: _every_character(),
}
