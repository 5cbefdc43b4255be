"""Averaged weights are what is validated and saved; the weights as they are go on training."""

import keras


class Averages(keras.callbacks.Callback):
    """Puts the averages of `optimizer.AdamW(average=…)` in a model while it is looked at.

    Weights and averages change places, so that both come back to the bit. (Keras's SwapEMAWeights
    swaps by sums, which round, and leaves the averages in the model behind a broken `fit`.)

    Args:
        model: is compiled. Without averages in its optimizer nothing happens.
    """

    def __init__(self, model: keras.Model):
        super().__init__()
        self.set_model(model)
        self.are_in = False

    def on_test_begin(self, logs=None):
        self._change(True)

    def on_test_end(self, logs=None):
        self._change(False)

    def save(self, write):
        """`write()` with the averages in the model; as before behind it."""
        before = self.are_in
        self._change(True)
        write()
        self._change(before)

    def _change(self, wanted: bool):
        if wanted == self.are_in:
            return
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        for variable, average in optimizer.averages():
            value = keras.ops.convert_to_numpy(variable).copy()
            variable.assign(keras.ops.convert_to_numpy(average).copy())
            average.assign(value)
        self.are_in = wanted
