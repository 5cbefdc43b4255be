"""Requests that come while another is computed are computed together."""

import threading

import numpy as np
import pytest

from kbert.serving.batching import Batcher, Job


class Slow:
    """Doubles x; the first run waits until it is let go. Remembers how many rows each run had."""

    def __init__(self):
        self.sizes, self.began, self.go = [], threading.Event(), threading.Event()

    def __call__(self, inputs):
        self.sizes.append(len(inputs["x"]))
        if len(self.sizes) == 1:
            self.began.set()
            assert self.go.wait(20)
        if (inputs["x"] < 0).any():
            raise ValueError("expected no negative number")
        return {"y": 2 * inputs["x"]}


def together(asked, batch_size=64):
    """Answers (or errors) to arrays that come while a first request is computed; sizes of runs."""
    slow = Slow()
    batcher = Batcher(slow, batch_size, at_once=1)
    found = [None] * len(asked)

    def ask(place, x):
        try:
            found[place] = batcher({"x": x})["y"]
        except ValueError as error:
            found[place] = str(error)

    first = threading.Thread(target=batcher, args=({"x": np.array([0.0])},))
    first.start()
    assert slow.began.wait(20)
    threads = [threading.Thread(target=ask, args=(i, x)) for i, x in enumerate(asked)]
    for number, thread in enumerate(threads, 1):
        thread.start()
        while len(batcher.waiting) < number:
            pass
    slow.go.set()
    for thread in (first, *threads):
        thread.join()
    return found, slow.sizes[1:]


def test_what_waits_is_computed_at_once_and_each_gets_its_own():
    asked = [np.array([1.0]), np.array([2.0, 3.0]), np.array([5.0])]
    found, sizes = together(asked)
    assert sizes == [4]
    for x, y in zip(asked, found, strict=True):
        np.testing.assert_array_equal(y, 2 * x)


def test_no_more_rows_are_joined_than_allowed():
    found, sizes = together([np.full(3, float(i)) for i in range(5)], batch_size=7)
    assert sorted(sizes) == [3, 6, 6]
    assert [y[0] for y in found] == [0, 2, 4, 6, 8]


def test_rows_of_other_shapes_are_not_joined():
    _, sizes = together([np.ones((1, 3)), np.ones((1, 5)), np.ones((1, 3))])
    assert sorted(sizes) == [1, 2]


def test_an_error_is_only_of_the_request_that_made_it():
    found, sizes = together([np.array([1.0]), np.array([-1.0]), np.array([3.0])])
    assert sizes == [3, 1, 1, 1]
    assert (found[0][0], found[1], found[2][0]) == (2, "expected no negative number", 6)


@pytest.mark.parametrize(("one", "other", "fits"), [(20, 31, True), (20, 70, False)])
def test_long_texts_are_not_joined_with_short_ones(one, other, fits):
    kinds = [Job({"text": np.array([b"x" * n], object)}).kind for n in (one, other)]
    assert (kinds[0] == kinds[1]) is fits
