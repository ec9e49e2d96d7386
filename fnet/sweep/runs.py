"""Runs of a sweep: their description, their training by workers, and the folder of finished runs.

A worker, in any process on any machine, gets a `Run`, reads the data once per process, and returns an `Outcome`. Both
can be pickled.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

import fnet
from fnet import MLPConfig, TrainConfig, metrics
from fnet.checkpoint import write_atomically
from fnet.data import Dataset, Standardizer
from fnet.losses import softmax
from fnet.random import Key
from fnet.sweep.executors import Failure, Pool, map_runs
from fnet.training import EpochRecord, check_configs
from fnet.tree import container

__all__ = ["Outcome", "Run", "Source", "Splits", "content_hash", "estimate", "make_run", "run_all", "train"]

VERSIONS = {"fnet": fnet.__version__, "numpy": np.__version__}


@container
class Splits(NamedTuple):
    """The data of a run: training rows, validation rows, and the scaling of features and targets."""

    train: Dataset
    valid: Dataset
    standardizer: Standardizer
    rmse_unit: float = 1.0  # the divisor of the targets of a regression, which converts an RMSE to their unit


# A source reads the data, once per process. It can be pickled, and equal sources read the same data.
Source: TypeAlias = Callable[[], Splits]


@container
class Run(NamedTuple):
    """Everything that a worker needs to train a network.

    Runs with the same seed use the same key, so that they differ only in their configuration.
    """

    config: MLPConfig
    train_config: TrainConfig
    seed: int
    engine: str  # "numpy" or "numba"
    source: Source
    fingerprint: str  # of the data, when the run was made
    versions: dict[str, str]  # of fnet and NumPy, when the run was made
    seconds: float | None = None  # of processor time, then training stops and the run is evaluated once; None: no limit

    @property
    def description(self) -> dict[str, Any]:
        """Everything that decides the outcome, as JSON."""
        network, training = dataclasses.asdict(self.config), dataclasses.asdict(self.train_config)
        parts = {"network": network, "training": training, "seed": self.seed, "engine": self.engine}
        limit = {} if self.seconds is None else {"seconds": self.seconds}
        return json.loads(json.dumps({**parts, **limit, "data": self.fingerprint, "versions": self.versions}))

    def path(self, folder: Path) -> Path:
        """The file of the outcome in a folder."""
        return folder / f"{content_hash(self.description)}.json"


@container
class Outcome(NamedTuple):
    """The scores of a trained network on the validation rows, and the records of its training."""

    loss: float
    score: float  # accuracy, RMSE or coverage: see `fnet.metrics.score_name`
    calibration_error: float | None  # for classification
    parameters: int
    confusion_matrix: list[list[int]]  # for classification, see `fnet.metrics.confusion_matrix`; otherwise empty
    records: list[EpochRecord]

    @property
    def accuracy(self) -> float:
        """The score of a classifier."""
        return self.score

    @property
    def seconds(self) -> float:
        """The training time in seconds."""
        return sum(record.seconds for record in self.records)


def make_run(
    source: Source, config: MLPConfig, train_config: TrainConfig, *, seed: int = 0, engine: str = "numpy"
) -> Run:
    """Make a run that trains a network on the data of a source.

    Raises:
        ValueError: the configs do not match each other.
    """
    check_configs(config, train_config)
    return Run(config, train_config, seed, engine, source, _read(source)[1], VERSIONS)


@functools.lru_cache(maxsize=8)
def _read(source: Source) -> tuple[Splits, str]:
    """The data of a source and their fingerprint."""
    splits = source()
    scaling = Dataset(np.stack(splits.standardizer), np.zeros(2, np.int64))
    return splits, content_hash([fnet.data.fingerprint(part) for part in (splits.train, splits.valid, scaling)])


def content_hash(value: Any) -> str:
    """A hash of JSON data: 16 hexadecimal digits.

    >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def train(run: Run) -> Outcome:
    """Train a network and evaluate it on the validation rows.

    Raises:
        RuntimeError: this process has different data or versions than the process that made the run.
        ValueError, fnet.NonFiniteLossError: as for `fnet.fit`, or a validation loss is not finite.
    """
    (rows, valid, standardizer, unit), fingerprint = _read(run.source)
    if fingerprint != run.fingerprint:
        raise RuntimeError(f"this worker reads other data: {fingerprint}, not {run.fingerprint}")
    if run.versions != VERSIONS:
        raise RuntimeError(f"this worker has {VERSIONS}, but the sweep was started with {run.versions}")
    config, transform = run.config, partial(fnet.standardize, standardizer)
    fit = partial(fnet.fit, config, run.train_config, rows, engine=run.engine, transform=transform)
    key = fnet.random.key(run.seed)
    if run.seconds is None:
        epochs = fit(valid, key=key)
    else:
        first_key, key = fnet.random.split(key)
        next(fit(key=first_key, yield_every=1))  # a first step compiles, which is not training
        end = time.process_time() + run.seconds
        epochs = fit(key=key, stop=lambda: time.process_time() >= end)
    train_state, record = next(epochs)
    records = [record]
    for train_state, record in epochs:  # noqa: B007 (the last state is what is returned)
        records.append(record)
    params, state = fnet.final_model(train_state, run.train_config)
    evaluation = fnet.evaluate(config, params, state, valid, transform=transform)
    if not all(math.isfinite(loss or 0) for loss in (evaluation.loss, *(record.valid_loss for record in records))):
        raise ValueError("the loss on the validation rows is not finite")
    error, matrix = None, list[list[int]]()
    if config.loss == "cross_entropy":
        error = metrics.expected_calibration_error(softmax(evaluation.logits), valid.y)
        matrix = metrics.confusion_matrix(valid.y, evaluation.logits.argmax(axis=1), config.num_outputs).tolist()
    unit = unit if metrics.score_name(config.loss) == "rmse" else 1.0
    records = [record.in_unit(unit) for record in records]
    return Outcome(evaluation.loss, unit * evaluation.score, error, fnet.num_params(config), matrix, records)


def estimate(run: Run, *, key: Key, limit: float = 0.1) -> float:
    """Estimate the seconds of a run from one evaluation and a few steps, which take at most about `limit` seconds."""
    (rows, valid, standardizer, _), _ = _read(run.source)
    config, train_config, transform = run.config, run.train_config, partial(fnet.standardize, standardizer)
    init_key, key = fnet.random.split(key)
    started = time.perf_counter()
    fnet.evaluate(config, *fnet.init(init_key, config), valid, transform=transform)
    evaluation = time.perf_counter() - started
    steps, started, last = list[float](), time.perf_counter(), 0.0
    epochs = fnet.fit(config, train_config, rows, key=key, engine=run.engine, transform=transform, yield_every=1)
    try:
        for _, record in epochs:
            steps.append(record.seconds - last)
            last = 0.0 if record.finished else record.seconds
            if len(steps) > 2 and time.perf_counter() - started > limit:
                break
    except fnet.NonFiniteLossError:  # the run is short
        return evaluation
    step = float(np.median(steps))  # the first may include a compilation
    steps_per_epoch = 1 if train_config.optimizer == "lbfgs" else math.ceil(len(rows.y) / train_config.batch_size)
    return train_config.epochs * (step * steps_per_epoch + evaluation)


# The folder -----------------------------------------------------------------------------------------------------------


def run_all(
    runs: Sequence[Run], names: Sequence[str], pool: Pool, folder: Path, *, quiet: bool = True
) -> list[Outcome | Failure]:
    """The outcome of each run, from its file in the folder or from a worker. Equal runs are trained once.

    Unless `quiet`, a line with its name is printed for each run that finishes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [run.path(folder) for run in runs]
    outcomes: dict[Path, Outcome | Failure | None] = {}
    missing: list[int] = []
    for i, path in enumerate(paths):
        if path not in outcomes:
            outcomes[path] = _load(path, runs[i])
            missing += [i] * (outcomes[path] is None)
    started, done = time.monotonic(), len(outcomes) - len(missing)
    tasks = map_runs(pool.make_executor, train, [runs[i] for i in missing], in_flight=pool.in_flight)
    for number, (task, outcome) in enumerate(tasks, 1):
        i = missing[task]
        outcomes[paths[i]] = outcome
        if isinstance(outcome, Failure):
            summary = f"failed, {outcome.error}"
        else:
            _save(paths[i], runs[i], outcome)
            score = metrics.score_name(runs[i].config.loss)
            summary = f"{score} {outcome.score:.4f}, loss {outcome.loss:.4f}, {outcome.seconds:.1f} s"
        if not quiet:
            seconds = (time.monotonic() - started) / number * (len(missing) - number)
            left = timedelta(seconds=round(seconds))
            print(f"[{done + number}/{len(outcomes)}] {names[i]}: {summary}; about {left} left", flush=True)
    return [outcome for path in paths if (outcome := outcomes[path]) is not None]


def _save(path: Path, run: Run, outcome: Outcome) -> None:
    content = {"run": run.description, "outcome": outcome._asdict()}
    write_atomically(path, json.dumps({**content, "sha256": content_hash(content)}).encode())


def _load(path: Path, run: Run) -> Outcome | None:
    """Load the outcome in a file; None if the file does not exist or is damaged, which is reported."""
    try:
        content = json.loads(path.read_bytes())
        sha256 = content.pop("sha256")
        if content["run"] == run.description and sha256 == content_hash(content):
            outcome = Outcome(**content["outcome"])
            return outcome._replace(records=[EpochRecord(*record) for record in outcome.records])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    print(f"{path} is damaged: the run is repeated", file=sys.stderr)
    return None
