"""AdamW in one pass over each weight, without decay on biases and norms."""

from collections import defaultdict

import keras
from keras import ops

# Variables that are not matrices: biases and the gain and offset of normalisation (the BERT
# paper's code leaves the same out: optimization.py, exclude_from_weight_decay).
WITHOUT_DECAY = ("bias", "gamma", "beta")


def adamw(
    learning_rate,
    weight_decay=0.01,
    clip_norm=1.0,
    epsilon=1e-8,
    accumulate=1,
    rates=None,
    average=0.0,
    starts=None,
) -> "AdamW":
    """BERT's optimizer (Loshchilov and Hutter 2019; Devlin et al. 2019, A.2).

    Args:
        learning_rate: float, or a `keras.optimizers.schedules.LearningRateSchedule`.
        weight_decay: float, taken off every matrix at each step, times the learning rate.
        clip_norm: float, largest norm of all gradients together; None for no clipping.
        epsilon: float, added to the root of the second moment, before its bias is
            corrected.
        accumulate: int, batches whose gradients make one step, their mean. Schedules count
            batches.
        rates: name of a layer of the model → float, its share of the learning rate; 1 for the rest.
        average, starts: see `AdamW`.
    """
    return AdamW(
        learning_rate, weight_decay=weight_decay, global_clipnorm=clip_norm, epsilon=epsilon,
        without_decay=WITHOUT_DECAY,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None, rates=rates,
        average=average, starts=starts,
    )  # fmt: skip


def with_loss_scaling(optimizer, dtype: str):
    """The optimizer as training in a dtype policy needs it (Micikevicius et al. 2018, 3.2).

    Float16 has no numbers below 6e-8: under "mixed_float16" the loss is multiplied by 32,768, its
    gradients divided. A step whose gradients overflow is left out, and the factor halved; after
    2,000 good steps it is doubled. Other policies need nothing.
    """
    return keras.optimizers.LossScaleOptimizer(optimizer) if dtype == "mixed_float16" else optimizer


@keras.saving.register_keras_serializable("kbert")
class AdamW(keras.optimizers.AdamW):
    """`keras.optimizers.AdamW`, the same numbers, in one pass over memory where that is faster.

    Keras writes clipping, decay and the update as separate operations over all weights. On
    TensorFlow (one device) XLA makes one loop of them, on PyTorch its own fused kernel does; JAX
    compiles the whole step anyway.

    Two things differ from Keras on TensorFlow, where it differs from itself elsewhere. What one
    token got at several places is summed before it is squared for the second moment. And under a
    distribution strategy the gradients are summed over the devices before their norm is clipped,
    so that two devices train the model that one does.

    Args:
        learning_rate: float, or a schedule.
        without_decay: names of the variables that do not decay. They are saved with the optimizer;
            what `exclude_from_weight_decay` was told is forgotten.
        rates: name of a layer of the model → its share of the learning rate.
        average: how much of the weights' moving average a step keeps (Polyak and Juditsky 1992);
            0 for none. After n steps (1 + n) / (10 + n) at most, as TensorFlow's
            `ExponentialMovingAverage(num_updates=…)`: a short run is not its beginning. Unlike
            Keras's `use_ema`, only steps count where gradients are accumulated, and the end of
            `fit` leaves the weights as they are: `averages` gives both.
        starts: name of a layer of the model → batches that it is left as it is, to the bit, without
            decay. Its moments gather meanwhile, and its gradient counts where norms are clipped.
        others: as in `keras.optimizers.AdamW`.
    """

    def __init__(
        self,
        learning_rate=0.001,
        *,
        without_decay=(),
        rates=None,
        average=0.0,
        starts=None,
        **others,
    ):
        super().__init__(learning_rate, **others)
        self.average = average
        self.starts = dict(starts or {})
        self._averages = []
        self.rates = {name: share for name, share in (rates or {}).items() if share != 1}
        self.without_decay = tuple(without_decay)
        if without_decay:
            self.exclude_from_weight_decay(var_names=list(without_decay))

    def get_config(self):
        own = {"without_decay": list(self.without_decay), "rates": self.rates}
        own |= {"average": self.average, "starts": self.starts}
        return {**super().get_config(), **own}

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._averages = [
            self.add_variable_from_reference(
                variable, "average", lambda *_, variable=variable, **__: ops.copy(variable)
            )
            for variable in (variables if self.average else ())
        ]

    def averages(self):
        """Pairs of a trainable variable and its average; none without `average`."""
        return list(zip(self._trainable_variables, self._averages, strict=False))

    def _clip_gradients(self, grads):
        return grads  # in _backend_update_step, where the whole gradient is known

    def _apply_weight_decay(self, variables):
        pass  # in _backend_update_step, in the same pass

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        backend = keras.backend.backend()
        if backend == "tensorflow":
            grads = _dense(grads)
        if self._is_plain():
            if backend == "torch":
                return self._torch_step(grads, trainable_variables, learning_rate)
            if backend == "tensorflow":
                if self._distribution_strategy.num_replicas_in_sync > 1:
                    return self._distributed_step(grads, trainable_variables, learning_rate)
                return self._tensorflow_step(grads, trainable_variables, learning_rate)
        return self._separate_steps(grads, trainable_variables, learning_rate)

    def _is_plain(self):
        return not (self.amsgrad or self.clipnorm or self.clipvalue)

    def _separate_steps(self, grads, variables, learning_rate):
        grads = super()._clip_gradients(grads)
        self._decay_weights(variables, learning_rate)
        super()._backend_update_step(grads, variables, learning_rate)

    def _decay_weights(self, variables, learning_rate):
        for variable in variables:
            if decay := self._decay(variable):
                rate = ops.cast(learning_rate, variable.dtype) * self._rate(variable)
                variable.assign(variable - variable * decay * rate)

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate * self._rate(variable))
        self._move_average(variable)

    def _move_average(self, variable):
        if self.average:
            done = ops.cast(self.iterations, "float32") + 1.0
            share = 1.0 - ops.minimum(self.average, (1.0 + done) / (10.0 + done))
            average = self._averages[self._get_variable_index(variable)]
            # This way an average of what does not change does not, either.
            value = average + ops.cast(share, variable.dtype) * (variable - average)
            self.assign(average, value)

    def _distributed_step(self, grads, variables, learning_rate):
        import tensorflow as tf

        pairs = [(grad, variable.value) for grad, variable in zip(grads, variables, strict=True)]
        grads, values = zip(*self._all_reduce_sum_gradients(pairs), strict=True)
        grads = super()._clip_gradients(grads)
        self._decay_weights(variables, learning_rate)
        tf.__internal__.distribute.interim.maybe_merge_call(
            self._distributed_tf_update_step,
            self._distribution_strategy,
            list(zip(grads, values, strict=True)),
            learning_rate,
        )

    def _decay(self, variable):
        decays = self.weight_decay and self._use_weight_decay(variable)
        return self.weight_decay if decays else 0.0

    def _rate(self, variable):
        if not self.rates and not self.starts:
            return 1.0
        # Keras on TensorFlow may hand in TensorFlow's own variables, which have no path.
        path = self._trainable_variables[self._get_variable_index(variable)].path
        layer = path.partition("/")[0]
        share, start = self.rates.get(layer, 1.0), self.starts.get(layer, 0)
        return share * ops.cast(self._iterations >= start, "float32") if start else share

    def _moments(self, variable):
        index = self._get_variable_index(variable)
        return self._momentums[index], self._velocities[index]

    def _tensorflow_step(self, grads, variables, learning_rate):
        import tensorflow as tf

        scale = tf.ones([])
        if self.global_clipnorm:
            norm = tf.sqrt(2.0 * tf.add_n([tf.nn.l2_loss(grad) for grad in grads]))
            scale = tf.minimum(1.0, self.global_clipnorm / norm)
            scale += norm - norm  # an infinite gradient makes NaN, to be seen, not hidden
        beta_1, beta_2 = self.beta_1, self.beta_2
        step = tf.cast(self.iterations + 1, tf.float32)
        rate = tf.cast(learning_rate, tf.float32)
        alpha = rate * tf.sqrt(1.0 - beta_2**step) / (1.0 - beta_1**step)

        # Once per trace, and XLA for this part alone: compiled whole, the step is slower on a CPU.
        @tf.function(jit_compile=True, autograph=False)
        def update(grads, scale, rate, alpha):
            for grad, variable in zip(grads, variables, strict=True):
                first, second = self._moments(variable)
                grad = tf.cast(grad, variable.dtype) * scale
                m = first.value + (grad - first.value) * (1.0 - beta_1)
                v = second.value + (tf.square(grad) - second.value) * (1.0 - beta_2)
                share = self._rate(variable)
                kept = variable.value * (1.0 - rate * share * self._decay(variable))
                first.value.assign(m)
                second.value.assign(v)
                variable.value.assign(kept - alpha * share * m / (tf.sqrt(v) + self.epsilon))
                self._move_average(variable)

        update(grads, scale, rate, alpha)

    def _torch_step(self, grads, variables, learning_rate):
        import torch

        with torch.no_grad():
            scale = self._torch_scale(grads)
            step = int(ops.convert_to_numpy(self.iterations)) + 1
            # PyTorch adds epsilon after its bias correction, Keras before.
            epsilon = self.epsilon / (1.0 - self.beta_2**step) ** 0.5
            groups = defaultdict(list)
            for grad, v in zip(grads, variables, strict=True):
                groups[self._decay(v), float(self._rate(v))].append((grad, v))
            for (decay, share), chosen in groups.items():
                moments = [self._moments(v) for _, v in chosen]
                torch._fused_adamw_(
                    [v.value for _, v in chosen],
                    [grad for grad, _ in chosen],
                    [m.value for m, _ in moments],
                    [v.value for _, v in moments],
                    [],
                    [torch.tensor(float(step)) for _ in chosen],
                    lr=float(ops.convert_to_numpy(learning_rate)) * share,
                    beta1=self.beta_1,
                    beta2=self.beta_2,
                    weight_decay=decay,
                    eps=epsilon,
                    amsgrad=False,
                    maximize=False,
                    grad_scale=scale,
                )
            for variable in variables:
                self._move_average(variable)

    def _torch_scale(self, grads):
        """What the fused kernel divides gradients by, so that their norm is at most the limit."""
        import torch

        if not self.global_clipnorm:
            return None
        norms = torch._foreach_norm(grads)
        norm = torch.linalg.vector_norm(torch.stack(norms))
        return torch.clamp(norm / self.global_clipnorm, min=1.0) + (norm - norm)


def _dense(grads):
    """TensorFlow's gradient of an embedding is sparse, a token that comes twice is there twice.

    It is summed first, or the norm and Keras's second moment come out as if it were two weights.
    """
    import tensorflow as tf

    return [tf.convert_to_tensor(grad) for grad in grads]
