"""Learning rates against values worked out by hand."""

import keras
import numpy as np
import pytest
from harness import to_numpy

from kbert.training.schedules import WarmupDecay

STEPS = [0, 1, 2, 4, 6, 8, 12, 13]
# Of 12 steps 4 warm up: 0, ¼, ½, 1; then 8 go down.
BY_HAND = {
    "linear": [0, 0.25, 0.5, 1, 0.75, 0.5, 0, 0],
    "cosine": [0, 0.25, 0.5, 1, 0.5 + 0.5 * 0.5**0.5, 0.5, 0, 0],
    "constant": [0, 0.25, 0.5, 1, 1, 1, 1, 1],
}


@pytest.mark.parametrize("shape", BY_HAND)
def test_rates_are_those_worked_out_by_hand(shape):
    schedule = WarmupDecay(0.3, total_steps=12, warmup_steps=4, shape=shape)
    rates = [to_numpy(schedule(np.int64(step))) for step in STEPS]
    np.testing.assert_allclose(rates, 0.3 * np.array(BY_HAND[shape]), atol=1e-7)


def test_without_warm_up_the_first_step_has_the_peak():
    rates = [to_numpy(WarmupDecay(2.0, total_steps=4)(step)) for step in range(5)]
    np.testing.assert_allclose(rates, [2.0, 1.5, 1.0, 0.5, 0.0], atol=1e-7)


def test_a_warm_up_of_all_steps_only_rises():
    rates = [to_numpy(WarmupDecay(1.0, 3, warmup_steps=3)(step)) for step in range(3)]
    np.testing.assert_allclose(rates, [0, 1 / 3, 2 / 3], atol=1e-7)


def test_a_schedule_is_saved_and_restored():
    schedule = WarmupDecay(0.3, 12, 4, "cosine")
    settings = keras.saving.serialize_keras_object(schedule)
    assert keras.saving.deserialize_keras_object(settings).get_config() == schedule.get_config()


def test_an_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="one of linear, cosine, constant; got 'step'"):
        WarmupDecay(1.0, 10, shape="step")
