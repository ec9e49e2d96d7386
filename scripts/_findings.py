"""The findings of the report, and what decides whether a reproduction confirms them."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Curves = Mapping[str, npt.NDArray[np.float64]]  # label to [seeds, epochs]

CONFIRMED, NOT, UNDECIDED, OTHER_DATA = "confirmed", "not confirmed", "undecided", "other data"
IN_PART = "confirmed in part: it overfits, but not after that epoch"
FASTER_SGD = "SGD, rate 0.01"
ERRORS = 2  # standard errors that a difference must exceed
RISE = 0.02  # of its lowest value, by which the loss must rise again to be overfitting
ABOUT = 0.02  # how near an accuracy or F1 must be: two standard errors of 5,000 against 10,000 rows are 0.017
ABOUT_LOSS = 0.05

NOISE = (
    f"A difference counts where it is more than {ERRORS} standard errors from 0; what lies between is undecided. The "
    "standard error is that of a mean of differences with the same seed, its variance pooled over the curves of the "
    "figure; it knows of the seeds alone, not of the choice of rows."
)
BEST = f"X is best: in the mean over the seeds the last accuracy is higher than with each other value. {NOISE}"
SLOW = (
    "X converges more slowly: its accuracy, mean over the first quarter of the epochs, is lower than the best model's."
)
OVERFITS = (
    f"X overfits: its last loss is higher, by more than {RISE:.0%} and {ERRORS} standard errors, than in the epoch "
    f"where the mean over the seeds is lowest; it does not where that is no more than {RISE:.0%}. After epoch 4: that "
    "epoch is 2 to 6."
)
NUMBERS = (
    f"Numbers: within {ABOUT} of the report's (of a loss: {ABOUT_LOSS}); where the data are others there is nothing to "
    "compare. Late epochs: the second half."
)


class Finding(NamedTuple):
    """A finding of the report beside what was found here."""

    figure: str
    report: str
    here: str
    verdict: str
    criterion: str


def find(
    accuracy: Mapping[str, Curves], loss: Mapping[str, Curves], f1: Sequence[float], *, comparable: bool
) -> list[Finding]:
    """All findings, each with its verdict.

    Args:
        accuracy, loss: for each study its curves on the validation rows; one of which a run failed is missing.
        f1: of the best model, one a seed.
        comparable: whether the data are the report's.
    """
    best, optimizer = accuracy["best"].get("best"), accuracy["optimizer"]
    findings: list[Finding] = []
    if best is not None:
        last = loss["best"]["best"][:, -1]
        late = best[:, best.shape[1] // 2 :]
        findings = [
            number("Fig. 5", "accuracy 0.5862 in the best epoch", best.max(axis=1), 0.5862, ABOUT, comparable),
            number("Fig. 5", "accuracy about 0.56 in late epochs", late.mean(axis=1), 0.56, ABOUT, comparable),
            number("Fig. 6", "loss 1.22", last, 1.22, ABOUT_LOSS, comparable),
            number("Table II", "F1 0.5839", np.array(f1), 0.5839, ABOUT, comparable),
        ]
    return [
        *findings,
        is_best("Fig. 8", "3 hidden layers are best", accuracy["layers"], "3", ("1", "2", "5")),
        is_best("Fig. 9", "hidden size 256 is best", accuracy["hidden"], "256", ("64", "128")),
        is_best("Fig. 10", "learning rate 5e-4 is best", accuracy["learning_rate"], "0.0005", ("0.0001", "0.001")),
        is_best("Fig. 11", "batch size 64 is best", accuracy["batch_size"], "64", ("16", "32")),
        is_best("Fig. 12", "dropout 0.3 is best", accuracy["dropout"], "0.3", ("0.1", "0.5")),
        is_best("Fig. 13", "Adam is better than SGD with momentum and weight decay", optimizer, "Adam", ("SGD",)),
        is_best("Fig. 13", "not in the report: than SGD with learning rate 0.01", optimizer, "Adam", (FASTER_SGD,)),
        overfits("Fig. 14", "without dropout it overfits after epoch 4", loss["ablations"], "no dropout", after=4),
        slower("Fig. 14", "without batch norm it converges more slowly", accuracy["ablations"], "no batch norm"),
        overfits(
            "Fig. 14", "without batch norm it does not overfit", loss["ablations"], "no batch norm", expected=False
        ),
        slower("Fig. 14", "without both it is slow", accuracy["ablations"], "neither"),
        overfits("Fig. 14", "without both it overfits", loss["ablations"], "neither"),
    ]


def standard_error(scores: npt.NDArray[np.float64]) -> float:
    """Of the mean difference of two rows of `[values, seeds]`, from what is left of values + seeds (two-way)."""
    values, seeds = scores.shape
    rest = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0) + scores.mean()
    variance = float((rest**2).sum()) / ((values - 1) * (seeds - 1))
    return math.sqrt(2 * variance / seeds)


def number(
    figure: str, report: str, values: npt.NDArray[np.float64], expected: float, about: float, comparable: bool
) -> Finding:
    mean = float(values.mean())
    verdict = CONFIRMED if abs(mean - expected) <= about else NOT
    return Finding(figure, report, f"{mean:.4f}", verdict if comparable else OTHER_DATA, NUMBERS)


def is_best(figure: str, report: str, curves: Curves, claimed: str, rivals: Sequence[str]) -> Finding:
    """Whether the value that the report names beats each of some others."""
    if not {claimed, *rivals} <= set(curves):
        return Finding(figure, report, "a run failed", UNDECIDED, BEST)
    scores = {label: values[:, -1] for label, values in curves.items()}
    rival = max(rivals, key=lambda label: scores[label].mean())
    return compare(figure, report, f"{claimed} - {rival}:", scores, claimed, rival, BEST)


def slower(figure: str, report: str, curves: Curves, label: str) -> Finding:
    """Whether the accuracy of the first epochs is lower than the best model's."""
    if label not in curves or "best" not in curves:
        return Finding(figure, report, "a run failed", UNDECIDED, SLOW)
    first = -(-curves["best"].shape[1] // 4)
    scores = {name: values[:, :first].mean(axis=1) for name, values in curves.items()}
    return compare(figure, report, f"best - {label}, epochs 1 to {first}:", scores, "best", label, SLOW)


def compare(
    figure: str,
    report: str,
    what: str,
    scores: Mapping[str, npt.NDArray[np.float64]],
    higher: str,
    lower: str,
    criterion: str,
) -> Finding:
    """Whether one of the rows `[seeds]` is higher than another."""
    difference = float((scores[higher] - scores[lower]).mean())
    if len(scores[higher]) < 2:
        return Finding(figure, report, f"{what} {100 * difference:+.2f} %, one seed", UNDECIDED, criterion)
    error = standard_error(np.array(list(scores.values())))
    verdict = UNDECIDED if abs(difference) <= ERRORS * error else CONFIRMED if difference > 0 else NOT
    return Finding(figure, report, f"{what} {100 * difference:+.2f} ± {100 * error:.2f} %", verdict, criterion)


def overfits(
    figure: str, report: str, curves: Curves, label: str, *, expected: bool = True, after: int | None = None
) -> Finding:
    """Whether the loss rises again, and if it matters, after which epoch."""
    if label not in curves:
        return Finding(figure, report, "a run failed", UNDECIDED, OVERFITS)
    rises = {name: losses[:, -1] - losses[:, losses.mean(axis=0).argmin()] for name, losses in curves.items()}
    mean = curves[label].mean(axis=0)
    lowest, seeds = int(mean.argmin()), len(curves[label])
    rise = float(rises[label].mean())
    here = f"lowest loss in epoch {lowest + 1} of {len(mean)}, at the end {rise / mean[lowest]:+.1%}"
    if seeds < 2:
        return Finding(figure, report, f"{here}, one seed", UNDECIDED, OVERFITS)
    error = math.sqrt(np.mean([values.var(ddof=1) for values in rises.values()]) / seeds)
    here += f" ± {error / mean[lowest]:.1%}"
    rose = rise > RISE * mean[lowest]
    if rose and rise <= ERRORS * error:
        return Finding(figure, report, here, UNDECIDED, OVERFITS)
    verdict = CONFIRMED if rose == expected else NOT
    if rose and expected and after is not None and abs(lowest + 1 - after) > 2:
        verdict = IN_PART
    return Finding(figure, report, here, verdict, OVERFITS)
