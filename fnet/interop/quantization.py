"""Networks in 8 bits: post-training quantization of weights and activations, for `fnet.interop.c_source`.

A real number r is stored as an integer q with `r = step * (q - zero)`: Jacob et al. (2018), "Quantization and Training
of Neural Networks for Efficient Integer-Arithmetic-Only Inference", Eq. (1). Networks are quantized after training with
a step for each row of the weights: Krishnamoorthi (2018), "Quantizing deep convolutional networks for efficient
inference", section 3.1. Features share a step, so features with a larger range are divided by a larger number, and
their weights are multiplied by it: Nagel et al. (2019), "Data-Free Quantization Through Weight Equalization and Bias
Correction", section 4.1.

The loss of accuracy is small. For `fnet train --preset chen-wu-best`, the accuracy on the digits is 0.9861 with and
without quantization; on Chen & Wu's data, with `--data DIR --valid-size 5000`, it is 0.5974 instead of 0.5976.
`fnet export RUN --to c --int8` writes these numbers to the header.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fnet import data, losses, mlp, nn
from fnet.data import Standardizer
from fnet.interop.source_text import networks
from fnet.model import Model
from fnet.nn import Array
from fnet.tree import container

__all__ = ["Quantized", "QuantizedLinear", "quantize", "quantized_prediction"]

MAX_INPUTS = (2**31 - 1) // (127 * 255)  # inputs of a layer whose sums fit in 32 bits
INSIDE = 0.9999  # the quantile at each end of the numbers that sets their range; numbers beyond it are clipped


@container
class QuantizedLinear(NamedTuple):
    """A linear layer in 8 bits: `y = scale * (w q) + b` with `q = floor(clip(x / step + zero + 1/2, 0, 255))`."""

    w: Array  # [out, in] int8, from -127 to 127
    scale: Array  # [out] float32; the step of the row of w, times that of x
    b: Array  # [out] float32; the bias, less `scale * zero * sum(w)`
    step: np.float32  # of x
    zero: int  # the q of x = 0


@container
class Quantized(NamedTuple):
    """The networks of a model in 8 bits."""

    standardizer: Standardizer  # of the features, so that they share a step
    networks: list[list[QuantizedLinear]]


def quantize(model: Model, x: Array) -> Quantized:
    """Quantize the networks of a model to 8 bits.

    Args:
        x: unstandardized features `[rows, features]`. The activations that they cause decide the steps of the inputs
            of each layer.

    Raises:
        ValueError: the sums of a layer could exceed 32 bits; or x does not consist of finite numbers
            `[rows, features]`.
    """
    if max(model.config.sizes[:-1]) > MAX_INPUTS:
        raise ValueError(
            f"8 bits support layers with up to {MAX_INPUTS} inputs, but the sizes are {model.config.sizes}"
        )
    z = _standardized(model, model.standardizer, x)
    largest = np.abs(z).max(axis=0).astype(np.float64)
    largest[largest == 0] = largest.max() or 1
    factor = np.sqrt(largest / largest.max())
    mean, std = model.standardizer
    z = (z / factor).astype(np.float32)
    found: list[list[QuantizedLinear]] = []
    for (w, b), *layers in networks(model):
        found.append(_quantize(model.config.activation, [(w * factor[:, None], b), *layers], z))
    return Quantized(Standardizer(mean, std * factor), found)


def _quantize(activation: str, network: list[tuple[Array, Array]], x: Array) -> list[QuantizedLinear]:
    layers: list[QuantizedLinear] = []
    for i, (w, b) in enumerate(network):
        if i:
            x = nn.activation_fwd(activation, x)[0]
        low, high = (float(end) for end in np.quantile(x, (1 - INSIDE, INSIDE)))
        low, high = min(low, 0.0), max(high, 0.0)
        step = np.float32((high - low) / 255 or 1.0)
        zero = int(np.clip(np.rint(-low / step), 0, 255))
        rows = np.abs(w.astype(np.float64)).max(axis=0) / 127  # [out]
        rows[rows == 0] = 1
        q = np.rint(w / rows).astype(np.int8).T
        scale = (rows * step).astype(np.float32)
        bias = b - scale.astype(np.float64) * zero * q.sum(axis=1, dtype=np.int64)
        layers.append(QuantizedLinear(q, scale, bias.astype(np.float32), step, zero))
        x = (x @ w + b).astype(np.float32)
    return layers


def quantized_prediction(model: Model, quantized: Quantized, x: Array) -> Array:
    """The probabilities `[rows, classes]` or numbers `[rows, outputs]` that the 8-bit networks predict.

    Args:
        x: unstandardized features `[rows, features]`.

    Raises:
        ValueError: x does not consist of finite numbers `[rows, features]`.
    """
    z = _standardized(model, quantized.standardizer, x)
    outputs = [_outputs(model.config.activation, network, z) for network in quantized.networks]
    if model.scale is None:
        return np.mean([losses.softmax(logits / float(model.temperature)) for logits in outputs], axis=0)
    y = np.mean(outputs, axis=0)
    return data.unscale_outputs(model.scale, np.sort(y, axis=1) if model.config.loss == "pinball" else y)


def _outputs(activation: str, network: list[QuantizedLinear], x: Array) -> Array:
    for i, (w, scale, b, step, zero) in enumerate(network):
        if i:
            x = nn.activation_fwd(activation, x)[0]
        q = np.floor(np.clip(x / step + np.float32(zero + 0.5), 0, 255))
        x = scale * (q.astype(np.float64) @ w.T.astype(np.float64)).astype(np.float32) + b  # the sums are exact
    return x


def _standardized(model: Model, standardizer: Standardizer, x: Array) -> Array:
    return mlp.check_features(model.config, data.standardize(standardizer, x)).astype(np.float32)
