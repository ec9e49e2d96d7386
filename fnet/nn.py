"""Layers, each a pair of functions `_fwd` and `_bwd` as in `jax.custom_vjp`.

`layer_fwd(...)` returns the output and the residuals; `layer_bwd(residuals, cotangent)` returns the cotangents of the
inputs, so that the gradient of any loss is a chain of `_bwd` calls. Arrays are `[batch, features]`.

To add an activation, write a function that returns `f(x)` and `f'(x)`, and enter it in `ACTIVATIONS`. The tests then
require its forms for other targets: `engine/numba_kernels.py` and the tables of activations in `interop/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fnet import random
from fnet.random import Key
from fnet.tree import container

__all__ = [
    "ACTIVATIONS",
    "BATCH_NORM_EPS",
    "BATCH_NORM_MOMENTUM",
    "Array",
    "BatchNorm",
    "BatchNormResiduals",
    "BatchNormState",
    "Linear",
    "LinearResiduals",
    "activation_bwd",
    "activation_fwd",
    "batch_norm_bwd",
    "batch_norm_fwd",
    "batch_norm_inference",
    "dropout_bwd",
    "dropout_fwd",
    "gaussian_noise",
    "linear_bwd",
    "linear_fwd",
]

Array: TypeAlias = npt.NDArray[Any]

BATCH_NORM_EPS = 1e-5
BATCH_NORM_MOMENTUM = 0.9


# Linear ---------------------------------------------------------------------------------------------------------------


@container
class Linear(NamedTuple):
    """Parameters of a linear layer."""

    w: Array  # [in, out]
    b: Array | None  # [out]; None in front of a batch norm, whose bias takes its place


@container
class LinearResiduals(NamedTuple):
    """What `linear_fwd` saves for `linear_bwd`."""

    params: Linear
    x: Array  # [batch, in]


def linear_fwd(params: Linear, x: Array) -> tuple[Array, LinearResiduals]:
    """`y = x w + b`, with x `[batch, in]` and y `[batch, out]`.

    >>> linear_fwd(Linear(np.eye(2), np.ones(2)), np.zeros((1, 2)))[0]
    array([[1., 1.]])
    """
    y = x @ params.w
    if params.b is not None:
        y += params.b
    return y, LinearResiduals(params, x)


def linear_bwd(residuals: LinearResiduals, cotangent: Array) -> tuple[Linear, Array]:
    """The cotangents of the parameters and of x: `dw = x^T dy`, `db = sum_batch dy`, `dx = dy w^T`."""
    (w, b), x = residuals
    db = None if b is None else cotangent.sum(axis=0)
    return Linear(x.T @ cotangent, db), cotangent @ w.T


# Batch norm -----------------------------------------------------------------------------------------------------------


@container
class BatchNorm(NamedTuple):
    """Parameters of batch normalization: gamma and beta in the paper."""

    scale: Array  # [features]
    bias: Array  # [features]


@container
class BatchNormState(NamedTuple):
    """Running statistics of batch normalization, for inference."""

    mean: Array  # [features]
    var: Array  # [features]; the unbiased estimate


@container
class BatchNormResiduals(NamedTuple):
    """What `batch_norm_fwd` saves for `batch_norm_bwd`."""

    x_hat: Array  # [batch, features]; the normalized x
    inv_std: Array  # [features]; 1 / sqrt(var + eps)
    scale: Array  # [features]


def batch_norm_fwd(
    params: BatchNorm, state: BatchNormState, x: Array
) -> tuple[tuple[Array, BatchNormState], BatchNormResiduals]:
    """Batch normalization in training: Ioffe & Szegedy (2015), Algorithm 1; Chen & Wu, II.B.7.

    With the mean and the biased variance of a batch of n > 1 examples, computed in two passes::

        x_hat = (x - mean) / sqrt(var + eps)
        y = scale * x_hat + bias
        running <- 0.9 * running + 0.1 * (mean, var * n / (n - 1))
    """
    n = len(x)
    mean = x.mean(axis=0)
    centered = x - mean
    var = np.square(centered).mean(axis=0)
    inv_std = 1 / np.sqrt(var + BATCH_NORM_EPS)
    x_hat = centered * inv_std
    y = params.scale * x_hat + params.bias
    old, new = BATCH_NORM_MOMENTUM, 1 - BATCH_NORM_MOMENTUM
    running = BatchNormState(old * state.mean + new * mean, old * state.var + new * n / (n - 1) * var)
    return (y, running), BatchNormResiduals(x_hat, inv_std, params.scale)


def batch_norm_bwd(residuals: BatchNormResiduals, cotangent: Array) -> tuple[BatchNorm, Array]:
    """The cotangents of the parameters and of x, through the batch statistics: Ioffe & Szegedy (2015), section 3.

    With sums over the batch of n examples::

        dscale = sum(dy * x_hat),  dbias = sum(dy)
        dx = scale * inv_std * (dy - dbias / n - x_hat * dscale / n)
    """
    x_hat, inv_std, scale = residuals
    n = len(x_hat)
    dscale = (cotangent * x_hat).sum(axis=0)
    dbias = cotangent.sum(axis=0)
    dx = scale * inv_std * (cotangent - dbias / n - x_hat * (dscale / n))
    return BatchNorm(dscale, dbias), dx


def batch_norm_inference(params: BatchNorm, state: BatchNormState, x: Array) -> Array:
    """Batch normalization with the running statistics: Ioffe & Szegedy (2015), Algorithm 2."""
    inv_std = 1 / np.sqrt(state.var + BATCH_NORM_EPS)
    return params.scale * ((x - state.mean) * inv_std) + params.bias


# Activations ----------------------------------------------------------------------------------------------------------


def activation_fwd(name: str, x: Array) -> tuple[Array, Array]:
    """`y = f(x)` for the activation f of `ACTIVATIONS`, and its slope `f'(x)` as residuals.

    >>> activation_fwd("relu", np.array([0.0, 2.0]))
    (array([0., 2.]), array([0., 1.]))
    """
    return ACTIVATIONS[name](x)


def activation_bwd(slope: Array, cotangent: Array) -> Array:
    """`dx = f'(x) dy`, with the slope that `activation_fwd` returned."""
    return cotangent * slope


def _identity(x: Array) -> tuple[Array, Array]:
    return x, np.ones_like(x)


def _relu(x: Array) -> tuple[Array, Array]:
    # Chen & Wu, Eq. (2).
    return np.maximum(x, 0), (x > 0).astype(x.dtype)


def _leaky_relu(x: Array) -> tuple[Array, Array]:
    # Maas, Hannun & Ng (2013), with a slope of 0.01 below 0.
    slope = np.where(x > 0, 1, 0.01).astype(x.dtype)
    return x * slope, slope


def _tanh(x: Array) -> tuple[Array, Array]:
    y = np.tanh(x)
    return y, 1 - y * y


def _sigmoid(x: Array) -> tuple[Array, Array]:
    # 1 / (1 + exp(-x)) as (1 + tanh(x / 2)) / 2, which cannot overflow.
    y = 0.5 * np.tanh(0.5 * x) + 0.5
    return y, y * (1 - y)


def _silu(x: Array) -> tuple[Array, Array]:
    # Elfwing, Uchibe & Doya (2018): y = x s(x), y' = s + y (1 - s), with the logistic function s.
    s, _ = _sigmoid(x)
    y = x * s
    return y, s + y * (1 - s)


def _gelu(x: Array) -> tuple[Array, Array]:
    # Hendrycks & Gimpel (2016), in their tanh form: y = x/2 (1 + t), t = tanh(c (x + a x^3)).
    c, a = math.sqrt(2 / math.pi), 0.044715
    square = x * x
    t = np.tanh(c * x * (1 + a * square))
    y = 0.5 * x * (1 + t)
    return y, 0.5 * (1 + t) + 0.5 * c * x * (1 - t * t) * (1 + 3 * a * square)


def _elu(x: Array) -> tuple[Array, Array]:
    # Clevert, Unterthiner & Hochreiter (2016) with alpha = 1; expm1 of min(x, 0) cannot overflow.
    below = np.expm1(np.minimum(x, 0))
    return np.maximum(x, 0) + below, below + 1


def _selu(x: Array) -> tuple[Array, Array]:
    # Klambauer et al. (2017): lambda times an ELU with alpha.
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    below = alpha * np.expm1(np.minimum(x, 0))
    return scale * (np.maximum(x, 0) + below), scale * np.where(x > 0, np.ones_like(x), below + alpha)


ACTIVATIONS: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "gelu": _gelu,
    "silu": _silu,
    "elu": _elu,
    "selu": _selu,
    "identity": _identity,
}


# Noise ----------------------------------------------------------------------------------------------------------------


def dropout_fwd(bits: npt.NDArray[np.uint16], rate: float, x: Array) -> tuple[Array, Array]:
    """Inverted dropout: `y = x * mask`, where the mask is 0 for dropped units and 1 / (share kept) for the others.

    Srivastava et al. (2014); Chen & Wu, II.B.6. A unit is kept if its 16 random bits are at least the threshold
    `round(65536 * rate)`. The share kept is that of this threshold, so the expected value of y is x.

    Args:
        bits: random bits in the shape of x, from `fnet.random.bits(key, x.shape, numpy.uint16)`.
        rate: the share that is dropped, in [0, 1).

    Returns:
        y, and the mask as residuals.
    """
    threshold = min(round(rate * 65536), 65535)
    mask = (bits >= threshold) * x.dtype.type(65536 / (65536 - threshold))
    return x * mask, mask


def dropout_bwd(mask: Array, cotangent: Array) -> Array:
    """`dx = mask * dy`, with the mask that `dropout_fwd` returned."""
    return cotangent * mask


def gaussian_noise(key: Key, x: Array, std: float) -> Array:
    """`x + std * noise` with standard normal noise, a form of Tikhonov regularization: Bishop (1995).

    >>> gaussian_noise(random.key(0), np.zeros((1, 2)), 0.0)
    array([[0., 0.]])
    """
    return x + std * random.normal(key, x.shape, x.dtype)
