"""Accuracy, confusion matrix, report and calibration error, against scikit-learn and slow loops."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import check_purity, library

from fnet import losses, metrics, random, tree

KEY = random.key(0)


def example(rows: int, num_classes: int, used: int) -> tuple[Any, Any, Any]:
    """Logits, labels and predictions; only the first `used` classes occur, and the first is never predicted."""
    logits_key, labels_key = random.split(KEY)
    logits = 2 * random.normal(logits_key, (rows, num_classes), "float64")
    logits[:, 0] -= 100
    labels = random.bits(labels_key, rows, "uint32").astype(np.int64) % used
    logits[np.arange(rows), labels] += 1
    return tree.freeze((logits, labels, logits.argmax(axis=1)))


EXAMPLES = [(1, 2, 1), (7, 3, 2), (500, 2, 2), (500, 10, 10), (500, 10, 6)]
each_example = pytest.mark.parametrize(("rows", "num_classes", "used"), EXAMPLES)


@each_example
def test_metrics_equal_those_of_scikit_learn(rows: int, num_classes: int, used: int) -> None:
    sklearn = library("sklearn.metrics")
    logits, labels, predictions = example(rows, num_classes, used)
    classes = range(num_classes)
    accuracy = sklearn.accuracy_score(labels, predictions)
    assert metrics.accuracy(logits, labels) == metrics.accuracy(predictions, labels) == accuracy
    matrix = metrics.confusion_matrix(labels, predictions, num_classes)
    np.testing.assert_array_equal(matrix, sklearn.confusion_matrix(labels, predictions, labels=classes))
    report = metrics.classification_report(labels, predictions, num_classes)

    def scores(average: str | None) -> Any:
        return sklearn.precision_recall_fscore_support(
            labels, predictions, labels=classes, average=average, zero_division=0
        )

    for ours, theirs in zip(report[:4], scores(None), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert report.accuracy == pytest.approx(accuracy, rel=1e-12)
    assert report.macro == pytest.approx(scores("macro")[:3], rel=1e-12)
    assert report.weighted == pytest.approx(scores("weighted")[:3], rel=1e-12)


@each_example
def test_metrics_are_counts(rows: int, num_classes: int, used: int) -> None:
    logits, labels, predictions = example(rows, num_classes, used)
    pairs = list(zip(labels.tolist(), predictions.tolist(), strict=True))
    right = sum(label == prediction for label, prediction in pairs)
    assert metrics.accuracy(logits, labels) == metrics.accuracy(predictions, labels) == right / rows
    matrix = metrics.confusion_matrix(labels, predictions, num_classes)
    assert matrix.tolist() == [[pairs.count((i, j)) for j in range(num_classes)] for i in range(num_classes)]
    report = metrics.classification_report(labels, predictions, num_classes)
    for k in range(num_classes):
        hits = pairs.count((k, k))
        predicted, support = sum(p == k for _, p in pairs), sum(label == k for label, _ in pairs)
        precision = hits / predicted if predicted else 0
        recall = hits / support if support else 0
        f1 = 2 * precision * recall / (precision + recall) if hits else 0
        assert report.support[k] == support
        assert (report.precision[k], report.recall[k], report.f1[k]) == pytest.approx((precision, recall, f1))
    assert report.accuracy == right / rows
    for average, weights in ((report.macro, None), (report.weighted, report.support)):
        assert average == pytest.approx([np.average(score, weights=weights) for score in report[:3]])
    assert not any(array.flags.writeable for array in report[:4])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_small_integers_do_not_wrap_around(dtype: Any) -> None:
    labels = np.array([99, 99, 98], dtype)
    matrix = metrics.confusion_matrix(labels, labels, 100)
    assert (matrix[99, 99], matrix[98, 98], matrix.sum()) == (2, 1, 3)
    assert matrix.dtype == np.int64


def slow_calibration_error(probabilities: Any, labels: Any, num_bins: int) -> float:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(num_bins)]
    for p, label in zip(probabilities, labels, strict=True):
        confidence = max(p)
        index = next(i for i in range(num_bins) if confidence < (i + 1) / num_bins or i == num_bins - 1)
        bins[index].append((confidence, list(p).index(confidence) == label))
    return sum(abs(sum(right - confidence for confidence, right in members)) for members in bins) / len(labels)


@each_example
@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_expected_calibration_error_is_a_loop_over_bins(rows: int, num_classes: int, used: int, num_bins: int) -> None:
    logits, labels, _ = example(rows, num_classes, used)
    p = losses.softmax(logits)
    expected = slow_calibration_error(p.tolist(), labels.tolist(), num_bins)
    assert metrics.expected_calibration_error(p, labels, num_bins=num_bins) == pytest.approx(expected, rel=1e-9)
    if num_bins == 15:
        assert metrics.expected_calibration_error(p, labels) == pytest.approx(expected, rel=1e-9)


def test_expected_calibration_error_at_its_ends() -> None:
    assert metrics.expected_calibration_error([[1.0, 0.0]] * 3, [0, 0, 0]) == 0
    assert metrics.expected_calibration_error([[1.0, 0.0]] * 3, [1, 1, 1]) == 1
    # One bin hides what two show: over- and underconfidence that cancel.
    p, labels = [[0.9, 0.1], [0.6, 0.4]], [1, 0]
    assert metrics.expected_calibration_error(p, labels, num_bins=1) == pytest.approx(0.25)
    assert metrics.expected_calibration_error(p, labels, num_bins=10) == pytest.approx((0.9 + 0.4) / 2)


def test_format_report() -> None:
    report = metrics.classification_report([0, 0, 1, 2], [0, 1, 1, 2], 3)
    lines = metrics.format_report(report, ("a class with a long name", "b", 7)).splitlines()
    assert lines[0].split() == ["class", "precision", "recall", "f1", "support"]
    assert lines[1].split()[-5:] == ["name", "1.00", "0.50", "0.67", "2"]
    assert lines[3].split() == ["7", "1.00", "1.00", "1.00", "1"]
    assert lines[5].split() == ["macro", "avg", "0.83", "0.83", "0.78", "4"]
    assert lines[6].split() == ["weighted", "avg", "0.88", "0.75", "0.75", "4"]
    assert lines[7].split() == ["accuracy", "0.75", "4"]
    assert len({len(line) for line in lines if line}) == 1
    assert metrics.format_report(report).splitlines()[3].split()[0] == "2"
    with pytest.raises(ValueError, match="expected 3 class names, but got 2"):
        metrics.format_report(report, ("a", "b"))


@pytest.mark.parametrize(
    ("predictions", "labels"),
    [([0, 1], [0]), ([], []), ([[0.1, 0.9]], [0, 1]), (1, 1), ([[[0.5]]], [0]), ([0], [[0]]), ([[1], [0]], [1, 0])],
)
def test_accuracy_refuses(predictions: Any, labels: Any) -> None:
    with pytest.raises(ValueError, match="expected as many predictions as labels, but got"):
        metrics.accuracy(predictions, labels)


@pytest.mark.parametrize("f", [metrics.confusion_matrix, metrics.classification_report])
@pytest.mark.parametrize(
    ("labels", "predictions", "error", "message"),
    [
        ([0, 3], [0, 0], ValueError, "labels must be from 0 to 2 for 3 classes, but got 0 to 3"),
        ([0, 0], [0, -1], ValueError, "labels must be from 0 to 2 for 3 classes, but got -1 to 0"),
        ([0.0], [0], TypeError, "labels must be integers, but got float64"),
        ([0], [[0]], ValueError, r"labels must have shape \[batch\], but got \[1, 1\]"),
        ([0, 1], [0], ValueError, "expected as many predictions as labels, but got 1 and 2"),
    ],
)
def test_confusion_matrix_refuses(
    f: Callable[..., Any], labels: Any, predictions: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        f(labels, predictions, 3)


def test_a_report_needs_examples() -> None:
    nothing = np.zeros(0, int)
    assert metrics.confusion_matrix(nothing, nothing, 2).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="a classification report needs at least one example"):
        metrics.classification_report(nothing, nothing, 2)


@pytest.mark.parametrize(
    ("probabilities", "labels", "error", "message"),
    [
        ([0.5, 0.5], [0, 1], ValueError, r"probabilities must have shape \[batch, classes\], but got \[2\]"),
        (np.zeros((0, 2)), [], ValueError, r"probabilities must have shape \[batch, classes\], but got \[0, 2\]"),
        ([[0.5, 0.5]], [0, 1], ValueError, "got 2 labels for 1 rows of probabilities"),
        ([[0.5, 0.5]], [2], ValueError, "labels must be from 0 to 1"),
        ([[0.5, 0.5]], [0.0], TypeError, "labels must be integers"),
    ],
)
def test_expected_calibration_error_refuses(
    probabilities: Any, labels: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        metrics.expected_calibration_error(probabilities, labels)


def test_expected_calibration_error_needs_probabilities_and_bins() -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        metrics.expected_calibration_error([[-5.0, 3.0]], [1])
    with pytest.raises(ValueError, match="num_bins"):
        metrics.expected_calibration_error([[0.5, 0.5]], [1], num_bins=0)


# The score of a network


def mean_score(loss: str, outputs: Any, targets: Any) -> float:
    scores = check_purity(metrics.example_scores, loss, *tree.freeze((outputs, targets)))
    assert scores.shape == (len(targets),)
    return metrics.mean_score(loss, float(scores.sum()), len(targets))


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
@pytest.mark.parametrize("num_targets", [1, 3])
def test_the_score_of_numbers_is_the_rmse_of_scikit_learn(loss: str, num_targets: int) -> None:
    sklearn = library("sklearn.metrics")
    outputs, targets = random.normal(KEY, (2, 50, num_targets), "float64")
    expected = sklearn.mean_squared_error(targets, outputs) ** 0.5
    assert metrics.score_name(loss) == "rmse"
    assert mean_score(loss, outputs, targets) == pytest.approx(expected, rel=1e-12)
    if num_targets == 1:
        assert mean_score(loss, outputs, targets[:, 0]) == pytest.approx(expected, rel=1e-12)


def test_the_score_of_quantiles_is_their_coverage() -> None:
    outputs = np.array([[1.0, 2.0, 3.0]] * 4)
    targets = np.array([[0.9], [1.0], [3.0], [3.1]])
    assert metrics.score_name("pinball") == "coverage"
    assert mean_score("pinball", outputs, targets) == 0.5
    assert mean_score("pinball", outputs[:, :1], targets) == 0.5
    assert mean_score("pinball", outputs[:, 2:], targets[:, 0]) == 0.75


def test_the_score_of_classes_is_their_accuracy() -> None:
    logits, labels, _ = example(50, 4, 4)
    assert metrics.score_name("cross_entropy") == "accuracy"
    assert mean_score("cross_entropy", logits, labels) == metrics.accuracy(logits, labels)
    assert mean_score("cross_entropy", logits, np.eye(4)[labels]) == metrics.accuracy(logits, labels)


def test_purity() -> None:
    logits, labels, predictions = example(50, 4, 4)
    p = tree.freeze(losses.softmax(logits))
    check_purity(metrics.accuracy, logits, labels)
    check_purity(metrics.confusion_matrix, labels, predictions, 4)
    check_purity(metrics.classification_report, labels, predictions, 4)
    check_purity(metrics.expected_calibration_error, p, labels)
