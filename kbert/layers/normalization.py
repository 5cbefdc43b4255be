"""Layer normalisation."""

import keras

from kbert.layers import kernels


@keras.saving.register_keras_serializable("kbert")
class LayerNormalization(keras.layers.Layer):
    """gamma · (x - mean) / sqrt(variance + epsilon) + beta over the last axis (Ba et al. 2016).

    Keras's own layer composes this of small operations on every backend; here the backend's fused
    form runs (`kernels.layer_normalization`).

    Args:
        epsilon: float, added to the variance; 1e-12 in BERT.

    Call: x, float (…, D) -> float (…, D), dtype of `x`.
    """

    def __init__(self, epsilon=1e-12, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        width = input_shape[-1]
        self.gamma = self.add_weight(shape=(width,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(width,), initializer="zeros", name="beta")

    def call(self, x):
        return kernels.layer_normalization(x, self.gamma, self.beta, self.epsilon)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("kbert")
class BiaslessLayerNormalization(keras.layers.Layer):
    """gamma · (x - mean) / sqrt(variance + epsilon): as `LayerNormalization`, without beta.

    Argument and call as `LayerNormalization`.
    """

    def __init__(self, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gamma")

    def call(self, x):
        return kernels.layer_normalization(x, self.gamma, None, self.epsilon)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
