"""Noise in the training examples."""

from typing import Any

import numpy as np
import pytest

from fnet import augment, tree
from fnet import random as frandom
from fnet.testing import assert_trees_equal

KEY = frandom.key(0)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def batch(dtype: str = "float64", rows: int = 8) -> tuple[Any, Any]:
    x = frandom.normal(KEY, (rows, 5), dtype)
    targets = np.eye(rows, dtype=dtype)  # each row its own class, so that targets tell who was mixed with whom
    return tree.freeze((x, targets))


@each_dtype
def test_mixup_mixes_features_and_targets_alike(dtype: str) -> None:
    x, targets = batch(dtype)
    mixed, mixed_targets = augment.mixup(KEY, x, targets, 0.4)
    np.testing.assert_allclose(mixed, mixed_targets @ x, rtol=1e-5, atol=1e-5 if dtype == "float32" else 1e-12)
    np.testing.assert_allclose(mixed_targets.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(mixed_targets.sum(axis=0), 1, rtol=1e-6)  # the partners are a permutation
    share = frandom.beta(frandom.split(KEY)[0], 0.4, 0.4)
    np.testing.assert_allclose(np.diag(mixed_targets)[np.diag(mixed_targets) < 1], share, rtol=1e-6)
    assert (np.diag(mixed_targets) < 1).sum() >= 4
    assert mixed.dtype == mixed_targets.dtype == dtype


def test_mixup_draws_the_share_from_beta() -> None:
    x, targets = batch(rows=2)
    keys = frandom.split(KEY, 400)
    shares = np.array([augment.mixup(key, x, targets, 0.5)[1][0, 0] for key in keys])
    swapped = shares < 1  # in the other half the permutation changes nothing
    assert swapped.mean() == pytest.approx(0.5, abs=0.1)
    assert shares[swapped].mean() == pytest.approx(0.5, abs=0.1)
    assert shares[swapped].var() == pytest.approx(1 / 8, abs=0.03)


@each_dtype
@pytest.mark.parametrize("std", [0.0, 0.5, 3.0])
def test_gaussian_noise(dtype: str, std: float) -> None:
    x = np.full((200, 50), 7, dtype)
    noisy = augment.gaussian_noise(KEY, x, std)
    assert noisy.dtype == dtype
    assert noisy.mean() == pytest.approx(7, abs=4 * std / 100)
    assert noisy.std() == pytest.approx(std, rel=0.03)


def test_purity() -> None:
    given = (*batch(), KEY)
    copies = tree.map(np.copy, given)
    x, targets, _ = given
    for augmented in (
        lambda key: augment.mixup(key, x, targets, 0.4),
        lambda key: augment.gaussian_noise(key, x, 0.1),
    ):
        assert_trees_equal(augmented(KEY), augmented(KEY.copy()))
        other, first = tree.leaves(augmented(frandom.key(1)))[0], tree.leaves(augmented(KEY))[0]
        assert (other != first).any()
    assert_trees_equal(given, copies)


@pytest.mark.parametrize("alpha", [0.0, -1.0, np.nan])
def test_bad_alpha(alpha: float) -> None:
    with pytest.raises(ValueError, match=f"must be positive, but got {alpha}"):
        augment.mixup(KEY, *batch(), alpha)


def test_mixup_of_different_lengths() -> None:
    x, targets = batch()
    with pytest.raises(ValueError, match="x has 8 rows, but targets have 7"):
        augment.mixup(KEY, x, targets[:7], 0.4)


@pytest.mark.parametrize("std", [-0.1, np.nan])
def test_bad_std(std: float) -> None:
    with pytest.raises(ValueError, match=f"std must be at least 0, but got {std}"):
        augment.gaussian_noise(KEY, batch()[0], std)
