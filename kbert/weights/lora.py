"""LoRA's products (Hu et al. 2021) as they are saved: in the kernels, which any reader knows."""

from collections.abc import Mapping

import numpy as np


def merged(model, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A model's arrays without the factors A and B: a kernel W is W + alpha / rank · A B.

    Args:
        model: some of its dense layers may have LoRA (`Dense.enable_lora`).
        arrays: variable path → float32, as `names.take` gives them.
    """
    arrays = dict(arrays)
    for layer in model._flatten_layers():
        if getattr(layer, "lora_enabled", False):
            a, b = (arrays.pop(x.path) for x in (layer.lora_kernel_a, layer.lora_kernel_b))
            path, scale = layer._kernel.path, layer.lora_alpha / layer.lora_rank
            arrays[path] = arrays[path] + np.float32(scale) * (a @ b)
    return arrays
