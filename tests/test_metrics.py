"""Accuracy, confusion matrix, report and calibration error, against scikit-learn and slow loops."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fnet import losses, metrics, tree
from fnet import random as frandom
from fnet.testing import assert_trees_equal

KEY = frandom.key(0)


def example(rows: int, num_classes: int, used: int) -> tuple[Any, Any, Any]:
    """Logits, labels and predictions; only the first `used` classes occur, and the first is never predicted."""
    logits_key, labels_key = frandom.split(KEY)
    logits = 2 * frandom.normal(logits_key, (rows, num_classes), "float64")
    logits[:, 0] -= 100
    labels = frandom.bits(labels_key, rows, "uint32").astype(np.int64) % used
    logits[np.arange(rows), labels] += 1
    return tree.freeze((logits, labels, logits.argmax(axis=1)))


EXAMPLES = [(1, 2, 1), (7, 3, 2), (500, 2, 2), (500, 10, 10), (500, 10, 6)]
each_example = pytest.mark.parametrize(("rows", "num_classes", "used"), EXAMPLES)


@each_example
def test_as_scikit_learn(rows: int, num_classes: int, used: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
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
def test_by_counting(rows: int, num_classes: int, used: int) -> None:
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
    error = 0.0
    for members in bins:
        if members:
            error += abs(sum(right - confidence for confidence, right in members)) / len(labels)
    return error


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
    with pytest.raises(ValueError, match="expected 3 names of classes, but got 2"):
        metrics.format_report(report, ("a", "b"))


@pytest.mark.parametrize(
    ("predictions", "labels"),
    [([0, 1], [0]), ([], []), ([[0.1, 0.9]], [0, 1]), (1, 1), ([[[0.5]]], [0]), ([0], [[0]]), ([[1], [0]], [1, 0])],
)
def test_accuracy_of_what_does_not_fit(predictions: Any, labels: Any) -> None:
    with pytest.raises(ValueError, match="expected as many predictions as labels, but got"):
        metrics.accuracy(predictions, labels)


@pytest.mark.parametrize("use", [metrics.confusion_matrix, metrics.classification_report])
@pytest.mark.parametrize(
    ("labels", "predictions", "error", "message"),
    [
        ([0, 3], [0, 0], ValueError, "labels must be from 0 to 2 for 3 classes, but got 0 to 3"),
        ([0, 0], [0, -1], ValueError, "labels must be from 0 to 2 for 3 classes, but got -1 to 0"),
        ([0.0], [0], TypeError, "labels must be integers, but got float64"),
        ([0], [[0]], ValueError, r"labels must have shape \[batch\], but got \(1, 1\)"),
        ([0, 1], [0], ValueError, "got 2 labels, but 1 predictions"),
    ],
)
def test_labels_that_do_not_fit(
    use: Callable[..., Any], labels: Any, predictions: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        use(labels, predictions, 3)


def test_a_report_of_nothing() -> None:
    nothing = np.zeros(0, int)
    assert metrics.confusion_matrix(nothing, nothing, 2).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="a report needs at least one example"):
        metrics.classification_report(nothing, nothing, 2)


@pytest.mark.parametrize(
    ("probabilities", "labels", "error", "message"),
    [
        ([0.5, 0.5], [0, 1], ValueError, r"probabilities must be \[batch, classes\]; got \(2,\)"),
        (np.zeros((0, 2)), [], ValueError, r"probabilities must be \[batch, classes\]; got \(0, 2\)"),
        ([[0.5, 0.5]], [0, 1], ValueError, "got 2 labels for 1 rows of probabilities"),
        ([[0.5, 0.5]], [2], ValueError, "labels must be from 0 to 1"),
        ([[0.5, 0.5]], [0.0], TypeError, "labels must be integers"),
    ],
)
def test_calibration_of_what_does_not_fit(
    probabilities: Any, labels: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        metrics.expected_calibration_error(probabilities, labels)


def test_purity() -> None:
    given = example(50, 4, 4)
    copies = tree.map(np.copy, given)
    logits, labels, predictions = given
    metrics.accuracy(logits, labels)
    metrics.format_report(metrics.classification_report(labels, predictions, 4))
    metrics.expected_calibration_error(tree.freeze(losses.softmax(logits)), labels)
    assert_trees_equal(given, copies)


def test_calibration_error_of_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        metrics.expected_calibration_error([[-5.0, 3.0]], [1])
    with pytest.raises(ValueError, match="num_bins"):
        metrics.expected_calibration_error([[0.5, 0.5]], [1], num_bins=0)
