"""The scale of targets: there and back, in any unit."""

from typing import Any

import numpy as np
import pytest
from helpers import check_purity

from fnet import data, random, tree

Y = tree.freeze(1e9 + 20 * random.normal(random.key(0), (50, 3), np.float64))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("y", [Y, Y[:, 0], np.arange(1, 6), np.array([[1.0], [1e-30], [1e30]])], ids=lambda y: y.shape)
def test_targets_come_back_from_their_scale(y: Any, log: bool) -> None:
    scale = check_purity(data.fit_target_scale, y, log=log)
    scaled = check_purity(data.scale_targets, scale, y, dtype=np.float64)
    assert scaled.shape == (len(y), scale.mean.size)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-6)
    back = check_purity(data.unscale_outputs, scale, scaled)
    np.testing.assert_allclose(back, np.reshape(y, scaled.shape), rtol=1e-12, atol=1e-12 * np.abs(y).max() * (not log))
    assert back.dtype == np.float64


def test_a_weight_is_a_number_of_rows() -> None:
    counts = np.arange(len(Y)) % 4
    weighted, repeated = data.fit_target_scale(Y, sample_weight=counts), data.fit_target_scale(Y.repeat(counts, axis=0))
    np.testing.assert_allclose(weighted.mean, repeated.mean, rtol=1e-15)
    np.testing.assert_allclose(weighted.std, repeated.std, rtol=1e-9)


def test_a_constant_target_has_a_standard_deviation_of_one() -> None:
    assert data.fit_target_scale(np.full(7, 0.1)) == (0.1, 1, False)


def test_quantiles_have_the_scale_of_their_target() -> None:
    scale = data.fit_target_scale([1.0, 3.0])
    assert data.unscale_outputs(scale, np.array([[-1.0, 0.0, 1.0]])).tolist() == [[1, 2, 3]]


def test_float32_targets_lose_no_digits_before_they_are_scaled() -> None:
    scaled = data.scale_targets(data.fit_target_scale(Y), Y)
    np.testing.assert_allclose(scaled, (Y - Y.mean(axis=0)) / Y.std(axis=0), atol=1e-6)
    assert scaled.dtype == np.float32


@pytest.mark.parametrize(
    ("y", "options", "error", "message"),
    [
        ([1.0, np.nan], {}, ValueError, r"targets must be finite, but row 1 has \[nan\]"),
        ([1.0, 1e300], {}, ValueError, "and their squares must be finite"),
        ([2.0, 0.0], {"log": True}, ValueError, "only positive targets have a logarithm, but row 1 has 0"),
        ([[1.0, 2.0], [3.0, -4.0]], {"log": True}, ValueError, "row 1 has -4"),
        (1.0, {}, ValueError, r"must be \[rows\] or \[rows, targets\], but got \[\]"),
        (np.zeros((2, 0)), {}, ValueError, r"but got \[2, 0\]"),
        (np.zeros((2, 1, 1)), {}, ValueError, r"but got \[2, 1, 1\]"),
        (["a"], {}, TypeError, "targets must be numbers, but got dtype <U1"),
        ([1j], {}, TypeError, "targets must be numbers, but got dtype complex128"),
        (np.ma.masked_equal([1.0, 2.0], 1), {}, TypeError, "targets are a masked array"),
    ],
)
def test_targets_that_have_no_scale(y: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        data.fit_target_scale(y, **options)


def test_another_number_of_targets() -> None:
    with pytest.raises(ValueError, match="expected 3 targets per row, but got 1"):
        data.scale_targets(data.fit_target_scale(Y), Y[:, 0])
