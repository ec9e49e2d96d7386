"""The findings of the report, and what decides whether a reproduction confirms them."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Curves = Mapping[str, npt.NDArray[np.float64]]  # label to [seeds, epochs]

CONFIRMED, NOT, UNDECIDED, OTHER_DATA = "confirmed", "not confirmed", "undecided", "other data"
ERRORS = 2  # standard errors that a difference must exceed
RISE = 0.02  # of its lowest value, by which the loss must rise again to be overfitting
ABOUT = 0.02  # how near an accuracy or F1 must be: two standard errors of 5,000 against 10,000 rows are 0.017
ABOUT_LOSS = 0.05

NOISE = (
    f"A difference counts where it is more than {ERRORS} standard errors from 0. The standard error is that of a mean of "
    "differences with the same seed, pooled over the curves of a study; it knows of seeds, not of the choice of rows."
)
BEST = f"X is best: in the mean over the seeds the last accuracy is higher than with each other value. {NOISE}"
SLOW = (
    "X converges more slowly: its accuracy, mean over the first quarter of the epochs, is lower than the best model's."
)
OVERFITS = (
    f"X overfits: the last loss is higher, by more than {RISE:.0%} and {ERRORS} standard errors, than in the epoch where "
    "the mean over the seeds is lowest; after epoch 4: that epoch is 2 to 6."
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
    best = accuracy["best"].get("best")
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
    adam = {label: accuracy["optimizer"][label] for label in ("Adam", "SGD") if label in accuracy["optimizer"]}
    fair = {label: values for label, values in accuracy["optimizer"].items() if label != "SGD"}
    return [
        *findings,
        is_best("Fig. 8", "3 hidden layers are best", accuracy["layers"], "3", 4),
        is_best("Fig. 9", "hidden size 256 is best", accuracy["hidden"], "256", 3),
        is_best("Fig. 10", "learning rate 5e-4 is best", accuracy["learning_rate"], "0.0005", 3),
        is_best("Fig. 11", "batch size 64 is best", accuracy["batch_size"], "64", 3),
        is_best("Fig. 12", "dropout 0.3 is best", accuracy["dropout"], "0.3", 3),
        is_best("Fig. 13", "Adam is better than SGD with momentum and weight decay", adam, "Adam", 2),
        is_best("Fig. 13", "(ours) Adam is better than such SGD with learning rate 0.01", fair, "Adam", 2),
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


def decide(difference: float, error: float) -> str:
    if difference > ERRORS * error:
        return CONFIRMED
    return NOT if difference < -ERRORS * error else UNDECIDED


def number(
    figure: str, report: str, values: npt.NDArray[np.float64], expected: float, about: float, comparable: bool
) -> Finding:
    mean = float(values.mean())
    verdict = CONFIRMED if abs(mean - expected) <= about else NOT
    return Finding(figure, report, f"{mean:.4f}", verdict if comparable else OTHER_DATA, NUMBERS)


def is_best(figure: str, report: str, curves: Curves, claimed: str, size: int) -> Finding:
    """Whether the value that the report names beats each of the others."""
    if len(curves) < size:
        return Finding(figure, report, "a run failed", UNDECIDED, BEST)
    scores = np.array([values[:, -1] for values in curves.values()])
    means = dict(zip(curves, scores.mean(axis=1).tolist(), strict=True))
    rival = max((label for label in curves if label != claimed), key=means.__getitem__)
    difference = means[claimed] - means[rival]
    if scores.shape[1] < 2:
        return Finding(figure, report, f"{claimed} - {rival}: {100 * difference:+.2f} %, one seed", UNDECIDED, BEST)
    error = standard_error(scores)
    here = f"{claimed} - {rival}: {100 * difference:+.2f} ± {100 * error:.2f} %"
    return Finding(figure, report, here, decide(difference, error), BEST)


def slower(figure: str, report: str, curves: Curves, label: str) -> Finding:
    """Whether the accuracy of the first epochs is lower than the best model's."""
    if label not in curves or "best" not in curves:
        return Finding(figure, report, "a run failed", UNDECIDED, SLOW)
    first = -(-curves["best"].shape[1] // 4)
    scores = np.array([curves[name][:, :first].mean(axis=1) for name in ("best", label)])
    difference = float(scores[1].mean() - scores[0].mean())
    here = f"{100 * difference:+.2f} % in epochs 1 to {first}"
    if scores.shape[1] < 2:
        return Finding(figure, report, f"{here}, one seed", UNDECIDED, SLOW)
    error = standard_error(scores)
    here = f"{100 * difference:+.2f} ± {100 * error:.2f} % in epochs 1 to {first}"
    return Finding(figure, report, here, decide(-difference, error), SLOW)


def overfits(
    figure: str, report: str, curves: Curves, label: str, *, expected: bool = True, after: int | None = None
) -> Finding:
    """Whether the loss rises again, and if it matters, after which epoch."""
    if label not in curves:
        return Finding(figure, report, "a run failed", UNDECIDED, OVERFITS)
    losses = curves[label]
    mean = losses.mean(axis=0)
    lowest = int(mean.argmin())
    rises = losses[:, -1] - losses[:, lowest]
    share = float(rises.mean() / mean[lowest])
    here = f"lowest loss in epoch {lowest + 1} of {len(mean)}, at the end {share:+.1%}"
    if len(losses) < 2:
        return Finding(figure, report, f"{here}, one seed", UNDECIDED, OVERFITS)
    error = float(rises.std(ddof=1)) / math.sqrt(len(rises))
    rose = share > RISE and float(rises.mean()) > ERRORS * error
    verdict = CONFIRMED if rose == expected else NOT
    if rose and after is not None and abs(lowest + 1 - after) > 2:
        verdict = "confirmed in part: overfits, but not after that epoch"
    return Finding(figure, report, here, verdict, OVERFITS)
