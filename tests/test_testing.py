"""The assertions: what they accept and what they refuse."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import check_purity

from fnet import testing, tree

PARAMS = tree.freeze({"w": np.array([[0.3, -0.7], [1.1, 0.4]]), "b": (np.array([0.2, -0.1]), None)})


def loss_and_grads(params: Any, *, error: Any = None) -> tuple[float, Any]:
    """`sum(sin(w)) + sum(b ** 3)`, and its gradient plus an error."""
    w, b = params["w"], params["b"][0]
    grads = {"w": np.cos(w), "b": (3 * b**2, None)}
    if error is not None:
        grads = tree.map(np.add, grads, error)
    return float(np.sin(w).sum() + (b**3).sum()), grads


def with_error_in_w(value: float) -> Any:
    w = np.zeros((2, 2))
    w[1, 0] = value
    return {"w": w, "b": (np.zeros(2), None)}


def test_check_grads_passes_the_right_gradient() -> None:
    check_purity(testing.check_grads, loss_and_grads, PARAMS)
    testing.check_grads(loss_and_grads, PARAMS, eps=1e-3, rtol=1e-4)


@pytest.mark.parametrize("error", [1e-3, -1e-4, 1.0, np.inf])
def test_check_grads_names_the_element_that_is_wrong(error: float) -> None:
    with pytest.raises(AssertionError, match=r"\['w'\]: 1 of 4 elements differ, the worst at \[1, 0\]: "):
        testing.check_grads(lambda params: loss_and_grads(params, error=with_error_in_w(error)), PARAMS)


def test_check_grads_has_tolerances() -> None:
    def f_and_grads(params: Any) -> tuple[float, Any]:
        return loss_and_grads(params, error=with_error_in_w(1e-4))

    testing.check_grads(f_and_grads, PARAMS, atol=1e-3)
    testing.check_grads(f_and_grads, PARAMS, rtol=1e-2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda g: {**g, "b": (2 * g["b"][0], None)}, r"\['b'\]\[0\]: 2 of 2"),
        (lambda g: {**g, "w": g["w"].T}, r"\['w'\]: 2 of 4"),
        (lambda g: {**g, "w": g["w"].ravel()}, r"\['w'\]: shape \(4,\), expected \(2, 2\)"),
        (lambda g: {"w": g["w"]}, r"the trees differ at the root: expected a dict with keys \['b', 'w'\]"),
        (lambda g: {**g, "b": g["b"][:1]}, r"the trees differ at \['b'\]: expected a tuple of 2"),
    ],
)
def test_check_grads_finds_other_mistakes(wrong: Callable[[Any], Any], message: str) -> None:
    def f_and_grads(params: Any) -> tuple[float, Any]:
        loss, grads = loss_and_grads(params)
        return loss, wrong(grads)

    with pytest.raises(AssertionError, match=message):
        testing.check_grads(f_and_grads, PARAMS)


def test_check_grads_refuses_values_that_are_not_finite() -> None:
    with pytest.raises(AssertionError, match="nan"):
        testing.check_grads(lambda w: (float("nan"), np.full_like(w, np.nan)), np.ones(2))


@pytest.mark.parametrize(
    ("params", "path"),
    [((np.ones(2), np.ones(2, np.float32)), r"\[1\]"), (np.ones(2, int), "the tree"), ({"a": 1}, r"\['a'\]")],
)
def test_check_grads_needs_float64(params: Any, path: str) -> None:
    with pytest.raises(TypeError, match=f"{path} must be float64 for finite differences"):
        testing.check_grads(lambda params: (0.0, params), params)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        ((1.0, [2.0]), (1.0, [2.0 + 1e-7])),
        ({"a": np.ones(2), "b": None}, {"b": None, "a": np.ones(2, np.float32)}),
        (np.array([np.nan, np.inf, -np.inf]), np.array([np.nan, np.inf, -np.inf])),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        ((), ()),
    ],
)
def test_trees_that_are_close(actual: Any, expected: Any) -> None:
    testing.assert_trees_close(actual, expected)


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        (1.0, 1.00001, r"the tree: 1 of 1 elements differ, the worst at \[\]: .*1\.0\)?, expected"),
        (([1.0], [2.0, 0.0]), ([1.0], [2.0, 1e-9]), r"\[1\]\[1\]: 1 of 1 elements differ"),
        ({"a": np.zeros(2)}, {"a": np.zeros(3)}, r"\['a'\]: shape \(2,\), expected \(3,\)"),
        (np.zeros((1, 2)), np.zeros(2), r"the tree: shape \(1, 2\), expected \(2,\)"),
        (np.array([1.0, 5.0, 2.0]), np.array([1.1, 9.0, 2.1]), r"3 of 3 elements differ, the worst at \[1\]: .*5\.0"),
        (np.array([1.0, np.nan]), np.array([1.0, 2.0]), r"1 of 2 elements differ, the worst at \[1\]: .*nan"),
        (np.array([np.inf, 1.0]), np.array([np.inf, 2.0]), r"1 of 2 elements differ, the worst at \[1\]: .*1\.0"),
        (np.array([True, False]), np.array([True, True]), r"1 of 2 elements differ, the worst at \[1\]: .*False"),
        ((1.0, 2.0), [1.0, 2.0], "the trees differ at the root: expected a list of 2, but got a tuple of 2"),
        ((1.0, None), (1.0, 2.0), r"the trees differ at \[1\]: expected a leaf \(float\), but got None"),
    ],
)
def test_trees_that_are_not_close(actual: Any, expected: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        testing.assert_trees_close(actual, expected)


def test_tolerances_are_relative_to_what_is_expected() -> None:
    testing.assert_trees_close(90.0, 100.0, rtol=0.1)
    testing.assert_trees_close(1.0, 1.5, rtol=0, atol=0.5)
    with pytest.raises(AssertionError):
        testing.assert_trees_close(100.0, 90.0, rtol=0.1)


@pytest.mark.parametrize("leaf", [np.zeros(2), np.array([np.nan]), np.zeros((0, 2)), 1.5, 7, "text", None])
def test_trees_that_are_equal(leaf: Any) -> None:
    copy = leaf.copy() if isinstance(leaf, np.ndarray) else leaf
    testing.assert_trees_equal({"a": (leaf, [leaf])}, {"a": (copy, [copy])})


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        ((np.ones(2), np.zeros(1)), (np.ones(2), -np.zeros(1)), r"\[1\]: float64\[1\] .* differ in their bits"),
        (np.ones(2), np.ones(2, np.float32), r"the tree: float64\[2\] and float32\[2\]"),
        (np.zeros(2, np.float32), np.zeros(2, np.int32), r"the tree: float32\[2\] and int32\[2\]"),
        ({"a": np.ones((1, 2))}, {"a": np.ones((2, 1))}, r"\['a'\]: float64\[1, 2\] and float64\[2, 1\]"),
        (np.ones(2), np.ones(2) + np.array([0, 1e-16 * 3]), "differ in their bits"),
        ([1], [2], r"\[0\]: int64\[\] and int64\[\] differ in their bits"),
        ((1,), (1, 2), "the trees differ at the root: expected a tuple of 2, but got a tuple of 1"),
    ],
)
def test_trees_that_are_not_equal(actual: Any, expected: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        testing.assert_trees_equal(actual, expected)
