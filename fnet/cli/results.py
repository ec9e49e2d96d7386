"""What scripts/train.py works on and what it writes: the job, and the files of a finished run."""

import argparse
import contextlib
import csv
import dataclasses
import io
import json
import os
import platform
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fnet
from fnet import EpochRecord, MLPConfig, TrainConfig, TrainState, metrics, model
from fnet.checkpoint import write_atomically
from fnet.cli import options, threads
from fnet.cli.options import Data
from fnet.interop import tensorboard
from fnet.model import Model

PICTURES = ("accuracy.png", "loss.png", "confusion_matrix.png")


class Job(NamedTuple):
    """All that decides the outcome of a run."""

    config: MLPConfig
    train_config: TrainConfig
    data: Data
    seed: int
    ensemble: int
    description: dict[str, Any]  # as JSON: two jobs of the same description give the same model


def make_job(args: argparse.Namespace) -> Job:
    """The job that the options describe, with its data loaded."""
    data = options.load_data(args)
    config, train_config = options.model_config(args, data), options.train_config(args)
    splits = {"train": data.train, "valid": data.valid, "test": data.test}
    description = {
        "network": json_like(dataclasses.asdict(config)),
        "training": json_like(dataclasses.asdict(train_config)),
        "seed": args.seed,
        "ensemble": args.ensemble,
        "calibrate": bool(args.calibrate) and data.valid is not None,
        "standardizer": fnet.data.fingerprint(fnet.Dataset(np.stack(data.standardizer), np.zeros(2, np.int64))),
        "data": {
            split: dataset and {"rows": len(dataset.y), "sha256": fnet.data.fingerprint(dataset)}
            for split, dataset in splits.items()
        },
    }
    return Job(config, train_config, data, args.seed, args.ensemble, description)


class Trained(NamedTuple):
    """One trained network, and how its training went."""

    train_state: TrainState
    records: list[EpochRecord]


def prepare_folder(out: Path, job: Job, *, resume: bool) -> None:
    """Make the folder and write config.json; refuse one with an unfinished run, which would be lost."""
    unfinished = (out / "checkpoints").is_dir() and not (out / "metrics.json").exists()
    if unfinished and not resume:
        raise ValueError(f"{out} holds an unfinished run: add --resume to go on with it, or remove it")
    out.mkdir(parents=True, exist_ok=True)
    saved = list((out / "checkpoints").glob("member-*/step-*.npz"))
    if resume and saved and (out / "config.json").exists():
        return
    if not resume:
        for old in saved:
            old.unlink()
    for name in ("metrics.json", *PICTURES):  # which this run may not come to write, or not at all
        (out / name).unlink(missing_ok=True)
    write_json(out / "config.json", {**job.description, **circumstances(job)})


def run_name(out: Path) -> str:
    """What the run in a folder is called in TensorBoard."""
    return out.resolve().name


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
            "threads": {name: os.environ.get(name) for name in threads.VARIABLES},
        },
        "classes": list(job.data.classes),
    }


def processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def write_results(
    job: Job,
    out: Path,
    trained: list[Trained],
    *,
    calibrate: bool,
    pictures: bool,
    tensorboard_to: Path | None = None,
) -> str:
    """Evaluate the trained network or ensemble on every split, write all results, and return the report."""
    data = job.data
    members = tuple(fnet.final_model(t.train_state, job.train_config) for t in trained)
    classifier = Model(
        job.config,
        members,
        data.standardizer,
        data.classes,
        temperature=1.0 if data.valid is None or not calibrate else temperature(job, members, data.valid),
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
    drawn = draw(out, trained[0].records, results, shown, dataset.y, probabilities[shown], data) if pictures else ""
    write_json(out / "metrics.json", results)
    if tensorboard_to is not None:
        matrix = metrics.confusion_matrix(dataset.y, probabilities[shown].argmax(axis=1), job.config.num_classes)
        step, title = max(results["epochs"]), matrix_title(data, shown, results)
        tensorboard.add_confusion_matrix(tensorboard_to, run_name(out), matrix, data.classes, step=step, title=title)
    return text + drawn


def temperature(job: Job, members: tuple[tuple[fnet.Params, fnet.State], ...], valid: fnet.Dataset) -> float:
    """The temperature that suits the validation data best."""
    logits = [
        fnet.evaluate(job.config, params, state, valid, transform=job.data.transform).logits
        for params, state in members
    ]
    return fnet.calibration.fit_temperature(np.stack(logits), valid.y)


def score(probabilities: fnet.nn.Array, labels: fnet.data.Labels) -> dict[str, float]:
    """Mean cross entropy, accuracy and calibration of probabilities."""
    right = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return {
        "loss": float(-np.log(np.maximum(right, np.finfo(np.float32).tiny)).mean()),
        "accuracy": metrics.accuracy(probabilities, labels),
        "calibration_error": metrics.expected_calibration_error(probabilities, labels),
    }


def matrix_title(data: Data, shown: str, results: dict[str, Any]) -> str:
    return f"{data.name}: {shown} data, accuracy {results[shown]['accuracy']:.4f}"


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
        plots.confusion_matrix(matrix, data.classes, title=matrix_title(data, shown, results)).savefig(
            out / "confusion_matrix.png"
        )
    except ImportError as error:
        return f"\nNo pictures: {error}\n"
    return ""
