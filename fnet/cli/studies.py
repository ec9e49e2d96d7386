"""Many runs from one command line, for `fnet sweep` and the scripts that train many networks."""

import argparse
import contextlib
import dataclasses
import functools
import json
import platform
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fnet
from fnet import sweep
from fnet.cli import options, threads
from fnet.cli.data import EMBEDDED, Data, load_data
from fnet.cli.output import write_csv
from fnet.cli.parser import Parser, one_of, unknown
from fnet.cli.presets import LBFGS, PRESETS
from fnet.engine import resolve
from fnet.sweep import Failure, Outcome, Pool, Run, Splits
from fnet.sweep.executors import EXECUTORS

__all__ = [
    "SGD",
    "OptionSource",
    "add_executor_options",
    "changed",
    "circumstances",
    "label",
    "make_run",
    "opened",
    "shown_path",
    "source",
    "text",
    "write_outcomes",
    "write_tensorboard",
]

# Chen & Wu's SGD has momentum and weight decay; they do not give the values.
SGD: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-4}

_ROWS = (
    *("data", "target", "task", "header", "drop", "keep_columns", "categorical", "valid_size", "valid_split"),
    "log_target",
)
_CHANGEABLE = sorted({"layers", *vars(options.defaults())} - {*_ROWS, "test"})


# Where runs are trained -----------------------------------------------------------------------------------------------


def add_executor_options(parser: Parser) -> None:
    add = parser.add_argument_group("execution (the results do not depend on it)").add_argument
    add("--executor", **one_of(*EXECUTORS), default="process")
    add("--jobs", type=threads.number, metavar="N", help="default: all cores")
    add("--scheduler", metavar="ADDRESS", help="tcp://…; default: local")


@contextlib.contextmanager
def opened(args: argparse.Namespace) -> Generator[Pool | None]:
    """Open the pool that the options name; None in an MPI rank that has worked for it.

    Raises:
        ValueError, ImportError, OSError: options do not match, or as for `fnet.sweep.open_pool`.
        KeyboardInterrupt: the message says how to continue.
    """
    if args.scheduler is not None and args.executor != "dask":
        raise ValueError(f"--scheduler needs --executor dask, but got --executor {args.executor}")
    threads.limit(1)
    try:
        with sweep.open_pool(args.executor, jobs=args.jobs, scheduler=args.scheduler) as pool:
            yield pool
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command continues") from None


# Runs -----------------------------------------------------------------------------------------------------------------


class OptionSource(NamedTuple):
    """A `fnet.sweep.Source` of the data that options name."""

    options: str  # JSON

    def __call__(self) -> Splits:
        """Read the data. Each worker does this first, so it is limited to one thread here, for the same bits."""
        threads.limit(1)
        data = self.load()
        assert data.valid is not None
        unit = data.score_unit("squared_error")
        return Splits(data.scaled(data.train), data.scaled(data.valid), data.standardizer, unit)

    @functools.lru_cache(maxsize=4)  # noqa: B019 (a source is small)
    def load(self) -> Data:
        """The data, read once per process."""
        return load_data(argparse.Namespace(**json.loads(self.options), test=None))


def source(args: argparse.Namespace) -> OptionSource:
    """The source of the data that the options name, with an absolute path for other processes.

    Raises:
        ValueError: there are no validation rows, or the options name test data or standard input.
    """
    if args.test is not None:
        raise ValueError("runs are compared on validation rows, not on test data: omit --test")
    if not args.valid_size:
        raise ValueError("runs are compared on validation rows, so --valid-size must not be 0")
    if args.data == "-":
        raise ValueError("every process reads the data, so --data must be a path, not standard input")
    path = args.data if args.data in EMBEDDED else str(Path(args.data).resolve())
    names = {name: getattr(args, name) for name in (*_ROWS, "whitening", "preset")}
    return OptionSource(json.dumps({**names, "data": path}))


def make_run(args: argparse.Namespace, changes: Mapping[str, Any], seed: int) -> Run:
    """Make a run from the options with changes.

    Raises:
        ValueError: as for `changed`, or a value is not allowed; the message names the changes.
    """
    data = source(args).load()
    try:
        new = options.settled(changed(args, changes), data)
        config, train_config = options.model_config(new, data), options.train_config(new)
        return sweep.make_run(source(new), config, train_config, seed=seed, engine=resolve(args.engine))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{label(changes) or 'the options'}: {error}") from None


def changed(args: argparse.Namespace, changes: Mapping[str, Any]) -> argparse.Namespace:
    """The options with changes to the network, the training or the whitening.

    `hidden` is the width of all hidden layers, or their widths as a list or as in "128x64"; `layers` is the number of
    hidden layers of one width. `optimizer="lbfgs"` implies the defaults that `--optimizer lbfgs` has in `fnet train`.

    Raises:
        ValueError: a name is unknown, or `hidden` or `layers` is invalid.
    """
    for name in changes:
        if name not in _CHANGEABLE:
            raise ValueError(unknown("option", name, _CHANGEABLE))
    merged = {**vars(args), **(_lbfgs(args) if changes.get("optimizer") == "lbfgs" else {}), **changes}
    if not isinstance(merged["whitening"], int | float):
        raise ValueError(f"whitening must be a number in [0, 1]; got {merged['whitening']!r}")
    merged["hidden"] = _widths(merged["hidden"], merged.pop("layers", None), len(args.hidden) or 1)
    return argparse.Namespace(**merged)


def _lbfgs(args: argparse.Namespace) -> dict[str, Any]:
    """What L-BFGS brings: all that it cannot do without, and of the rest what the options leave at its default."""
    usual = {**vars(options.defaults()), **PRESETS[args.preset]}
    given = {name for name in ("epochs", "batch_size", "weight_decay") if getattr(args, name) != usual[name]}
    return {name: value for name, value in LBFGS.items() if name not in given}


def _widths(hidden: Any, layers: Any, default_layers: int) -> list[int]:
    """The widths of all hidden layers."""
    widths: list[Any] = [*hidden] if isinstance(hidden, list | tuple) else str(hidden).split("x")
    if not all(str(width).isdecimal() for width in widths):
        raise ValueError(f'hidden must be a width, or widths as in "128x64"; got {text(hidden)}')
    if layers is None and isinstance(hidden, int):
        layers = default_layers
    if layers is None:
        return [int(width) for width in widths]
    if not str(layers).isdecimal() or len(set(widths)) != 1:
        raise ValueError(f"layers={text(layers)} must be a number of layers of one width; hidden is {text(hidden)}")
    return [int(widths[0])] * int(layers)


# What is written ------------------------------------------------------------------------------------------------------


def label(changes: Mapping[str, Any]) -> str:
    """Changes as written on a command line."""
    return " ".join(f"{name}={text(value)}" for name, value in changes.items())


def text(value: Any) -> str:
    """A value as written on a command line."""
    if isinstance(value, list | tuple):
        return "x".join(map(str, value))  # pyright: ignore
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def shown_path(path: str) -> str:
    """The path of data without its folder, for published results."""
    return path if path in EMBEDDED else Path(path).name


def circumstances(args: argparse.Namespace, run: Run) -> str:
    """The origin of the results, in Markdown."""
    data = source(args).load()
    assert data.valid is not None
    return (
        f"- Data: `{data.name}`, {len(data.train.y)} training rows, {len(data.valid.y)} validation rows, "
        f"{data.train.x.shape[1]} features, {data.predicts}; fingerprint `{run.fingerprint}`\n"
        f"- Engine {run.engine}; fnet {fnet.__version__}, NumPy {np.__version__}, Python {platform.python_version()}\n"
    )


def write_outcomes(
    out: Path,
    names: Sequence[str],
    keys: Iterable[Sequence[object]],
    outcomes: Iterable[Outcome | Failure],
    *,
    score: str = "accuracy",
) -> None:
    """Write results.csv, history.csv and timings.csv, which is separate because times are not reproducible.

    Args:
        names, keys: header and cells of the first columns, which identify the outcomes.
        score: the name of the score; only the accuracy comes with a calibration error.
    """
    last = "calibration_error" if score == "accuracy" else None
    results, history, timings = list[list[object]](), list[list[object]](), list[list[object]]()
    for key, outcome in zip(keys, outcomes, strict=True):
        if isinstance(outcome, Failure):
            results.append([*key, *[""] * (5 if last else 4), outcome.error])
            continue
        scores = (outcome.score, outcome.loss, *([outcome.calibration_error] if last else []))
        results.append([*key, *scores, len(outcome.records), outcome.parameters, ""])
        history += [[*key, r.epoch, r.train_loss, r.train_score, r.valid_loss, r.valid_score] for r in outcome.records]
        timings.append([*key, f"{outcome.seconds:.3f}"])
    scores = (score, "loss", *([last] if last else []), "epochs", "parameters", "error")
    write_csv(out / "results.csv", [*names, *scores], results)
    losses = ("epoch", "train_loss", f"train_{score}", "valid_loss", f"valid_{score}")
    write_csv(out / "history.csv", [*names, *losses], history)
    write_csv(out / "timings.csv", [*names, "seconds"], timings)


def write_tensorboard(
    args: argparse.Namespace, names: Sequence[str], runs: Sequence[Run], outcomes: Sequence[Outcome | Failure]
) -> None:
    """Write each finished run to the folder `NAME/seed-SEED` of --tensorboard, if it is given."""
    if args.tensorboard is None:
        return
    from fnet.interop import tensorboard

    data = source(args).load()
    for name, run, outcome in zip(names, runs, outcomes, strict=True):
        if isinstance(outcome, Failure):
            continue
        score = data.score(run.config.loss)
        hparams = {**dataclasses.asdict(run.config), **dataclasses.asdict(run.train_config)}
        tensorboard.write_run(
            args.tensorboard,
            f"{name}/seed-{run.seed}",
            outcome.records,
            hparams={**hparams, "data": data.name, "seed": run.seed, "engine": run.engine},
            score=score,
            matrix=outcome.confusion_matrix or None,
            classes=data.classes,
            title=f"{data.name}: validation rows, {score} {outcome.score:.4f}",
        )
