"""Every study of the report over several seeds, and for each of its findings whether it is confirmed.

    python scripts/reproduce.py                                        on the embedded digits, about a minute
    python scripts/reproduce.py --data PATH --valid-size 5000 --out DIR

The best model (Fig. 5-7, Tables I and II), number of layers, hidden size, learning rate, batch size, dropout, optimizer
(Fig. 8-13) and the three ablations (Fig. 14), each with one value of the best model changed and seen on the validation
rows. Writes report.md, the figures as PNG, the tables as CSV and Markdown, timings.csv and a file for each run in runs/
to DIR. Interrupted and started again, it trains only what is not there yet.
"""

import _executors  # noqa: I001  # before NumPy

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _options
import _runs
import numpy as np
import numpy.typing as npt
from _findings import FASTER_SGD, Finding, find
from _results import write_csv
from _runs import SGD, Engine, Outcome

from fnet import metrics
from fnet.checkpoint import write_atomically
from fnet.sweep import Failure

DPI = 100
TABLE2_F1 = (0.65, 0.69, 0.45, 0.40, 0.51, 0.47, 0.63, 0.65, 0.70, 0.63)  # of the report


class Study(NamedTuple):
    """One figure: what changes, and a curve for each value."""

    figure: str
    title: str
    curves: dict[str, dict[str, Any]]  # label to what is changed in the best model


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

Results = dict[str, dict[str, list[Outcome | Failure]]]  # study, curve: an outcome a seed


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    _options.add_data_options(parser)
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each network (default 3)")
    parser.add_argument("--epochs", type=int, default=25, help="default 25, as in the report")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/reproduce"), metavar="DIR", help="default runs/reproduce"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    _options.add_tensorboard_option(parser)
    _executors.add_options(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    arguments = sys.argv[1:] if argv is None else argv
    try:
        with _executors.opened(args) as engine:
            return 0 if engine is None else reproduce(args, arguments, engine)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with what is left", file=sys.stderr)
        return 130
    except (OSError, ValueError, TypeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def reproduce(args: argparse.Namespace, arguments: Sequence[str], engine: Engine) -> int:
    """Train what is not there yet, and write everything."""
    if args.test is not None:
        raise ValueError("the studies look at no test data; leave --test out")
    if args.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, but got {args.seeds}")
    _options.prepare_tensorboard(args.tensorboard)
    source = _runs.source(args)
    base = {**_runs.default_options(), "epochs": args.epochs, "power": args.power}
    keys = [(study, label, seed) for study in STUDIES for label in STUDIES[study].curves for seed in range(args.seeds)]
    runs = [_runs.describe(source, base, STUDIES[study].curves[label], seed) for study, label, seed in keys]
    names = [f"{STUDIES[study].title}: {label}, seed {seed}" for study, label, seed in keys]
    outcomes = _runs.run_all(runs, names, engine, args.out / "runs", quiet=args.quiet)
    results: Results = {study: {label: [] for label in STUDIES[study].curves} for study in STUDIES}
    for (study, label, _), outcome in zip(keys, outcomes, strict=True):
        results[study][label].append(outcome)
    write_report(args, arguments, source, results)
    _runs.write_tensorboard(args.tensorboard, [f"{study}/{label}" for study, label, _ in keys], runs, outcomes)
    failed = dict.fromkeys(
        f"{name}: {outcome.error}"
        for name, outcome in zip(names, outcomes, strict=True)
        if isinstance(outcome, Failure)
    )
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    if not args.quiet:
        print(f"Results are in {args.out}; see {args.out / 'report.md'}")
    return 1 if failed else 0


def complete(curves: Mapping[str, list[Outcome | Failure]]) -> dict[str, list[Outcome]]:
    """The curves of which no run failed."""
    found: dict[str, list[Outcome]] = {}
    for label, outcomes in curves.items():
        good = [outcome for outcome in outcomes if not isinstance(outcome, Failure)]
        if len(good) == len(outcomes):
            found[label] = good
    return found


def history(outcomes: Sequence[Outcome], name: str) -> npt.NDArray[np.float64]:
    """A field of the records, `[seeds, epochs]`."""
    return np.array([[getattr(record, name) for record in _runs.records(outcome)] for outcome in outcomes])


def f1(outcome: Outcome) -> float:
    return class_report(outcome).macro[2]


def class_report(outcome: Outcome) -> metrics.ClassificationReport:
    """Precision, recall and F1 from the confusion matrix."""
    matrix = np.array(outcome["confusion_matrix"])
    truth, guess = np.indices(matrix.shape)
    counts = matrix.ravel()
    return metrics.classification_report(
        truth.ravel().repeat(counts), guess.ravel().repeat(counts), num_classes=len(matrix)
    )


# What is written ------------------------------------------------------------------------------------------------------


def write_report(args: argparse.Namespace, arguments: Sequence[str], source: _runs.Source, results: Results) -> None:
    data, fingerprint = _runs.load(source)
    assert data.valid is not None
    whole = {study: complete(results[study]) for study in STUDIES}
    of_the_report = (data.train.x.shape[1], len(data.classes), len(data.train.y) + len(data.valid.y)) == (
        128,
        10,
        50_000,
    )
    best = whole["best"].get("best", [])
    findings = find(
        accuracy={study: {c: history(o, "valid_accuracy") for c, o in whole[study].items()} for study in STUDIES},
        loss={study: {c: history(o, "valid_loss") for c, o in whole[study].items()} for study in STUDIES},
        f1=[f1(outcome) for outcome in best],
        comparable=of_the_report,
    )
    figures = draw(args.out, data.name, data.classes, whole)
    sections = [
        "# The report's studies, reproduced",
        "",
        f"    {_runs.command(arguments, ('--out', '--jobs', '--executor', '--scheduler', '--tensorboard'))}",
        "",
        *_runs.circumstances(data, fingerprint),
        f"- Seeds 0 to {args.seeds - 1}, {args.epochs} epochs",
        "",
        "All numbers here are of the validation rows after the last epoch, the report's of its test data. ± in tables "
        "is the standard deviation over the seeds, in findings the standard error of a mean difference.",
        "",
        "## Findings",
        "",
        findings_table(findings),
        *findings_text(findings),
        "",
        "## Table I: the best model",
        "",
        write_table(args.out, "table_1", *table_1(best, of_the_report)),
        "## Table II: its classes",
        "",
        write_table(args.out, "table_2", *table_2(best, data.classes, of_the_report)),
        "## Table III: the values tried",
        "",
        write_table(args.out, "table_3", *table_3(results)),
        *figures,
    ]
    write_atomically(args.out / "report.md", "\n".join(sections).encode())
    write_csv(args.out / "findings.csv", Finding._fields, [tuple(finding) for finding in findings])
    write_numbers(args.out, results)


def write_table(out: Path, name: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The table as CSV and as Markdown, which it returns."""
    text = _runs.markdown(header, rows)
    write_csv(out / f"{name}.csv", tuple(header), [tuple(row) for row in rows])
    write_atomically(out / f"{name}.md", text.encode())
    return text


def findings_table(findings: Sequence[Finding]) -> str:
    rows = [(f.figure, f.report, f.here, f"**{f.verdict}**") for f in findings]
    return _runs.markdown(["", "the report", "here", ""], rows)


def findings_text(findings: Sequence[Finding]) -> list[str]:
    """What each verdict means, once."""
    return ["The criteria:", "", *dict.fromkeys(f"- {finding.criterion}" for finding in findings)]


def table_1(best: Sequence[Outcome], of_the_report: bool) -> tuple[list[str], list[list[Any]]]:
    settings = [
        ("hidden layers", "3"),
        ("hidden size", "256"),
        ("activation", "ReLU"),
        ("batch norm, dropout", "at each hidden layer, 0.3"),
        ("loss", "softmax and cross entropy"),
        ("batch size", "64"),
        ("optimizer", "Adam (0.9, 0.999), eps 1e-8"),
        ("learning rate", "5e-4"),
    ]
    rows: list[list[Any]] = [[name, value, "the same"] for name, value in settings]
    scores = [
        ("accuracy", "0.5862", [outcome["accuracy"] for outcome in best]),
        ("macro F1", "0.5839", [f1(outcome) for outcome in best]),
        ("cross entropy", "1.22", [outcome["loss"] for outcome in best]),
    ]
    for name, report, ours in scores:
        rows.append([name, report, _runs.mean_and_spread(ours, 4) if ours else "failed"])
    return ["", "the report" if of_the_report else "the report, on other data", "here"], rows


def table_2(
    best: Sequence[Outcome], classes: Sequence[int | str], of_the_report: bool
) -> tuple[list[str], list[list[Any]]]:
    reports = [class_report(outcome) for outcome in best]
    rows: list[list[Any]] = []
    for i, name in enumerate(classes if reports else ()):
        scores = [[getattr(report, score)[i] for report in reports] for score in ("precision", "recall", "f1")]
        rows.append([name, *(_runs.mean_and_spread(score, 2) for score in scores), int(reports[0].support[i])])
    if reports:
        means = [_runs.mean_and_spread([report.macro[i] for report in reports], 2) for i in range(3)]
        rows.append(["avg", *means, int(reports[0].support.sum())])
    header = ["class", "precision", "recall", "F1", "support"]
    if of_the_report and reports:
        header.append("F1 of the report")
        rows = [[*row, f"{score:.2f}"] for row, score in zip(rows, (*TABLE2_F1, 0.58), strict=True)]
    return header, rows


def table_3(results: Results) -> tuple[list[str], list[list[Any]]]:
    header = ["figure", "study", "value", "accuracy", "loss", "best accuracy", "lowest loss", "parameters"]
    rows: list[list[Any]] = []
    for study, curves in results.items():
        good = complete(curves)
        for label in curves:
            row: list[Any] = [STUDIES[study].figure, STUDIES[study].title, label]
            if label not in good:
                errors = [outcome.error for outcome in curves[label] if isinstance(outcome, Failure)]
                rows.append([*row, f"failed: {errors[0]}", "", "", "", ""])
                continue
            accuracy, loss = (history(good[label], f"valid_{name}").mean(axis=0) for name in ("accuracy", "loss"))
            rows.append(
                [
                    *row,
                    _runs.mean_and_spread([outcome["accuracy"] for outcome in good[label]], 4),
                    _runs.mean_and_spread([outcome["loss"] for outcome in good[label]], 4),
                    f"{accuracy.max():.4f} in epoch {accuracy.argmax() + 1}",
                    f"{loss.min():.4f} in epoch {loss.argmin() + 1}",
                    good[label][0]["parameters"],
                ]
            )
    return header, rows


def write_numbers(out: Path, results: Results) -> None:
    """Every run, every epoch, and apart from them, since they are never the same, the times."""
    runs: list[tuple[Any, ...]] = []
    epochs: list[tuple[Any, ...]] = []
    timings: list[tuple[Any, ...]] = []
    for study, curves in results.items():
        for label, outcomes in curves.items():
            for seed, outcome in enumerate(outcomes):
                run = (study, label, seed)
                if isinstance(outcome, Failure):
                    runs.append((*run, "", "", "", outcome.error))
                    continue
                runs.append((*run, outcome["accuracy"], outcome["loss"], f1(outcome), ""))
                for r in _runs.records(outcome):
                    epochs.append((*run, r.epoch, r.train_loss, r.train_accuracy, r.valid_loss, r.valid_accuracy))
                timings.append((*run, f"{_runs.seconds(outcome):.3f}"))
    names = ("study", "value", "seed")
    write_csv(out / "runs.csv", (*names, "accuracy", "loss", "f1", "error"), runs)
    losses = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
    write_csv(out / "history.csv", (*names, "epoch", *losses), epochs)
    write_csv(out / "timings.csv", (*names, "seconds"), timings)


def draw(
    out: Path, name: str, classes: Sequence[int | str], whole: Mapping[str, Mapping[str, list[Outcome]]]
) -> list[str]:
    """The figures; returns the section of the report that shows them."""
    try:
        from fnet import plots

        lines = ["## Figures", "", "A band is one standard deviation over the seeds to either side.", ""]
        for study, curves in whole.items():
            figure, title, _ = STUDIES[study]
            if not curves:
                continue
            if study == "best":
                outcomes = curves["best"]
                groups = [
                    {split: history(outcomes, f"{field}_{metric}") for split, field in SPLITS}
                    for metric in ("accuracy", "loss")
                ]
                matrix = sum(np.array(outcome["confusion_matrix"]) for outcome in outcomes)
                pictures = {
                    "fig05_06_best.png": plots.study(*groups, title=f"{name}: {title}"),
                    "fig07_confusion_matrix.png": plots.confusion_matrix(
                        matrix, classes, title=f"{name}: validation rows, sum over the seeds"
                    ),
                }
            else:
                groups = [
                    {label: history(outcomes, f"valid_{metric}") for label, outcomes in curves.items()}
                    for metric in ("accuracy", "loss")
                ]
                picture = plots.study(*groups, title=f"{name}: {title}, validation rows", legend=title)
                pictures = {f"fig{int(figure.split()[1]):02}_{study}.png": picture}
            for file, picture in pictures.items():
                picture.savefig(out / file, dpi=DPI)
                lines += [f"{figure}, {title}:", "", f"![{title}]({file})", ""]
    except ImportError as error:
        return [f"No figures: {error}", ""]
    return lines


SPLITS = (("training", "train"), ("validation", "valid"))


if __name__ == "__main__":
    raise SystemExit(main())
