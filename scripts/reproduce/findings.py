"""The findings of Chen & Wu, and what decides whether a reproduction confirms them."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
Curves: TypeAlias = Mapping[str, Array]  # label to [seeds, epochs], without those of which a run failed

CONFIRMED, NOT, UNDECIDED, OTHER_DATA = "confirmed", "not confirmed", "undecided", "other data"
IN_PART = "confirmed in part: it overfits, but not after that epoch"
FASTER_SGD = "SGD, rate 0.01"
ERRORS = 2  # standard errors that a difference must exceed
RISE = 0.02  # of its lowest value, by which the loss must rise again to be overfitting
ABOUT = 0.02  # how near an accuracy or F1 must be: two standard errors of 5,000 against 10,000 rows are 0.017
ABOUT_LOSS = 0.05

CRITERIA = f"""\
- Numbers: within {ABOUT} of Chen & Wu's (of a loss: {ABOUT_LOSS}); on other data there is nothing to compare. Late
  epochs: the second half.
- X is best: in the mean over the seeds the last accuracy is higher than with each other value. A difference counts
  where it is more than {ERRORS} standard errors from 0; what lies between is undecided. The standard error is of a mean
  of differences with the same seed, its variance pooled over the curves of the figure; it covers the seeds, not the
  choice of rows.
- X converges more slowly: its accuracy, mean over the first quarter of the epochs, is lower than the best model's.
- X overfits: its last loss is higher, by more than {RISE:.0%} and {ERRORS} standard errors, than in the epoch where the
  mean over the seeds is lowest; it does not where that is at most {RISE:.0%}. After epoch 4: that epoch is 2 to 6."""


class Finding(NamedTuple):
    """A finding of Chen & Wu beside what is measured here."""

    figure: str
    claim: str
    here: str
    verdict: str


Verdict: TypeAlias = tuple[str, str]  # what is measured here, and what follows
FAILED: Verdict = ("a run failed", UNDECIDED)


def find(
    accuracy: Mapping[str, Curves], loss: Mapping[str, Curves], f1: Sequence[float], *, comparable: bool
) -> list[Finding]:
    """All findings, each with its verdict.

    Args:
        accuracy, loss: the curves of each study on the validation rows.
        f1: of the best model, one per seed.
        comparable: whether the data are Chen & Wu's.
    """
    findings: list[Finding] = []
    if f1:
        best, best_loss = accuracy["best"]["best"], loss["best"]["best"]
        late = best[:, best.shape[1] // 2 :].mean(axis=1)
        for figure, claim, values, expected, about in (
            ("Fig. 5", "accuracy 0.5862 in the best epoch", best.max(axis=1), 0.5862, ABOUT),
            ("Fig. 5", "accuracy about 0.56 in late epochs", late, 0.56, ABOUT),
            ("Fig. 6", "loss 1.22", best_loss[:, -1], 1.22, ABOUT_LOSS),
            ("Table II", "F1 0.5839", np.array(f1), 0.5839, ABOUT),
        ):
            here, verdict = number(values, expected, about)
            findings.append(Finding(figure, claim, here, verdict if comparable else OTHER_DATA))
    rates, optimizer = accuracy["learning_rate"], accuracy["optimizer"]
    ablations, losses = accuracy["ablations"], loss["ablations"]
    checks: list[tuple[str, str, Verdict]] = [
        ("Fig. 8", "3 hidden layers are best", is_best(accuracy["layers"], "3", "1", "2", "5")),
        ("Fig. 9", "hidden size 256 is best", is_best(accuracy["hidden"], "256", "64", "128")),
        ("Fig. 10", "learning rate 5e-4 is best", is_best(rates, "0.0005", "0.0001", "0.001")),
        ("Fig. 11", "batch size 64 is best", is_best(accuracy["batch_size"], "64", "16", "32")),
        ("Fig. 12", "dropout 0.3 is best", is_best(accuracy["dropout"], "0.3", "0.1", "0.5")),
        ("Fig. 13", "Adam is better than SGD with momentum and weight decay", is_best(optimizer, "Adam", "SGD")),
        ("Fig. 13", "not theirs: than SGD with learning rate 0.01", is_best(optimizer, "Adam", FASTER_SGD)),
        ("Fig. 14", "without dropout it overfits after epoch 4", overfits(losses, "no dropout", after=4)),
        ("Fig. 14", "without batch norm it converges more slowly", slower(ablations, "no batch norm")),
        ("Fig. 14", "without batch norm it does not overfit", overfits(losses, "no batch norm", no=True)),
        ("Fig. 14", "without both it is slow", slower(ablations, "neither")),
        ("Fig. 14", "without both it overfits", overfits(losses, "neither")),
    ]
    return [*findings, *(Finding(figure, claim, *verdict) for figure, claim, verdict in checks)]


def number(values: Array, expected: float, about: float) -> Verdict:
    """Whether the mean over the seeds is near a number."""
    mean = float(values.mean())
    return f"{mean:.4f}", CONFIRMED if abs(mean - expected) <= about else NOT


def is_best(curves: Curves, claimed: str, *rivals: str) -> Verdict:
    """Whether a value beats its rivals at the end."""
    if not {claimed, *rivals} <= set(curves):
        return FAILED
    scores = {label: values[:, -1] for label, values in curves.items()}
    rival = max(rivals, key=lambda label: scores[label].mean())
    return compare(f"{claimed} - {rival}:", scores, claimed, rival)


def slower(curves: Curves, label: str) -> Verdict:
    """Whether the accuracy of the first epochs is lower than the best model's."""
    if not {label, "best"} <= set(curves):
        return FAILED
    first = -(-curves["best"].shape[1] // 4)
    scores = {name: values[:, :first].mean(axis=1) for name, values in curves.items()}
    return compare(f"best - {label}, epochs 1 to {first}:", scores, "best", label)


def compare(what: str, scores: Mapping[str, Array], better: str, worse: str, *, loss: bool = False) -> Verdict:
    """Whether one of the rows `[seeds]` is better than another: of accuracies higher, of losses lower."""
    factor, places, unit = (1, 4, "") if loss else (100, 2, " %")
    difference = factor * float((scores[better] - scores[worse]).mean())
    if len(scores[better]) < 2:
        return f"{what} {difference:+.{places}f}{unit}, one seed", UNDECIDED
    error = factor * standard_error(np.array(list(scores.values())))
    verdict = UNDECIDED if abs(difference) <= ERRORS * error else CONFIRMED if (difference < 0) == loss else NOT
    return f"{what} {difference:+.{places}f} ± {error:.{places}f}{unit}", verdict


def standard_error(scores: Array) -> float:
    """Of the mean difference of two rows of `[values, seeds]`, from the residuals of values + seeds (two-way)."""
    values, seeds = scores.shape
    rest = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0) + scores.mean()
    return math.sqrt(2 * float((rest**2).sum()) / ((values - 1) * (seeds - 1)) / seeds)


def overfits(losses: Curves, label: str, *, no: bool = False, after: int | None = None) -> Verdict:
    """Whether the loss rises again, or with `no` does not, and if it matters, after which epoch."""
    if label not in losses:
        return FAILED
    rises = {name: values[:, -1] - values[:, values.mean(axis=0).argmin()] for name, values in losses.items()}
    mean, rise, seeds = losses[label].mean(axis=0), float(rises[label].mean()), len(losses[label])
    lowest = int(mean.argmin())
    here = f"lowest loss in epoch {lowest + 1} of {len(mean)}, at the end {rise / mean[lowest]:+.1%}"
    if seeds < 2:
        return f"{here}, one seed", UNDECIDED
    error = math.sqrt(np.mean([values.var(ddof=1) for values in rises.values()]) / seeds)
    here += f" ± {error / mean[lowest]:.1%}"
    rose = rise > RISE * mean[lowest]
    if rose and rise <= ERRORS * error:
        return here, UNDECIDED
    if rose and not no and after is not None and abs(lowest + 1 - after) > 2:
        return here, IN_PART
    return here, CONFIRMED if rose != no else NOT
