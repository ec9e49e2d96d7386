"""The multi-layer perceptron as pure functions of its parameters: loss and gradients, and predictions.

Each hidden layer is linear, batch norm, activation, dropout; the last layer is linear and gives the logits. The
configuration and the parameters themselves are in `fnet.params`.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fnet import _memory, losses, nn, tree
from fnet import random as frandom
from fnet.nn import Array, BatchNormState, Linear, Reduce
from fnet.params import (
    INITIALIZERS,
    Layer,
    MLPConfig,
    Packed,
    Params,
    State,
    check_features,
    check_params,
    empty_packed,
    init,
    num_params,
    pack,
    unpack,
)
from fnet.random import Key

__all__ = [
    "INITIALIZERS",
    "Aux",
    "Hidden",
    "Layer",
    "MLPConfig",
    "Packed",
    "Params",
    "State",
    "Workspace",
    "check_features",
    "check_params",
    "fold_batch_norm",
    "folded_logits",
    "forward",
    "init",
    "loss_and_grads",
    "num_params",
    "pack",
    "predict",
    "predict_logits",
    "predict_proba",
    "unpack",
    "workspace",
]

PREDICT_CHUNK = 256  # rows; so that all activations of a chunk stay in a core's cache


class Aux(NamedTuple):
    """What `loss_and_grads` returns beside the loss."""

    state: State
    logits: Array  # [batch, classes]


# Training -------------------------------------------------------------------------------------------------------------


class Hidden(NamedTuple):
    """Memory for one hidden layer, each `[batch, width]`."""

    z: Array  # the linear map, then centred by the batch norm
    h: Array  # the output; in the backward pass its cotangent
    slope: Array  # of the activation
    mask: Array  # of the dropout


class Workspace(NamedTuple):
    """Memory for the activations and gradients of a batch, see `workspace`."""

    config: MLPConfig
    hidden: tuple[Hidden, ...]
    features: tuple[Array, Array]  # x after input dropout, and its mask, each [batch, features]
    packed_grads: Packed
    grads: Params  # the same memory
    packed_params: Packed  # for `train_step`: the parameters
    params: Params  # the same memory, read-only


def workspace(config: MLPConfig, batch_size: int) -> Workspace:
    """Memory that `loss_and_grads(..., donate=...)` computes in, call after call, instead of allocating its own.

    At these sizes new memory costs as much time as the arithmetic, since the system maps and clears every page of it.
    """

    def empty(*shape: int) -> Array:
        return _memory.empty(shape, config.dtype)

    packed_grads, packed_params = empty_packed(config), empty_packed(config)
    return Workspace(
        config,
        hidden=tuple(Hidden(*(empty(batch_size, width) for _ in Hidden._fields)) for width in config.hidden_sizes),
        features=(empty(batch_size, config.sizes[0]), empty(batch_size, config.sizes[0])),
        packed_grads=packed_grads,
        grads=unpack(config, packed_grads),
        packed_params=packed_params,
        params=tree.freeze(unpack(config, packed_params)),
    )


def loss_and_grads(
    config: MLPConfig,
    params: Params,
    state: State,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    key: Key | None = None,
    label_smoothing: float = 0.0,
    sample_weight: npt.ArrayLike | None = None,
    reduce: Reduce = nn.identity,
    shard: slice = slice(None),
    donate: Workspace | None = None,
) -> tuple[tuple[float, Aux], Params]:
    """The loss of a training batch and its gradient, as `jax.value_and_grad(loss, has_aux=True)` gives them.

    The loss is the mean cross entropy `1/n sum_i l_i`, or with `sample_weight` the weighted mean
    `sum_i w_i l_i / sum_i w_i`; the network is in training mode (batch statistics, dropout).

    Args:
        config: the architecture.
        params, state: from `init` or an earlier step.
        x: features, `[batch, features]`.
        y: labels, `[batch]` integers; or targets, `[batch, classes]` probabilities.
        key: for dropout; may be None where there is none.
        label_smoothing: see `fnet.losses.label_targets`.
        sample_weight: `[batch]`, not negative.
        reduce, shard: for a batch shared among processes. Each passes the whole batch and computes the rows in `shard`;
            `reduce` sums an array over the processes. Loss and gradients are then this process's share: their sum over
            all processes is that of the batch.
        donate: memory from `workspace`, as `donate_argnums` of `jax.jit`: the gradients are in it, so the next call
            with it overwrites them. Not used for a batch of another size.

    Returns:
        `((loss, aux), grads)`: grads have the structure of params; `aux.state` is the new batch-norm state and
        `aux.logits` are the logits, `[batch, classes]`.

    Raises:
        TypeError, ValueError: x, y, sample_weight, params or state that do not fit; dropout without a key; a batch of
            one example with batch norm.
    """
    check_params(config, params, state)
    x = check_features(config, x)
    targets = _targets(config, y, len(x), label_smoothing)[shard]
    weights = _example_weights(sample_weight, len(x), config.dtype)[shard]
    if donate is not None and donate.config != config:
        raise ValueError(f"the workspace is for another config: {donate.config}, not {config}")
    memory = donate
    if memory is None or len(memory.features[0]) != len(weights):
        memory = workspace(config, len(weights))
    logits, new_state, residuals = _forward(config, params, state, x, key, reduce, shard, memory)
    loss = _backward(logits, targets, weights, residuals, reduce, memory)
    grads = memory.grads if donate is memory else tree.freeze(memory.grads)
    return (loss, tree.freeze(Aux(new_state, logits))), grads


class _Residuals(NamedTuple):
    linear: nn.LinearResiduals
    norm: nn.BatchNormResiduals | None = None
    slope: Array | None = None
    mask: Array | None = None


def _forward(
    config: MLPConfig,
    params: Params,
    state: State,
    x: Array,
    key: Key | None,
    reduce: Reduce,
    shard: slice,
    memory: Workspace,
) -> tuple[Array, State, list[_Residuals]]:
    """The network in training mode: the logits, the new state, and the residuals of each layer."""
    count = len(x)
    if count < 2 and config.batch_norm and config.hidden_sizes:
        raise ValueError(
            f"batch norm needs a training batch of at least 2 examples, but got {count}; "
            "leave a last batch of one out, as fit does, or set batch_norm=False"
        )
    bits = _dropout_bits(config, key, count, shard)
    x = x[shard]
    if config.input_dropout:
        x, _ = nn.dropout_fwd(next(bits), config.input_dropout, x, out=memory.features)
    new_state: list[BatchNormState] = []
    residuals: list[_Residuals] = []
    for i, layer in enumerate(params[:-1]):
        z, h, slope_out, mask_out = memory.hidden[i]
        norm = mask = None
        x, linear = nn.linear_fwd(layer.linear, x, out=z)
        if layer.norm is not None:
            (x, norm_state), norm = nn.batch_norm_fwd(layer.norm, state[i], x, reduce=reduce, count=count, out=(h, z))
            new_state.append(norm_state)
        x, slope = nn.activation_fwd(config.activation, x, out=(h, slope_out))
        if config.dropout:
            x, mask = nn.dropout_fwd(next(bits), config.dropout, x, out=(h, mask_out))
        residuals.append(_Residuals(linear, norm, slope, mask))
    logits, linear = nn.linear_fwd(params[-1].linear, x)
    residuals.append(_Residuals(linear))
    return logits, tuple(new_state), residuals


def _backward(
    logits: Array,
    targets: Array,
    weights: Array,
    residuals: list[_Residuals],
    reduce: Reduce,
    memory: Workspace,
) -> float:
    """The loss, and its gradient into `memory.grads`: the chain of `_bwd` calls, from the last layer to the first."""
    losses_, cross_entropy = losses.softmax_cross_entropy_fwd(logits, targets)
    cotangent = losses.softmax_cross_entropy_bwd(cross_entropy, weights)
    for i in reversed(range(len(residuals))):
        linear, norm, slope, mask = residuals[i]
        grads = memory.grads[i]
        if mask is not None:
            nn.dropout_bwd(mask, cotangent, out=cotangent)
        nn.activation_bwd(slope, cotangent, out=cotangent)
        if norm is not None and grads.norm is not None:
            nn.batch_norm_bwd(norm, cotangent, reduce=reduce, out=(grads.norm, cotangent))
        below = memory.hidden[i - 1].h if i else None
        nn.linear_bwd(linear, cotangent, input_cotangent=i > 0, out=(grads.linear, below))
        if below is not None:
            cotangent = below
    return float(np.dot(losses_, weights))


def _dropout_bits(config: MLPConfig, key: Key | None, count: int, shard: slice) -> Iterator[npt.NDArray[np.uint16]]:
    """The random bits for the dropout of each layer in turn, in one draw for the whole batch."""
    widths = (config.sizes[0],) if config.input_dropout else ()
    widths += config.hidden_sizes if config.dropout else ()
    if not widths:
        return iter(())
    if key is None:
        raise ValueError(
            "dropout needs a key: pass key=fnet.random.key(seed), a new one for each step; "
            "or set dropout=0 and input_dropout=0 in the config"
        )
    draw = frandom.bits(key, (count * sum(widths),), np.uint16)
    ends = [count * end for end in itertools.accumulate(widths)]
    blocks = [draw[end - count * width : end] for end, width in zip(ends, widths, strict=True)]
    return iter([block.reshape(count, -1)[shard] for block in blocks])


def _targets(config: MLPConfig, y: npt.ArrayLike, count: int, label_smoothing: float) -> Array:
    y = np.asarray(y)
    if y.ndim == 0 or len(y) != count:
        raise ValueError(f"x has {count} rows, but y has shape {y.shape}")
    if y.ndim == 2 and y.dtype.kind == "f":
        if not (np.isfinite(y).all() and y.min() >= 0):
            raise ValueError("targets must be probabilities, but some are negative or not finite")
        return losses.smooth_targets(y.astype(config.dtype, copy=False), label_smoothing)
    return losses.label_targets(y, config.num_classes, label_smoothing, config.dtype)


def _example_weights(sample_weight: npt.ArrayLike | None, count: int, dtype: str) -> Array:
    """The factor of each example's loss: `w_i / sum w`."""
    if sample_weight is None:
        return np.full(count, 1 / count, dtype)
    weights = np.asarray(sample_weight, dtype)
    if weights.shape != (count,):
        raise ValueError(f"sample_weight must have shape ({count},), but got {weights.shape}")
    total = weights.sum()
    if not (np.isfinite(total) and total > 0 and weights.min() >= 0):
        raise ValueError(
            "sample_weight must be finite, not negative, and not all 0; "
            f"got {weights.min()} to {weights.max()} with sum {total}"
        )
    return weights / total


# Inference ------------------------------------------------------------------------------------------------------------


def forward(
    config: MLPConfig,
    params: Params,
    state: State,
    x: npt.ArrayLike,
    *,
    key: Key | None = None,
    train: bool = False,
) -> tuple[Array, State]:
    """The logits `[batch, classes]` of features `[batch, features]`, and the batch-norm state.

    With `train=True` batch norm uses and updates the statistics with those of the batch, and dropout drops, for which
    it needs a key; otherwise the running statistics are used and the state comes back as it was.

    Raises:
        TypeError, ValueError: as `loss_and_grads`.
    """
    check_params(config, params, state)
    if not train:
        return tree.freeze(predict_logits(config, params, state, x)), state
    x = check_features(config, x)
    memory = workspace(config, len(x))
    every = slice(None)
    logits, state, _ = _forward(config, params, state, x, key, nn.identity, every, memory)
    return tree.freeze((logits, state))


def predict_logits(config: MLPConfig, params: Params, state: State, x: npt.ArrayLike) -> Array:
    """The logits `[rows, classes]` in inference mode, in chunks of rows, so that memory stays bounded.

    Raises:
        TypeError, ValueError: x, params or state that do not fit.
    """
    return folded_logits(*fold_batch_norm(config, params, state), x)


def folded_logits(config: MLPConfig, params: Params, x: npt.ArrayLike, *, first_row: int = 0) -> Array:
    """`predict_logits` of what `fold_batch_norm` returns; for messages, x[0] is called row `first_row`."""
    x = np.asarray(x)
    logits = np.empty((len(x) if x.ndim else 0, config.num_classes), config.dtype)
    chunk = min(PREDICT_CHUNK, max(len(logits), 1))
    memory = [_memory.empty((2, chunk, width), config.dtype) for width in config.hidden_sizes]
    for start in range(0, max(len(logits), 1), chunk):
        rows = slice(start, start + chunk)
        h = check_features(config, x[rows] if x.ndim else x, first_row=first_row + start)
        for layer, (z, scratch) in zip(params, memory, strict=False):
            z, scratch = z[: len(h)], scratch[: len(h)]
            nn.linear_fwd(layer.linear, h, out=z)
            h = nn.activation(config.activation, z, out=z, scratch=scratch)
        nn.linear_fwd(params[-1].linear, h, out=logits[rows])
    return logits


def predict_proba(config: MLPConfig, params: Params, state: State, x: npt.ArrayLike) -> Array:
    """The probabilities `[rows, classes]`: `softmax(logits)`.

    Raises:
        TypeError, ValueError: as `predict_logits`.
    """
    return losses.softmax(predict_logits(config, params, state, x))


def predict(config: MLPConfig, params: Params, state: State, x: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """The most probable class of each row, `[rows]` integers.

    Raises:
        TypeError, ValueError: as `predict_logits`.
    """
    return predict_logits(config, params, state, x).argmax(axis=1)


def fold_batch_norm(config: MLPConfig, params: Params, state: State) -> tuple[MLPConfig, Params]:
    """The same function in inference mode without batch norm: each is folded into the linear map in front of it.

    `w' = w * s`, `b' = bias - mean * s` with `s = scale / sqrt(var + eps)`; so that prediction is products alone.

    >>> config = MLPConfig(sizes=(4, 8, 3))
    >>> fold_batch_norm(config, *init(frandom.key(0), config))[0].batch_norm
    False

    Raises:
        ValueError: params or state that do not fit the config; names the path and both shapes.
    """
    check_params(config, params, state)
    if not config.batch_norm:
        return config, params
    folded: list[Layer] = []
    for i, layer in enumerate(params):
        if layer.norm is None:
            folded.append(layer)
            continue
        mean, var = (array.astype(np.float64) for array in state[i])
        s = layer.norm.scale / np.sqrt(var + nn.BATCH_NORM_EPS)
        w = layer.linear.w * s.astype(config.dtype)
        b = (layer.norm.bias - mean * s).astype(config.dtype)
        folded.append(Layer(Linear(tree.freeze(w), tree.freeze(b)), None))
    return dataclasses.replace(config, batch_norm=False), tuple(folded)
