"""The layers: for each a `_fwd` and a `_bwd`, as in `jax.custom_vjp`.

`layer_fwd(...)` returns the output and the residuals; `layer_bwd(residuals, cotangent)` returns the cotangents of the
inputs, so that the gradient of any loss is a chain of `_bwd` calls. Arrays are `[batch, features]`.

`out` is NumPy's: arrays to write results into, instead of into new ones. It may name an input, which is then
overwritten. New memory costs more than the arithmetic at these sizes, so a training step passes `out` everywhere.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
T = TypeVar("T")
Reduce: TypeAlias = Callable[[Array], Array]

BATCH_NORM_EPS = 1e-5
BATCH_NORM_MOMENTUM = 0.9


def identity(x: T) -> T:
    """The sum over one process: what `reduce` is where there are no others."""
    return x


# Linear ---------------------------------------------------------------------------------------------------------------


class Linear(NamedTuple):
    """Parameters of a linear layer."""

    w: Array  # [in, out]
    b: Array | None  # [out]; None where a batch norm follows, whose bias takes its place


class LinearResiduals(NamedTuple):
    """What `linear_bwd` needs."""

    w: Array
    x: Array
    bias: bool


def linear_fwd(params: Linear, x: Array, *, out: Array | None = None) -> tuple[Array, LinearResiduals]:
    """`y = x w + b`, with x `[batch, in]` and y `[batch, out]`.

    >>> linear_fwd(Linear(np.eye(2), np.ones(2)), np.zeros((1, 2)))[0]
    array([[1., 1.]])
    """
    y = np.dot(x, params.w, out=out)  # pyright: ignore[reportCallIssue, reportArgumentType]
    if params.b is not None:
        y += params.b
    return y, LinearResiduals(params.w, x, params.b is not None)


def linear_bwd(
    residuals: LinearResiduals,
    cotangent: Array,
    *,
    input_cotangent: bool = True,
    out: tuple[Linear, Array | None] | None = None,
) -> tuple[Linear, Array | None]:
    """`dw = x^T dy`, `db = sum over the batch of dy`, `dx = dy w^T`.

    The first layer of a network needs no dx: with `input_cotangent=False` it is None.
    """
    w, x, bias = residuals
    grads, dx = out or (Linear(np.empty_like(w), np.empty_like(w[0]) if bias else None), None)
    np.dot(x.T, cotangent, out=grads.w)
    if grads.b is not None:
        np.sum(cotangent, axis=0, out=grads.b)
    if not input_cotangent:
        return grads, None
    return grads, np.dot(cotangent, w.T, out=dx)  # pyright: ignore[reportCallIssue, reportArgumentType]


# Batch norm -----------------------------------------------------------------------------------------------------------


class BatchNorm(NamedTuple):
    """Parameters of a batch norm: gamma and beta of the paper."""

    scale: Array  # [features]
    bias: Array  # [features]


class BatchNormState(NamedTuple):
    """Running statistics of a batch norm, for inference."""

    mean: Array  # [features]
    var: Array  # [features]; the unbiased estimate


class BatchNormResiduals(NamedTuple):
    """What `batch_norm_bwd` needs."""

    centered: Array  # [batch, features]; x - mean
    inv_std: Array  # [features]; 1 / sqrt(var + eps)
    slope: Array  # [features]; scale * inv_std
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]  # examples in the batch, over all processes


def batch_norm_fwd(
    params: BatchNorm,
    state: BatchNormState,
    x: Array,
    *,
    reduce: Reduce = identity,
    count: int | None = None,
    out: tuple[Array, Array] | None = None,
) -> tuple[tuple[Array, BatchNormState], BatchNormResiduals]:
    """Batch normalization in training: Ioffe & Szegedy (2015), Algorithm 1; the report's II.B.7.

    With the mean and the biased variance of the batch, in two passes::

        y = scale * (x - mean) / sqrt(var + eps) + bias
        running <- 0.9 * running + 0.1 * (mean, var * n / (n - 1))

    Args:
        reduce: sums an array over the processes that share a batch; `count` is then the size of the whole batch.
        out: for y and for the centred x, which may be x itself.

    Raises:
        ValueError: a batch of one example, which has no variance.
    """
    count = len(x) if count is None else count
    if count < 2:
        raise ValueError(f"batch norm needs a training batch of at least 2 examples, but got {count}")
    y, centered = out or (np.empty_like(x), np.empty_like(x))
    # A product with a row of ones sums over the batch in a quarter of the time of x.sum(0).
    mean_of = np.full(len(x), 1 / max(len(x), 1), x.dtype)
    mean = np.dot(mean_of, x)
    np.subtract(x, mean, out=centered)
    var = np.dot(mean_of, np.multiply(centered, centered, out=y))
    if reduce is not identity:
        local_mean = mean
        mean, var = _pool(mean, var, len(x), count, reduce)
        centered += local_mean - mean
    inv_std = 1 / np.sqrt(var + BATCH_NORM_EPS)
    slope = params.scale * inv_std
    np.multiply(centered, slope, out=y)
    y += params.bias
    new = 1 - BATCH_NORM_MOMENTUM
    mean *= new
    mean += BATCH_NORM_MOMENTUM * state.mean
    var *= new * count / (count - 1)
    var += BATCH_NORM_MOMENTUM * state.var
    return (y, BatchNormState(mean, var)), BatchNormResiduals(centered, inv_std, slope, count)


def batch_norm_bwd(
    residuals: BatchNormResiduals,
    cotangent: Array,
    *,
    reduce: Reduce = identity,
    out: tuple[BatchNorm, Array] | None = None,
) -> tuple[BatchNorm, Array]:
    """The cotangents of the parameters and of x, through the batch statistics.

    With x_hat the normalized x and the sums over the batch of n examples::

        dscale = sum(dy * x_hat),  dbias = sum(dy)
        dx = scale / std * (dy - dbias / n - x_hat * dscale / n)

    With `reduce`, dscale and dbias are the sums over this process's examples alone, as the gradients of other layers.
    Given `out`, the centred x in the residuals is overwritten.
    """
    centered, inv_std, slope, count = residuals
    grads, dx = out or (BatchNorm(np.empty_like(slope), np.empty_like(slope)), cotangent.copy())
    scratch = centered if out else centered.copy()
    np.dot(np.ones(len(cotangent), cotangent.dtype), cotangent, out=grads.bias)
    np.einsum("ij,ij->j", cotangent, centered, out=grads.scale)
    np.multiply(grads.scale, inv_std, out=grads.scale)
    sums = grads
    if reduce is not identity:
        sums = BatchNorm(*reduce(np.stack(grads)))
    np.multiply(centered, sums.scale * inv_std / count, out=scratch)
    np.subtract(cotangent, scratch, out=dx)
    dx -= sums.bias / count
    dx *= slope
    return grads, dx


def batch_norm_inference(params: BatchNorm, state: BatchNormState, x: Array) -> Array:
    """Batch normalization with the running statistics: Ioffe & Szegedy (2015), Algorithm 2."""
    inv_std = 1 / np.sqrt(state.var + BATCH_NORM_EPS)
    return (x - state.mean) * (params.scale * inv_std) + params.bias


def _pool(mean: Array, var: Array, rows: int, count: int, reduce: Reduce) -> tuple[Array, Array]:
    """The mean and variance of the whole batch from those of this process's rows, by one reduction.

    The sums travel in float64, so that taking the squared mean from the mean square loses nothing that float32 holds.
    """
    wide = mean.astype(np.float64)
    sums = np.stack([rows * wide, rows * (var + wide * wide)])
    total_mean, mean_square = reduce(sums) / count
    total_var = np.maximum(mean_square - total_mean * total_mean, 0)
    return total_mean.astype(mean.dtype), total_var.astype(var.dtype)


# Activations: each gives y and dy/dx, which is all that the backward pass needs ---------------------------------------


def activation_fwd(name: str, x: Array, *, out: tuple[Array, Array] | None = None) -> tuple[Array, Array | None]:
    """`y = f(x)` for the named activation f, and as residuals its slope `f'(x)`, None where that is 1.

    >>> activation_fwd("relu", np.array([0.0, 2.0]))
    (array([0., 2.]), array([0., 1.]))

    Raises:
        ValueError: there is no such activation; says which there are.
    """
    if name == "identity":
        return x, None
    if name not in ACTIVATIONS:
        raise ValueError(f"the activation must be one of {', '.join(ACTIVATION_NAMES)}; got {name!r}")
    y, slope = out or (np.empty_like(x), np.empty_like(x))
    ACTIVATIONS[name](x, y, slope)
    return y, slope


def activation(name: str, x: Array, *, out: Array, scratch: Array) -> Array:
    """`y = f(x)` alone, for inference. `out`, which may be x, and `scratch` are of the shape of x.

    >>> activation("relu", np.array([-1.0, 2.0]), out=np.empty(2), scratch=np.empty(2))
    array([0., 2.])

    Raises:
        ValueError: there is no such activation; says which there are.
    """
    if name == "identity":
        if out is not x:
            np.copyto(out, x)
        return out
    if name == "relu":
        return np.maximum(x, 0, out=out)
    return activation_fwd(name, x, out=(out, scratch))[0]


def activation_bwd(slope: Array | None, cotangent: Array, *, out: Array | None = None) -> Array:
    """`dx = f'(x) dy`, with the slope that `activation_fwd` returned."""
    return cotangent if slope is None else np.multiply(cotangent, slope, out=out)


def _relu(x: Array, y: Array, slope: Array) -> None:
    # The report's Eq. (2). The slope as numbers: a product with a bool array takes three times as long.
    np.copyto(slope, x > 0)
    np.multiply(x, slope, out=y)


def _leaky_relu(x: Array, y: Array, slope: Array) -> None:
    # Maas, Hannun & Ng (2013), with a slope of 0.01 below 0.
    np.copyto(slope, x > 0)
    slope *= 1 - 0.01
    slope += 0.01
    np.multiply(x, slope, out=y)


def _tanh(x: Array, y: Array, slope: Array) -> None:
    np.tanh(x, out=y)
    np.multiply(y, y, out=slope)
    np.subtract(1, slope, out=slope)


def _logistic(x: Array, out: Array) -> None:
    """`1 / (1 + exp(-x))` as `(1 + tanh(x / 2)) / 2`, which cannot overflow."""
    np.multiply(x, 0.5, out=out)
    np.tanh(out, out=out)
    out *= 0.5
    out += 0.5


def _sigmoid(x: Array, y: Array, slope: Array) -> None:
    _logistic(x, y)
    np.subtract(1, y, out=slope)
    slope *= y


def _silu(x: Array, y: Array, slope: Array) -> None:
    # Elfwing, Uchibe & Doya (2018): y = x s(x), y' = s + y (1 - s) with the logistic function s.
    s = np.empty_like(x)
    _logistic(x, s)
    np.multiply(x, s, out=y)
    np.subtract(1, s, out=slope)
    slope *= y
    slope += s


def _gelu(x: Array, y: Array, slope: Array) -> None:
    # Hendrycks & Gimpel (2016), in their tanh form: y = x/2 (1 + tanh u), u = c (x + a x^3).
    c, a = math.sqrt(2 / math.pi), 0.044715
    square = x * x
    t = c * a * square
    t += c
    t *= x
    np.tanh(t, out=t)
    # y' = (1 + t)/2 + x/2 (1 - t^2) c (1 + 3 a x^2)
    square *= 1.5 * c * a
    square += 0.5 * c
    square *= x
    t_square = t * t
    np.subtract(1, t_square, out=t_square)
    square *= t_square
    t += 1
    t *= 0.5
    np.multiply(x, t, out=y)
    np.add(t, square, out=slope)


def _elu(x: Array, y: Array, slope: Array) -> None:
    # Clevert, Unterthiner & Hochreiter (2016) with alpha = 1; expm1 of min(x, 0) cannot overflow.
    np.expm1(np.minimum(x, 0), out=slope)
    np.add(np.maximum(x, 0), slope, out=y)
    slope += 1


def _selu(x: Array, y: Array, slope: Array) -> None:
    # Klambauer et al. (2017): elu with alpha, times lambda; below 0 the slope is y + lambda alpha.
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    positive = np.maximum(x, 0)
    above = x > 0
    np.expm1(np.minimum(x, 0), out=y)
    y *= alpha
    np.add(y, alpha, out=slope)
    slope[above] = 1
    slope *= scale
    y += positive
    y *= scale


ACTIVATIONS: dict[str, Callable[[Array, Array, Array], None]] = {
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "gelu": _gelu,
    "silu": _silu,
    "elu": _elu,
    "selu": _selu,
}
ACTIVATION_NAMES = (*ACTIVATIONS, "identity")


# Dropout --------------------------------------------------------------------------------------------------------------


def dropout_fwd(
    bits: npt.NDArray[np.uint16], rate: float, x: Array, *, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """Inverted dropout: `y = x * mask`, where the mask is 0 for the dropped units and `1 / kept share` for the others.

    Srivastava et al. (2014); the report's II.B.6. A unit is kept where its 16 random bits reach `65536 * rate`,
    rounded; the kept units are scaled by one over the share that this threshold really keeps, so y has the mean of x.

    Args:
        bits: of the shape of x, as `fnet.random.bits(key, x.shape, numpy.uint16)` draws them.
        rate: the share that is dropped, in [0, 1).
        out: for y, which may be x itself, and for the mask.
    """
    y, mask = out or (np.empty_like(x), np.empty_like(x))
    threshold = min(round(rate * 65536), 65535)
    np.copyto(mask, bits >= threshold)
    mask *= 65536 / (65536 - threshold)
    return np.multiply(x, mask, out=y), mask


def dropout_bwd(mask: Array, cotangent: Array, *, out: Array | None = None) -> Array:
    """`dx = mask * dy`, with the mask that `dropout_fwd` returned."""
    return np.multiply(cotangent, mask, out=out)
