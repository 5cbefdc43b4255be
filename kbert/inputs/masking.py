"""Words that are hidden from a model, or exchanged, for it to find out (Devlin et al. 2019, 3.1).

    Masking      15% of the tokens, whole words: 80% become [MASK], 10% another token, 10% stay
    Replacing    15% of the tokens become another one; which, is asked (Clark et al. 2020, 2)

They are drawn anew for each epoch (Liu et al. 2019, 4.1), by NumPy and from the seed, the epoch and
the number of the row alone: the same on every backend, whatever goes together in a batch.
Letters: T columns of a packed row, V tokens in the vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kbert.errors import InputError
from kbert.inputs.batches import IGNORED

# The longest word that is hidden whole. One of more pieces is a word in name only (Thai has no
# blanks; an address of the web): its pieces are words here.
LONGEST_WORD = 8
MASKED, EXCHANGED = 0.8, 0.1  # of the chosen tokens; the rest stays as it is


@dataclass(frozen=True, eq=False)
class Masking:
    """Draws the masks of rows.

    Args:
        mask_id: the id of [MASK].
        is_special: bool (V,), the tokens that are never hidden, nor put in another's place.
        share: of the tokens that are not special, how many are hidden.
        whole_words: whether all pieces of a word are hidden together.
        seed: of all draws.
    """

    mask_id: int
    is_special: np.ndarray
    share: float = 0.15
    whole_words: bool = True
    seed: int = 0

    @cached_property
    def ordinary(self) -> np.ndarray:
        """The ids of the tokens that are not special."""
        return np.flatnonzero(~self.is_special).astype(np.int32)

    @classmethod
    def of(cls, tokenizer, share: float = 0.15, whole_words: bool = True, seed: int = 0):
        """The masks for a tokenizer's texts.

        Raises:
            InputError: it has no [MASK].
        """
        mask_id = tokenizer.special_id("mask_token")
        return cls(mask_id, special_tokens(tokenizer), share, whole_words, seed)

    def draw(
        self, ids: Sequence[int], words: Sequence[int], row: int, epoch: int = 0
    ) -> tuple[list[int], np.ndarray, np.ndarray]:
        """The row with its words hidden, where they are, and what they were.

        Args:
            ids: a packed row's T token ids.
            words: for each column a number that tokens of one word share; see `words_of_row`.
            row: the number of the row.
            epoch: the same seed, row and epoch give the same masks.

        Returns:
            (ids, places, targets): T token ids; int (P,), the columns of the hidden tokens, in
            order; int32 (P,), their ids before. P is `share` of the tokens on average, at most
            `most(T)`, and 0 in many a short row.
        """
        chance = np.random.default_rng([self.seed, epoch, row])
        ids = np.array(ids, np.int32)
        words = np.asarray(words) if self.whole_words else np.arange(len(ids))
        places = _chosen(chance, ~self.is_special[ids], words, self.share)
        targets, fate = ids[places], chance.random(len(places))
        exchanged = chance.choice(self.ordinary, len(places))
        ids[places] = np.where(fate < MASKED + EXCHANGED, exchanged, targets)
        ids[places[fate < MASKED]] = self.mask_id
        return ids.tolist(), places, targets

    def most(self, length: int) -> int:
        """Most hidden tokens in a row of that many columns: see `_chosen`."""
        return min(length, math.ceil(self.share * length) + LONGEST_WORD - 1)


@dataclass(frozen=True, eq=False)
class Replacing:
    """Draws rows with other tokens in the place of some.

    Args:
        others: int (N,), the ids that are put there, each as likely as it stands here often: a
            text's own tokens, so that it is not their rarity that gives them away.
        is_special: bool (V,), the tokens that stay and are not asked.
        share: of the other tokens, how many are replaced.
        seed: of all draws.

    Raises:
        InputError: `others` has no token that is not special.
    """

    others: np.ndarray
    is_special: np.ndarray
    share: float = 0.15
    seed: int = 0

    def __post_init__(self):
        others = self.others[~self.is_special[self.others]]
        if not others.size:
            raise InputError(
                "Expected texts with tokens to put in the place of others, came none that is not "
                "special: give texts that are not empty."
            )
        object.__setattr__(self, "others", others)

    def draw(self, ids: Sequence[int], row: int, epoch: int = 0) -> tuple[list[int], np.ndarray]:
        """The row with tokens replaced, and what is asked of each.

        Returns:
            (ids, targets): T token ids; int32 (T,), 1 = replaced, 0 = as it was (so is one that
            chance replaced by itself), IGNORED for special tokens.
        """
        chance = np.random.default_rng([self.seed, epoch, row])
        before = np.array(ids, np.int32)
        is_real = ~self.is_special[before]
        places = _chosen(chance, is_real, np.arange(len(before)), self.share)
        after = before.copy()
        after[places] = chance.choice(self.others, len(places))
        targets = np.where(is_real, after != before, IGNORED)
        return after.tolist(), targets.astype(np.int32)


def special_tokens(tokenizer) -> np.ndarray:
    """Which tokens of a vocabulary are special, bool (V,): [CLS], [MASK], [UNK] and so on."""
    is_special = np.zeros(tokenizer.vocab_size, bool)
    for token_id, token in tokenizer.rust.get_added_tokens_decoder().items():
        is_special[token_id] = token.special
    for token in tokenizer.special_tokens.values():
        is_special[tokenizer.rust.token_to_id(token)] = True
    return is_special


def words_of_row(packer, words: Sequence[int | None]) -> np.ndarray:
    """For each column of a packed text its word's number, -1 for special tokens: int (T,).

    Args:
        packer: what packed it.
        words: the words of the text's tokens (`Encoding.words`), as many as the row has.
    """
    before, after = len(packer.form.prefix), len(packer.form.suffix)
    numbers = [-1 if word is None else word for word in words]
    return np.array([-1] * before + numbers + [-1] * after, np.int64)


def _chosen(chance, is_real: np.ndarray, words: np.ndarray, share: float) -> np.ndarray:
    """Columns of whole words that are `share` of the real tokens, on average exactly; int (P,).

    Words are taken in random order while they fit into the share. The first that does not is
    taken with the probability that makes it fit on average: a short row with a share of 0.6 tokens
    has one place in six rows of ten, and a long word has its turn too.

    Args:
        is_real: bool (T,), the columns that may be chosen.
        words: int (T,), the word of each.
    """
    unit = _units(is_real, words)
    sizes = np.bincount(unit[is_real])
    order = chance.permutation(len(sizes))
    total, room = np.cumsum(sizes[order]), share * is_real.sum()
    number = int(np.searchsorted(total, room, side="right"))
    if number < len(order):
        left = room - (total[number - 1] if number else 0)
        number += chance.random() * sizes[order[number]] < left
    is_chosen = np.zeros(len(sizes) + 1, bool)  # the last for columns that are no word's
    is_chosen[order[:number]] = True
    return np.flatnonzero(is_chosen[unit])


def _units(is_real: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Words numbered from 0 in their order, -1 where none is; pieces of long ones by themselves."""
    unit = np.full(len(is_real), -1)
    if is_real.any():
        run = np.cumsum(np.concatenate([[0], words[1:] != words[:-1]]))
        _, word, sizes = np.unique(run[is_real], return_inverse=True, return_counts=True)
        is_new = np.concatenate([[True], word[1:] != word[:-1]]) | (sizes[word] > LONGEST_WORD)
        unit[is_real] = np.cumsum(is_new) - 1
    return unit
