"""Softmax and cross entropy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fnet import losses, tree
from fnet import random as frandom
from fnet.testing import check_grads

LABELS = np.array([0, 3, 1, 3, 2])


def draw(*shape: int, seed: int = 0, dtype: str = "float64") -> Any:
    return tree.freeze(frandom.normal(frandom.key(seed), shape, dtype))


def test_softmax_is_its_equation() -> None:
    logits = draw(5, 4)
    p = losses.softmax(logits)
    np.testing.assert_allclose(p, [[np.exp(z) / sum(np.exp(row)) for z in row] for row in logits], rtol=1e-12)
    np.testing.assert_allclose(losses.log_softmax(logits), np.log(p), rtol=1e-12)
    np.testing.assert_allclose(losses.softmax(logits + 100), p, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 5, 4)])
def test_softmax_sums_to_1_over_the_last_axis(shape: tuple[int, ...], dtype: str) -> None:
    logits = 1e4 * draw(*shape, dtype=dtype)
    p = losses.softmax(logits)
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-6)
    assert p.shape == shape
    assert p.dtype == losses.log_softmax(logits).dtype == dtype


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finite_for_logits_of_1e4(dtype: str) -> None:
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]], dtype)
    log_p = losses.log_softmax(logits)
    log2, log3 = np.log(2), np.log(3)
    np.testing.assert_allclose(log_p, [[0, -2e4, -1e4], [-2e4 - log2, -log2, -log2], [-log3] * 3], rtol=1e-6)
    loss = losses.softmax_cross_entropy_with_integer_labels(logits, np.array([1, 1, 0]))
    np.testing.assert_allclose(loss, [2e4, log2, log3], rtol=1e-6)
    _, residuals = losses.softmax_cross_entropy_fwd(logits, np.eye(3, dtype=dtype))
    dlogits = losses.softmax_cross_entropy_bwd(residuals, np.ones(3, dtype))
    np.testing.assert_allclose(dlogits, losses.softmax(logits) - np.eye(3), atol=1e-6)


def test_cross_entropy_is_its_equation() -> None:
    logits, targets = draw(5, 4), losses.softmax(draw(5, 4, seed=1))
    p = losses.softmax(logits)
    expected = [-sum(t * np.log(q) for t, q in zip(ts, qs, strict=True)) for ts, qs in zip(targets, p, strict=True)]
    np.testing.assert_allclose(losses.softmax_cross_entropy(logits, targets), expected, rtol=1e-12)
    by_label = losses.softmax_cross_entropy_with_integer_labels(logits, LABELS)
    np.testing.assert_allclose(by_label, [-np.log(q[label]) for q, label in zip(p, LABELS, strict=True)], rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_integer_labels_are_explicit_targets(smoothing: float, dtype: str) -> None:
    logits = draw(5, 4, dtype=dtype)
    targets = ((1 - smoothing) * np.eye(4)[LABELS] + smoothing / 4).astype(dtype)
    by_label = losses.softmax_cross_entropy_with_integer_labels(logits, LABELS, label_smoothing=smoothing)
    np.testing.assert_allclose(by_label, losses.softmax_cross_entropy(logits, targets), rtol=1e-6)
    np.testing.assert_allclose(losses.label_targets(LABELS, 4, smoothing, dtype), targets, rtol=1e-6)
    assert by_label.dtype == losses.label_targets(LABELS, 4, smoothing, dtype).dtype == dtype
    assert losses.label_targets(LABELS, 4, smoothing).dtype == np.float32


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_smooth_targets(smoothing: float) -> None:
    targets = losses.softmax(draw(5, 4))
    smooth = losses.smooth_targets(targets, smoothing)
    np.testing.assert_allclose(smooth, (1 - smoothing) * targets + smoothing * 0.25, rtol=1e-12)
    np.testing.assert_allclose(smooth.sum(axis=1), 1)


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4)])
def test_cross_entropy_gradient(shape: tuple[int, ...]) -> None:
    targets = np.abs(draw(*shape, seed=1))  # which do not sum to 1
    cotangent = draw(*shape[:-1], seed=2)

    def f_and_grads(logits: Any) -> tuple[float, Any]:
        loss, residuals = losses.softmax_cross_entropy_fwd(logits, targets)
        return float((cotangent * loss).sum()), losses.softmax_cross_entropy_bwd(residuals, cotangent)

    check_grads(f_and_grads, draw(*shape), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("logits", "error", "message"),
    [
        (np.array([[1, 2]]), TypeError, r"logits must be floats, but got int64; logits\.astype\(numpy\.float32\)"),
        (np.array([[True, False]]), TypeError, "logits must be floats, but got bool"),
        (np.array([["a", "b"]]), TypeError, "logits must be floats, but got <U1"),
        (np.array(1.0), ValueError, r"logits must have shape \[\.\.\., classes\], but got \[\]"),
        (np.zeros((1, 0)), ValueError, r"logits must have shape \[\.\.\., classes\], but got \[1, 0\]"),
    ],
)
def test_bad_logits(logits: Any, error: type[Exception], message: str) -> None:
    for use in (
        losses.softmax,
        losses.log_softmax,
        lambda logits: losses.softmax_cross_entropy(logits, logits),
        lambda logits: losses.softmax_cross_entropy_with_integer_labels(logits, np.array([0])),
    ):
        with pytest.raises(error, match=message):
            use(logits)


@pytest.mark.parametrize("labels", [[0, 2], np.array([1, 0], np.uint8), np.zeros(0, int)])
def test_check_labels_passes_integers(labels: Any) -> None:
    np.testing.assert_array_equal(losses.check_labels(labels, 3), labels)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0.0, 1.0], TypeError, "labels must be integers, but got float64; .*astype"),
        (["a"], TypeError, "labels must be integers, but got <U1; fnet.data.load"),
        ([True], TypeError, "labels must be integers, but got bool"),
        ([[0, 1]], ValueError, r"must have shape \[batch\], but got \(1, 2\)"),
        (1, ValueError, r"must have shape \[batch\], but got \(\)"),
        ([0, 3], ValueError, "from 0 to 2 for 3 classes, but got 0 to 3"),
        ([-1, 2], ValueError, "from 0 to 2 for 3 classes, but got -1 to 2"),
    ],
)
def test_bad_labels(labels: Any, error: type[Exception], message: str) -> None:
    for use in (
        lambda: losses.check_labels(labels, 3),
        lambda: losses.label_targets(labels, 3),
        lambda: losses.softmax_cross_entropy_with_integer_labels(np.zeros((2, 3)), labels),
    ):
        with pytest.raises(error, match=message):
            use()


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, np.nan])
def test_bad_smoothing(smoothing: float) -> None:
    for use in (
        lambda: losses.smooth_targets(np.ones((1, 2)), smoothing),
        lambda: losses.label_targets(LABELS, 4, smoothing),
        lambda: losses.softmax_cross_entropy_with_integer_labels(np.ones((5, 4)), LABELS, label_smoothing=smoothing),
    ):
        with pytest.raises(ValueError, match=rf"label_smoothing must be in \[0, 1\], but got {smoothing}"):
            use()


@pytest.mark.parametrize("use", [losses.softmax_cross_entropy, losses.softmax_cross_entropy_fwd])
@pytest.mark.parametrize("shape", [(5, 3), (4,), (4, 4), (5, 1), (1, 4)])
def test_targets_must_have_the_shape_of_the_logits(use: Callable[..., Any], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"targets must have the shape of the logits, \(5, 4\), but got"):
        use(np.zeros((5, 4)), np.zeros(shape))
    with pytest.raises(ValueError, match="targets must have the shape of the logits"):
        losses.softmax_cross_entropy_with_integer_labels(np.zeros((5, 4)), LABELS[:2])


@pytest.mark.parametrize("dtype", ["float64", "int64", "bool"])
def test_the_loss_has_the_dtype_of_the_logits(dtype: str) -> None:
    logits = np.array([[0.5, 2.0], [1.0, -1.0]], np.float32)
    loss = losses.softmax_cross_entropy(logits, np.eye(2).astype(dtype))
    assert loss.dtype == np.float32
    np.testing.assert_array_equal(loss, losses.softmax_cross_entropy(logits, np.eye(2, dtype=np.float32)))
    smoothed = losses.softmax_cross_entropy_with_integer_labels
    assert smoothed(logits, np.array([0, 1]), label_smoothing=np.float64(0.1)).dtype == np.float32


def test_targets_must_be_numbers() -> None:
    with pytest.raises(TypeError, match="targets must be numbers, but got <U1"):
        losses.softmax_cross_entropy(np.zeros((1, 1)), np.array([["a"]]))


def test_purity() -> None:
    logits, targets = draw(5, 4), tree.freeze(losses.softmax(draw(5, 4, seed=1)))
    labels, cotangent = tree.freeze(LABELS.copy()), tree.freeze(np.ones(5))
    given = (logits, targets, labels, cotangent)
    copies = [array.copy() for array in given]
    losses.softmax(logits)
    losses.log_softmax(logits)
    losses.smooth_targets(targets, 0.1)
    losses.softmax_cross_entropy_with_integer_labels(logits, labels, label_smoothing=0.1)
    _, residuals = losses.softmax_cross_entropy_fwd(logits, targets)
    first = losses.softmax_cross_entropy_bwd(residuals, cotangent)
    np.testing.assert_array_equal(losses.softmax_cross_entropy_bwd(residuals, cotangent), first)
    for array, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
