"""Standardization."""

from typing import Any

import numpy as np
import pytest

import fnet
from fnet import random as frandom

KEY = frandom.key(0)
X = np.arange(12, dtype=np.float32).reshape(6, 2)


@pytest.mark.parametrize("bad", [[np.inf, 1], [1, np.inf], [np.nan, 1], [np.inf, -np.inf]])
def test_features_that_are_not_finite_are_named(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="those of feature 1 are not"):
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


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_partial_whitening(whitening: float) -> None:
    x = np.array([1.0, 4.0, 100.0]) * frandom.normal(KEY, (5000, 3), np.float64)
    z = fnet.standardize(fnet.fit_standardizer(x, whitening=whitening), x, dtype=np.float64)
    std = x.std(axis=0) ** (1 - whitening)
    np.testing.assert_allclose(z.std(axis=0), std / np.sqrt(np.mean(std**2)), rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fnet.fit_standardizer(np.array([[np.nan]])), "feature 0 are not"),
        (lambda: fnet.fit_standardizer(np.array([[1, 2], [0, np.inf]])), "feature 1 are not"),
        (lambda: fnet.fit_standardizer(np.array([[1e200], [0]])), "and its squares must be finite"),
        (lambda: fnet.fit_standardizer(np.zeros(3)), "rows, features"),
        (lambda: fnet.fit_standardizer(X, whitening=2), r"whitening must be in \[0, 1\]"),
        (lambda: fnet.standardize(fnet.fit_standardizer(X), X[:, :1]), r"shape \[rows, 2\]"),
    ],
)
def test_bad_calls(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("x", [[["a", "b"]], [[None, 1]], [[1j, 2]]])
def test_features_that_are_no_numbers(x: Any) -> None:
    with pytest.raises(TypeError, match="x must be numbers, but got dtype"):
        fnet.standardize(fnet.fit_standardizer(X), x)


def test_integers_and_timestamps_keep_what_tells_them_apart() -> None:
    x = np.array([[10**9 - 17], [10**9], [10**9 + 17]])
    expected = np.array([-1.5, 0, 1.5]) / np.sqrt(1.5)
    for values in (x, x.astype(float), x.astype(">i8"), x * 1000 + 1_700_000_000_000):
        z = fnet.standardize(fnet.fit_standardizer(values), values)
        assert z.dtype == np.float32
        np.testing.assert_allclose(z[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [">f4", ">f8", "float16", "uint8", "bool", "float64"])
def test_numbers_of_every_dtype_are_standardized_alike(dtype: str) -> None:
    x = np.array([[0], [1], [0], [1]]).astype(dtype)
    standardizer = fnet.fit_standardizer(x)
    assert standardizer.mean.dtype == standardizer.std.dtype == np.float64
    assert fnet.standardize(standardizer, x).tolist() == [[-1], [1], [-1], [1]]
    assert fnet.standardize(standardizer, x, dtype=np.float64).dtype == np.float64


def test_float16_to_its_largest_numbers() -> None:
    x = np.array([[-60000], [60000]], np.float16)
    assert fnet.standardize(fnet.fit_standardizer(x), x).tolist() == [[-1], [1]]


def test_only_some_features_are_scaled() -> None:
    x = np.array([[1.0, 0, 10], [3, 1, 30], [5, 1, 20]])
    only = np.array([True, False, True])
    part, whole = fnet.fit_standardizer(x, only=only), fnet.fit_standardizer(x[:, only])
    np.testing.assert_array_equal(part.mean, [whole.mean[0], 0, whole.mean[1]])
    np.testing.assert_array_equal(part.std, [whole.std[0], 1, whole.std[1]])
    with pytest.raises(ValueError, match=r"only must be 3 booleans, one per feature, but got bool\[2\]"):
        fnet.fit_standardizer(x, only=only[:2])
    half, alone = fnet.fit_standardizer(x, whitening=0.5, only=only), fnet.fit_standardizer(x[:, only], whitening=0.5)
    np.testing.assert_allclose(half.std[only], alone.std)


def test_masked_arrays_are_refused_with_what_to_do() -> None:
    x = np.ma.MaskedArray([[1.0], [2.0]], [[True], [False]])
    for call in (fnet.fit_standardizer, lambda x: fnet.standardize(fnet.fit_standardizer([[1]]), x)):
        with pytest.raises(TypeError, match=r"masked array, whose mask would be ignored; fill it: x\.filled"):
            call(x)


def test_features_are_read_in_chunks_as_at_once() -> None:
    x = frandom.normal(KEY, (9000, 2), np.float64)
    standardizer = fnet.fit_standardizer(x)
    np.testing.assert_array_equal(
        fnet.standardize(standardizer, x, dtype=np.float64), (x - standardizer.mean) / standardizer.std
    )
