# pyright: basic, reportAttributeAccessIssue=false
"""The kernels with loops compiled by Numba, which are in the other three modules.

Transcendental functions are NumPy's, which are vectorized, between two compiled loops.
"""

import numpy as np

from fnet import nn
from fnet.engine import numba_layers as layers
from fnet.engine import numba_losses as losses
from fnet.engine import numba_optim as optim
from fnet.engine import numpy_kernels
from fnet.engine.memory import Hidden
from fnet.nn import Array
from fnet.params import MLPConfig
from fnet.random import Key

__all__ = ["Kernels"]

KINDS = {
    "tanh": layers.TANH,
    "sigmoid": layers.SIGMOID,
    "silu": layers.SILU,
    "gelu": layers.GELU,
    "elu": layers.ELU,
    "selu": layers.SELU,
}
LEAKS = {"relu": 0.0, "leaky_relu": 0.01, "identity": 1.0}
FEW_CLASSES = 64  # with more, NumPy's exponential is faster: 0.2 ms for 64 x 5000, not 1.3 ms as in a loop


class Kernels(numpy_kernels.Kernels):
    """The compiled kernels of a network, with the methods of `fnet.engine.numpy_kernels.Kernels`."""

    def __init__(self, config: MLPConfig, label_smoothing: float, batch_size: int) -> None:
        super().__init__(config, label_smoothing, batch_size)
        self.quantiles = np.asarray(config.quantiles, config.dtype)
        self.words = np.empty(0, np.uint64)

    def step_bits(self, key: Key, step: int, size: int) -> Array:
        if 4 * len(self.words) < size:
            self.words = np.empty(-(-size // 4), np.uint64)
        words = self.words[: -(-size // 4)]
        layers.step_bits(key, step, words)
        return words.view(np.uint16)

    def batch_stats(self, a: Hidden) -> None:
        layers.batch_stats(a.z, a.mean, a.var, a.x_hat)

    def running_stats(self, running: Array, batch: Array, count: int) -> None:
        new = 1 - nn.BATCH_NORM_MOMENTUM
        layers.running_stats(running, batch, nn.BATCH_NORM_MOMENTUM, new, new * count / (count - 1))

    def norm_act_fwd(self, a: Hidden, bits: Array, pooled: bool) -> None:
        stats = a.z, a.v, a.mean, a.var, pooled, nn.BATCH_NORM_EPS, a.inv_std, a.x_hat
        if self.config.activation in LEAKS:
            leak = LEAKS[self.config.activation]
            layers.norm_relu_fwd(*stats, leak, bits, self.threshold, self.kept, a.h, a.slope)
            return
        layers.norm_fwd(*stats, a.z)
        self._act_fwd(a, bits)

    def bias_act_fwd(self, a: Hidden, bits: Array) -> None:
        if self.config.activation in LEAKS:
            leak = LEAKS[self.config.activation]
            layers.bias_relu_fwd(a.z, a.v, leak, bits, self.threshold, self.kept, a.h, a.slope)
            return
        layers.bias_fwd(a.z, a.v)
        self._act_fwd(a, bits)

    def _act_fwd(self, a: Hidden, bits: Array) -> None:
        kind, t = KINDS[self.config.activation], a.mask
        if kind == layers.TANH:
            np.tanh(a.z, out=t)
        else:
            layers.before(kind, a.z, t)
            (np.expm1 if kind in (layers.ELU, layers.SELU) else np.tanh)(t, out=t)
        layers.after(kind, a.z, t, bits, self.threshold, self.kept, a.h, a.slope)

    def input_cotangent(self, a: Hidden, cotangent: Array, w: Array) -> None:
        n, width = a.z.shape
        if 8 * n > width:
            super().input_cotangent(a, cotangent, w)
            return
        # BLAS is slow with a transposed w and a small batch: 520 us for 16 x 1024 x 1024, not 235 us as here.
        transposed = a.scratch.reshape(width, n)
        np.dot(w, cotangent.T, out=transposed)
        layers.transpose(transposed, a.z)

    def norm_act_bwd(self, a: Hidden, pooled: bool) -> None:
        layers.norm_slope_bwd(a.z, a.x_hat, a.slope, a.v, a.inv_std, a.dv, pooled)

    def bias_act_bwd(self, a: Hidden) -> None:
        layers.bias_slope_bwd(a.z, a.slope, a.dv)

    def norm_bwd(self, a: Hidden, sums: Array, count: int) -> None:
        layers.norm_bwd(a.z, a.x_hat, a.v, a.inv_std, sums, count)

    def loss(self, z: Array, v: Array, dv: Array, targets: Array, weights: Array) -> tuple[float, float]:
        match self.config.loss:
            case "cross_entropy":
                if self.config.num_outputs > FEW_CLASSES:
                    return super().loss(z, v, dv, targets, weights)
                return losses.cross_entropy(z, v, targets, weights, self.label_smoothing, dv)
            case "squared_error":
                return losses.squared_error(z, v, targets, weights, dv)
            case "huber":
                return losses.huber(z, v, targets, weights, self.config.huber_delta, dv)
            case _:
                return losses.pinball(z, v, targets, weights, self.quantiles, dv)

    adam = staticmethod(optim.adam)
    sgd = staticmethod(optim.sgd)
