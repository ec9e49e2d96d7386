"""The files of a finished run."""

import dataclasses
import io
import re
import statistics
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fnet
from fnet import Dataset, EpochRecord, TrainState, calibration, metrics, model
from fnet.checkpoint import write_atomically
from fnet.cli.job import Job, out_of_fold
from fnet.cli.output import json_like, say, visible, write_csv, write_json
from fnet.model import Model
from fnet.nn import Array

MAX_SHOWN = 100  # classes of which each has a line in the terminal


class Trained(NamedTuple):
    """One trained network, and how its training went."""

    train_state: TrainState
    records: list[EpochRecord]


def write_results(
    job: Job, out: Path, trained: Sequence[Trained], *, pictures: bool, tensorboard_to: Path | None
) -> str:
    """Evaluate the trained network or ensemble on every split, write all results, and return what to show."""
    classifier = make_model(job, trained)
    model.save_model(out / "model.npz", classifier)
    data, num_classes = job.data, job.config.num_outputs
    splits = {"train": data.train, "valid": data.valid, "test": data.test}
    probabilities = {split: model.predict_proba(classifier, d.x) for split, d in splits.items() if d is not None}
    if job.folds is not None:
        splits["valid"], probabilities["valid"] = data.train, out_of_fold_probabilities(job, classifier)
    results: dict[str, Any] = {
        split: None if d is None else score(probabilities[split], d.y) for split, d in splits.items()
    }
    results["epochs"] = [len(t.records) for t in trained]
    results["parameters"] = fnet.num_params(job.config) * job.networks
    results["seconds_per_epoch"] = statistics.median(record.seconds for t in trained for record in t.records)
    shown = next(split for split in ("test", "valid", "train") if split in probabilities)
    dataset = splits[shown]
    assert dataset is not None
    predicted = probabilities[shown].argmax(axis=1)
    report = metrics.classification_report(dataset.y, predicted, num_classes)
    table = metrics.format_report(report, tuple(map(visible, data.classes)))
    how = ", each row by the network that was trained without it" if dataset is data.train and shown == "valid" else ""
    head, foot = f"{shown} data{how}\n\n", f"\n\n{score_lines(job, results)}"
    write_history(out / "history.csv", job, trained)
    write_atomically(out / "report.txt", f"{head}{table}{foot}".encode())
    write_predictions(out / "predictions.csv", dataset, probabilities[shown], data.classes)
    write_json(out / "metrics.json", results)
    # What is drawn comes last, so that it cannot cost a result.
    matrix = metrics.confusion_matrix(dataset.y, predicted, num_classes) if pictures or tensorboard_to else np.empty(0)
    title = f"{data.name}: {shown} data, accuracy {results[shown]['accuracy']:.4f}"
    if pictures:
        draw(out, trained[0].records, results["test"], matrix, job, title)
    if tensorboard_to is not None:
        from fnet.interop import tensorboard

        step = max(results["epochs"])
        tensorboard.add_confusion_matrix(tensorboard_to, run_name(out), matrix, data.classes, step=step, title=title)
    if num_classes > MAX_SHOWN:
        header, averages = table.split("\n")[0], table.split("\n\n")[-1]
        table = f"{header}\n{averages}\n\nreport.txt has a line for each of the {num_classes:,} classes"
    return f"{head}{table}{foot}"


def make_model(job: Job, trained: Sequence[Trained]) -> Model:
    """The model of the trained networks, with a temperature if the job says so."""
    data, config = job.data, job.config
    members = tuple(fnet.final_model(t.train_state, job.train_config) for t in trained)
    temperature = 1.0
    if job.calibrate:
        held_out = [out_of_fold(job, i) if job.folds is not None else data.valid for i in range(job.networks)]
        logits = [
            fnet.evaluate(config, *member, dataset, transform=data.transform).logits
            for member, dataset in zip(members, held_out, strict=True)
            if dataset is not None
        ]
        labels = [dataset.y for dataset in held_out if dataset is not None]
        if job.folds is not None:
            temperature = calibration.safe_temperature(np.concatenate(logits), np.concatenate(labels))
        else:
            temperature = calibration.safe_temperature(np.stack(logits), labels[0])
    provenance = {
        "training": json_like(dataclasses.asdict(job.train_config)),
        "seed": job.seed,
        "engine": job.engine,
        "epochs": [len(t.records) for t in trained],
        "data": {"name": data.name, "rows": len(data.train.y)},
        "versions": {"fnet": fnet.__version__, "numpy": np.__version__},
    }
    return Model(
        config,
        members,
        data.standardizer,
        data.classes,
        temperature=temperature,
        provenance=provenance,
        encoder=data.encoder,
        target=data.target,
    )


def run_name(out: Path) -> str:
    """What the run in a folder is called in TensorBoard."""
    return out.resolve().name


def out_of_fold_probabilities(job: Job, classifier: Model) -> Array:
    """The probabilities `[rows, classes]` of the training rows, each by the network that was trained without it."""
    train = job.data.train
    probabilities = np.empty((len(train.y), len(classifier.classes)), job.config.dtype)
    for i, member in enumerate(classifier.members):
        alone = classifier._replace(members=(member,))
        probabilities[job.folds == i] = model.predict_proba(alone, out_of_fold(job, i).x)
    return probabilities


def score(probabilities: Array, labels: fnet.data.Labels) -> dict[str, float]:
    """Mean cross entropy, accuracy and calibration of probabilities, with the standard errors of the two means."""
    likelihood = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    losses = np.abs(np.log(np.maximum(likelihood, np.finfo(np.float32).tiny)))  # not -0
    right = probabilities.argmax(axis=1) == labels
    return {
        "loss": float(losses.mean()),
        "accuracy": float(right.mean()),
        "calibration_error": metrics.expected_calibration_error(probabilities, labels),
        "loss_standard_error": float(losses.std() / np.sqrt(max(len(labels) - 1, 1))),
        "accuracy_standard_error": float(right.std() / np.sqrt(max(len(labels) - 1, 1))),
    }


def score_lines(job: Job, results: Mapping[str, Any]) -> str:
    """A line per split; of out-of-fold predictions with standard errors."""
    lines: list[str] = []
    for split in ("train", "valid", "test"):
        if (scores := results[split]) is not None:
            errors = dict.fromkeys(("loss", "accuracy"), "")
            if split == "valid" and job.folds is not None:
                errors = {name: f" ± {scores[f'{name}_standard_error']:.4f}" for name in errors}
            loss, accuracy = (f"{name} {scores[name]:.4f}{error}" for name, error in errors.items())
            lines.append(f"{split:<6} {loss}   {accuracy}\n")
    return "".join(lines)


def write_history(path: Path, job: Job, trained: Sequence[Trained]) -> None:
    """Write the records without their times, so that the same run writes the same bytes."""
    names = [name for name in EpochRecord._fields if name not in ("finished", "seconds")]
    header = [name.replace("score", metrics.score_name(job.config.loss)) for name in names]
    rows = [[i, *(getattr(record, name) for name in names)] for i, t in enumerate(trained) for record in t.records]
    write_csv(path, ["network", *header], rows)


def write_predictions(path: Path, dataset: Dataset, probabilities: Array, classes: fnet.data.Classes) -> None:
    """Write a line per row of a data set; say where a spreadsheet would take a name of a class for a formula."""
    predicted = probabilities.argmax(axis=1).tolist()
    rows: list[list[Any]] = [
        [row, classes[truth], classes[guess], f"{probabilities[row, guess]:.6f}"]
        for row, (truth, guess) in enumerate(zip(dataset.y.tolist(), predicted, strict=True))
    ]
    write_csv(path, ["row", "label", "prediction", "probability"], rows)
    warn_of_formulas(classes)


def warn_of_formulas(classes: fnet.data.Classes) -> None:
    """Say in one line where names of classes in a CSV would be formulas in a spreadsheet."""
    formulas = [name for name in classes if isinstance(name, str) and re.match(r"[=+@-](?![\d.]+$)", name)]
    if formulas:
        say("warning", f"a spreadsheet takes cells such as {formulas[0]!r} for formulas; import them as text")


def draw(
    out: Path, records: Sequence[EpochRecord], test: Mapping[str, float] | None, matrix: Array, job: Job, title: str
) -> None:
    """Draw the pictures; one that fails is reported in one line."""
    from fnet import plots

    data = job.data

    def save(name: str, figure: Any) -> None:
        png = io.BytesIO()
        figure.savefig(png, format="png")
        write_atomically(out / name, png.getvalue())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as of characters that the font does not have
        try:
            for metric in ("accuracy", "loss"):
                line = None if test is None else test[metric]
                save(f"{metric}.png", plots.history(records, metric, title=f"{data.name}: {metric}", test=line))
            save("confusion_matrix.png", plots.confusion_matrix(matrix, data.classes, title=title))
        except ImportError as error:
            say("note", f"no pictures: {error}")
        except Exception as error:
            say("warning", f"a picture could not be drawn: {type(error).__name__}: {error}")
