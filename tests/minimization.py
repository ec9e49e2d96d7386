"""Functions to minimize with L-BFGS: each value is written for NumPy and JAX, xp."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from fnet import random as frandom
from fnet.lbfgs import LBFGSState, lbfgs_init, lbfgs_update

ValueAndGrad = Callable[[Any], tuple[Any, Any]]


def rosenbrock_value(xp: Any, x: Any) -> Any:
    return xp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def rosenbrock(x: Any) -> tuple[Any, Any]:
    grads = np.zeros_like(x)
    grads[:-1] = -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
    grads[1:] += 200 * (x[1:] - x[:-1] ** 2)
    return rosenbrock_value(np, x), grads


def curvatures(n: int) -> Any:
    return np.geomspace(1, 1e6, n) if n < 10 else np.linspace(1, 1e6, n)


def quadratic_value(xp: Any, x: Any) -> Any:
    return xp.sum(0.5 * curvatures(len(x)) * (x - 1) ** 2)


def quadratic(x: Any) -> tuple[Any, Any]:
    return quadratic_value(np, x), curvatures(len(x)) * (x - 1)


@functools.cache
def breast_cancer() -> tuple[Any, Any]:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return np.column_stack([(x - x.mean(0)) / x.std(0), np.ones(len(x))]), np.where(y, 1.0, -1.0)


def logistic_value(xp: Any, w: Any) -> Any:
    x, y = breast_cancer()
    return xp.mean(xp.logaddexp(0.0, -y * (x @ w))) + 0.5e-3 * xp.sum(w[:-1] ** 2)


def logistic(w: Any) -> tuple[Any, Any]:
    x, y = breast_cancer()
    grads = x.T @ (-y / (1 + np.exp(y * (x @ w)))) / len(y)
    return logistic_value(np, w), grads + 1e-3 * np.append(w[:-1], 0)


class Problem(NamedTuple):
    value: Callable[[Any, Any], Any]
    value_and_grad: ValueAndGrad
    starts: list[Any]  # several where the evaluations are chaotic in the last bits of the start
    gtol: float


def normal(seed: int, size: int) -> Any:
    return frandom.normal(frandom.key(seed), (size,), "float64")


PROBLEMS = {
    "Rosenbrock 2": Problem(
        rosenbrock_value, rosenbrock, [np.array([-1.2, 1.0]), *(normal(i, 2) for i in range(9))], 1e-6
    ),
    "Rosenbrock 100": Problem(rosenbrock_value, rosenbrock, [np.tile([-1.2, 1.0], 50)], 1e-6),
    "quadratic 5": Problem(quadratic_value, quadratic, [normal(i, 5) for i in range(20)], 1e-6),
    "quadratic 50": Problem(quadratic_value, quadratic, [np.zeros(50)], 1e-3),
    "logistic regression": Problem(logistic_value, logistic, [np.zeros(31)], 1e-6),
}


def minimize(value_and_grad: ValueAndGrad, params: Any, gtol: float, *, steps: int = 10_000) -> tuple[Any, LBFGSState]:
    opt_state = lbfgs_init(params)
    for _ in range(steps):
        if np.abs(opt_state.grads).max() <= gtol or opt_state.failed:
            break
        params, opt_state = lbfgs_update(value_and_grad, params, opt_state)
    return params, opt_state
