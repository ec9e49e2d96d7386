"""Training: a generator of epochs.

Everything that a run needs to go on is in `TrainState`, one pytree. The order of the examples is a function of (key,
epoch) and the noise of a step one of (key, step), so a run that stops at any step goes on as if it had not.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from fnet import data, losses, mlp, nn, tree
from fnet import random as frandom
from fnet.data import Dataset
from fnet.mlp import MLPConfig, Params, State
from fnet.nn import Array, Reduce
from fnet.random import Key
from fnet.schedules import Schedule
from fnet.training.config import TrainConfig, example_weights, schedule
from fnet.training.evaluation import Evaluation, Transform, evaluate, recompute_state
from fnet.training.step import (
    NO_TOTALS,
    Best,
    NonFiniteLossError,
    TrainState,
    check_train_state,
    init_train_state,
    train_step,
)

STATISTICS_ROWS = 8192  # examples from which batch-norm statistics are recomputed


class EpochRecord(NamedTuple):
    """What is known of an epoch; of one that is not finished, so far."""

    epoch: int  # from 1
    step: int  # steps made in the whole run
    finished: bool
    learning_rate: float  # of the last step
    train_loss: float  # mean over the epoch's examples, in training mode, while parameters change
    train_accuracy: float
    valid_loss: float | None
    valid_accuracy: float | None
    seconds: float  # of training in this epoch, evaluation not included, since the process started


def fit(
    config: MLPConfig,
    train_config: TrainConfig,
    train: Dataset,
    valid: Dataset | None = None,
    *,
    key: Key,
    train_state: TrainState | None = None,
    transform: Transform = nn.identity,
    sample_weight: Array | None = None,
    every: int | None = None,
    stop: Callable[[], bool] | None = None,
    reduce: Reduce = nn.identity,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[tuple[TrainState, EpochRecord]]:
    """Train, and yield the state and a record after each epoch.

    A yielded state can be kept; given back as `train_state` it goes on from there, to the same bits, in the middle of
    an epoch too. `fit` works on a copy of its own, whose memory it reuses from step to step.

    Args:
        config, train_config: the architecture, and how to train it.
        train, valid: the data; validation data are only evaluated, once an epoch.
        key: decides the initial parameters, the order of the examples, all noise, and from which examples batch-norm
            statistics are recomputed.
        train_state: where to begin; None: `init_train_state`.
        transform: applied to the features of each batch, such as `functools.partial(fnet.standardize, standardizer)`.
        sample_weight: `[rows]` of train, not negative.
        every: yield also after each so many steps, with a record that is not `finished`.
        stop: asked after each step; once it says True, `fit` yields the state as it is and returns.
        reduce, shard: for several processes that share each batch: a sum over them, and (rank, number of processes).

    Raises:
        NonFiniteLossError: the loss is infinite or not a number; `train_state` in it is the last good state.
        TypeError, ValueError: data or a train_state that do not fit the configs, before the first step; features that
            are not finite, when their batch comes.
    """
    if every is not None and every < 1:
        raise ValueError(f"every must be at least 1 step, but got {every}")
    min_size = 2 if config.batch_norm and config.hidden_sizes else 1
    _check_data(config, train_config, train, valid, min_size)
    weights = example_weights(train_config, train.y, config.num_classes, sample_weight)
    # A batch of rows without weight would have no mean loss, so they are left out.
    used = np.arange(len(train.y)) if weights is None else np.flatnonzero(weights)
    if len(used) < min_size:
        raise ValueError(f"training needs at least {min_size} examples with a weight above 0, but got {len(used)}")
    slices = data.batch_slices(len(used), train_config.batch_size, min_size=min_size)
    if train_config.total_steps is None:
        total_steps = len(slices) * train_config.epochs
        train_config = dataclasses.replace(train_config, total_steps=total_steps)
    init_key, order_key, step_key, statistics_key = frandom.split(key, 4)
    # At random: the data may be sorted.
    statistics_rows = used[frandom.permutation(statistics_key, len(used))[:STATISTICS_ROWS]]
    if train_state is None:
        train_state = init_train_state(init_key, config, train_config)
    _check_resumable(train_config, train_state, len(slices))
    own_rows = _shard_of(shard, train_config.batch_size)
    memory = mlp.workspace(config, own_rows.stop - own_rows.start)
    rate = schedule(train_config)
    while not is_finished(train_state, train_config):
        epoch = int(train_state.epoch)
        order = used[frandom.permutation(frandom.fold_in(order_key, epoch), len(used))]
        first = int(train_state.step) - epoch * len(slices)
        train_state = _own(train_state)
        if first == 0:
            train_state = train_state._replace(totals=NO_TOTALS)
        seconds = 0.0
        started = time.perf_counter()
        for i in range(first, len(slices)):
            rows = order[slices[i]]
            x = transform(data.gather(train.x, rows))
            try:
                train_state, _ = train_step(
                    config,
                    train_config,
                    train_state,
                    x,
                    train.y.take(rows),
                    key=frandom.fold_in(step_key, int(train_state.step)),
                    sample_weight=None if weights is None else weights.take(rows),
                    reduce=reduce,
                    shard=_shard_of(shard, len(rows)),
                    donate=memory,
                )
            except NonFiniteLossError as error:
                step = int(train_state.step) + 1
                raise NonFiniteLossError(error.loss, step, epoch + 1, train_state) from None
            except ValueError:
                _check_finite(x, rows)
                raise
            stopping = stop is not None and stop()
            due = every is not None and int(train_state.step) % every == 0
            if i + 1 < len(slices) and (stopping or due):
                seconds += time.perf_counter() - started
                yield _own(train_state), _record(train_state, rate, seconds)
                if stopping:
                    return
                started = time.perf_counter()
        seconds += time.perf_counter() - started
        train_state = _own(train_state)
        train_state = _recompute_statistics(config, train_config, train_state, train.x, statistics_rows, transform)
        train_state = train_state._replace(epoch=train_state.epoch + 1)
        record = _record(train_state, rate, seconds, finished=True)
        if valid is not None:
            params, state = train_state.ema or (train_state.params, train_state.state)
            evaluation = evaluate(config, params, state, valid, transform=transform)
            record = record._replace(valid_loss=evaluation.loss, valid_accuracy=evaluation.accuracy)
            train_state = _keep_best(train_config, train_state, evaluation)
        yield train_state, record
        if stop is not None and stop():
            return


def is_finished(train_state: TrainState, train_config: TrainConfig) -> bool:
    """Whether all epochs are done, or none was better for as long as `patience` allows."""
    epoch, best, patience = int(train_state.epoch), train_state.best, train_config.patience
    if patience is not None and best is not None and epoch - int(best.epoch) >= patience:
        return True
    return epoch >= train_config.epochs


def final_model(train_state: TrainState, train_config: TrainConfig) -> tuple[Params, State]:
    """The parameters and batch-norm state that the run is for: the best, the averaged or the last, as configured."""
    if train_config.keep == "best" and train_state.best is not None and train_state.best.epoch:
        return train_state.best.params, train_state.best.state
    return train_state.ema or (train_state.params, train_state.state)


def _own(train_state: TrainState) -> TrainState:
    """A copy of what `train_step` overwrites when it is donated."""
    params, opt_state, ema = tree.map(_copy, (train_state.params, train_state.opt_state, train_state.ema))
    return train_state._replace(params=params, opt_state=opt_state, ema=ema)


def _copy(leaf: Array) -> Array:
    copy = leaf.copy()  # np.copy would make an array of a scalar
    return tree.freeze(copy)


def _record(train_state: TrainState, rate: Schedule, seconds: float, *, finished: bool = False) -> EpochRecord:
    totals, step = train_state.totals, int(train_state.step)
    return EpochRecord(
        epoch=int(train_state.epoch) + (not finished),
        step=step,
        finished=finished,
        learning_rate=rate(step - 1),
        train_loss=float(totals.loss / totals.count),
        train_accuracy=float(totals.correct / totals.count),
        valid_loss=None,
        valid_accuracy=None,
        seconds=seconds,
    )


def _recompute_statistics(
    config: MLPConfig,
    train_config: TrainConfig,
    train_state: TrainState,
    x: Array,
    rows: Array,
    transform: Transform,
) -> TrainState:
    """At the end of an epoch, batch-norm statistics for the parameters as they are, where the config asks for them.

    The running ones are those of the last steps: noisy, and none at all for averaged parameters. Training itself uses
    neither.
    """
    if train_state.ema is not None:
        params, _ = train_state.ema
        state = recompute_state(config, params, data.gather(x, rows), transform=transform)
        return train_state._replace(ema=(params, state))
    if train_config.recompute_statistics:
        state = recompute_state(config, train_state.params, data.gather(x, rows), transform=transform)
        return train_state._replace(state=state)
    return train_state


def _keep_best(train_config: TrainConfig, train_state: TrainState, evaluation: Evaluation) -> TrainState:
    if train_state.best is None:
        return train_state
    by_loss = train_config.monitor == "loss"
    score = np.float64(evaluation.loss if by_loss else -evaluation.accuracy)
    if not score < train_state.best.score:
        return train_state
    params, state = train_state.ema or (train_state.params, train_state.state)
    return train_state._replace(best=Best(params, state, score, train_state.epoch))


def _shard_of(shard: tuple[int, int], rows: int) -> slice:
    """The rows of a batch that process `rank` of `size` computes."""
    rank, size = shard
    return slice(rows * rank // size, rows * (rank + 1) // size)


def _check_finite(x: Array, rows: Array) -> None:
    """Raise a ValueError that names the row of the training data, where the features of a batch are not finite."""
    for i, column in np.argwhere(~np.isfinite(x)):
        raise ValueError(
            f"x must be finite, but row {rows[i]} of the training data has {x[i, column]} in column {column}"
        )


def _check_resumable(train_config: TrainConfig, train_state: TrainState, steps_per_epoch: int) -> None:
    check_train_state(train_config, train_state)
    step, epoch = int(train_state.step), int(train_state.epoch)
    if not 0 <= step - epoch * steps_per_epoch <= steps_per_epoch:
        raise ValueError(
            f"train_state has made {step} steps in {epoch} epochs, but here an epoch has {steps_per_epoch}: it was "
            "trained with another batch_size, or on other data. To train its parameters anew, put them into a new one: "
            "init_train_state(key, config, train_config)._replace(params=…, state=…)"
        )
    if train_config.tracks_best and train_state.best is None:
        raise ValueError('keep="best" and patience need a train_state that init_train_state has made with them')


def _check_data(
    config: MLPConfig, train_config: TrainConfig, train: Dataset, valid: Dataset | None, least: int
) -> None:
    if train_config.batch_size < least:
        raise ValueError("batch norm needs batches of at least 2 examples; got batch_size=1")
    for name, dataset in (("train", train), ("valid", valid)):
        if dataset is None:
            continue
        for part, array in (("x", dataset.x), ("y", dataset.y)):
            if not isinstance(array, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(
                    f"{name}.{part} must be an array, but got {type(array).__name__}: numpy.asarray makes one"
                )
        if dataset.x.ndim != 2 or dataset.x.shape[1] != config.sizes[0]:
            raise ValueError(
                f"{name}.x must have shape [rows, {config.sizes[0]}] as the config says, "
                f"but got {list(dataset.x.shape)}"
            )
        if len(losses.check_labels(dataset.y, config.num_classes)) != len(dataset.x):
            raise ValueError(f"{name} has {len(dataset.x)} rows, but {len(dataset.y)} labels")
    if len(train.y) < least:
        raise ValueError(f"training needs at least {least} examples, but got {len(train.y)}")
    if train.y.min() == train.y.max():
        raise ValueError(f"training needs at least 2 classes, but all labels are {train.y[0]}")
    if valid is not None and len(valid.y) == 0:
        raise ValueError("the validation data have no rows")
    if train_config.tracks_best and valid is None:
        raise ValueError('keep="best" and patience need validation data')
