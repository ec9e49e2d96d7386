"""Chen & Wu's studies, and their results as tables and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from findings import FASTER_SGD

from fnet import metrics, plots
from fnet.cli.data import Data
from fnet.cli.output import mean_and_deviation
from fnet.cli.studies import SGD
from fnet.sweep import Failure, Outcome

DPI = 100
TABLE2_F1 = ("0.65", "0.69", "0.45", "0.40", "0.51", "0.47", "0.63", "0.65", "0.70", "0.63", "0.58")  # their Table II


class Study(NamedTuple):
    """One figure: a title, and for each curve its label and what it changes in the best model."""

    figure: str
    title: str
    curves: dict[str, dict[str, Any]]


def one_by_one(name: str, *values: Any) -> dict[str, dict[str, Any]]:
    return {f"{value:g}": {name: value} for value in values}


STUDIES = {
    "best": Study("Fig. 5-7", "best model", {"best": {}}),
    "layers": Study("Fig. 8", "number of hidden layers", one_by_one("layers", 1, 2, 3, 5)),
    "hidden": Study("Fig. 9", "hidden size", one_by_one("hidden", 64, 128, 256)),
    "learning_rate": Study("Fig. 10", "learning rate", one_by_one("learning_rate", 1e-4, 5e-4, 1e-3)),
    "batch_size": Study("Fig. 11", "batch size", one_by_one("batch_size", 16, 32, 64)),
    "dropout": Study("Fig. 12", "dropout", one_by_one("dropout", 0.1, 0.3, 0.5)),
    # SGD with the learning rate of Adam, as one value is changed at a time; the curve with a higher one is an addition.
    "optimizer": Study("Fig. 13", "optimizer", {"Adam": {}, "SGD": SGD, FASTER_SGD: {**SGD, "learning_rate": 1e-2}}),
    "ablations": Study(
        "Fig. 14",
        "ablations",
        {
            "best": {},
            "no dropout": {"dropout": 0.0},
            "no batch norm": {"batch_norm": False},
            "neither": {"dropout": 0.0, "batch_norm": False},
        },
    ),
}

Curve: TypeAlias = Sequence[Outcome | Failure]  # one per seed
Table: TypeAlias = tuple[list[str], list[list[Any]]]  # header, rows


def complete(curves: Mapping[str, Curve]) -> dict[str, list[Outcome]]:
    """The curves without those of which a run failed."""
    good = {label: [o for o in curve if not isinstance(o, Failure)] for label, curve in curves.items()}
    return {label: outcomes for label, outcomes in good.items() if len(outcomes) == len(curves[label])}


def histories(curves: Mapping[str, Curve], field: str) -> dict[str, npt.NDArray[np.float64]]:
    """A field of the records of each complete curve, `[seeds, epochs]`."""
    return {
        label: np.array([[getattr(record, field) for record in outcome.records] for outcome in outcomes])
        for label, outcomes in complete(curves).items()
    }


def f1(outcome: Outcome) -> float:
    """The mean F1 over the classes."""
    return class_report(outcome).macro[2]


def class_report(outcome: Outcome) -> metrics.ClassificationReport:
    """Precision, recall and F1 from the confusion matrix."""
    matrix = np.array(outcome.confusion_matrix)
    labels, predictions = (index.ravel().repeat(matrix.ravel()) for index in np.indices(matrix.shape))
    return metrics.classification_report(labels, predictions, len(matrix))


def table_1(best: Sequence[Outcome], comparable: bool) -> Table:
    rows = [
        [name, theirs, mean_and_deviation([score(outcome) for outcome in best], 4) if best else "failed"]
        for name, theirs, score in (
            ("accuracy", "0.5862", lambda outcome: outcome.accuracy),
            ("macro F1", "0.5839", f1),
            ("cross entropy", "1.22", lambda outcome: outcome.loss),
        )
    ]
    return ["", "Chen & Wu" if comparable else "Chen & Wu, on other data", "here"], rows


def table_2(best: Sequence[Outcome], classes: Sequence[int | str], comparable: bool) -> Table:
    header, reports = ["class", "precision", "recall", "F1", "support"], [class_report(outcome) for outcome in best]
    if not reports:
        return header, []
    rows: list[list[Any]] = []
    for i, name in enumerate(classes):
        scores = ([getattr(report, field)[i] for report in reports] for field in ("precision", "recall", "f1"))
        rows.append([name, *(mean_and_deviation(score, 2) for score in scores), int(reports[0].support[i])])
    means = (mean_and_deviation([report.macro[i] for report in reports], 2) for i in range(3))
    rows.append(["avg", *means, int(reports[0].support.sum())])
    if comparable:
        header, rows = [*header, "F1 of Chen & Wu"], [[*row, f1] for row, f1 in zip(rows, TABLE2_F1, strict=True)]
    return header, rows


def table_3(results: Mapping[str, Mapping[str, Curve]]) -> Table:
    header = ["figure", "study", "value", "accuracy", "loss", "best accuracy", "lowest loss", "parameters"]
    rows: list[list[Any]] = []
    for study, curves in results.items():
        good, accuracies, losses = complete(curves), histories(curves, "valid_score"), histories(curves, "valid_loss")
        for label, curve in curves.items():
            row = [STUDIES[study].figure, STUDIES[study].title, label]
            if label not in good:
                errors = [outcome.error for outcome in curve if isinstance(outcome, Failure)]
                rows.append([*row, f"failed: {errors[0]}", "", "", "", ""])
                continue
            for values in (accuracies[label], losses[label]):
                row.append(mean_and_deviation(values[:, -1].tolist(), 4))
            accuracy, loss = accuracies[label].mean(axis=0), losses[label].mean(axis=0)
            row += [f"{accuracy.max():.4f} in epoch {accuracy.argmax() + 1}"]
            row += [f"{loss.min():.4f} in epoch {loss.argmin() + 1}"]
            rows.append([*row, good[label][0].parameters])
    return header, rows


def draw(out: Path, data: Data, study: str, curves: Mapping[str, Curve]) -> list[str]:
    """Draw the figures of a study, and return the paragraphs that show them."""
    figure, title, _ = STUDIES[study]
    heading, good = f"{data.name}: {title}", complete(curves)
    accuracy, loss = histories(curves, "valid_score"), histories(curves, "valid_loss")
    if not good:
        return []
    if study == "best":
        groups = (
            {"training": histories(curves, f"train_{field}")["best"], "validation": values["best"]}
            for field, values in (("score", accuracy), ("loss", loss))
        )
        matrix = np.sum([outcome.confusion_matrix for outcome in good["best"]], axis=0)
        caption = f"{data.name}: validation rows, sum over the seeds"
        pictures = {
            "fig05_06_best.png": plots.study(*groups, title=heading),
            "fig07_confusion_matrix.png": plots.confusion_matrix(matrix, data.classes, title=caption),
        }
    else:
        name = f"fig{int(figure.split()[1]):02}_{study}.png"
        pictures = {name: plots.study(accuracy, loss, title=f"{heading}, validation rows", legend=title)}
    for file, picture in pictures.items():
        picture.savefig(out / file, dpi=DPI)
    return [line for file in pictures for line in (f"{figure}, {title}:", f"![{title}]({file})")]
