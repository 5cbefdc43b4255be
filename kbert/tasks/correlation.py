"""How well numbers go together: Pearson and Spearman, in training and after it."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops


class Pearson(keras.metrics.Metric):
    """Pearson's correlation over all examples seen; of C numbers the mean of theirs.

    Args:
        means, deviations: about those of the numbers, C floats each: sums of small numbers keep
            their digits in float32.
        of: what of an output is compared, e.g. cosines of vectors; default the output.
    """

    def __init__(self, means=(0.0,), deviations=(1.0,), of=None, name="pearson", **kwargs):
        super().__init__(name=name, **kwargs)
        self.means, self.deviations, self.of = list(means), list(deviations), of
        # Sums of 1, x, y, x², y², xy.
        self.sums = self.add_variable((6, len(self.means)), initializer="zeros", name="sums")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        y_pred = self.of(y_pred) if self.of else y_pred
        given = ops.logical_not(ops.isnan(y_true))
        weight = ops.cast(given, "float32")
        if sample_weight is not None:
            weight = weight * ops.cast(sample_weight, "float32")[:, None]
        means, deviations = (ops.convert_to_tensor(v) for v in (self.means, self.deviations))
        x = (ops.where(given, y_true, means) - means) / deviations
        y = (y_pred - means) / deviations
        products = ops.stack([ops.ones_like(x), x, y, x * x, y * y, x * y])  # (6, B, C)
        self.sums.assign_add(ops.sum(weight * products, axis=1))

    def result(self):
        n, x, y, xx, yy, xy = (self.sums[i] for i in range(6))
        n = ops.maximum(n, 1.0)
        common = xy / n - (x / n) * (y / n)
        of_x, of_y = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
        product = ops.maximum(of_x, 0.0) * ops.maximum(of_y, 0.0)
        # Numbers that are all the same go with nothing; float32 may leave them a trace of variance.
        is_known = ops.logical_and(of_x > 1e-5 * xx / n, of_y > 1e-5 * yy / n)
        return ops.mean(ops.where(is_known, common / ops.sqrt(ops.where(is_known, product, 1)), 0))


def correlations(came: np.ndarray, due: np.ndarray) -> dict[str, float]:
    """`{"pearson", "spearman"}` of two series of numbers (N,); 0 where one does not vary."""
    from scipy import stats

    if len(due) < 2 or np.ptp(came) == 0 or np.ptp(due) == 0:
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(stats.pearsonr(came, due).statistic),
        "spearman": float(stats.spearmanr(came, due).statistic),
    }


def mean_of(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure."""
    return {key: float(np.mean([found[key] for found in figures])) for key in figures[0]}
