"""Standardization and robust scaling."""

from typing import Any

import numpy as np
import pytest

import fnet
from fnet import data, scaling
from fnet import random as frandom

KEY = frandom.key(0)
X = np.arange(12, dtype=np.float32).reshape(6, 2)


@pytest.mark.parametrize("bad", [[np.inf, 1], [1, np.inf], [np.nan, 1], [np.inf, -np.inf]])
def test_features_that_are_not_finite_are_named(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="feature 1 is not everywhere"):
        fnet.fit_standardizer(np.array([[0, 1], bad]).T)


def test_standardizer() -> None:
    x = np.concatenate([1000 + frandom.normal(KEY, (9000, 3)), np.full((9000, 1), 0.1, np.float32)], axis=1)
    standardizer = fnet.fit_standardizer(x)
    np.testing.assert_allclose(standardizer.mean, x.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(standardizer.std[:3], x[:, :3].std(axis=0, dtype=np.float64), rtol=1e-6)
    assert standardizer.std[3] == 1
    z = fnet.standardize(standardizer, x)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(z.std(axis=0), [1, 1, 1, 0], atol=1e-3)


def test_a_deviation_too_small_for_the_dtype_divides_nothing() -> None:
    x = np.zeros((5, 1), np.float32)
    x[0] = 1e-45
    assert np.isfinite(fnet.standardize(fnet.fit_standardizer(x), x)).all()


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_partial_whitening(power: float) -> None:
    x = np.array([1.0, 4.0, 100.0]) * frandom.normal(KEY, (5000, 3), np.float64)
    z = fnet.standardize(fnet.fit_standardizer(x, power=power), x)
    std = x.std(axis=0) ** (1 - power)
    np.testing.assert_allclose(z.std(axis=0), std / np.sqrt(np.mean(std**2)), rtol=1e-9)


def test_robust_scaling() -> None:
    x = frandom.normal(KEY, (999, 2), np.float64)
    x[0] = 1e6
    scaler = scaling.fit_robust_scaler(x)
    low, middle, high = np.quantile(x, (0.25, 0.5, 0.75), axis=0)
    np.testing.assert_allclose(scaler.median, middle)
    np.testing.assert_allclose(scaler.scale, high - low)
    z = (x - middle) / (high - low)
    np.testing.assert_allclose(scaling.robust_scale(scaler, x), z / np.sqrt(1 + (z / 3) ** 2))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "bool"])
def test_robust_scaling_of_small_integers(dtype: str) -> None:
    x = np.array([[-100]] + [[0]] * 5 + [[100]]).astype(dtype)
    got, expected = scaling.fit_robust_scaler(x), scaling.fit_robust_scaler(x.astype(np.float32))
    fnet.testing.assert_trees_equal(got, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fnet.fit_standardizer(np.array([[np.nan]])), "feature 0 is not"),
        (lambda: fnet.fit_standardizer(np.array([[1, 2], [0, np.inf]])), "feature 1 is not"),
        (lambda: fnet.fit_standardizer(np.array([[1e200], [0]])), "or its square is not"),
        (lambda: fnet.fit_standardizer(np.zeros(3)), "rows, features"),
        (lambda: fnet.fit_standardizer(X, power=2), r"power must be in \[0, 1\]"),
        (lambda: fnet.standardize(fnet.fit_standardizer(X), X[:, :1]), r"shape \[rows, 2\]"),
        (lambda: scaling.robust_scale(scaling.fit_robust_scaler(X), X, limit=0), "limit must be positive"),
    ],
)
def test_bad_calls(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("x", [[["a", "b"]], [[None, 1]], [[1j, 2]]])
def test_features_that_are_no_numbers(x: Any) -> None:
    for call in (fnet.standardize, lambda s, x: scaling.robust_scale(scaling.RobustScaler(*s), x)):
        with pytest.raises(TypeError, match="x must be numbers, but got dtype"):
            call(fnet.fit_standardizer(X), x)


def test_fnet_data_has_all_names() -> None:
    names = ["Standardizer", "fit_standardizer", "standardize", "RobustScaler", "fit_robust_scaler", "robust_scale"]
    assert all(getattr(data, name) is getattr(scaling, name) for name in names)
