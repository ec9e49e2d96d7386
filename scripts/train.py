"""Train a classifier, show how it goes, and write all that there is to know about the run to a folder.

    python scripts/train.py                             the report's best model on the embedded digits
    python scripts/train.py --data PATH --valid-size 0.1

Writes config.json, history.csv, metrics.json, report.txt, predictions.csv, model.npz and, with matplotlib,
accuracy.png, loss.png and confusion_matrix.png. The same command with the same seed writes the same model, byte for
byte. Interrupted, it saves a checkpoint, and --resume goes on from there to the same bits.
"""

import _threads  # noqa: I001  # before NumPy

import argparse
import contextlib
import csv
import dataclasses
import io
import json
import os
import platform
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import _options
import fnet
from _options import Data
from fnet import EpochRecord, MLPConfig, TrainConfig, TrainState, checkpoint, metrics, model
from fnet.checkpoint import write_atomically
from fnet.model import Model


class Job(NamedTuple):
    """All that decides the outcome of a run."""

    config: MLPConfig
    train_config: TrainConfig
    data: Data
    seed: int
    ensemble: int

    def describe(self) -> dict[str, Any]:
        """As JSON: two jobs with the same description give the same model."""
        data = self.data
        splits = {"train": data.train, "valid": data.valid, "test": data.test}
        return {
            "network": json_like(dataclasses.asdict(self.config)),
            "training": json_like(dataclasses.asdict(self.train_config)),
            "seed": self.seed,
            "ensemble": self.ensemble,
            "standardizer": fnet.data.fingerprint(fnet.Dataset(np.stack(data.standardizer), np.zeros(2, np.int64))),
            "data": {
                split: dataset and {"rows": len(dataset.y), "sha256": fnet.data.fingerprint(dataset)}
                for split, dataset in splits.items()
            },
        }


class Processes(NamedTuple):
    """The processes that share each batch, and how they speak to each other."""

    rank: int
    size: int
    sum: fnet.nn.Reduce  # of an array over all processes
    any: Callable[[bool], bool]  # whether it is True in one of them


class Trained(NamedTuple):
    """One trained network, and how its training went."""

    train_state: TrainState
    records: list[EpochRecord]


class InterruptedRunError(Exception):
    """A signal came; the state has been saved."""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--preset", choices=tuple(_options.PRESETS), default="report")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default runs/<time>-<data>")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--ensemble", type=int, default=1, metavar="N", help="train N networks, average probabilities")
    parser.add_argument(
        "--checkpoint-every", type=checkpoint_interval, metavar="STEPS|epoch", help="save to go on from"
    )
    parser.add_argument(
        "--mpi", action="store_true", help="share each batch: mpiexec -n N python scripts/train.py --mpi"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out, if any")
    _options.add_data_options(parser)
    _options.add_model_options(parser)
    _options.add_training_options(parser)
    args = _options.parse(parser, argv)
    if args.resume and args.out is None:
        parser.error("--resume needs --out DIR, the folder of the run to go on with")
    if args.ensemble < 1:
        parser.error(f"--ensemble must be at least 1, but got {args.ensemble}")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        processes = mpi_processes() if args.mpi else Processes(0, 1, fnet.nn.identity, bool)
        data = _options.load_data(args)
        job = Job(_options.model_config(args, data), _options.train_config(args), data, args.seed, args.ensemble)
        out = args.out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{data.name}"
        if processes.rank == 0:
            prepare_folder(out, job, resume=args.resume)
        else:
            args.quiet = True
        with interruptible() as caught:
            trained = [train_member(args, job, i, out, processes, caught) for i in range(job.ensemble)]
    except InterruptedRunError as interruption:
        print(interruption, file=sys.stderr)
        return 130
    except fnet.NonFiniteLossError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except (OSError, ValueError, TypeError, ImportError, OtherJobError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if processes.rank == 0:
        write_results(args, job, out, trained)
    return 0


def mpi_processes() -> Processes:
    """The processes that mpiexec has started."""
    try:
        from mpi4py import MPI
    except ImportError:
        raise ImportError('--mpi needs mpi4py: python -m pip install "fnet[mpi]"') from None
    world = MPI.COMM_WORLD

    def sum_over(array: fnet.nn.Array) -> fnet.nn.Array:
        total = np.empty_like(array)
        world.Allreduce(np.ascontiguousarray(array), total)
        return total

    return Processes(world.rank, world.size, sum_over, lambda flag: world.allreduce(flag, MPI.LOR))


# Training -------------------------------------------------------------------------------------------------------------


def train_member(
    args: argparse.Namespace, job: Job, member: int, out: Path, processes: Processes, caught: Callable[[], bool]
) -> Trained:
    """Train one network of the ensemble, from its newest checkpoint if it has one."""
    config, train_config, data = job.config, job.train_config, job.data
    key = fnet.random.key(job.seed)
    if job.ensemble > 1:
        key = fnet.random.fold_in(key, member)
    folder = out / "checkpoints" / f"member-{member}"
    train_state, records = fnet.init_train_state(key, config, train_config), list[EpochRecord]()
    resumed = resume(folder, job, train_state, key) if args.resume else None
    if resumed is not None:
        train_state, records = resumed
    epochs = fnet.fit(
        config,
        train_config,
        data.train,
        data.valid,
        key=key,
        train_state=None if resumed is None else train_state,
        transform=data.transform,
        every=args.checkpoint_every or None,
        stop=lambda: processes.any(caught()),
        reduce=processes.sum,
        shard=(processes.rank, processes.size),
    )

    def save() -> None:
        if processes.rank:
            return
        metadata = {"job": job.describe(), "records": [list(record) for record in records]}
        checkpoint.save_step(folder, int(train_state.step), (train_state, key), metadata=metadata)

    title = f"network {member + 1} of {job.ensemble}" if job.ensemble > 1 else ""
    try:
        with display(args, title, train_config.epochs, len(records)) as show:
            for train_state, record in epochs:  # noqa: B007
                if record.finished:
                    records.append(record)
                    show(record)
                if args.checkpoint_every is not None:
                    save()
    except fnet.NonFiniteLossError as error:
        train_state = error.train_state
        save()
        raise
    if not fnet.is_finished(train_state, train_config):
        save()
        raise InterruptedRunError(f"interrupted at step {int(train_state.step)}; to go on: {resume_command(out)}")
    if job.ensemble > 1 and args.checkpoint_every is not None:
        save()
    return Trained(train_state, records)


def resume(
    folder: Path, job: Job, like: TrainState, key: fnet.random.Key
) -> tuple[TrainState, list[EpochRecord]] | None:
    """The state and the records in the newest good checkpoint, if there is one and it is of this job."""

    def read(path: Path) -> tuple[dict[str, Any], tuple[TrainState, fnet.random.Key]]:
        metadata = checkpoint.load_metadata(path)
        check_same_job(metadata["job"], job.describe())
        return metadata, checkpoint.load(path, (like, key))

    found = checkpoint.load_newest(folder, read)
    if found is None:
        return None
    metadata, (train_state, _) = found
    return train_state, [EpochRecord(*record) for record in metadata["records"]]


class OtherJobError(Exception):
    """A checkpoint is of another job."""


def checkpoint_interval(text: str) -> int:
    """A number of steps; 0 stands for every epoch."""
    if text == "epoch":
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a number of steps or "epoch", but got {text!r}')
    return int(text)


def check_same_job(stored: Any, current: Any) -> None:
    differences = [f"  {path}: {old!r} in the checkpoint, {new!r} now" for path, old, new in differing(stored, current)]
    if differences:
        raise OtherJobError("cannot resume, since the run was another one:\n" + "\n".join(differences))


def differing(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The paths at which two JSON values differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({**old, **new}):
            yield from differing(old.get(name), new.get(name), f"{path}.{name}".lstrip("."))
    elif old != new:
        yield path, old, new


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a flag, so that a step is finished and saved; a second one ends at once."""
    caught: list[int] = []

    def catch(number: int, frame: Any) -> None:
        caught.append(number)
        for name, handler in old.items():
            signal.signal(name, handler)

    old = {name: signal.signal(name, catch) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for name, handler in old.items():
            signal.signal(name, handler)


def resume_command(out: Path) -> str:
    arguments = [argument for argument in sys.argv if argument != "--resume"]
    if "--out" not in arguments and not any(a.startswith("--out=") for a in arguments):
        arguments += ["--out", str(out)]
    return shlex.join(["python", *arguments, "--resume"])


# What is shown while it trains ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def display(args: argparse.Namespace, title: str, epochs: int, done: int) -> Iterator[Callable[[EpochRecord], None]]:
    """A function that shows a finished epoch: a line, and in a terminal a progress bar below the lines."""
    if args.quiet:
        yield lambda record: None
        return
    if title:
        print(title, flush=True)
    print(" epoch  train loss  accuracy  valid loss  accuracy  learning rate  seconds", flush=True)
    if not sys.stdout.isatty():
        yield lambda record: print(epoch_line(record), flush=True)
        return
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError('the progress bar needs tqdm: python -m pip install "fnet[train]", or use --quiet') from None
    with tqdm(total=epochs, initial=done, unit="epoch", file=sys.stdout) as bar:

        def show(record: EpochRecord) -> None:
            bar.write(epoch_line(record), file=sys.stdout)
            bar.update()

        yield show


def epoch_line(record: EpochRecord) -> str:
    def number(value: float | None, places: int) -> str:
        return "-" if value is None else f"{value:.{places}f}"

    return (
        f"{record.epoch:>6}{record.train_loss:>12.4f}{record.train_accuracy:>10.4f}"
        f"{number(record.valid_loss, 4):>12}{number(record.valid_accuracy, 4):>10}"
        f"{record.learning_rate:>15.3g}{record.seconds:>9.2f}"
    )


# What is written ------------------------------------------------------------------------------------------------------


def prepare_folder(out: Path, job: Job, *, resume: bool) -> None:
    """Make the folder and write config.json; refuse one with an unfinished run, which would be lost."""
    unfinished = (out / "checkpoints").is_dir() and not (out / "metrics.json").exists()
    if unfinished and not resume:
        raise ValueError(f"{out} holds an unfinished run: add --resume to go on with it, or remove it")
    out.mkdir(parents=True, exist_ok=True)
    if resume:
        return
    for old in (out / "checkpoints").glob("member-*/step-*.npz"):
        old.unlink()
    write_json(out / "config.json", {**job.describe(), **circumstances(job)})


def circumstances(job: Job) -> dict[str, Any]:
    """Where and with what the run is made: the same bits are promised where these are the same."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # pyright: ignore
    return {
        "command": shlex.join(["python", *sys.argv]),
        "versions": {
            "fnet": fnet.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "blas": f"{blas['name']} {blas['version']}",
        },
        "machine": {
            "system": platform.platform(),
            "processor": processor(),
            "threads": {name: os.environ.get(name) for name in _threads.VARIABLES},
        },
        "classes": list(job.data.classes),
    }


def processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def write_results(args: argparse.Namespace, job: Job, out: Path, trained: list[Trained]) -> None:
    """Evaluate the trained network or ensemble on every split, and write and print all results."""
    data = job.data
    classifier = Model(
        job.config,
        tuple(fnet.final_model(t.train_state, job.train_config) for t in trained),
        data.standardizer,
        data.classes,
        provenance={
            "training": json_like(dataclasses.asdict(job.train_config)),
            "seed": job.seed,
            "epochs": [len(t.records) for t in trained],
            "data": {"name": data.name, "rows": len(data.train.y)},
            "versions": {"fnet": fnet.__version__, "numpy": np.__version__},
        },
    )
    model.save(out / "model.npz", classifier)
    splits = {"train": data.train, "valid": data.valid, "test": data.test}
    probabilities = {
        split: model.predict_proba(classifier, dataset.x) for split, dataset in splits.items() if dataset is not None
    }
    seconds = [record.seconds for t in trained for record in t.records]
    results: dict[str, Any] = {
        split: score(probabilities[split], dataset.y) if dataset is not None else None
        for split, dataset in splits.items()
    }
    results["epochs"] = [len(t.records) for t in trained]
    results["parameters"] = fnet.num_params(job.config) * job.ensemble
    results["seconds_per_epoch"] = statistics.median(seconds)
    write_history(out / "history.csv", trained)
    shown = next(split for split in ("test", "valid", "train") if split in probabilities)
    dataset = splits[shown]
    assert dataset is not None
    report = metrics.classification_report(dataset.y, probabilities[shown].argmax(axis=1), job.config.num_classes)
    text = report_text(shown, report, results, data.classes)
    write_atomically(out / "report.txt", text.encode())
    write_predictions(out / "predictions.csv", dataset.y, probabilities[shown], data.classes)
    pictures = draw(out, trained[0].records, results, shown, dataset.y, probabilities[shown], data)
    write_json(out / "metrics.json", results)
    if not args.quiet:
        print(f"\n{text}\n{pictures}Results are in {out}")


def score(probabilities: fnet.nn.Array, labels: fnet.data.Labels) -> dict[str, float]:
    """Mean cross entropy, accuracy and calibration of probabilities."""
    right = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return {
        "loss": float(-np.log(np.maximum(right, np.finfo(np.float32).tiny)).mean()),
        "accuracy": metrics.accuracy(probabilities, labels),
        "calibration_error": metrics.expected_calibration_error(probabilities, labels),
    }


def report_text(
    shown: str, report: metrics.ClassificationReport, results: dict[str, Any], classes: fnet.data.Classes
) -> str:
    lines = [f"{shown} data", "", metrics.format_report(report, classes), ""]
    for split in ("train", "valid", "test"):
        if results[split] is not None:
            scores = results[split]
            lines.append(f"{split:<6} loss {scores['loss']:.4f}   accuracy {scores['accuracy']:.4f}")
    return "\n".join([*lines, ""])


def write_history(path: Path, trained: list[Trained]) -> None:
    """The records without their times, so that the same run writes the same bytes."""
    names = [name for name in EpochRecord._fields if name not in ("finished", "seconds")]
    rows = [
        (member, *(getattr(record, name) for name in names)) for member, t in enumerate(trained) for record in t.records
    ]
    write_csv(path, ("network", *names), rows)


def write_predictions(
    path: Path, labels: fnet.data.Labels, probabilities: fnet.nn.Array, classes: fnet.data.Classes
) -> None:
    predicted = probabilities.argmax(axis=1)
    rows = [
        (row, classes[truth], classes[guess], f"{probabilities[row, guess]:.6f}")
        for row, (truth, guess) in enumerate(zip(labels, predicted, strict=True))
    ]
    write_csv(path, ("row", "label", "prediction", "probability"), rows)


def write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue().encode())


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())


def json_like(value: Any) -> Any:
    """A value as it comes back from JSON: tuples as lists."""
    return json.loads(json.dumps(value))


def draw(
    out: Path,
    records: list[EpochRecord],
    results: dict[str, Any],
    shown: str,
    labels: fnet.data.Labels,
    probabilities: fnet.nn.Array,
    data: Data,
) -> str:
    """The pictures, if matplotlib is there; says so if it is not."""
    try:
        from fnet import plots

        for metric in ("accuracy", "loss"):
            test = results["test"] and results["test"][metric]
            figure = plots.history(records, metric, title=f"{data.name}: {metric}", test=test)
            figure.savefig(out / f"{metric}.png")
        matrix = metrics.confusion_matrix(labels, probabilities.argmax(axis=1), len(data.classes))
        title = f"{data.name}: {shown} data, accuracy {results[shown]['accuracy']:.4f}"
        plots.confusion_matrix(matrix, data.classes, title=title).savefig(out / "confusion_matrix.png")
    except ImportError as error:
        return f"No pictures: {error}\n"
    return ""


if __name__ == "__main__":
    raise SystemExit(main())
