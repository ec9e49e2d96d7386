"""The job of a run of `fnet train`: everything that decides its outcome, and its environment."""

import argparse
import dataclasses
import platform
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import fnet
from fnet import Dataset, MLPConfig, TrainConfig, model
from fnet.cli import options, threads
from fnet.cli.data import Data, load_data
from fnet.cli.output import json_like
from fnet.data.dataset import sorted_rows
from fnet.engine import resolve
from fnet.nn import Array
from fnet.params import param_shapes
from fnet.training import EpochRecord, check_configs

__all__ = ["Job", "OtherJobError", "check_same_job", "circumstances", "make_job", "member_data", "out_of_fold"]


class OtherJobError(Exception):
    """A checkpoint belongs to another job."""


class Job(NamedTuple):
    """Everything that decides the outcome of a run."""

    config: MLPConfig
    train_config: TrainConfig
    data: Data
    seed: int
    networks: int
    folds: npt.NDArray[np.int64] | None  # [rows] of the training data; the network that does not see the row
    calibrate: bool
    engine: str  # "numpy" or "numba"
    description: dict[str, Any]  # JSON; jobs with the same description give the same model

    @property
    def score(self) -> str:
        """The name of the score of an epoch."""
        return self.data.score(self.config.loss)

    def in_unit(self, record: EpochRecord) -> EpochRecord:
        """A record with its score in the unit of `score`."""
        return record.in_unit(self.data.score_unit(self.config.loss))


def make_job(args: argparse.Namespace) -> Job:
    """The job that the options describe, with its data loaded."""
    data = load_data(args)
    args = options.settled(args, data)
    config, train_config = options.model_config(args, data), options.train_config(args)
    check_configs(config, train_config)
    # A model that cannot be saved is refused before training.
    untrained = (param_shapes(config),)
    whole = model.Model(
        config,
        untrained,
        data.standardizer,
        data.classes,
        encoder=data.encoder,
        target=data.target,
        scale=data.scale,
    )
    model.checked(data.name, whole)
    can_calibrate = config.loss in ("cross_entropy", "pinball")
    if args.calibrate is True and not can_calibrate:
        raise ValueError(f"--calibrate is for classification and quantiles, but the loss is {config.loss!r}: omit it")
    folds = assign_folds(data.train.y, args.folds) if args.folds else None
    engine = resolve(args.engine)
    calibrate = bool(args.calibrate) and can_calibrate and (data.valid is not None or folds is not None)
    splits = {"train": data.train, "valid": data.valid, "test": data.test}
    description = {
        "network": json_like(dataclasses.asdict(config)),
        "training": json_like(dataclasses.asdict(train_config)),
        "seed": args.seed,
        "ensemble": args.ensemble,
        "folds": args.folds,
        "calibrate": calibrate,
        "log_target": args.log_target,
        "engine": engine,
        "standardizer": fnet.data.fingerprint(Dataset(np.stack(data.standardizer), np.zeros(2, np.int64))),
        "data": {
            split: dataset and {"rows": len(dataset.y), "sha256": fnet.data.fingerprint(dataset)}
            for split, dataset in splits.items()
        },
    }
    return Job(
        config, train_config, data, args.seed, args.folds or args.ensemble, folds, calibrate, engine, description
    )


def assign_folds(labels: Array, count: int) -> npt.NDArray[np.int64]:
    """Assign rows to folds at random: `[rows]`, the same for every seed, stratified by class or target.

    Raises:
        ValueError: there are fewer rows than folds, or fewer than 2 folds.
    """
    if not 2 <= count <= len(labels):
        raise ValueError(f"--folds must be from 2 to the number of rows, {len(labels)}, but got {count}")
    order = sorted_rows(labels, fnet.random.permutation(fnet.random.key(0), len(labels)))
    folds = np.empty(len(labels), np.int64)
    folds[order] = np.arange(len(labels)) % count
    return folds


def member_data(job: Job, member: int) -> tuple[Dataset, Dataset | None]:
    """The training and validation data of one network, with scaled targets."""
    train, valid = job.data.train, job.data.valid
    if job.folds is not None:
        train, valid = fnet.data.take(train, np.flatnonzero(job.folds != member)), out_of_fold(job, member)
    return job.data.scaled(train), None if valid is None else job.data.scaled(valid)


def out_of_fold(job: Job, member: int) -> Dataset:
    """The rows that a network does not see."""
    assert job.folds is not None
    return fnet.data.take(job.data.train, np.flatnonzero(job.folds == member))


def circumstances(job: Job, argv: list[str]) -> dict[str, Any]:
    """The environment of a run; the same job in the same environment gives the same bits."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # pyright: ignore
    return {
        "command": shlex.join(["fnet", "train", *argv]),
        "versions": {
            "fnet": fnet.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "blas": f"{blas['name']} {blas['version']}",
        },
        "machine": {"system": platform.platform(), "processor": processor(), "threads": threads.count()},
        "data_summary": list(job.data.remarks),
        "classes": list(job.data.classes),
    }


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def check_same_job(stored: dict[str, Any], job: Job) -> None:
    """Refuse to resume the checkpoint of another job, unless it only has fewer epochs at a constant learning rate.

    Raises:
        OtherJobError: the jobs differ; the message says how.
    """
    differences = {path: values for path, *values in _differing(stored, job.description)}
    epochs = differences.get("training.epochs")
    if epochs is not None and set(differences) == {"training.epochs"}:
        if job.train_config.schedule == "constant":
            return
        raise OtherJobError(
            f"cannot continue to {epochs[1]} epochs: the schedule {job.train_config.schedule} of this run ends after "
            f"{epochs[0]}; only a run with --schedule constant can be extended"
        )
    if differences:
        listed = "; ".join(f"{path} {old!r} in the checkpoint, {new!r} now" for path, (old, new) in differences.items())
        raise OtherJobError(f"cannot resume, since the checkpoint belongs to another run: {listed}")


def _differing(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The paths at which two JSON values differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield from _differing(old.get(name), new.get(name), f"{path}.{name}".lstrip("."))  # pyright: ignore
    elif old != new:
        yield path, old, new
