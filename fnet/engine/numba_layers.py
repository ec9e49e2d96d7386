# pyright: basic, reportAttributeAccessIssue=false
"""Compiled loops for the layers: random bits, batch norm, activations, dropout.

Each loop runs over the rows of C-ordered arrays; its inner loop over columns is vectorized. Arrays are as in
`fnet.engine.memory.Hidden`. Python numbers are converted to the dtype of the arrays, since a float64 would promote the
whole loop. `fastmath` permits reordering and contraction of sums, but not the assumption that numbers are finite.
"""

from typing import Any

import numba
import numpy as np

from fnet.random import DRAW, FOLD_IN

__all__ = [
    "after",
    "batch_stats",
    "before",
    "bias_fwd",
    "bias_relu_fwd",
    "bias_slope_bwd",
    "jit",
    "norm_bwd",
    "norm_fwd",
    "norm_relu_fwd",
    "norm_slope_bwd",
    "running_stats",
    "step_bits",
    "transpose",
]

jit: Any = numba.njit(
    cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "reassoc", "nsz"}
)


# Random bits ----------------------------------------------------------------------------------------------------------


@jit
def sfc64(a, b, c, words):
    """The words of `numpy.random.SFC64` seeded with a, b and c, after the 18 that `fnet.random` discards."""
    one, d = np.uint64(1), np.uint64(1)
    for i in range(-18, words.size):
        word = a + b + d
        d += one
        a = b ^ (b >> np.uint64(11))
        b = c + (c << np.uint64(3))
        c = ((c << np.uint64(24)) | (c >> np.uint64(40))) + word
        if i >= 0:
            words[i] = word


@jit
def step_bits(key, step, words):
    """`random.bits(random.fold_in(key, step), …)`."""
    folded = np.empty(2, np.uint64)
    sfc64(key[0], key[1], (np.uint64(step) << np.uint64(2)) | np.uint64(FOLD_IN), folded)
    sfc64(folded[0], folded[1], np.uint64(DRAW), words)


# Linear maps ----------------------------------------------------------------------------------------------------------


@jit
def transpose(a, out):
    """Transpose in blocks of 16 x 16, which stay in the cache."""
    rows, columns = a.shape
    for top in range(0, rows, 16):
        for left in range(0, columns, 16):
            for j in range(left, min(left + 16, columns)):
                for i in range(top, min(top + 16, rows)):
                    out[j, i] = a[i, j]


# Batch norm -----------------------------------------------------------------------------------------------------------


@jit
def batch_stats(z, mean, var, centered):
    n, width = z.shape
    inv_n = z.dtype.type(1 / n)
    mean[:] = 0
    var[:] = 0
    for i in range(n):
        for j in range(width):
            mean[j] += z[i, j]
    for j in range(width):
        mean[j] *= inv_n
    for i in range(n):
        for j in range(width):
            d = z[i, j] - mean[j]
            centered[i, j] = d
            var[j] += d * d
    for j in range(width):
        var[j] *= inv_n


@jit
def running_stats(running, batch, old, new_mean, new_var):
    old, new_mean, new_var = running.dtype.type(old), running.dtype.type(new_mean), running.dtype.type(new_var)
    for j in range(running.shape[1]):
        running[0, j] = old * running[0, j] + new_mean * batch[0, j]
        running[1, j] = old * running[1, j] + new_var * batch[1, j]


@jit
def inverse_std(var, eps, inv_std):
    one, eps = var.dtype.type(1), var.dtype.type(eps)
    for j in range(var.size):
        inv_std[j] = one / np.sqrt(var[j] + eps)


@jit
def norm_fwd(z, v, mean, var, pooled, eps, inv_std, x_hat, y):
    if not pooled:
        batch_stats(z, mean, var, x_hat)
    inverse_std(var, eps, inv_std)
    for i in range(x_hat.shape[0]):
        for j in range(x_hat.shape[1]):
            x = x_hat[i, j] * inv_std[j]
            x_hat[i, j] = x
            y[i, j] = v[0, j] * x + v[1, j]


@jit
def norm_relu_fwd(z, v, mean, var, pooled, eps, inv_std, x_hat, leak, bits, threshold, kept, h, slope):
    if not pooled:
        batch_stats(z, mean, var, x_hat)
    inverse_std(var, eps, inv_std)
    zero, one, leak, kept = h.dtype.type(0), h.dtype.type(1), h.dtype.type(leak), h.dtype.type(kept)
    leaky = leak != zero
    for i in range(h.shape[0]):
        for j in range(h.shape[1]):
            x = x_hat[i, j] * inv_std[j]
            x_hat[i, j] = x
            y = v[0, j] * x + v[1, j]
            mask = kept if bits[i, j] >= threshold else zero
            slope[i, j] = (one if y > zero else leak) * mask
            # Not y * slope, which is NaN for an infinite y.
            h[i, j] = ((leak * y if leaky else zero) if y <= zero else y) * mask


@jit
def norm_bwd(z, x_hat, v, inv_std, sums, n):
    inv_n = z.dtype.type(1 / n)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            centered = z[i, j] - sums[1, j] * inv_n - x_hat[i, j] * (sums[0, j] * inv_n)
            z[i, j] = v[0, j] * inv_std[j] * centered


# Biases, activations and dropout --------------------------------------------------------------------------------------


@jit
def bias_fwd(z, v):
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[i, j] += v[0, j]


@jit
def bias_relu_fwd(z, v, leak, bits, threshold, kept, h, slope):
    zero, one, leak, kept = z.dtype.type(0), z.dtype.type(1), z.dtype.type(leak), z.dtype.type(kept)
    leaky = leak != zero
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            y = z[i, j] + v[0, j]
            mask = kept if bits[i, j] >= threshold else zero
            slope[i, j] = (one if y > zero else leak) * mask
            h[i, j] = ((leak * y if leaky else zero) if y <= zero else y) * mask


@jit
def norm_slope_bwd(z, x_hat, slope, v, inv_std, dv, pooled):
    """The backward pass of dropout, activation and, unless the sums are pooled first, batch norm."""
    dv[:] = 0
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            d = z[i, j] * slope[i, j]
            z[i, j] = d
            dv[0, j] += d * x_hat[i, j]
            dv[1, j] += d
    if not pooled:
        norm_bwd(z, x_hat, v, inv_std, dv, z.shape[0])


@jit
def bias_slope_bwd(z, slope, dv):
    dv[:] = 0
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            d = z[i, j] * slope[i, j]
            z[i, j] = d
            dv[0, j] += d


# Activations with tanh or expm1: `before` computes the argument, `after` the output and the slope with the mask -------

TANH, SIGMOID, SILU, GELU, ELU, SELU = range(6)


@jit
def before(kind, y, t):
    half, one, zero = y.dtype.type(0.5), y.dtype.type(1), y.dtype.type(0)
    a, c = y.dtype.type(0.044715), y.dtype.type(0.7978845608028654)
    for i in range(y.shape[0]):
        if kind == TANH:
            t[i] = y[i]
        elif kind in (SIGMOID, SILU):
            for j in range(y.shape[1]):
                t[i, j] = half * y[i, j]
        elif kind == GELU:
            for j in range(y.shape[1]):
                x = y[i, j]
                t[i, j] = c * x * (one + a * (x * x))
        else:
            for j in range(y.shape[1]):
                x = y[i, j]
                t[i, j] = zero if x > zero else x


@jit
def after(kind, y, t, bits, threshold, kept, h, slope):
    zero, half, one, three = y.dtype.type(0), y.dtype.type(0.5), y.dtype.type(1), y.dtype.type(3)
    a, c = y.dtype.type(0.044715), y.dtype.type(0.7978845608028654)
    alpha, scale, kept = y.dtype.type(1.6732632423543772), y.dtype.type(1.0507009873554805), y.dtype.type(kept)
    if kind == ELU:
        alpha, scale = one, one
    for i in range(y.shape[0]):
        if kind == TANH:
            for j in range(y.shape[1]):
                m = kept if bits[i, j] >= threshold else zero
                u = t[i, j]
                h[i, j] = u * m
                slope[i, j] = (one - u * u) * m
        elif kind == SIGMOID:
            for j in range(y.shape[1]):
                m = kept if bits[i, j] >= threshold else zero
                s = half * t[i, j] + half
                h[i, j] = s * m
                slope[i, j] = s * (one - s) * m
        elif kind == SILU:
            for j in range(y.shape[1]):
                m = kept if bits[i, j] >= threshold else zero
                s = half * t[i, j] + half
                f = y[i, j] * s
                h[i, j] = f * m
                slope[i, j] = (s + f * (one - s)) * m
        elif kind == GELU:
            for j in range(y.shape[1]):
                m = kept if bits[i, j] >= threshold else zero
                x, u = y[i, j], t[i, j]
                h[i, j] = half * x * (one + u) * m
                slope[i, j] = (half * (one + u) + half * c * x * (one - u * u) * (one + three * a * (x * x))) * m
        else:  # ELU and SELU
            for j in range(y.shape[1]):
                m = kept if bits[i, j] >= threshold else zero
                x, below = y[i, j], alpha * t[i, j]
                positive = x > zero
                h[i, j] = scale * (x if positive else below) * m
                slope[i, j] = scale * (one if positive else below + alpha) * m
