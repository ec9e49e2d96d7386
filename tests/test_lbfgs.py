"""L-BFGS against the matrices that it stands for and the Wolfe conditions, and where a search fails."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from minimization import PROBLEMS, ValueAndGrad, minimize, normal, quadratic, rosenbrock

from fnet import checkpoint, tree
from fnet import random as frandom
from fnet.lbfgs import lbfgs_init, lbfgs_update, two_loop_recursion
from fnet.testing import assert_trees_close, assert_trees_equal


def inverse_hessian(s: Any, y: Any, gamma: float) -> Any:
    """The BFGS formula (6.17), from gamma I, for the pairs from the oldest to the newest."""
    h = gamma * np.eye(s.shape[1])
    for s_k, y_k in zip(s, y, strict=True):
        rho = 1 / (y_k @ s_k)
        v = np.eye(len(s_k)) - rho * np.outer(s_k, y_k)
        h = v @ h @ v.T + rho * np.outer(s_k, s_k)
    return h


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-10), ("float32", 1e-3)])
@pytest.mark.parametrize("pairs", [0, 1, 4, 6])
def test_the_two_loop_recursion_is_the_bfgs_formula(pairs: int, dtype: str, rtol: float) -> None:
    n, memory_size = 5, 6
    s = frandom.normal(frandom.key(pairs), (memory_size, n), "float64")
    y = s @ np.diag(np.arange(1.0, n + 1))  # gradients of a convex quadratic, so that y . s > 0
    rho = np.where(np.arange(memory_size) < memory_size - pairs, 0, 1 / np.sum(s * y, axis=1))
    g = normal(7, n)
    arrays: Any = [a.astype(dtype) for a in (g, s, y, rho)]
    product = two_loop_recursion(*arrays, gamma=0.3)
    assert product.dtype == dtype
    used = slice(memory_size - pairs, None)
    np.testing.assert_allclose(product, inverse_hessian(s[used], y[used], 0.3) @ g, rtol=rtol, atol=rtol)


def test_each_step_goes_along_the_gradient_times_the_inverse_hessian_of_the_last_pairs() -> None:
    params, opt_state = np.array([-1.2, 1.0, 0.5, -0.3]), lbfgs_init(np.zeros(4), memory_size=3)
    visited, gradients = [params], [rosenbrock(params)[1]]
    for k in range(8):
        s, y = np.diff(visited, axis=0)[-3:], np.diff(gradients, axis=0)[-3:]
        gamma: Any = s[-1] @ y[-1] / (y[-1] @ y[-1]) if k else 1 / np.linalg.norm(gradients[0])  # (7.20)
        direction = -inverse_hessian(s.reshape(-1, 4), y.reshape(-1, 4), gamma) @ gradients[-1]
        params, opt_state = lbfgs_update(rosenbrock, params, opt_state)
        step = params - visited[-1]
        ratio = np.linalg.norm(step) / np.linalg.norm(direction)
        np.testing.assert_allclose(step, ratio * direction, rtol=1e-7)
        visited.append(params)
        gradients.append(rosenbrock(params)[1])
    np.testing.assert_array_equal(opt_state.s, np.diff(visited, axis=0)[-3:])
    np.testing.assert_array_equal(opt_state.y, np.diff(gradients, axis=0)[-3:])
    np.testing.assert_allclose(opt_state.rho, 1 / np.sum(np.multiply(opt_state.s, opt_state.y), axis=1), rtol=1e-12)


def steep(x: Any) -> tuple[Any, Any]:
    return np.sum(np.exp(3 * x) - 30 * x), 3 * np.exp(3 * x) - 30


def flat(x: Any) -> tuple[Any, Any]:
    return 1e-6 * np.sum(np.sqrt(1 + (x - 1000) ** 2)), 1e-6 * (x - 1000) / np.sqrt(1 + (x - 1000) ** 2)


@pytest.mark.parametrize(("c1", "c2"), [(1e-4, 0.9), (1e-4, 0.1), (1e-4, 0.001), (0.4, 0.5)])
@pytest.mark.parametrize(
    ("value_and_grad", "start"),
    [(rosenbrock, np.tile([-1.2, 1.0], 5)), (steep, np.array([-9.0, 4.0])), (flat, np.array([0.0, 1.0, 5000.0]))],
    ids=["Rosenbrock", "steep", "flat"],
)
def test_each_step_meets_the_strong_wolfe_conditions(
    value_and_grad: ValueAndGrad, start: Any, c1: float, c2: float
) -> None:
    params, opt_state = start, lbfgs_init(start)
    value, grads = value_and_grad(start)
    scale = np.abs(grads).max()
    while np.abs(grads).max() > 1e-5 * scale:
        last, last_value, last_grads = params, value, grads
        params, opt_state = lbfgs_update(value_and_grad, params, opt_state, c1=c1, c2=c2)
        value, grads = value_and_grad(params)
        step = params - last  # a p
        assert last_grads @ step < 0
        assert value <= last_value + c1 * last_grads @ step
        assert abs(grads @ step) <= c2 * abs(last_grads @ step)
    assert opt_state.count > 2


def test_the_state_is_of_the_parameters_and_no_evaluation_is_repeated() -> None:
    calls: list[Any] = []

    def counted(x: Any) -> tuple[Any, Any]:
        calls.append(x)
        return rosenbrock(x)

    params, opt_state = PROBLEMS["Rosenbrock 2"].starts[0], lbfgs_init(np.zeros(2))
    for count in range(1, 30):
        params, opt_state = lbfgs_update(counted, params, opt_state)
        value, grads = rosenbrock(params)
        assert (opt_state.count, opt_state.evaluations, opt_state.value) == (count, len(calls), value)
        np.testing.assert_array_equal(opt_state.grads, grads)
        assert opt_state.grad_norm == pytest.approx(np.linalg.norm(grads), rel=1e-12)
        assert not opt_state.failed
    assert len({x.tobytes() for x in calls}) == len(calls)


# Purity, trees, dtypes


class Weights(NamedTuple):
    w: Any
    b: Any


def nested(x: Any) -> Any:
    return {"b": (Weights(x[:6].reshape(2, 3), None), [x[6]]), "a": {"c": x[7:]}}


def nested_rosenbrock(params: Any) -> tuple[Any, Any]:
    value, grads = rosenbrock(np.concatenate([leaf.ravel() for leaf in tree.leaves(params)]))
    return value, tree.ravel(params)[1](grads)


def test_any_tree_gives_the_bits_of_the_flat_array() -> None:
    params, opt_state = minimize(nested_rosenbrock, nested(np.linspace(-1, 1, 10)), 1e-6)
    assert tree.structure(params) == tree.structure(nested(np.zeros(10)))
    expected, expected_state = minimize(rosenbrock, tree.ravel(nested(np.linspace(-1, 1, 10)))[0], 1e-6)
    assert_trees_equal((tree.ravel(params)[0], opt_state), (expected, expected_state))
    np.testing.assert_allclose(expected, 1, atol=1e-5)


def test_frozen_inputs_do_and_what_comes_out_is_frozen() -> None:
    params = tree.map(np.copy, nested(np.linspace(-1, 1, 10)))
    tree.freeze(params)
    initial = opt_state = lbfgs_init(params)
    for _ in range(12):
        before, before_state = tree.map(np.copy, params), tree.map(np.copy, opt_state)
        new_params, new_state = lbfgs_update(nested_rosenbrock, params, opt_state)
        assert_trees_equal(tree.map(np.asarray, params), before)
        assert_trees_equal(tree.map(np.asarray, opt_state), before_state)
        params, opt_state = new_params, new_state
        for leaf in tree.leaves((params, opt_state)):
            assert isinstance(leaf, np.generic) or not leaf.flags.writeable
    assert not any(leaf.flags.writeable for leaf in (*initial.s, *initial.y, initial.rho, initial.grads))
    assert tree.map(lambda leaf: (leaf.shape, leaf.dtype), opt_state) == tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), initial
    )


def test_the_gradient_may_come_in_memory_that_is_used_again() -> None:
    memory = np.empty(2)

    def lent(x: Any) -> tuple[Any, Any]:
        value, memory[:] = rosenbrock(x)
        return value, memory

    start = PROBLEMS["Rosenbrock 2"].starts[0]
    assert_trees_equal(minimize(lent, start, 1e-6), minimize(rosenbrock, start, 1e-6))


def test_the_same_inputs_give_the_same_bits() -> None:
    start = PROBLEMS["Rosenbrock 100"].starts[0]
    assert_trees_equal(
        minimize(rosenbrock, start, 1e-6, steps=100), minimize(rosenbrock, start.copy(), 1e-6, steps=100)
    )


@pytest.mark.parametrize("steps", [0, 1, 5, 30])
def test_a_run_that_goes_on_from_a_file_gives_the_same_bits(tmp_path: Path, steps: int) -> None:
    start = nested(np.linspace(-1, 1, 10))
    params, opt_state = minimize(nested_rosenbrock, start, 0.0, steps=steps)
    checkpoint.save(tmp_path / "lbfgs.npz", (params, opt_state))
    params, opt_state = checkpoint.load(tmp_path / "lbfgs.npz", (start, lbfgs_init(start)))
    for _ in range(12):
        params, opt_state = lbfgs_update(nested_rosenbrock, params, opt_state)
    assert_trees_equal((params, opt_state), minimize(nested_rosenbrock, start, 0.0, steps=steps + 12))


def test_float32_stays_float32() -> None:
    start = np.array([-1.2, 1.0], np.float32)
    params, opt_state = minimize(rosenbrock, start, 1e-3)
    leaves = (params, *opt_state.s, *opt_state.y, opt_state.rho, opt_state.grads)
    assert {leaf.dtype for leaf in leaves} == {start.dtype}
    assert not opt_state.failed
    np.testing.assert_allclose(params, 1, atol=1e-3)


def test_gradients_whose_squares_are_0_in_float32_do_no_harm() -> None:
    def tiny(x: Any) -> tuple[Any, Any]:
        value, grads = rosenbrock(x)
        return np.float32(1e-22) * value, np.float32(1e-22) * grads

    params, opt_state = minimize(tiny, np.array([-1.2, 1.0], np.float32), 0.0, steps=50)
    assert 0 < opt_state.grad_norm < 1e-20
    assert rosenbrock(params)[0] < 1


def test_leaves_of_two_dtypes_keep_theirs() -> None:
    def value_and_grad(params: Any) -> tuple[Any, Any]:
        a, b = params["a"], params["b"]
        value, grads = rosenbrock(np.array([a[0], b[0]], np.float64))
        return value, {"a": grads[:1].astype(np.float32), "b": grads[1:]}

    start = {"a": np.array([-1.2], np.float32), "b": np.array([1.0])}
    params, opt_state = minimize(value_and_grad, start, 1e-3)
    assert tree.map(lambda leaf: str(leaf.dtype), params) == {"a": "float32", "b": "float64"}
    assert_trees_close(params, {"a": np.ones(1), "b": np.ones(1)}, rtol=1e-3)
    before = tree.ravel(params)[0]
    after, opt_state = lbfgs_update(value_and_grad, params, opt_state)
    np.testing.assert_array_equal(opt_state.s[-1], tree.ravel(after)[0] - before)  # rounded as params are


# Where the line search has it hard


def logarithm(x: Any) -> tuple[Any, Any]:
    return np.sum(100 * x - np.log(x)), 100 - 1 / x


def exponential(x: Any) -> tuple[Any, Any]:
    return np.sum(np.exp(2000 * x) - x), 2000 * np.exp(2000 * x) - 1


def gradient_only_near_0(x: Any) -> tuple[Any, Any]:
    near = np.abs(x) < 0.6
    return np.sum(np.where(near, x**2, -1)), np.where(near, 2 * x, np.nan)


@pytest.mark.parametrize(
    ("value_and_grad", "start", "minimum"),
    [(logarithm, 0.5, 0.01), (exponential, -0.1, -math.log(2000) / 2000), (gradient_only_near_0, 0.05, 0.0)],
    ids=["logarithm", "exponential", "gradient only near 0"],
)
def test_steps_to_where_the_function_is_not_finite_are_shortened(
    value_and_grad: ValueAndGrad, start: float, minimum: float
) -> None:
    finite: list[bool] = []

    def recorded(x: Any) -> tuple[Any, Any]:
        value, grads = value_and_grad(x)
        finite.append(bool(np.isfinite(value) and np.isfinite(grads).all()))
        return value, grads

    params, opt_state = minimize(recorded, np.array([start, start]), 1e-6)
    assert not all(finite)
    assert not opt_state.failed
    np.testing.assert_allclose(params, minimum, rtol=1e-6, atol=1e-6)


def test_steps_are_shortened_as_far_as_twelve_digits() -> None:
    def cliff(x: Any) -> tuple[Any, Any]:
        return (-np.sum(x) if (x < 1e-12).all() else np.inf), -np.ones_like(x)

    params, opt_state = lbfgs_update(cliff, np.zeros(2), lbfgs_init(np.zeros(2)))
    assert not opt_state.failed
    assert (params > 0).all()


@pytest.mark.parametrize(
    ("name", "value_and_grad"),
    [
        ("uphill", lambda x: (x @ x, -2 * x)),
        ("no step is finite", lambda x: (x @ x if (x == 1).all() else np.nan, 2 * x)),
        ("the start is not finite", lambda x: (np.nan, 2 * x)),
        ("the gradient is not finite", lambda x: (x @ x, x + np.nan)),
        ("the value is minus infinity", lambda x: (-np.inf, 2 * x)),
    ],
)
def test_a_line_search_that_fails_is_reported(name: str, value_and_grad: ValueAndGrad) -> None:
    start = np.ones(2)
    params, opt_state = lbfgs_update(value_and_grad, start, lbfgs_init(start))
    assert opt_state.failed, name
    assert opt_state.count == 0
    assert opt_state.evaluations <= 21
    np.testing.assert_array_equal(params, start)
    again, again_state = lbfgs_update(value_and_grad, params, opt_state)
    np.testing.assert_array_equal(again, start)
    assert again_state.failed


def test_pairs_that_lead_nowhere_are_forgotten() -> None:
    params, opt_state = minimize(rosenbrock, np.array([-1.2, 1.0]), 0.0, steps=12)
    uphill = opt_state._replace(rho=-opt_state.rho, failed=np.bool_(True))
    new, new_state = lbfgs_update(rosenbrock, params, uphill)
    fresh, fresh_state = lbfgs_update(rosenbrock, params, lbfgs_init(params))
    np.testing.assert_array_equal(new, fresh)
    np.testing.assert_array_equal(new_state.rho, fresh_state.rho)
    assert np.count_nonzero(new_state.rho) == 1
    assert not new_state.failed


def test_at_the_limit_of_rounding_it_ends_soon_with_the_best_value() -> None:
    def value_and_grad(x: Any) -> tuple[Any, Any]:
        value, grads = quadratic(x)
        return 1 + value, grads

    params, opt_state = minimize(value_and_grad, np.zeros(50), 0.0)
    assert opt_state.failed
    assert opt_state.value <= 1 + 1e-13
    again, again_state = lbfgs_update(value_and_grad, params, opt_state)
    np.testing.assert_array_equal(again, params)
    assert again_state.evaluations - opt_state.evaluations < 20  # which are the most


def test_where_trials_run_out_the_lowest_is_taken() -> None:
    def plane(x: Any) -> tuple[Any, Any]:
        return -np.sum(x), -np.ones_like(x)

    params, opt_state = lbfgs_update(plane, np.zeros(4), lbfgs_init(np.zeros(4)), max_linesearch_steps=3)
    np.testing.assert_allclose(params, 16 * 0.5)  # a unit step, times 4, times 4
    assert not opt_state.failed
    assert opt_state.evaluations == 4
    assert not opt_state.rho.any()  # a plane has no curvature


def test_a_stationary_point_is_left_as_it_is() -> None:
    params, opt_state = lbfgs_update(rosenbrock, np.ones(3), lbfgs_init(np.ones(3)))
    np.testing.assert_array_equal(params, 1)
    assert (opt_state.grad_norm, opt_state.evaluations, opt_state.failed) == (0, 1, False)
    assert lbfgs_update(lambda x: (1.0, x), (), lbfgs_init(()))[0] == ()


# Errors


def test_errors_say_what_is_wrong() -> None:
    x = np.ones(2)
    opt_state = lbfgs_init(x)
    with pytest.raises(ValueError, match="memory_size must be at least 1, but got 0"):
        lbfgs_init(x, memory_size=0)
    with pytest.raises(ValueError, match=r"parameters must be floats, but \['a'\] is int64\[2\]"):
        lbfgs_init({"a": np.array([1, 2])})
    for c1, c2 in ((0.0, 0.9), (0.5, 0.4), (0.1, 1.0), (math.nan, 0.9)):
        with pytest.raises(ValueError, match="expected 0 < c1 < c2 < 1"):
            lbfgs_update(rosenbrock, x, opt_state, c1=c1, c2=c2)
    with pytest.raises(ValueError, match="max_linesearch_steps must be at least 1, but got 0"):
        lbfgs_update(rosenbrock, x, opt_state, max_linesearch_steps=0)
    with pytest.raises(ValueError, match=r"params are float64\[3\], but opt_state is for float64\[2\]; start with"):
        lbfgs_update(rosenbrock, np.ones(3), opt_state)
    with pytest.raises(ValueError, match=r"params are float32\[2\], but opt_state is for float64\[2\]"):
        lbfgs_update(rosenbrock, np.ones(2, np.float32), opt_state)
    with pytest.raises(TypeError, match=r"must return \(value, grads\) with a number, but the value is a tuple"):
        lbfgs_update(lambda x: ((1.0, None), x), x, opt_state)
    with pytest.raises(ValueError, match=r"the gradient at the root must be float64\[2\], but is float64\[1, 2\]"):
        lbfgs_update(lambda x: (1.0, x[None]), x, opt_state)
    with pytest.raises(ValueError, match=r"the gradient at \[0\] must be float64\[2\], but is float32\[2\]"):
        lbfgs_update(lambda x: (1.0, (x[0].astype(np.float32),)), (x,), opt_state)
    with pytest.raises(ValueError, match="the trees differ"):
        lbfgs_update(lambda x: (1.0, (x,)), x, opt_state)
