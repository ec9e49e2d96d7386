"""One training step as a short sequence of kernels on preallocated memory."""

import importlib
import importlib.util
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fnet import nn, random, tree
from fnet.engine.memory import Hidden, aligned, copied, fill, flat_params, hidden_layers, statistics
from fnet.nn import Array
from fnet.optim import AdamState, SGDState
from fnet.params import MLPConfig, Params, State
from fnet.random import Key
from fnet.training.config import TrainConfig, learning_rate_schedule

__all__ = ["ALONE", "ENGINES", "Engine", "Processes", "resolve"]

ENGINES = ("numpy", "numba", "auto")
LARGE = 2**18  # weights, 1 MB in float32, about the cache of a core


class Processes(NamedTuple):
    """The processes that share each batch."""

    rank: int  # of this process, from 0
    size: int
    sum: Callable[[Array], Array]  # sums an array over all processes

    def own(self, count: int) -> slice:
        """The rows that this process computes in a batch of `count` rows."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)


def _itself(array: Array) -> Array:
    return array


ALONE = Processes(0, 1, _itself)


def resolve(engine: str) -> str:
    """The engine to run, "numpy" or "numba"; "auto" is Numba if it is installed.

    >>> resolve("numpy")
    'numpy'

    Raises:
        ValueError: there is no such engine.
        ImportError: Numba is not installed.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}; got {engine!r}")
    has_numba = importlib.util.find_spec("numba") is not None
    if engine == "numba" and not has_numba:
        raise ImportError(
            'engine="numba" needs Numba: python -m pip install numba (the extra "fast"); or use engine="numpy"'
        )
    return "numba" if engine != "numpy" and has_numba else "numpy"


class Engine:
    """A network in training, in memory that all steps reuse.

    It is built once for a config, a train_config and the largest batch, like a function compiled by `jax.jit`. `load`
    copies the state of a run into its memory, and `unload` copies it out as trees.
    """

    def __init__(
        self,
        config: MLPConfig,
        train_config: TrainConfig,
        batch_size: int,
        engine: str = "numpy",
        processes: Processes = ALONE,
    ) -> None:
        module = importlib.import_module(f"fnet.engine.{resolve(engine)}_kernels")
        own = processes.own(batch_size)
        rows = own.stop - own.start + (processes.size > 1)  # other batches may have one row more
        self.config, self.train_config, self.processes = config, train_config, processes
        self.kernels: Any = module.Kernels(config, train_config.label_smoothing, rows)
        self.learning_rate = learning_rate_schedule(train_config)
        self.params, self.grads = flat_params(config), flat_params(config)
        self.moments = [flat_params(config) for _ in range(2 if train_config.optimizer == "adam" else 1)]
        self.running, self.batch = statistics(config), statistics(config)
        self.hidden = hidden_layers(config, self.params, self.grads, self.batch, rows)
        self.outputs = aligned((rows, config.num_outputs), config.dtype)
        self.updates = self._updates() if train_config.optimizer != "lbfgs" else {}
        self.widths = ((config.sizes[0],) if config.input_dropout else ()) + (
            config.hidden_sizes if config.dropout else ()
        )
        self.no_bits = np.zeros(rows * max(config.sizes), np.uint16)
        self.views: dict[tuple[int, int], tuple[list[Hidden], Array, Array]] = {}
        self.count = 0

    def load(self, params: Params, state: State, opt_state: AdamState | SGDState) -> None:
        """Copy a state into the memory of the engine."""
        fill(self.params.params, params)
        fill(self.running.state, state)
        for moment, value in zip(self.moments, opt_state[1:], strict=True):
            fill(moment.params, value)
        self.count = int(opt_state.count)

    def unload(self) -> tuple[Params, State, AdamState | SGDState]:
        """Copy the state out of the memory of the engine."""
        kind = AdamState if self.train_config.optimizer == "adam" else SGDState
        moments = [copied(moment.params) for moment in self.moments]
        return copied(self.params.params), copied(self.running.state), kind(np.int64(self.count), *moments)

    def step(
        self, x: Array, targets: Array, weights: Array | None, key: Key, step: int, count: int | None = None
    ) -> tuple[float, float]:
        """One step of `fnet.train_step`; returns the loss and the sum of the scores of the batch.

        If the loss is not finite, nothing is updated. With L-BFGS, whose step needs the gradients of many batches, the
        step only leaves the gradient of this batch in `grads`.

        Args:
            x: the rows of the batch for this process, `[n, features]`, in the dtype of the config.
            targets: `[n]` labels, or `[n, targets]` numbers in the dtype of the config.
            weights: the weight of each example in the mean loss of the batch, `[n]`; None if all are equal.
            key, step: the noise uses the key `fnet.random.fold_in(key, step)`.
            count: the number of examples of the batch in all processes; None means n.
        """
        count = len(x) if count is None else count
        kernels, shared = self.kernels, self.processes.size > 1
        hidden, z, equal = self.views.get((len(x), count)) or self._views(len(x), count)
        x, bits = self._noise(x, key, step, count)
        h = x
        for layer, layer_bits in zip(hidden, bits, strict=True):
            np.dot(h, layer.w, out=layer.z)
            if self.config.batch_norm:
                if shared:
                    kernels.batch_stats(layer)
                    self._pool(layer, count)
                kernels.norm_act_fwd(layer, layer_bits, shared)
            else:
                kernels.bias_act_fwd(layer, layer_bits)
            h = layer.h
        np.dot(h, self.params.weights[-1], out=z)
        loss, score = kernels.loss(
            z, self.params.vectors[-1], self.grads.vectors[-1], targets, equal if weights is None else weights
        )
        if not shared and not math.isfinite(loss):
            return loss, score
        np.dot(h.T, z, out=self.grads.weights[-1])
        for i in range(len(hidden) - 1, -1, -1):
            layer = hidden[i]
            kernels.input_cotangent(layer, z, self.params.weights[i + 1])
            self._update(i + 1)
            z = layer.z
            if self.config.batch_norm:
                kernels.norm_act_bwd(layer, shared)
                if shared:
                    kernels.norm_bwd(layer, self.processes.sum(layer.dv), count)
            else:
                kernels.bias_act_bwd(layer)
            np.dot((hidden[i - 1].h if i else x).T, z, out=layer.dw)
        if shared:
            loss, score = self._sum_gradients(loss, score)
            if not math.isfinite(loss):
                return loss, score
        self._clip()
        self._update(0)
        self._update(None)
        self.count += 1
        if self.hidden and self.config.batch_norm:
            kernels.running_stats(self.running.array, self.batch.array, count)
        return loss, score

    def _views(self, n: int, count: int) -> tuple[list[Hidden], Array, Array]:
        """Views for n of the `count` examples of a batch."""
        equal = np.full(n, 1 / count, self.config.dtype)
        self.views[n, count] = [layer.rows(n) for layer in self.hidden], self.outputs[:n], equal
        return self.views[n, count]

    def _noise(self, x: Array, key: Key, step: int, count: int) -> tuple[Array, list[Array]]:
        """The features with noise, and the dropout bits of each layer."""
        config, own, size = self.config, self.processes.own(count), count * sum(self.widths)
        draw: Array = self.no_bits
        if self.train_config.input_noise:
            noise_key, key = random.split(random.fold_in(key, step))
            noise = random.normal(noise_key, (count, x.shape[1]), x.dtype)
            x = x + self.train_config.input_noise * noise[own]
            draw = random.bits(key, size, np.uint16)
        elif size:
            draw = self.kernels.step_bits(key, step, size)
        bits: list[Array] = []
        start = 0
        for width in self.widths:
            bits.append(draw[start : start + count * width].reshape(count, width)[own])
            start += count * width
        if config.input_dropout:
            x, _ = nn.dropout_fwd(bits.pop(0), config.input_dropout, x)
        if not config.dropout:
            bits = [self.no_bits[: len(x) * width].reshape(-1, width) for width in config.hidden_sizes]
        return x, bits

    def _pool(self, layer: Hidden, count: int) -> None:
        """Combine the means and variances of all processes in one reduction.

        The sums are float64, so that the difference of the mean square and the squared mean is accurate in float32.
        """
        sums = np.zeros((2, len(layer.mean)))
        if len(layer.z):
            mean, var = layer.mean.astype(np.float64), layer.var.astype(np.float64)
            sums += len(layer.z) * np.stack([mean, var + mean * mean])
        mean, square = self.processes.sum(sums) / count
        np.add(layer.x_hat, layer.mean - mean, out=layer.x_hat, casting="same_kind")
        layer.mean[:] = mean
        layer.var[:] = np.maximum(square - mean * mean, 0)

    def _sum_gradients(self, loss: float, score: float) -> tuple[float, float]:
        """Sum the gradients, the loss and the score over all processes in one reduction."""
        total = self.processes.sum(np.append(self.grads.array, [loss, score]))
        self.grads.array[:] = total[:-2]
        return float(total[-2]), float(total[-1])

    def _updates(self) -> dict[int | None, list[tuple[list[Array], float]]]:
        """The slices of params, grads and moments to update together, and their weight decay.

        The key of a large matrix is the index of its layer. It is updated as soon as its gradient is computed, while
        both are in the cache (5 x 1024, batches of 16: 5.3 ms per step instead of 7.3 ms). The others have key None.
        """
        train_config, arrays = self.train_config, [flat.array for flat in (self.params, self.grads, *self.moments)]
        at_once = train_config.clip_norm is None and self.processes.size == 1
        decay = train_config.weight_decay
        pieces: list[tuple[int, int | None, float]] = [
            (w.size, i if at_once and w.size >= LARGE else None, decay) for i, w in enumerate(self.params.weights)
        ]
        pieces.append(
            (sum(v.size for v in self.params.vectors), None, 0.0 if train_config.decay_weights_only else decay)
        )
        updates: dict[int | None, list[tuple[list[Array], float]]] = {}
        stop = 0
        for (layer, alpha), group in itertools.groupby(pieces, lambda piece: piece[1:]):
            start, stop = stop, stop + sum(size for size, *_ in group)
            updates.setdefault(layer, []).append(([array[start:stop] for array in arrays], alpha))
        return updates

    def _clip(self) -> None:
        clip_norm = self.train_config.clip_norm
        if clip_norm is not None:
            norm = tree.global_norm(self.grads.params)
            if norm > clip_norm:
                np.multiply(self.grads.array, clip_norm / norm, out=self.grads.array)

    def _update(self, layer: int | None) -> None:
        """Update the slices with this key in `self.updates`."""
        if layer not in self.updates:
            return
        config = self.train_config
        eta, t = self.learning_rate(self.count), self.count + 1
        for arrays, alpha in self.updates[layer]:
            if config.optimizer == "adam":
                b1, b2 = config.b1, config.b2
                c1, c2 = (1 / (1 - b1**t), 1 / (1 - b2**t)) if config.bias_correction else (1.0, 1.0)
                self.kernels.adam(*arrays, eta, b1, b2, c1, c2, config.eps, alpha)
            else:
                self.kernels.sgd(*arrays, eta, config.momentum, config.nesterov, alpha)
