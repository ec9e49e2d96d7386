"""The kernels in NumPy: `fnet.nn`, `fnet.losses` and `fnet.optim` with `out=`, in the same order, for the same bits.

The functions of these modules are called where preallocated memory gains little: for the loss of a batch, and for
transcendental activations.
"""

import numpy as np

from fnet import metrics, mlp, nn, random
from fnet.engine.memory import Hidden, aligned
from fnet.nn import Array
from fnet.params import MLPConfig
from fnet.random import Key

__all__ = ["Kernels"]

CHUNK = 65_536  # parameters updated at a time, so that the arrays of a chunk stay in the cache of a core


class Kernels:
    """The kernels of a network. Arrays are those of `fnet.engine.memory.Hidden`."""

    def __init__(self, config: MLPConfig, label_smoothing: float, batch_size: int) -> None:
        self.config, self.label_smoothing = config, label_smoothing
        self.threshold = min(round(config.dropout * 65536), 65535)
        self.kept = 65536 / (65536 - self.threshold)
        self.classes = np.arange(config.num_outputs)
        self.starts = np.arange(batch_size) * config.num_outputs
        self.chunks = aligned((2, CHUNK), config.dtype)

    def step_bits(self, key: Key, step: int, size: int) -> Array:
        """At least `size` words of 16 random bits for a step; the next call may overwrite them."""
        return random.bits(random.fold_in(key, step), size, np.uint16)

    # Batch norm

    def batch_stats(self, a: Hidden) -> None:
        """Compute the mean and the biased variance of each column of z, and z - mean in x_hat."""
        n, t = len(a.z), a.scratch
        np.add.reduce(a.z, axis=0, out=a.mean)
        np.divide(a.mean, n, out=a.mean)
        np.subtract(a.z, a.mean, out=a.x_hat)
        np.multiply(a.x_hat, a.x_hat, out=t)
        np.add.reduce(t, axis=0, out=a.var)
        np.divide(a.var, n, out=a.var)

    def running_stats(self, running: Array, batch: Array, count: int) -> None:
        """Update the running statistics with those of a batch of `count` examples, which are overwritten."""
        new = 1 - nn.BATCH_NORM_MOMENTUM
        running *= nn.BATCH_NORM_MOMENTUM
        batch *= np.array([[new], [new * count / (count - 1)]], batch.dtype)
        running += batch

    def norm_act_fwd(self, a: Hidden, bits: Array, pooled: bool) -> None:
        """Batch norm, activation and dropout: computes h, x_hat, slope and mask, and the statistics unless `pooled`."""
        if not pooled:
            self.batch_stats(a)
        np.add(a.var, nn.BATCH_NORM_EPS, out=a.inv_std)
        np.sqrt(a.inv_std, out=a.inv_std)
        np.divide(1, a.inv_std, out=a.inv_std)
        np.multiply(a.x_hat, a.inv_std, out=a.x_hat)
        np.multiply(a.x_hat, a.v[0], out=a.z)
        np.add(a.z, a.v[1], out=a.z)
        self._act_fwd(a, bits)

    def bias_act_fwd(self, a: Hidden, bits: Array) -> None:
        """Bias, activation and dropout: computes h, slope and mask."""
        np.add(a.z, a.v[0], out=a.z)
        self._act_fwd(a, bits)

    def _act_fwd(self, a: Hidden, bits: Array) -> None:
        if self.config.activation == "relu":
            np.maximum(a.z, a.zeros, out=a.h)
            np.greater(a.z, 0, out=a.positive)
            if not self.config.dropout:
                np.copyto(a.slope, a.positive)
                return
            np.greater_equal(bits, self.threshold, out=a.kept)
            np.logical_and(a.positive, a.kept, out=a.kept)
            np.copyto(a.slope, a.kept)  # slope times mask, which is exact for a slope of 0 or 1
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

    def input_cotangent(self, a: Hidden, cotangent: Array, w: Array) -> None:
        """Compute the cotangent of a.h in a.z from the cotangent of a.h @ w."""
        np.dot(cotangent, w.T, out=a.z)

    def norm_act_bwd(self, a: Hidden, pooled: bool) -> None:
        """From the cotangent of h in z to that of the linear map (of y if `pooled`); also computes dv."""
        self._act_bwd(a)
        np.add.reduce(np.multiply(a.z, a.x_hat, out=a.scratch), axis=0, out=a.dv[0])
        np.add.reduce(a.z, axis=0, out=a.dv[1])
        if not pooled:
            self.norm_bwd(a, a.dv, len(a.z))

    def bias_act_bwd(self, a: Hidden) -> None:
        """From the cotangent of h in z to that of the linear map; also computes db."""
        self._act_bwd(a)
        np.add.reduce(a.z, axis=0, out=a.dv[0])

    def norm_bwd(self, a: Hidden, sums: Array, count: int) -> None:
        """From the cotangent of y in z to that of the linear map; `sums` are the dv of the whole batch."""
        means = sums / count
        np.multiply(a.x_hat, means[0], out=a.scratch)
        np.subtract(a.z, means[1], out=a.z)
        np.subtract(a.z, a.scratch, out=a.z)
        np.multiply(a.z, a.v[0] * a.inv_std, out=a.z)

    # Loss

    def loss(self, z: Array, v: Array, dv: Array, targets: Array, weights: Array) -> tuple[float, float]:
        """Replace the outputs in z, which lack their bias, by their cotangent; return the loss and the score."""
        z += v[0]
        if self.config.loss == "cross_entropy" and not self.label_smoothing:
            loss, score = self._cross_entropy(z, targets, weights)
        else:
            score = float(metrics.example_scores(self.config.loss, z, targets).sum())
            if self.config.loss == "cross_entropy":
                one_hot = (targets[:, None] == self.classes).astype(z.dtype)
                targets = (1 - self.label_smoothing) * one_hot + self.label_smoothing / len(self.classes)
            each, slope = mlp.loss_fwd(self.config, z, targets)
            loss = float(each @ weights)
            np.multiply(slope, weights[:, None], out=z)
        np.add.reduce(z, axis=0, out=dv[0])
        return loss, score

    def _cross_entropy(self, z: Array, labels: Array, weights: Array) -> tuple[float, float]:
        """`fnet.losses.softmax_cross_entropy_fwd` for one-hot targets, without arithmetic for their zeros."""
        score = float(np.count_nonzero(z.argmax(axis=1) == labels))
        flat, at_label = z.reshape(-1), self.starts[: len(z)] + labels
        z -= np.maximum.reduce(z, axis=1, keepdims=True)
        z -= np.log(np.add.reduce(np.exp(z), axis=1, keepdims=True))
        loss = float(-flat[at_label] @ weights)
        np.exp(z, out=z)
        flat[at_label] -= 1
        z *= weights[:, None]
        return loss, score

    # Optimizers

    def adam(
        self, p: Array, g: Array, mu: Array, nu: Array, eta: float, b1: float, b2: float, c1: float, c2: float,
        eps: float, alpha: float,
    ) -> None:  # fmt: skip
        """`fnet.adam_update` with the bias corrections c1 and c2."""
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
            np.multiply(nu_, c2, out=t)
            np.sqrt(t, out=t)
            t += eps
            np.multiply(mu_, eta * c1, out=u)
            u /= t
            self._apply(p_, u, t, eta * alpha)

    def sgd(
        self, p: Array, g: Array, velocity: Array, eta: float, momentum: float, nesterov: bool, alpha: float
    ) -> None:
        """`fnet.sgd_update`."""
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
