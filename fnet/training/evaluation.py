"""Evaluation on a data set, and recomputation of batch-norm statistics."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fnet import metrics, mlp, nn, tree
from fnet.data import Dataset
from fnet.nn import Array, BatchNormState
from fnet.params import MLPConfig, Params, State, check_params, param_shapes
from fnet.training.examples import Transform, check_dataset

__all__ = ["Evaluation", "evaluate", "recompute_state"]

CHUNK = 2**20  # elements of the widest layer per chunk of rows


@tree.container
class Evaluation(NamedTuple):
    """The result of an evaluation."""

    loss: float  # mean over the rows
    score: float  # accuracy, RMSE or coverage: see `fnet.metrics.score_name`
    logits: Array  # [rows, outputs]

    @property
    def accuracy(self) -> float:
        """The score of a classifier."""
        return self.score


def evaluate(
    config: MLPConfig, params: Params, state: State, dataset: Dataset, *, transform: Transform | None = None
) -> Evaluation:
    """Loss, score and logits on a data set, in inference mode.

    Args:
        transform: a function of the features of a chunk of rows, such as
            `functools.partial(fnet.standardize, standardizer)`.

    Raises:
        TypeError, ValueError: the data, params or state do not match the config.
    """
    check_dataset("dataset", config, dataset)
    rows = len(dataset.x)
    config, params = mlp.fold_batch_norm(config, params, state)
    logits = np.empty((rows, config.num_outputs), config.dtype)
    loss = score = 0.0
    chunk = max(1, CHUNK // max(config.sizes))
    for start in range(0, rows, chunk):
        part = slice(start, start + chunk)
        x = dataset.x[part] if transform is None else transform(dataset.x[part])
        logits[part] = mlp.folded_logits(config, params, mlp.check_features(config, x, first_row=start))
        targets = mlp.loss_targets(config, dataset.y[part], len(x))
        loss += float(mlp.loss_fwd(config, logits[part], targets)[0].sum(dtype=np.float64))
        score += float(metrics.example_scores(config.loss, logits[part], dataset.y[part]).sum(dtype=np.float64))
    return Evaluation(loss / rows, metrics.mean_score(config.loss, score, rows), tree.freeze(logits))


def recompute_state(config: MLPConfig, params: Params, x: Array) -> State:
    """Recompute the batch-norm state: the statistics of all rows of x as one batch, without dropout.

    Running statistics, in contrast, average over steps in which the parameters changed: Izmailov et al. (2018), section
    3.2.

    Args:
        x: `[rows, features]`, at least two rows. The activations of all rows are held in memory.

    Raises:
        TypeError, ValueError: x or params do not match the config.
    """
    check_params(config, params, param_shapes(config)[1])
    h, state = mlp.check_features(config, x), list[BatchNormState]()
    if config.batch_norm and len(h) < 2:
        raise ValueError(f"batch-norm statistics need at least 2 rows, but got {len(h)}")
    for linear, norm in params[:-1]:
        if norm is None:
            break
        h, _ = nn.linear_fwd(linear, h)
        mean, var = h.mean(axis=0, dtype=np.float64), h.var(axis=0, dtype=np.float64)
        batch = BatchNormState(mean.astype(config.dtype), var.astype(config.dtype))
        state.append(batch._replace(var=(var * len(h) / (len(h) - 1)).astype(config.dtype)))
        h, _ = nn.activation_fwd(config.activation, nn.batch_norm_inference(norm, batch, h))
    return tree.freeze(tuple(state))
