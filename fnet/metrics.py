"""Metrics of predictions.

Classification: accuracy, confusion matrix, precision, recall, F1 and calibration error. Regression: RMSE, MAE and R².
Quantiles: pinball loss and coverage.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fnet.losses import check_labels, pinball_fwd
from fnet.nn import Array
from fnet.tree import container, freeze

__all__ = [
    "ClassificationReport",
    "accuracy",
    "classification_report",
    "confusion_matrix",
    "coverage",
    "example_scores",
    "expected_calibration_error",
    "format_report",
    "mean_absolute_error",
    "mean_score",
    "pinball_loss",
    "r2_score",
    "root_mean_squared_error",
    "score_name",
]


def score_name(loss: str) -> str:
    """The name of the score of a network with the given loss: "accuracy", "rmse" or "coverage".

    >>> score_name("squared_error")
    'rmse'
    """
    return {"cross_entropy": "accuracy", "pinball": "coverage"}.get(loss, "rmse")


def example_scores(loss: str, outputs: Array, targets: Array) -> Array:
    """The contribution of each example to the score of a network with the given loss, `[rows]`; see `mean_score`.

    For the accuracy, whether the class is right. For the RMSE, the mean squared error over the targets. For the
    coverage, whether the target is between the lowest and the highest quantile, or not above a single quantile.

    >>> example_scores("squared_error", np.array([[1.0, 3.0]]), np.zeros((1, 2)))
    array([5.])

    Args:
        loss: one of `fnet.params.LOSSES`.
        outputs: `[rows, outputs]`.
        targets: `[rows]` labels or numbers, `[rows, classes]` probabilities, or `[rows, targets]` numbers.
    """
    if loss == "cross_entropy":
        labels = targets if targets.ndim == 1 else targets.argmax(axis=1)
        return outputs.argmax(axis=1) == labels
    if targets.ndim == 1:
        targets = targets[:, None]
    if loss == "pinball":
        above = outputs[:, 0] <= targets[:, 0] if outputs.shape[1] > 1 else True
        return above & (targets[:, 0] <= outputs[:, -1])
    return np.square(outputs - targets).mean(axis=1)


def mean_score(loss: str, total: float, count: int) -> float:
    """The score from the sum of `example_scores` over `count` examples.

    >>> mean_score("squared_error", 8.0, 2)
    2.0
    """
    return math.sqrt(total / count) if score_name(loss) == "rmse" else total / count


# Classification -------------------------------------------------------------------------------------------------------


def accuracy(logits_or_labels: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The fraction of examples whose predicted class is right.

    >>> accuracy([[0.1, 2.0], [3.0, 0.0]], [1, 1]), accuracy([1, 0], [1, 1])
    (0.5, 0.5)

    Args:
        logits_or_labels: `[batch, classes]` logits or probabilities, or `[batch]` predicted labels.
        labels: the true labels, `[batch]`.

    Raises:
        ValueError: the numbers of predictions and labels differ or are 0.
    """
    predictions, labels = np.asarray(logits_or_labels), np.asarray(labels)
    if predictions.ndim == 2 and predictions.shape[1] > 1:
        predictions = predictions.argmax(axis=1)
    if predictions.shape != labels.shape or labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"expected as many predictions as labels, but got {predictions.shape} and {labels.shape}")
    return int(np.count_nonzero(predictions == labels)) / len(labels)


def confusion_matrix(labels: npt.ArrayLike, predictions: npt.ArrayLike, num_classes: int) -> npt.NDArray[np.int64]:
    """`C[i, j]`, the number of examples of class i that are predicted as class j, `[classes, classes]`.

    >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2)
    array([[1, 1],
           [0, 1]])

    Raises:
        TypeError, ValueError: labels or predictions are not integers in [0, num_classes).
    """
    labels, predictions = check_labels(labels, num_classes), check_labels(predictions, num_classes)
    if len(labels) != len(predictions):
        raise ValueError(f"expected as many predictions as labels, but got {len(predictions)} and {len(labels)}")
    cells = labels.astype(np.int64) * num_classes + predictions.astype(np.int64)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


@container
class ClassificationReport(NamedTuple):
    """Precision, recall and F1 of each class, and their averages: Chen & Wu, Table II.

    The precision of a class that is never predicted is 0, as is the recall of a class that never occurs.
    """

    precision: Array  # [classes]; the fraction of predictions of the class that are right
    recall: Array  # [classes]; the fraction of examples of the class that are predicted right
    f1: Array  # [classes]; the harmonic mean of precision and recall
    support: npt.NDArray[np.int64]  # [classes]; the number of examples of the class
    accuracy: float
    macro: tuple[float, float, float]  # means of precision, recall and F1 over the classes
    weighted: tuple[float, float, float]  # the same means, weighted by the support


def classification_report(labels: npt.ArrayLike, predictions: npt.ArrayLike, num_classes: int) -> ClassificationReport:
    """Precision, recall and F1 of each class and on average.

    >>> classification_report([0, 0, 1], [0, 1, 1], 2).recall
    array([0.5, 1. ])

    Raises:
        TypeError, ValueError: as for `confusion_matrix`, or there are no examples.
    """
    matrix = confusion_matrix(labels, predictions, num_classes)
    right, support, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    if not support.sum():
        raise ValueError("a classification report needs at least one example")
    precision = _quotient(right, predicted)
    recall = _quotient(right, support)
    f1 = _quotient(2 * right, support + predicted)
    scores = (precision, recall, f1)
    macro = tuple(float(score.mean()) for score in scores)
    weighted = tuple(float(np.average(score, weights=support)) for score in scores)
    return ClassificationReport(
        *freeze((precision, recall, f1, support)),
        accuracy=float(right.sum() / support.sum()),
        macro=(macro[0], macro[1], macro[2]),
        weighted=(weighted[0], weighted[1], weighted[2]),
    )


def format_report(report: ClassificationReport, classes: tuple[int | str, ...] | None = None) -> str:
    """Format a classification report as a table, in the layout of Chen & Wu's Table II.

    >>> print(format_report(classification_report([0, 0, 1], [0, 1, 1], 2), ("no", "yes")))
    class          precision    recall        f1   support
    no                  1.00      0.50      0.67         2
    yes                 0.50      1.00      0.67         1
    <BLANKLINE>
    macro avg           0.75      0.75      0.67         3
    weighted avg        0.83      0.67      0.67         3
    accuracy                                0.67         3

    Raises:
        ValueError: the number of names is not the number of classes.
    """
    names = [str(name) for name in classes or range(len(report.support))]
    if len(names) != len(report.support):
        raise ValueError(f"expected {len(report.support)} class names, but got {len(names)}")
    width = max(12, *(len(name) for name in names))
    total = int(report.support.sum())

    def line(name: str, scores: tuple[float, ...], support: int) -> str:
        cells = "".join(f"{score:>10.2f}" for score in scores)
        return f"{name:<{width}} {cells:>31}{support:>10}"

    rows = zip(names, report.precision, report.recall, report.f1, report.support, strict=True)
    return "\n".join(
        [
            f"{'class':<{width}} {'precision':>11}{'recall':>10}{'f1':>10}{'support':>10}",
            *(line(name, (p, r, f), int(n)) for name, p, r, f, n in rows),
            "",
            line("macro avg", report.macro, total),
            line("weighted avg", report.weighted, total),
            line("accuracy", (report.accuracy,), total),
        ]
    )


def expected_calibration_error(probabilities: npt.ArrayLike, labels: npt.ArrayLike, *, num_bins: int = 15) -> float:
    """The expected calibration error: Guo et al. (2017), Eq. (3).

    The n examples are divided into bins of equal width by their confidence, which is the highest probability. The
    error is `sum over bins of |bin| / n * |accuracy(bin) - mean confidence(bin)|`.

    >>> expected_calibration_error([[0.75, 0.25]] * 4, [0, 0, 0, 1])
    0.0

    Args:
        probabilities: `[batch, classes]`.
        labels: the true labels, `[batch]`.
        num_bins: the number of bins.

    Raises:
        TypeError, ValueError: the shapes differ, labels or probabilities are out of range, or there are no examples.
    """
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2 or len(probabilities) == 0:
        raise ValueError(f"probabilities must have shape [batch, classes], but got {list(probabilities.shape)}")
    if not (probabilities.min() >= 0 and probabilities.max() <= 1 + 1e-6):
        raise ValueError("probabilities must be from 0 to 1; fnet.losses.softmax converts logits")
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, but got {num_bins}")
    labels = check_labels(labels, probabilities.shape[1])
    if len(labels) != len(probabilities):
        raise ValueError(f"got {len(labels)} labels for {len(probabilities)} rows of probabilities")
    confidence = probabilities.max(axis=1)
    gap = (probabilities.argmax(axis=1) == labels) - confidence
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    return float(np.abs(np.bincount(bins, gap, num_bins)).sum() / len(labels))


def _quotient(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Array:
    return np.divide(a, b, out=np.zeros(len(a)), where=b > 0)


# Regression -----------------------------------------------------------------------------------------------------------


def root_mean_squared_error(targets: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
    """`sqrt(mean_i (y_i - p_i)^2)` in the unit of the targets, averaged over several targets.

    >>> round(root_mean_squared_error([1.0, 2.0], [1.0, 4.0]), 3)
    1.414

    Args:
        targets, predictions: `[rows]` or `[rows, targets]`.

    Raises:
        ValueError: the shapes differ, there are no rows, or a number is not finite.
    """
    y, p = _numbers(targets, predictions)
    return float(np.sqrt(np.square(y - p).mean(axis=0)).mean())


def mean_absolute_error(targets: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
    """`mean_i |y_i - p_i|` in the unit of the targets, averaged over several targets.

    >>> mean_absolute_error([1.0, 2.0], [1.0, 4.0])
    1.0

    Raises:
        ValueError: as for `root_mean_squared_error`.
    """
    y, p = _numbers(targets, predictions)
    return float(np.abs(y - p).mean())


def r2_score(targets: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
    """`1 - sum_i (y_i - p_i)^2 / sum_i (y_i - mean y)^2`, averaged over several targets.

    For a constant target, it is 1 if all predictions are right and 0 otherwise.

    >>> r2_score([1.0, 2.0, 3.0], [1.0, 2.0, 2.0])
    0.5

    Raises:
        ValueError: as for `root_mean_squared_error`.
    """
    y, p = _numbers(targets, predictions)
    errors, spread = (np.square(y - centre).sum(axis=0) for centre in (p, y.mean(axis=0)))
    spread[(y == y[0]).all(axis=0)] = 0  # not the rounding error of the mean
    share = np.divide(errors, spread, out=(errors > 0).astype(np.float64), where=spread > 0)
    return float((1 - share).mean())


def pinball_loss(targets: npt.ArrayLike, quantiles: npt.ArrayLike, levels: tuple[float, ...]) -> float:
    """The mean pinball loss of predicted quantiles, in the unit of the target: Koenker & Bassett (1978).

    >>> round(pinball_loss([2.0, 2.0], [[1.0], [3.0]], (0.9,)), 3)
    0.5

    Args:
        targets: `[rows]`.
        quantiles: the predicted quantiles, `[rows, quantiles]`.
        levels: the level of each quantile, in (0, 1).

    Raises:
        ValueError: the shapes do not match, there are no rows, or a number is not finite.
    """
    y, q = _quantiles(targets, quantiles)
    if len(levels) != q.shape[1]:
        raise ValueError(f"expected {q.shape[1]} levels, one for each quantile, but got {len(levels)}")
    return float(pinball_fwd(q, y[:, None], tuple(levels))[0].mean())


def coverage(targets: npt.ArrayLike, quantiles: npt.ArrayLike) -> float:
    """The fraction of targets between the lowest and the highest predicted quantile, or up to a single quantile.

    For the quantiles 0.1 and 0.9, it should be 0.8.

    >>> coverage([1.0, 2.0], [[0.0, 1.5], [0.0, 1.5]])
    0.5

    Args:
        targets: `[rows]`.
        quantiles: the predicted quantiles, `[rows, quantiles]`.

    Raises:
        ValueError: as for `pinball_loss`.
    """
    y, q = _quantiles(targets, quantiles)
    return mean_score("pinball", float(example_scores("pinball", np.sort(q, axis=1), y).sum()), len(y))


def _quantiles(targets: npt.ArrayLike, quantiles: npt.ArrayLike) -> tuple[Array, Array]:
    y, q = np.asarray(targets, np.float64), np.asarray(quantiles, np.float64)
    if y.ndim != 1 or q.ndim != 2 or len(q) != len(y) or q.size == 0:
        raise ValueError(f"expected targets [rows] and quantiles [rows, quantiles], but got {y.shape} and {q.shape}")
    return _finite(y, q)


def _numbers(targets: npt.ArrayLike, predictions: npt.ArrayLike) -> tuple[Array, Array]:
    """Targets and predictions as float64 `[rows, targets]`."""
    y, p = np.asarray(targets, np.float64), np.asarray(predictions, np.float64)
    if y.shape != p.shape or y.ndim not in (1, 2) or y.size == 0:
        raise ValueError(f"expected as many predictions as targets, but got {p.shape} and {y.shape}")
    return _finite(y.reshape(len(y), -1), p.reshape(len(p), -1))


def _finite(*arrays: Array) -> Any:
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("targets and predictions must be finite")
    return arrays
