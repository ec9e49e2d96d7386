"""The runs of a sweep: what one is, how a worker trains it, and the folder that keeps those which are finished.

A worker, in whatever process or on whatever machine, gets a `Run`, reads the data from their path, once in a process,
and gives back an outcome as plain data.
"""

import _threads  # noqa: F401, I001  # before NumPy

import argparse
import contextlib
import dataclasses
import functools
import json
import math
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import _options
import numpy as np
from _options import Data

import fnet
from fnet import EpochRecord, MLPConfig, TrainConfig, metrics
from fnet.checkpoint import write_atomically
from fnet.interop import tensorboard
from fnet.sweep import Failure, content_hash, map_runs

Outcome = dict[str, Any]  # what `train` returns

# The report's SGD has momentum and weight decay; it does not say how much.
SGD: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-4}


class Source(NamedTuple):
    """Where the data are and how the validation rows are taken from them: for all runs the same."""

    data: str
    label: str | None
    valid_size: float | int
    valid_split: str


class Engine(NamedTuple):
    """What has the runs done: see `fnet.sweep.map_runs`."""

    make: Callable[[], Executor]
    in_flight: int


class Run(NamedTuple):
    """All that a worker needs to know."""

    source: Source
    fingerprint: str  # of the data, as they are where the run was described
    versions: dict[str, str]  # of fnet and NumPy there
    options: dict[str, Any]  # of scripts/train.py, all of the network and the training
    seed: int


# Describing -----------------------------------------------------------------------------------------------------------


def source(args: argparse.Namespace) -> Source:
    """The data that the options name, by a path that other processes understand.

    Raises:
        ValueError: no validation rows.
    """
    if not args.valid_size:
        raise ValueError("runs are compared on validation rows, so --valid-size must not be 0")
    path = args.data if args.data in ("digits", "synthetic") else str(Path(args.data).resolve())
    return Source(path, args.label, args.valid_size, args.valid_split)


@functools.lru_cache(maxsize=1)
def load(source: Source) -> tuple[Data, str]:
    """The data and their fingerprint, read once in a process."""
    data = _options.load_data(_options.defaults(**source._asdict(), test=None))
    assert data.valid is not None
    return data, content_hash([fnet.data.fingerprint(split) for split in (data.train, data.valid)])


@functools.lru_cache(maxsize=8)
def standardizer(source: Source, power: float) -> fnet.Standardizer:
    return fnet.fit_standardizer(load(source)[0].train.x, power=power)


def default_options() -> dict[str, Any]:
    """The options of the network and the training, and the power of the standardizer: what a run can change."""
    parser = argparse.ArgumentParser()
    _options.add_model_options(parser)
    _options.add_training_options(parser)
    options = {"power": 1.0, **vars(parser.parse_args([]))}
    return {name: value for name, value in options.items() if name not in ("seed", "threads")}


def describe(source: Source, base: Mapping[str, Any], changes: Mapping[str, Any], seed: int) -> Run:
    """The run of some options with changes.

    `hidden` is the width of all hidden layers, or a list of widths, as a list or as in "128x64"; `layers` is their
    number, where they have one width.

    Raises:
        ValueError: a name that is none, or a value that is not allowed.
    """
    data, fingerprint = load(source)
    try:
        run = Run(source, fingerprint, versions(), combine(base, changes), seed)
        configs(run, data)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{label(changes) or 'the options'}: {error}") from None
    return run


def label(changes: Mapping[str, Any]) -> str:
    """Changes as a text, as they are written on a command line."""
    return " ".join(f"{name}={text(value)}" for name, value in changes.items())


def text(value: Any) -> str:
    """A value as it is written on a command line."""
    if isinstance(value, list | tuple):
        return "x".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def combine(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The options with changes, checked but for what the configs check."""
    defaults = default_options()
    for name, value in changes.items():
        if name not in defaults and name != "layers":
            raise ValueError(f"there is no option {name!r}; there are layers, {', '.join(sorted(defaults))}")
        default, number = defaults.get(name), isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(default, bool) and not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false; got {value!r}")
        if isinstance(default, int | float) and not isinstance(default, bool) and not number:
            raise ValueError(f"{name} must be a number; got {value!r}")
    options = {**{name: base[name] for name in defaults}, **changes}
    options["hidden"] = widths(options["hidden"], options.pop("layers", None), len(base["hidden"]) or 1)
    if not 0 <= options["power"] <= 1:
        raise ValueError(f"power must be in [0, 1]; got {options['power']!r}")
    return options


def widths(hidden: Any, layers: Any, default_layers: int) -> list[int]:
    """The widths of all hidden layers."""
    if isinstance(hidden, str):
        if not all(part.isdecimal() for part in hidden.split("x")):
            raise ValueError(f'hidden must be a width, or widths as in "128x64"; got {hidden!r}')
        hidden = [int(part) for part in hidden.split("x")]
    if layers is not None and (not isinstance(layers, int) or isinstance(layers, bool) or layers < 0):
        raise ValueError(f"layers must be an integer of at least 0; got {layers!r}")
    if not isinstance(hidden, list | tuple):
        return [hidden] * (default_layers if layers is None else layers)
    if layers is None:
        return list(hidden)
    if len(set(hidden)) != 1:
        raise ValueError(f"layers={layers} needs one width for all, but hidden is {text(hidden)}")
    return [hidden[0]] * layers


def versions() -> dict[str, str]:
    return {"fnet": fnet.__version__, "numpy": np.__version__}


def configs(run: Run, data: Data) -> tuple[MLPConfig, TrainConfig]:
    options = argparse.Namespace(**run.options)
    return _options.model_config(options, data), _options.train_config(options)


def content(run: Run) -> dict[str, Any]:
    """All that decides the outcome, and nothing else, as JSON."""
    config, train_config = configs(run, load(run.source)[0])
    description = {
        "network": dataclasses.asdict(config),
        "training": dataclasses.asdict(train_config),
        "power": run.options["power"],
        "seed": run.seed,
        "data": run.fingerprint,
        "versions": run.versions,
    }
    return json.loads(json.dumps(description))


def circumstances(data: Data, fingerprint: str) -> list[str]:
    """Lines of a report: from what its results come."""
    assert data.valid is not None
    return [
        f"- Data: `{data.name}`, {len(data.train.y)} rows to train on, {len(data.valid.y)} validation rows, "
        f"{data.train.x.shape[1]} features, {len(data.classes)} classes; fingerprint `{fingerprint}`",
        f"- Versions: fnet {fnet.__version__}, NumPy {np.__version__}, Python {platform.python_version()}",
    ]


def command(argv: Sequence[str], without: Sequence[str]) -> str:
    """The command of this process without options (of one value) that change no result, and without folders."""
    words, skip = list[str](), False
    for argument in argv:
        name, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        if skip or name in without:
            skip = not skip and not equals
        elif argument != "--quiet":
            words.append(name + equals + (Path(value).name if "/" in value else value))
    return shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *words])


# Training -------------------------------------------------------------------------------------------------------------


def train(run: Run) -> Outcome:
    """Train one network and look at it on the validation rows.

    Raises:
        RuntimeError: this process has other data or versions than the one that described the run.
        ValueError, fnet.NonFiniteLossError: as `fnet.fit`, or a loss on the validation rows that is not finite.
    """
    data, fingerprint = load(run.source)
    if fingerprint != run.fingerprint:
        raise RuntimeError(f"{run.source.data} holds other data for this worker: {fingerprint}, not {run.fingerprint}")
    if versions() != run.versions:
        raise RuntimeError(f"this worker has {versions()}, but the sweep was started with {run.versions}")
    config, train_config = configs(run, data)
    data = data._replace(standardizer=standardizer(run.source, run.options["power"]))
    key = fnet.random.key(run.seed)
    train_state, epochs = fnet.init_train_state(key, config, train_config), list[EpochRecord]()
    for train_state, record in fnet.fit(  # noqa: B007
        config, train_config, data.train, data.valid, key=key, transform=data.transform
    ):
        epochs.append(record)
    assert data.valid is not None
    params, state = fnet.final_model(train_state, train_config)
    evaluation = fnet.evaluate(config, params, state, data.valid, transform=data.transform)
    if not all(math.isfinite(record.valid_loss or 0) for record in epochs):
        raise ValueError("the loss on the validation rows is not finite")
    matrix = metrics.confusion_matrix(data.valid.y, evaluation.logits.argmax(axis=1), config.num_classes)
    return {
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy,
        "parameters": fnet.num_params(config),
        "records": [list(record) for record in epochs],
        "confusion_matrix": matrix.tolist(),
    }


def records(outcome: Outcome) -> list[EpochRecord]:
    """The epochs of an outcome."""
    return [EpochRecord(*record) for record in outcome["records"]]


def seconds(outcome: Outcome) -> float:
    """Of training."""
    return sum(record.seconds for record in records(outcome))


def estimate(run: Run, *, limit: float = 0.1) -> float:
    """About how many seconds the run takes, from its first steps and one look at the validation rows."""
    data, _ = load(run.source)
    config, train_config = configs(run, data)
    key = fnet.random.key(run.seed)
    assert data.valid is not None
    started = time.perf_counter()
    fnet.evaluate(config, *fnet.init(key, config), data.valid, transform=data.transform)
    evaluation = time.perf_counter() - started
    epochs = fnet.fit(config, train_config, data.train, key=key, transform=data.transform, every=1)
    started, spent, steps = time.perf_counter(), 0.0, 1
    with contextlib.suppress(fnet.NonFiniteLossError):  # then it is a short run
        for _, record in epochs:
            spent, steps = record.seconds, record.step
            if record.finished or time.perf_counter() - started > limit:
                break
    epoch = spent / steps * math.ceil(len(data.train.y) / train_config.batch_size)
    return train_config.epochs * (epoch + evaluation)


# Running --------------------------------------------------------------------------------------------------------------


def run_all(
    runs: Sequence[Run], names: Sequence[str], engine: Engine, folder: Path, *, quiet: bool
) -> list[Outcome | Failure]:
    """The outcome of each run, from its file in the folder or from a worker; of equal runs one is trained."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = [content(run) for run in runs]
    ids = [content_hash(description) for description in contents]
    found: dict[str, Outcome | Failure] = {}
    missing: dict[str, int] = {}
    for i, run_id in enumerate(ids):
        if run_id in found or run_id in missing:
            continue
        outcome = read(folder / f"{run_id}.json", contents[i])
        if outcome is None:
            missing[run_id] = i
        else:
            found[run_id] = outcome
    wanted = list(missing.values())
    with progress(len(found), len(found) + len(missing), quiet) as show:
        for task, outcome in map_runs(engine.make, train, [runs[i] for i in wanted], in_flight=engine.in_flight):
            i = wanted[task]
            if not isinstance(outcome, Failure):
                write(folder / f"{ids[i]}.json", contents[i], outcome)
            found[ids[i]] = outcome
            show(f"{names[i]}: {summary(outcome)}")
    return [found[run_id] for run_id in ids]


def is_finished(run: Run, folder: Path) -> bool:
    """Whether the run has a file in the folder."""
    return (folder / f"{content_hash(content(run))}.json").exists()


def summary(outcome: Outcome | Failure) -> str:
    if isinstance(outcome, Failure):
        return f"failed, {outcome.error}"
    return f"accuracy {outcome['accuracy']:.4f}, loss {outcome['loss']:.4f}, {seconds(outcome):.1f} s"


def write(path: Path, description: dict[str, Any], outcome: Outcome) -> None:
    whole = {"run": description, "outcome": outcome}
    write_atomically(path, json.dumps({**whole, "sha256": content_hash(whole)}).encode())


def read(path: Path, description: dict[str, Any]) -> Outcome | None:
    """The outcome in a file; None where there is no file, or a damaged one, which is named."""
    try:
        stored = json.loads(path.read_bytes())
        sha256 = stored.pop("sha256")
        if stored["run"] == description and sha256 == content_hash(stored):
            return stored["outcome"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    print(f"{path} is damaged: its run is made again", file=sys.stderr)
    return None


@contextlib.contextmanager
def progress(done: int, total: int, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A function that shows a finished run: one bar over all in a terminal, a line for each elsewhere."""
    if quiet or done == total:
        yield lambda line: None
        return
    if sys.stdout.isatty():
        try:
            from tqdm import tqdm
        except ImportError:
            raise ImportError(
                'the progress bar needs tqdm: python -m pip install "fnet[train]", or use --quiet'
            ) from None
        with tqdm(total=total, initial=done, unit="run", file=sys.stdout) as bar:

            def advance(line: str) -> None:
                bar.write(line, file=sys.stdout)
                bar.update()

            yield advance
        return
    started, first = time.monotonic(), done

    def show(line: str) -> None:
        nonlocal done
        done += 1
        left = (time.monotonic() - started) / (done - first) * (total - done)
        print(f"[{done}/{total}] {line}; about {duration(left)} left", flush=True)

    yield show


def duration(seconds: float) -> str:
    """As 45 s, 12 min or 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def write_tensorboard(
    directory: Path | None, names: Sequence[str], runs: Sequence[Run], outcomes: Sequence[Outcome | Failure]
) -> None:
    """Each finished run as a subfolder of a directory of TensorBoard's, if there is one: `NAME/seed-SEED`."""
    if directory is None:
        return
    for name, run, outcome in zip(names, runs, outcomes, strict=True):
        if isinstance(outcome, Failure):
            continue
        data, _ = load(run.source)
        config, train_config = configs(run, data)
        hparams = {**dataclasses.asdict(config), **dataclasses.asdict(train_config)}
        tensorboard.write_run(
            directory,
            f"{name}/seed-{run.seed}",
            records(outcome),
            hparams={**hparams, "power": run.options["power"], "data": data.name, "seed": run.seed},
            matrix=outcome["confusion_matrix"],
            classes=data.classes,
            title=f"{data.name}: validation rows, accuracy {outcome['accuracy']:.4f}",
        )


# Tables ---------------------------------------------------------------------------------------------------------------


def mean_and_spread(values: Sequence[float], places: int, scale: float = 1.0) -> str:
    """The mean, and the standard deviation where there is one."""
    array = scale * np.asarray(values, np.float64)
    spread = f" ± {array.std(ddof=1):.{places}f}" if len(array) > 1 else ""
    return f"{array.mean():.{places}f}{spread}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)
