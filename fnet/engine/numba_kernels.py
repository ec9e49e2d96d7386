# pyright: basic, reportAttributeAccessIssue=false
"""The compiled kernels: each a loop over the rows of a C-ordered array, whose inner loop over columns vectorizes.

Arrays are as in `fnet.engine.memory.Hidden`; numbers are Python's and become the dtype of the arrays here, since a
float64 in a loop would convert all of it. `fastmath` allows to reorder and to contract sums, not to assume that
numbers are finite. The transcendental functions are NumPy's, which are vectorized, between two compiled loops.
"""

from typing import Any

import numba
import numpy as np

from fnet import nn
from fnet.engine import numpy_kernels
from fnet.engine.memory import Hidden
from fnet.nn import Array
from fnet.params import MLPConfig
from fnet.random import DRAW, FOLD_IN, Key

__all__ = ["Kernels"]

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
            # Not y * slope, which is not a number for an infinite y.
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
def dropout_fwd(x, bits, threshold, kept, y, mask):
    zero, kept = x.dtype.type(0), x.dtype.type(kept)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            m = kept if bits[i, j] >= threshold else zero
            mask[i, j] = m
            y[i, j] = x[i, j] * m


@jit
def norm_slope_bwd(z, x_hat, slope, v, inv_std, dv, pooled):
    """Through dropout and activation, the sums over the batch, and unless they are yet to be pooled the batch norm."""
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


# Activations with tanh or expm1: `before` computes its argument, `after` the output and the slope with the mask -------

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


# Losses: the outputs in z become their cotangents; the gradient of the bias, the loss, the sum of the scores ----------


@jit
def cross_entropy(z, v, labels, weights, smoothing, dv):
    n, k = z.shape
    zero, smooth = z.dtype.type(0), z.dtype.type(smoothing / k)
    sure = z.dtype.type(1 - smoothing)
    loss, correct = 0.0, 0
    dv[:] = 0
    for i in range(n):
        label, best = labels[i], 0
        for j in range(k):
            z[i, j] += v[0, j]
            if z[i, j] > z[i, best]:
                best = j
        correct += best == label
        top, total, linear = z[i, best], zero, zero
        for j in range(k):
            shifted = z[i, j] - top
            linear += shifted
            exp = np.exp(shifted)
            total += exp
            if j == label:
                at_label = shifted
            z[i, j] = exp
        log_total = np.log(total)
        each = sure * (log_total - at_label)
        if smoothing > 0:
            each += smooth * (k * log_total - linear)
        loss += weights[i] * each
        for j in range(k):
            d = (z[i, j] / total - smooth - (sure if j == label else zero)) * weights[i]
            z[i, j] = d
            dv[0, j] += d
    return loss, float(correct)


@jit
def squared_error(z, v, targets, weights, dv):
    n, k = z.shape
    scale = z.dtype.type(2 / k)
    loss, squares = 0.0, 0.0
    dv[:] = 0
    for i in range(n):
        each = 0.0
        for j in range(k):
            error = z[i, j] + v[0, j] - targets[i, j]
            each += error * error
            d = error * scale * weights[i]
            z[i, j] = d
            dv[0, j] += d
        loss += weights[i] * each / k
        squares += each / k
    return loss, squares


@jit
def huber(z, v, targets, weights, delta, dv):
    n, k = z.shape
    delta, half, scale = z.dtype.type(delta), z.dtype.type(0.5), z.dtype.type(1 / k)
    loss, squares = 0.0, 0.0
    dv[:] = 0
    for i in range(n):
        each = 0.0
        for j in range(k):
            error = z[i, j] + v[0, j] - targets[i, j]
            clipped = -delta if error < -delta else (delta if error > delta else error)
            each += clipped * (error - half * clipped)
            squares += error * error / k
            d = clipped * scale * weights[i]
            z[i, j] = d
            dv[0, j] += d
        loss += weights[i] * each / k
    return loss, squares


@jit
def pinball(z, v, targets, weights, quantiles, dv):
    n, k = z.shape
    zero, one, scale = z.dtype.type(0), z.dtype.type(1), z.dtype.type(1 / k)
    loss, covered = 0.0, 0
    dv[:] = 0
    for i in range(n):
        each, target = 0.0, targets[i, 0]
        covered += (k == 1 or z[i, 0] + v[0, 0] <= target) and target <= z[i, k - 1] + v[0, k - 1]
        for j in range(k):
            error = target - (z[i, j] + v[0, j])
            slope = -quantiles[j] if error > zero else one - quantiles[j]
            each -= slope * error
            d = slope * scale * weights[i]
            z[i, j] = d
            dv[0, j] += d
        loss += weights[i] * each / k
    return loss, float(covered)


# Optimizers -----------------------------------------------------------------------------------------------------------


@jit
def adam(p, g, mu, nu, eta, b1, b2, c1, c2, eps, alpha):
    """In one pass, with the bias corrections c1 and c2 in the step size and eps: Kingma & Ba (2015), section 2."""
    root = np.sqrt(c2)
    step, eps, decay = p.dtype.type(eta * c1 / root), p.dtype.type(eps / root), p.dtype.type(eta * alpha)
    b1, new1, b2, new2 = p.dtype.type(b1), p.dtype.type(1 - b1), p.dtype.type(b2), p.dtype.type(1 - b2)
    for i in range(p.size):
        mu[i] = b1 * mu[i] + new1 * g[i]
        nu[i] = b2 * nu[i] + new2 * g[i] * g[i]
        p[i] -= step * mu[i] / (np.sqrt(nu[i]) + eps) + decay * p[i]


@jit
def sgd(p, g, velocity, eta, momentum, nesterov, alpha):
    eta, momentum, decay = p.dtype.type(eta), p.dtype.type(momentum), p.dtype.type(eta * alpha)
    for i in range(p.size):
        v = momentum * velocity[i] + eta * g[i]
        velocity[i] = v
        step = momentum * v + eta * g[i] if nesterov else v
        p[i] -= step + decay * p[i]


# The kernels of a network ---------------------------------------------------------------------------------------------

KINDS = {"tanh": TANH, "sigmoid": SIGMOID, "silu": SILU, "gelu": GELU, "elu": ELU, "selu": SELU}
LEAKS = {"relu": 0.0, "leaky_relu": 0.01, "identity": 1.0}
FEW_CLASSES = 64  # above, NumPy's exponential is faster: 1.3 ms for 64 x 5000 in a loop, 0.2 ms


class Kernels(numpy_kernels.Kernels):
    """The kernels of a network, compiled: the methods of `fnet.engine.numpy_kernels.Kernels`."""

    def __init__(self, config: MLPConfig, label_smoothing: float, batch_size: int) -> None:
        super().__init__(config, label_smoothing, batch_size)
        self.quantiles = np.asarray(config.quantiles, config.dtype)
        self.words = np.empty(0, np.uint64)

    def step_bits(self, key: Key, step: int, size: int) -> Array:
        if 4 * len(self.words) < size:
            self.words = np.empty(-(-size // 4), np.uint64)
        words = self.words[: -(-size // 4)]
        step_bits(key, step, words)
        return words.view(np.uint16)

    def batch_stats(self, a: Hidden) -> None:
        batch_stats(a.z, a.mean, a.var, a.x_hat)

    def running_stats(self, running: Array, batch: Array, count: int) -> None:
        new = 1 - nn.BATCH_NORM_MOMENTUM
        running_stats(running, batch, nn.BATCH_NORM_MOMENTUM, new, new * count / (count - 1))

    def norm_act_fwd(self, a: Hidden, bits: Array, pooled: bool) -> None:
        stats = a.z, a.v, a.mean, a.var, pooled, nn.BATCH_NORM_EPS, a.inv_std, a.x_hat
        if self.config.activation in LEAKS:
            leak = LEAKS[self.config.activation]
            norm_relu_fwd(*stats, leak, bits, self.threshold, self.kept, a.h, a.slope)
            return
        norm_fwd(*stats, a.z)
        self._act_fwd(a, bits)

    def bias_act_fwd(self, a: Hidden, bits: Array) -> None:
        if self.config.activation in LEAKS:
            leak = LEAKS[self.config.activation]
            bias_relu_fwd(a.z, a.v, leak, bits, self.threshold, self.kept, a.h, a.slope)
            return
        bias_fwd(a.z, a.v)
        self._act_fwd(a, bits)

    def _act_fwd(self, a: Hidden, bits: Array) -> None:
        kind, t = KINDS[self.config.activation], a.mask
        if kind == TANH:
            np.tanh(a.z, out=t)
        else:
            before(kind, a.z, t)
            (np.expm1 if kind in (ELU, SELU) else np.tanh)(t, out=t)
        after(kind, a.z, t, bits, self.threshold, self.kept, a.h, a.slope)

    def norm_act_bwd(self, a: Hidden, pooled: bool) -> None:
        norm_slope_bwd(a.z, a.x_hat, a.slope, a.v, a.inv_std, a.dv, pooled)

    def bias_act_bwd(self, a: Hidden) -> None:
        bias_slope_bwd(a.z, a.slope, a.dv)

    def norm_bwd(self, a: Hidden, sums: Array, count: int) -> None:
        norm_bwd(a.z, a.x_hat, a.v, a.inv_std, sums, count)

    def loss(self, z: Array, v: Array, dv: Array, targets: Array, weights: Array) -> tuple[float, float]:
        match self.config.loss:
            case "cross_entropy":
                if self.config.num_outputs > FEW_CLASSES:
                    return super().loss(z, v, dv, targets, weights)
                return cross_entropy(z, v, targets, weights, self.label_smoothing, dv)
            case "squared_error":
                return squared_error(z, v, targets, weights, dv)
            case "huber":
                return huber(z, v, targets, weights, self.config.huber_delta, dv)
            case _:
                return pinball(z, v, targets, weights, self.quantiles, dv)

    adam = staticmethod(adam)
    sgd = staticmethod(sgd)
