"""The losses: each against its equation, and its gradient against finite differences."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import check_purity, each_dtype

from fnet import losses, random, tree
from fnet.testing import check_grads

LABELS = tree.freeze(np.array([0, 3, 1, 3, 2]))


def draw(*shape: int, seed: int = 0, dtype: str = "float64") -> Any:
    return tree.freeze(random.normal(random.key(seed), shape, dtype))


# Softmax


def test_softmax_is_its_equation() -> None:
    logits = draw(5, 4)
    p = losses.softmax(logits)
    np.testing.assert_allclose(p, [[np.exp(z) / sum(np.exp(row)) for z in row] for row in logits], rtol=1e-12)
    np.testing.assert_allclose(losses.log_softmax(logits), np.log(p), rtol=1e-12)
    np.testing.assert_allclose(losses.softmax(logits + 100), p, rtol=1e-12)


@each_dtype
@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 5, 4)])
def test_softmax_sums_to_1_over_the_last_axis(shape: tuple[int, ...], dtype: str) -> None:
    logits = 1e4 * draw(*shape, dtype=dtype)
    p = losses.softmax(logits)
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-6)
    assert p.shape == shape
    assert p.dtype == losses.log_softmax(logits).dtype == dtype


# Cross entropy


@each_dtype
def test_cross_entropy_of_logits_of_1e4_is_finite(dtype: str) -> None:
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]], dtype)
    log_p = losses.log_softmax(logits)
    log2, log3 = np.log(2), np.log(3)
    np.testing.assert_allclose(log_p, [[0, -2e4, -1e4], [-2e4 - log2, -log2, -log2], [-log3] * 3], rtol=1e-6)
    loss = losses.softmax_cross_entropy_with_integer_labels(logits, np.array([1, 1, 0]))
    np.testing.assert_allclose(loss, [2e4, log2, log3], rtol=1e-6)
    loss, slope = losses.softmax_cross_entropy_fwd(logits, np.eye(3, dtype=dtype))
    np.testing.assert_allclose(loss, [0, log2, log3], rtol=1e-6)
    np.testing.assert_allclose(slope, losses.softmax(logits) - np.eye(3), atol=1e-6)


@each_dtype
def test_a_logit_of_minus_infinity_is_a_probability_of_0(dtype: str) -> None:
    logits = np.array([[0, -np.inf], [-np.inf, 7.0]], dtype)
    by_label = losses.softmax_cross_entropy_with_integer_labels
    np.testing.assert_array_equal(losses.softmax(logits), np.eye(2))
    np.testing.assert_array_equal(by_label(logits, np.array([0, 1])), [0, 0])
    np.testing.assert_array_equal(by_label(logits, np.array([1, 0])), [np.inf, np.inf])
    np.testing.assert_array_equal(losses.softmax_cross_entropy(logits, np.eye(2)), [0, 0])
    np.testing.assert_array_equal(losses.softmax_cross_entropy(logits, np.eye(2)[::-1]), [np.inf, np.inf])
    np.testing.assert_array_equal(losses.softmax_cross_entropy_fwd(logits, np.eye(2, dtype=dtype))[1], np.zeros((2, 2)))


def test_cross_entropy_is_its_equation() -> None:
    logits, targets = draw(5, 4), losses.softmax(draw(5, 4, seed=1))
    p = losses.softmax(logits)
    expected = [-sum(t * np.log(q) for t, q in zip(ts, qs, strict=True)) for ts, qs in zip(targets, p, strict=True)]
    np.testing.assert_allclose(losses.softmax_cross_entropy(logits, targets), expected, rtol=1e-12)
    by_label = losses.softmax_cross_entropy_with_integer_labels(logits, LABELS)
    np.testing.assert_allclose(by_label, [-np.log(q[label]) for q, label in zip(p, LABELS, strict=True)], rtol=1e-12)


@each_dtype
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_label_targets(smoothing: float, dtype: str) -> None:
    targets = losses.label_targets(LABELS, 4, smoothing, dtype)
    np.testing.assert_allclose(targets, (1 - smoothing) * np.eye(4)[LABELS] + smoothing / 4, rtol=1e-6)
    assert targets.dtype == dtype
    if smoothing == 0:
        logits = draw(5, 4, dtype=dtype)
        by_label = losses.softmax_cross_entropy_with_integer_labels(logits, LABELS)
        np.testing.assert_allclose(losses.softmax_cross_entropy(logits, targets), by_label, rtol=1e-6)
        assert by_label.dtype == dtype


# Numbers


def test_squared_error_is_its_equation() -> None:
    outputs, targets = draw(5, 3), draw(5, 3, seed=1)
    expected = [
        sum((o - t) ** 2 for o, t in zip(os, ts, strict=True)) / 3 for os, ts in zip(outputs, targets, strict=True)
    ]
    np.testing.assert_allclose(losses.squared_error_fwd(outputs, targets)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("delta", [0.1, 1.0, 10.0])
def test_huber_is_its_equation(delta: float) -> None:
    outputs, targets = draw(50, 3), draw(50, 3, seed=1)
    e = np.abs(outputs - targets)
    expected = np.where(e <= delta, e**2 / 2, delta * (e - delta / 2)).mean(axis=1)
    np.testing.assert_allclose(losses.huber_fwd(outputs, targets, delta)[0], expected, rtol=1e-12)


def test_pinball_is_its_equation() -> None:
    outputs, targets, q = draw(50, 3), draw(50, 1, seed=1), np.array([0.1, 0.5, 0.9])
    expected = np.where(targets >= outputs, q * (targets - outputs), (1 - q) * (outputs - targets)).mean(axis=1)
    np.testing.assert_allclose(losses.pinball_fwd(outputs, targets, (0.1, 0.5, 0.9))[0], expected, rtol=1e-12)


def test_the_best_constant_is_the_mean_the_median_or_the_quantile() -> None:
    targets = np.exp(draw(999, 1))
    constants = np.sort(targets, axis=0)

    def best(loss: Callable[[Any], Any]) -> float:
        return constants[np.argmin([loss(np.full((999, 1), constant[0])).mean() for constant in constants]), 0]

    def rank(value: float) -> int:
        return int(np.argmin(np.abs(constants - value)))

    assert best(lambda c: losses.squared_error_fwd(c, targets)[0]) == constants[rank(targets.mean())]
    assert best(lambda c: losses.pinball_fwd(c, targets, (0.5,))[0]) == np.median(targets)
    assert abs(rank(best(lambda c: losses.pinball_fwd(c, targets, (0.9,))[0])) - 0.9 * 999) <= 1
    assert abs(rank(best(lambda c: losses.huber_fwd(c, targets, 1e-3)[0])) - 499) <= 2


# All losses

FORWARD: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "cross entropy": losses.softmax_cross_entropy_fwd,
    "squared error": losses.squared_error_fwd,
    "huber": lambda outputs, targets: losses.huber_fwd(outputs, targets, 0.5),
    "pinball": lambda outputs, targets: losses.pinball_fwd(outputs, targets, (0.1, 0.3, 0.5, 0.9)),
}
each_loss = pytest.mark.parametrize("name", FORWARD)


def targets_of(name: str, dtype: str = "float64") -> Any:
    numbers = draw(5, 1 if name == "pinball" else 4, seed=1, dtype=dtype)
    return tree.freeze(losses.softmax(numbers)) if name == "cross entropy" else numbers


@each_loss
def test_gradient(name: str) -> None:
    targets, cotangent = targets_of(name), draw(5, seed=2)

    def f_and_grads(outputs: Any) -> tuple[float, Any]:
        loss, slope = FORWARD[name](outputs, targets)
        return float((cotangent * loss).sum()), losses.loss_bwd(slope, cotangent)

    check_grads(f_and_grads, draw(5, 4), rtol=1e-6, atol=1e-8)


@each_loss
@each_dtype
def test_losses_are_pure_and_keep_the_dtype(name: str, dtype: str) -> None:
    loss, slope = check_purity(FORWARD[name], draw(5, 4, dtype=dtype), targets_of(name, dtype))
    cotangents = check_purity(losses.loss_bwd, tree.freeze(slope), draw(5, dtype=dtype))
    assert (loss.shape, slope.shape, cotangents.shape) == ((5,), (5, 4), (5, 4))
    assert loss.dtype == slope.dtype == cotangents.dtype == dtype


def test_softmax_and_cross_entropy_are_pure() -> None:
    logits = draw(5, 4)
    check_purity(losses.softmax, logits)
    check_purity(losses.log_softmax, logits)
    check_purity(losses.softmax_cross_entropy, logits, targets_of("cross entropy"))
    check_purity(losses.softmax_cross_entropy_with_integer_labels, logits, LABELS)
    check_purity(losses.label_targets, LABELS, 4, 0.1)


# Errors


@pytest.mark.parametrize("logits", [np.array([[1, 2]]), np.array([[True, False]]), np.array([["a", "b"]]), [[1, 2]]])
def test_logits_must_be_floats(logits: Any) -> None:
    for f in (
        losses.softmax,
        losses.log_softmax,
        lambda logits: losses.softmax_cross_entropy_with_integer_labels(logits, np.array([0])),
    ):
        with pytest.raises(TypeError, match=r"logits must be floats, but got .*; logits\.astype\(numpy\.float32\)"):
            f(logits)


@pytest.mark.parametrize("labels", [[0, 2], np.array([1, 0], np.uint8), np.zeros(0, int)])
def test_check_labels_returns_integers(labels: Any) -> None:
    np.testing.assert_array_equal(losses.check_labels(labels, 3), labels)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0.0, 1.0], TypeError, "labels must be integers, but got float64; .*astype"),
        (["a"], TypeError, "labels must be integers, but got <U1; fnet.data.encode_labels"),
        ([True], TypeError, "labels must be integers, but got bool"),
        ([[0, 1]], ValueError, r"must have shape \[batch\], but got \[1, 2\]"),
        (1, ValueError, r"must have shape \[batch\], but got \[\]"),
        ([0, 3], ValueError, "from 0 to 2 for 3 classes, but got 0 to 3"),
        ([-1, 2], ValueError, "from 0 to 2 for 3 classes, but got -1 to 2"),
    ],
)
def test_bad_labels(labels: Any, error: type[Exception], message: str) -> None:
    for f in (
        lambda: losses.check_labels(labels, 3),
        lambda: losses.label_targets(labels, 3),
        lambda: losses.softmax_cross_entropy_with_integer_labels(np.zeros((2, 3)), labels),
    ):
        with pytest.raises(error, match=message):
            f()


@pytest.mark.parametrize("shape", [(5, 3), (4,), (4, 4), (5, 1), (1, 4)])
def test_targets_must_have_the_shape_of_the_logits(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"targets must have the shape of the logits, \(5, 4\), but got"):
        losses.softmax_cross_entropy(np.zeros((5, 4)), np.zeros(shape))


def test_labels_must_be_as_many_as_the_logits() -> None:
    with pytest.raises(ValueError, match="got 2 labels for 5 rows of logits"):
        losses.softmax_cross_entropy_with_integer_labels(np.zeros((5, 4)), LABELS[:2])
