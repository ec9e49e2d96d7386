"""The kernels in NumPy: the functions of floor 1 with `out=`, in their order of operations, so that all bits are equal.

`fnet.nn`, `fnet.losses` and `fnet.optim` have the equations. What is not worth fixed memory (the loss of a batch, the
transcendental activations) is computed by the functions there.
"""

import numpy as np

from fnet import metrics, mlp, nn
from fnet.engine.memory import Hidden, Statistics, aligned
from fnet.nn import Array
from fnet.params import MLPConfig

__all__ = ["Kernels"]

CHUNK = 65_536  # parameters updated at a time; so that all arrays of a chunk stay in a core's cache


class Kernels:
    """The kernels of a network. Arrays are those of `fnet.engine.memory.Hidden`."""

    def __init__(self, config: MLPConfig, label_smoothing: float, batch_size: int) -> None:
        self.config, self.label_smoothing = config, label_smoothing
        self.threshold = min(round(config.dropout * 65536), 65535)
        self.kept = 65536 / (65536 - self.threshold)
        self.classes = np.arange(config.num_outputs)
        size = batch_size * max(config.hidden_sizes, default=0)
        self.scratch = aligned((size,), config.dtype)
        self.flags = aligned((2, size), np.bool_)
        self.chunks = aligned((2, CHUNK), config.dtype)

    def _like(self, z: Array) -> Array:
        return self.scratch[: z.size].reshape(z.shape)

    # Batch norm

    def batch_stats(self, z: Array, mean: Array, var: Array) -> None:
        """The mean and the biased variance of each column."""
        t = self._like(z)
        np.add.reduce(z, axis=0, out=mean)
        mean /= len(z)
        np.subtract(z, mean, out=t)
        np.multiply(t, t, out=t)
        np.add.reduce(t, axis=0, out=var)
        var /= len(z)

    def running_stats(self, running: Statistics, batch: Statistics, count: int) -> None:
        """The running statistics after a batch of `count` examples."""
        old, new = nn.BATCH_NORM_MOMENTUM, 1 - nn.BATCH_NORM_MOMENTUM
        for total, part, share in (
            (running.mean, batch.mean, new),
            (running.var, batch.var, new * count / (count - 1)),
        ):
            total *= old
            total += share * part

    def norm_act_fwd(self, a: Hidden, bits: Array) -> None:
        """Batch norm, activation and dropout: h, and x_hat, slope and mask."""
        np.add(a.var, nn.BATCH_NORM_EPS, out=a.inv_std)
        np.sqrt(a.inv_std, out=a.inv_std)
        np.divide(1, a.inv_std, out=a.inv_std)
        np.subtract(a.z, a.mean, out=a.x_hat)
        np.multiply(a.x_hat, a.inv_std, out=a.x_hat)
        np.multiply(a.x_hat, a.v[0], out=a.z)
        np.add(a.z, a.v[1], out=a.z)
        self._act_fwd(a, bits)

    def bias_act_fwd(self, a: Hidden, bits: Array) -> None:
        """Bias, activation and dropout: h, and slope and mask."""
        np.add(a.z, a.v[0], out=a.z)
        self._act_fwd(a, bits)

    def _act_fwd(self, a: Hidden, bits: Array) -> None:
        if self.config.activation == "relu":
            np.maximum(a.z, 0, out=a.h)
            positive = self.flags[0, : a.z.size].reshape(a.z.shape)
            np.greater(a.z, 0, out=positive)
            if not self.config.dropout:
                np.copyto(a.slope, positive)
                return
            kept = self.flags[1, : a.z.size].reshape(a.z.shape)
            np.greater_equal(bits, self.threshold, out=kept)
            np.logical_and(positive, kept, out=kept)
            np.copyto(a.slope, kept)  # the slope and the mask in one, which for a slope of 0 or 1 is exact
            np.multiply(a.slope, self.kept, out=a.slope)
            np.multiply(a.h, a.slope, out=a.h)
            return
        h, slope = nn.activation_fwd(self.config.activation, a.z)
        np.copyto(a.slope, slope)
        if not self.config.dropout:
            np.copyto(a.h, h)
            return
        np.copyto(a.mask, bits >= self.threshold)
        np.multiply(a.mask, self.kept, out=a.mask)
        np.multiply(h, a.mask, out=a.h)

    def _act_bwd(self, a: Hidden) -> None:
        if self.config.dropout and self.config.activation != "relu":
            np.multiply(a.z, a.mask, out=a.z)
        np.multiply(a.z, a.slope, out=a.z)

    def norm_act_bwd(self, a: Hidden) -> None:
        """Through dropout and activation, from the cotangent of h in z to that of y; dscale and dbias."""
        self._act_bwd(a)
        np.add.reduce(np.multiply(a.z, a.x_hat, out=self._like(a.z)), axis=0, out=a.dv[0])
        np.add.reduce(a.z, axis=0, out=a.dv[1])

    def bias_act_bwd(self, a: Hidden) -> None:
        """Through dropout and activation, from the cotangent of h in z to that of y; db."""
        self._act_bwd(a)
        np.add.reduce(a.z, axis=0, out=a.dv[0])

    def norm_bwd(self, a: Hidden, sums: Array, count: int) -> None:
        """Through the batch norm, from the cotangent of y in z to that of the linear map; `sums` are over the batch."""
        t = np.multiply(a.x_hat, sums[0] / count, out=self._like(a.z))
        np.subtract(a.z, sums[1] / count, out=a.z)
        np.subtract(a.z, t, out=a.z)
        np.multiply(a.z, a.v[0] * a.inv_std, out=a.z)

    # Loss

    def loss(self, z: Array, v: Array, dv: Array, targets: Array, weights: Array) -> tuple[float, float]:
        """The outputs in z, without their bias, become their cotangents; the loss, and the sum of the scores."""
        z += v[0]
        config = self.config
        score = metrics.example_scores(config.loss, z, targets).sum()
        if config.loss == "cross_entropy":
            targets = (targets[:, None] == self.classes).astype(config.dtype)
            if self.label_smoothing:
                targets = (1 - self.label_smoothing) * targets + self.label_smoothing / len(self.classes)
        each, slope = mlp.loss_fwd(config, z, targets)
        np.multiply(slope, weights[:, None], out=z)
        np.add.reduce(z, axis=0, out=dv[0])
        return float(each @ weights), float(score)

    # Optimizers

    def adam(
        self, p: Array, g: Array, mu: Array, nu: Array, eta: float, b1: float, b2: float, c1: float, c2: float,
        eps: float, alpha: float,
    ) -> None:  # fmt: skip
        """As `fnet.adam_update`, with the bias corrections c1 and c2."""
        for start in range(0, p.size, CHUNK):
            part = slice(start, start + CHUNK)
            p_, g_, mu_, nu_ = p[part], g[part], mu[part], nu[part]
            t, u = self.chunks[:, : p_.size]
            np.multiply(g_, 1 - b1, out=t)
            mu_ *= b1
            mu_ += t
            np.multiply(g_, g_, out=t)
            t *= 1 - b2
            nu_ *= b2
            nu_ += t
            np.divide(nu_, c2, out=t)
            np.sqrt(t, out=t)
            t += eps
            np.divide(mu_, c1, out=u)
            u *= eta
            u /= t
            self._apply(p_, u, t, eta * alpha)

    def sgd(
        self, p: Array, g: Array, velocity: Array, eta: float, momentum: float, nesterov: bool, alpha: float
    ) -> None:
        """As `fnet.sgd_update`."""
        for start in range(0, p.size, CHUNK):
            part = slice(start, start + CHUNK)
            p_, g_, v = p[part], g[part], velocity[part]
            t, u = self.chunks[:, : p_.size]
            np.multiply(g_, eta, out=t)
            v *= momentum
            v += t
            if nesterov:
                np.multiply(v, momentum, out=u)
                u += t
            self._apply(p_, u if nesterov else v, t, eta * alpha)

    @staticmethod
    def _apply(p: Array, step: Array, t: Array, decay: float) -> None:
        if decay:
            np.multiply(p, decay, out=t)
        p -= step
        if decay:
            p -= t
