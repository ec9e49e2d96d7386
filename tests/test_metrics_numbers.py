"""RMSE, MAE, R², pinball loss and coverage, against scikit-learn."""

from typing import Any

import numpy as np
import pytest
from helpers import check_purity, library

from fnet import metrics, random, tree

KEYS = random.split(random.key(0))


def example(*shape: int) -> tuple[Any, Any]:
    y, noise = (100 * random.normal(key, shape, np.float64) for key in KEYS)
    return tree.freeze((y, y + noise))


@pytest.mark.parametrize("shape", [(1000,), (1000, 1), (50, 3), (2, 2)])
def test_scores_equal_those_of_scikit_learn(shape: tuple[int, ...]) -> None:
    oracle = library("sklearn.metrics")
    y, p = example(*shape)
    for name in ("root_mean_squared_error", "mean_absolute_error", "r2_score"):
        expected = getattr(oracle, name)(y, p)
        assert check_purity(getattr(metrics, name), y, p) == pytest.approx(expected, rel=1e-12)
        assert getattr(metrics, name)(y, y) == getattr(oracle, name)(y, y)


@pytest.mark.parametrize("p", [[0.5, 0.5, 0.5], [0.5, 0.5, 0.6]])
def test_r2_of_a_constant_target_is_that_of_scikit_learn(p: list[float]) -> None:
    y = [0.5, 0.5, 0.5]
    assert metrics.r2_score(y, p) == library("sklearn.metrics").r2_score(y, p)
    assert metrics.r2_score([0.1] * 3, [0.1, 0.1, 0.2]) == 0, "where the mean of the target is rounded, too"
    both, wrong = np.transpose([y, [1.0, 2.0, 3.0]]), np.transpose([p, [1.0, 2.0, 2.0]])
    assert metrics.r2_score(both, wrong) == pytest.approx(library("sklearn.metrics").r2_score(both, wrong))


@pytest.mark.parametrize("levels", [(0.5,), (0.1, 0.5, 0.9)])
def test_pinball_loss_equals_that_of_scikit_learn(levels: tuple[float, ...]) -> None:
    oracle = library("sklearn.metrics")
    y, q = example(500)[0], example(500, len(levels))[1]
    each = [oracle.mean_pinball_loss(y, q[:, k], alpha=level) for k, level in enumerate(levels)]
    assert check_purity(metrics.pinball_loss, y, q, levels) == pytest.approx(np.mean(each), rel=1e-12)


def test_coverage_counts_the_targets_between_the_outer_quantiles() -> None:
    y, q = example(500)[0], example(500, 3)[1]
    inside = [min(row) <= target <= max(row) for target, row in zip(y, q, strict=True)]
    assert 0.1 < check_purity(metrics.coverage, y, q) == np.mean(inside) < 0.9
    assert metrics.coverage([1.0, 2.0, 3.0], [[2.0], [2.0], [2.0]]) == 2 / 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.root_mean_squared_error([1.0], [[1.0]]), "as many predictions as targets"),
        (lambda: metrics.mean_absolute_error([1.0, 2.0], [1.0]), "as many predictions as targets"),
        (lambda: metrics.r2_score([], []), "as many predictions as targets"),
        (lambda: metrics.r2_score([1.0], [np.nan]), "must be finite"),
        (lambda: metrics.pinball_loss([1.0], [[1.0, 2.0]], (0.5,)), "2 levels, one for each quantile, but got 1"),
        (lambda: metrics.pinball_loss([np.inf], [[1.0]], (0.5,)), "must be finite"),
        (lambda: metrics.coverage([1.0, 2.0], [[1.0]]), r"quantiles \[rows, quantiles\], but got"),
        (lambda: metrics.coverage([[1.0]], [[1.0]]), r"expected targets \[rows\]"),
    ],
)
def test_what_has_no_score(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
