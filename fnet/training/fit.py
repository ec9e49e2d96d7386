"""Training as a generator of epochs, and as one call.

Everything that a run needs to continue is in `TrainState`, one pytree. The order of the examples is a function of (key,
epoch), and the noise of a step a function of (key, step). A run that stops at any step therefore continues to the same
bits.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fnet import data, metrics, random
from fnet.data import Dataset
from fnet.engine import ALONE, Engine, Processes
from fnet.lbfgs import LBFGSState
from fnet.nn import Array
from fnet.params import MLPConfig, Params, State, check_like, check_params
from fnet.random import Key
from fnet.schedules import Schedule
from fnet.training.config import TrainConfig, check_pair, learning_rate_schedule
from fnet.training.evaluation import Evaluation, evaluate, recompute_state
from fnet.training.examples import Transform, checked_targets, training_examples
from fnet.training.full_batch import FullBatch, check_fixed_loss
from fnet.training.step import (
    NO_TOTALS,
    Best,
    NonFiniteLossError,
    Totals,
    TrainState,
    check_opt_state,
    init_train_state,
    train_state_shapes,
)
from fnet.tree import container

__all__ = ["EpochRecord", "check_configs", "final_model", "fit", "is_finished", "run"]

STATISTICS_ROWS = 8192  # examples for recomputing batch-norm statistics


@container
class EpochRecord(NamedTuple):
    """The metrics of an epoch; partial unless `finished`."""

    epoch: int  # from 1
    step: int  # steps of the whole run so far
    finished: bool
    learning_rate: float | None  # of the last step; None with L-BFGS
    train_loss: float  # mean over the epoch's examples, in training mode, while parameters change; L-BFGS: at the end
    train_score: float  # accuracy, RMSE or coverage: see `fnet.metrics.score_name`
    valid_loss: float | None
    valid_score: float | None
    seconds: float  # training time of this epoch in this process, without evaluation
    gradient: float | None = None  # L-BFGS: the largest absolute element of the gradient, at the end of the epoch
    converged: bool = False  # L-BFGS: the gradient is at most the `tolerance` of the train_config

    @property
    def train_accuracy(self) -> float:
        """The training score of a classifier."""
        return self.train_score

    @property
    def valid_accuracy(self) -> float | None:
        """The validation score of a classifier."""
        return self.valid_score

    def in_unit(self, unit: float) -> EpochRecord:
        """The record with its scores multiplied by a unit, such as the divisor of scaled targets for an RMSE."""
        valid = None if self.valid_score is None else unit * self.valid_score
        return self._replace(train_score=unit * self.train_score, valid_score=valid)


def run(
    config: MLPConfig,
    train_config: TrainConfig,
    train: Dataset,
    valid: Dataset | None = None,
    *,
    key: Key,
    engine: str = "numpy",
    transform: Transform | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> tuple[Params, State, list[EpochRecord]]:
    """Train to the end; return the parameters and the batch-norm state of `final_model`, and the epoch records.

    Arguments and errors are those of `fit`.

    >>> train, test = data.digits()
    >>> config, train_config = MLPConfig(sizes=(64, 32, 10)), TrainConfig(epochs=2)
    >>> params, state, records = run(config, train_config, train, key=random.key(0))
    >>> len(records)
    2
    """
    epochs = fit(
        config, train_config, train, valid, key=key, engine=engine, transform=transform, sample_weight=sample_weight
    )
    train_state, record = next(epochs)
    records = [record]
    for train_state, record in epochs:  # noqa: B007 (the last state is what is returned)
        records.append(record)
    return *final_model(train_state, train_config), records


def fit(
    config: MLPConfig,
    train_config: TrainConfig,
    train: Dataset,
    valid: Dataset | None = None,
    *,
    key: Key,
    train_state: TrainState | None = None,
    engine: str = "numpy",
    transform: Transform | None = None,
    sample_weight: npt.ArrayLike | None = None,
    yield_every: int | None = None,
    stop: Callable[[], bool] | None = None,
    processes: Processes | None = None,
) -> Iterator[tuple[TrainState, EpochRecord]]:
    """Train, and yield the state and a record after each epoch.

    A yielded state is a copy. Passed as `train_state`, it continues the run to the same bits, even from the middle of
    an epoch. With L-BFGS an epoch is one step, and the run ends before the last epoch if L-BFGS has converged.

    Args:
        config, train_config: the architecture and the training configuration.
        train, valid: the data. Validation data are only evaluated, once per epoch.
        key: decides the initial parameters, the order of the examples, all noise, and the examples for recomputing
            batch-norm statistics.
        train_state: the state to start from; None calls `init_train_state`.
        engine: "numpy"; "numba", which is compiled and needs the extra `fast`; or "auto", Numba if it is installed.
            The two agree to rounding.
        transform: a function of the features of a batch, such as `functools.partial(fnet.standardize, standardizer)`.
        sample_weight: weights of the training rows, `[rows]`, not negative; rows with weight 0 are left out.
        yield_every: also yield after every N steps, with a record that is not `finished`.
        stop: a function that is called after each step; when it returns True, `fit` yields the state and returns.
        processes: the processes that share each batch, see `fnet.engine.Processes`; None for a single process.

    Raises:
        NonFiniteLossError: the loss is infinite or not a number; its `train_state` is the last good state.
        TypeError, ValueError: before the first step, data or train_state do not match the configs; in a step, features
            are not finite; at the start of an epoch, a memory-mapped file was truncated.
        ImportError: the engine is not installed.
    """
    check_configs(config, train_config)
    if yield_every is not None and yield_every < 1:
        raise ValueError(f"yield_every must be at least 1 step, but got {yield_every}")
    min_size = 2 if config.batch_norm and config.hidden_sizes else 1
    examples = training_examples(config, train_config, train, sample_weight, transform, processes or ALONE, min_size)
    if valid is not None:
        checked_targets("valid", config, valid)
    elif train_config.tracks_best:
        raise ValueError('keep="best" and patience need validation data')
    chunks = data.batch_slices(len(examples.used), train_config.batch_size, min_size=min_size)
    whole = train_config.optimizer == "lbfgs"
    slices = [slice(0, len(examples.used))] if whole else chunks  # of the examples, for each step
    if train_config.total_steps is None:
        train_config = dataclasses.replace(train_config, total_steps=len(slices) * train_config.epochs)
    init_key, order_key, step_key, statistics_key = random.split(key, 4)
    if train_state is None:
        train_state = init_train_state(init_key, config, train_config)
    else:
        _check_train_state(config, train_config, train_state, len(slices))
    largest = max(part.stop - part.start for part in chunks)
    network = Engine(config, train_config, largest, engine, examples.processes)
    everything = FullBatch(network, examples, chunks) if whole else None
    memory: Any = everything or network  # what a state is loaded into and unloaded from

    def take_step(rows: Array, step: int) -> tuple[float, float]:
        """The loss and the sum of the scores."""
        if everything:
            return everything.step()
        x, targets, weights = examples.batch(rows)
        return network.step(x, targets, weights, step_key, step, len(rows))

    def steps(train_state: TrainState, order: Array, position: int) -> tuple[TrainState, int, bool]:
        """Steps until the epoch ends, a state is due or `stop` says so: the state, the position, whether to stop."""
        memory.load(train_state.params, train_state.state, train_state.opt_state)
        stopping, step = False, int(train_state.step)
        losses_sum, scores_sum, count = (total.item() for total in train_state.totals)

        def unload() -> TrainState:
            params, state, opt_state = memory.unload()
            totals = Totals(np.float64(losses_sum), np.float64(scores_sum), np.int64(count))
            return train_state._replace(
                params=params, state=state, opt_state=opt_state, totals=totals, step=np.int64(step)
            )

        while position < len(slices) and not stopping:
            rows = order[slices[position]]
            loss, score = take_step(rows, step)
            if not math.isfinite(loss):
                raise NonFiniteLossError(loss, step + 1, int(train_state.epoch) + 1, unload())
            losses_sum, scores_sum, count = losses_sum + loss * len(rows), scores_sum + score, count + len(rows)
            position, step = position + 1, step + 1
            stopping = stop is not None and stop()
            if yield_every is not None and step % yield_every == 0:
                break
        return unload(), position, stopping

    def epochs(train_state: TrainState) -> Iterator[tuple[TrainState, EpochRecord]]:
        rate = None if whole else learning_rate_schedule(train_config)
        # Random rows, since the data may be sorted.
        statistics_rows = examples.used[random.permutation(statistics_key, len(examples.used))[:STATISTICS_ROWS]]
        stopping = False
        while not stopping and not is_finished(train_state, train_config):
            for dataset in (train, valid):
                if dataset is not None:
                    data.check_mapped(dataset)
            epoch, seconds = int(train_state.epoch), 0.0
            order = examples.used
            if not whole:
                order = order[random.permutation(random.fold_in(order_key, epoch), len(order))]
            position = int(train_state.step) - epoch * len(slices)
            if position == 0:
                train_state = train_state._replace(totals=NO_TOTALS)
            while position < len(slices):
                started = time.perf_counter()
                with np.errstate(over="ignore", invalid="ignore"):  # overflow is detected in the loss
                    train_state, position, stopping = steps(train_state, order, position)
                seconds += time.perf_counter() - started
                if position < len(slices):
                    yield train_state, _record(config, train_config, train_state, rate, seconds)
                    if stopping:
                        return
            if train_config.recompute_statistics:
                x, _, _ = examples.batch(statistics_rows, shared=False)
                train_state = train_state._replace(state=recompute_state(config, train_state.params, x))
            train_state = train_state._replace(epoch=train_state.epoch + 1)
            record = _record(config, train_config, train_state, rate, seconds, finished=True)
            if valid is not None:
                evaluation = evaluate(config, train_state.params, train_state.state, valid, transform=transform)
                record = record._replace(valid_loss=evaluation.loss, valid_score=evaluation.score)
                train_state = _keep_best(train_config, train_state, evaluation)
            yield train_state, record
            stopping = stopping or (stop is not None and stop())

    return epochs(train_state)


def is_finished(train_state: TrainState, train_config: TrainConfig) -> bool:
    """Whether all epochs are done, `patience` epochs have passed without improvement, or L-BFGS cannot go on."""
    epoch, best, patience = int(train_state.epoch), train_state.best, train_config.patience
    if patience is not None and best is not None and epoch - int(best.epoch) >= patience:
        return True
    opt_state = train_state.opt_state
    if isinstance(opt_state, LBFGSState) and (opt_state.failed or _gradient(opt_state) <= train_config.tolerance):
        return True
    return epoch >= train_config.epochs


def final_model(train_state: TrainState, train_config: TrainConfig) -> tuple[Params, State]:
    """The parameters and batch-norm state that are the result of a run: the best or the last, as configured."""
    if train_config.keep == "best" and train_state.best is not None and train_state.best.epoch:
        return train_state.best.params, train_state.best.state
    return train_state.params, train_state.state


def _gradient(opt_state: LBFGSState) -> float:
    return float(np.abs(opt_state.grads).max())


def _record(
    config: MLPConfig,
    train_config: TrainConfig,
    train_state: TrainState,
    rate: Schedule | None,
    seconds: float,
    *,
    finished: bool = False,
) -> EpochRecord:
    totals, step, opt_state = train_state.totals, int(train_state.step), train_state.opt_state
    gradient = _gradient(opt_state) if isinstance(opt_state, LBFGSState) else None
    return EpochRecord(
        epoch=int(train_state.epoch) + (not finished),
        step=step,
        finished=finished,
        learning_rate=None if rate is None else rate(step - 1),
        train_loss=float(totals.loss / totals.count),
        train_score=metrics.mean_score(config.loss, float(totals.score), int(totals.count)),
        valid_loss=None,
        valid_score=None,
        seconds=seconds,
        gradient=gradient,
        converged=gradient is not None and gradient <= train_config.tolerance,
    )


def _keep_best(train_config: TrainConfig, train_state: TrainState, evaluation: Evaluation) -> TrainState:
    if train_state.best is None:
        return train_state
    value = np.float64(evaluation.loss if train_config.monitor == "loss" else -evaluation.score)
    if not value < train_state.best.value:
        return train_state
    return train_state._replace(best=Best(train_state.params, train_state.state, value, train_state.epoch))


# Checks ---------------------------------------------------------------------------------------------------------------


def check_configs(config: MLPConfig, train_config: TrainConfig) -> None:
    """Raise a TypeError or ValueError if the two configurations do not match."""
    check_pair(config, train_config)
    if config.batch_norm and config.hidden_sizes and train_config.batch_size < 2:
        raise ValueError("batch norm needs batches of at least 2 examples; got batch_size=1")
    if train_config.optimizer == "lbfgs":
        check_fixed_loss(config)
    if config.loss != "cross_entropy":
        for name, default in (("label_smoothing", 0.0), ("class_weight", None), ("monitor", "loss")):
            if getattr(train_config, name) != default:
                raise ValueError(
                    f"{name}={getattr(train_config, name)!r} is for classification, but the loss is {config.loss!r}"
                )


def _check_train_state(
    config: MLPConfig, train_config: TrainConfig, train_state: TrainState, steps_per_epoch: int
) -> None:
    if not isinstance(train_state, TrainState):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"train_state must be a TrainState from fit, not {type(train_state).__name__}; for "
            "parameters alone: init_train_state(key, config, train_config)._replace(params=…, state=…)"
        )
    check_params(config, train_state.params, train_state.state)
    check_opt_state(train_config, train_state)
    expected = train_state_shapes(config, train_config).opt_state
    for name, want, value in zip(expected._fields, expected, train_state.opt_state, strict=True):
        check_like(f"opt_state.{name}", want, value, config)
    step, epoch = int(train_state.step), int(train_state.epoch)
    if not 0 <= step - epoch * steps_per_epoch <= steps_per_epoch:
        raise ValueError(
            f"train_state has {step} steps in {epoch} epochs, but an epoch here has {steps_per_epoch}: it was trained "
            "with another batch_size or on other data. To train its parameters further, put them into a new state: "
            "init_train_state(key, config, train_config)._replace(params=…, state=…)"
        )
    if train_config.tracks_best and train_state.best is None:
        raise ValueError('keep="best" and patience need a train_state that was initialized with them')
