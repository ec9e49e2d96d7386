"""L-BFGS beside SciPy, Optax and scikit-learn: the same minima, with at most 1.3 times the evaluations."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from minimization import PROBLEMS, Problem, minimize

import fnet
from fnet import random as frandom


@functools.cache
def minima(name: str) -> tuple[list[Any], int]:
    """The minima that L-BFGS finds from the starts of a problem, and the evaluations of all."""
    _, value_and_grad, starts, gtol = PROBLEMS[name]
    ends = [minimize(value_and_grad, start, gtol) for start in starts]
    assert not any(opt_state.failed for _, opt_state in ends)
    return [params for params, _ in ends], sum(int(opt_state.evaluations) for _, opt_state in ends)


def assert_same_minima(problem: Problem, actual: list[Any], expected: list[Any]) -> None:
    values = [[problem.value_and_grad(x)[0] for x in found] for found in (actual, expected)]
    np.testing.assert_allclose(*values, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(actual, expected, atol=1e-3)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_minima_and_the_evaluations_are_those_of_scipy(name: str) -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed")
    problem = PROBLEMS[name]
    actual, evaluations = minima(name)
    expected, scipy_evaluations = [], 0
    for start in problem.starts:
        x, _, info = optimize.fmin_l_bfgs_b(
            problem.value_and_grad, start, m=10, pgtol=problem.gtol, factr=0, maxiter=10_000, maxfun=100_000
        )
        assert info["warnflag"] == 0, info["task"]
        expected.append(x)
        scipy_evaluations += info["funcalls"]
    assert_same_minima(problem, actual, expected)
    assert evaluations <= 1.3 * scipy_evaluations


@functools.cache
def optax_minima() -> dict[str, tuple[list[Any], int]]:
    """As `minima`, of all problems: they are filled up with zeros to one size, to compile once."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    optax = pytest.importorskip("optax", reason="Optax is not installed")
    size = max(problem.starts[0].size for problem in PROBLEMS.values())

    def branch(problem: Problem) -> Callable[[Any], Any]:
        return lambda x: problem.value(jax.numpy, x[: problem.starts[0].size])

    @jax.jit
    def optax_minimize(i: Any, gtol: Any, params: Any) -> Any:
        value = functools.partial(jax.lax.switch, i, [branch(problem) for problem in PROBLEMS.values()])
        solver = optax.lbfgs(memory_size=10)

        def unfinished(carry: Any) -> Any:
            return (abs(carry[2]).max() > gtol) & (carry[4] < 100_000)

        def step(carry: Any) -> Any:
            params, value_at, grads, opt_state, evaluations = carry
            updates, opt_state = solver.update(grads, opt_state, params, value=value_at, grad=grads, value_fn=value)
            value_at, grads, trials = (optax.tree.get(opt_state, k) for k in ("value", "grad", "num_linesearch_steps"))
            return optax.apply_updates(params, updates), value_at, grads, opt_state, evaluations + trials

        carry = params, *jax.value_and_grad(value)(params), solver.init(params), 1
        params, _, _, _, evaluations = jax.lax.while_loop(unfinished, step, carry)
        return params, evaluations

    found: dict[str, tuple[list[Any], int]] = {}
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        for i, (name, problem) in enumerate(PROBLEMS.items()):
            n = problem.starts[0].size
            ends = [optax_minimize(i, problem.gtol, np.pad(start, (0, size - n))) for start in problem.starts]
            found[name] = [np.asarray(params)[:n] for params, _ in ends], sum(int(count) for _, count in ends)
    finally:
        jax.config.update("jax_enable_x64", before)
    return found


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_minima_and_the_evaluations_are_those_of_optax(name: str) -> None:
    expected, optax_evaluations = optax_minima()[name]
    actual, evaluations = minima(name)
    assert_same_minima(PROBLEMS[name], actual, expected)
    assert evaluations <= 1.3 * optax_evaluations


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["iris", "wine"])
def test_a_network_is_trained_to_a_loss_as_low_as_that_of_scikit_learn(name: str, dtype: Any) -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    neural_network = pytest.importorskip("sklearn.neural_network", reason="scikit-learn is not installed")
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    config = fnet.MLPConfig(sizes=(x.shape[1], 100, 3), batch_norm=False, dropout=0.0, dtype=dtype)

    for seed in range(2):
        sklearn_model = neural_network.MLPClassifier((100,), solver="lbfgs", alpha=0.0, random_state=seed).fit(x, y)
        params, state = fnet.init(frandom.key(seed), config)

        def value_and_grad(params: Any, state: Any = state) -> tuple[Any, Any]:
            (loss, _), grads = fnet.loss_and_grads(config, params, state, x.astype(dtype), y)
            return loss, grads

        steps = math.ceil(1.3 * sklearn_model.n_iter_)
        _, opt_state = minimize(value_and_grad, params, 0.0, steps=steps)
        assert opt_state.value <= sklearn_model.loss_
