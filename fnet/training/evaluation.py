"""Passes through a data set that train nothing: evaluation, and batch-norm statistics.

`fnet.training` has these names too.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from fnet import data, losses, metrics, mlp, nn, tree
from fnet.data import Dataset
from fnet.mlp import MLPConfig, Params, State
from fnet.nn import Array, BatchNormState

Transform: TypeAlias = Callable[[Array], Array]

CHUNK = 4096  # rows evaluated at a time


class Evaluation(NamedTuple):
    """How a model does on a data set."""

    loss: float  # mean cross entropy
    accuracy: float
    logits: Array  # [rows, classes]


def evaluate(
    config: MLPConfig,
    params: Params,
    state: State,
    dataset: Dataset,
    *,
    transform: Transform = nn.identity,
) -> Evaluation:
    """Loss, accuracy and logits on a data set, in inference mode.

    Args:
        transform: applied to the features, a chunk of rows at a time, such as
            `functools.partial(fnet.standardize, standardizer)`.

    Raises:
        TypeError, ValueError: data, params or state that do not fit.
    """
    labels = losses.check_labels(dataset.y, config.num_classes)
    if len(dataset.x) != len(labels):
        raise ValueError(f"the data have {len(dataset.x)} rows, but {len(labels)} labels")
    config, params = mlp.fold_batch_norm(config, params, state)
    parts = [
        mlp.folded_logits(config, params, transform(dataset.x[start : start + CHUNK]), first_row=start)
        for start in range(0, max(len(labels), 1), CHUNK)
    ]
    logits = np.concatenate(parts)
    loss = losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    accuracy = metrics.accuracy(logits, labels)
    return Evaluation(float(loss.mean(dtype=np.float64)), accuracy, tree.freeze(logits))


def recompute_state(config: MLPConfig, params: Params, x: Array, *, transform: Transform = nn.identity) -> State:
    """The batch-norm state of given parameters: the mean of the statistics over batches of x, without dropout.

    For parameters whose statistics no training step has seen, such as averaged ones: Izmailov et al. (2018),
    section 3.2.

    Args:
        x: `[rows, features]` in random order: batches of one class each have other statistics than all rows.

    Raises:
        TypeError, ValueError: x or params that do not fit; fewer than two rows.
    """
    config = dataclasses.replace(config, dropout=0.0, input_dropout=0.0)
    if not config.batch_norm:
        return ()
    zero = tuple(BatchNormState(*np.zeros((2, width), config.dtype)) for width in config.hidden_sizes)
    slices = data.batch_slices(len(x), 1024, min_size=2)
    total = zero
    for part in slices:
        # From a state of 0, a step leaves a share of 1 - momentum of the statistics of the batch.
        _, state = mlp.forward(config, params, zero, transform(x[part]), train=True)
        total = tree.map(np.add, total, state)
    scale = 1 / ((1 - nn.BATCH_NORM_MOMENTUM) * len(slices))
    return tree.freeze(tree.map(partial(np.multiply, scale), total))
