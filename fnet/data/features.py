"""Standardization of features."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fnet.nn import Array
from fnet.tree import container, freeze

__all__ = ["Standardizer", "fit_standardizer", "standardize"]

CHUNK = 4096  # rows read at a time where all rows are gone through


@container
class Standardizer(NamedTuple):
    """The mean that `standardize` subtracts and the divisor that it applies."""

    mean: Array  # [features] float64
    std: Array  # [features] float64


def fit_standardizer(
    x: npt.ArrayLike, *, whitening: float = 1.0, only: npt.NDArray[np.bool] | None = None
) -> Standardizer:
    """The mean and standard deviation of each feature, for `standardize`: Chen & Wu, Eq. (1).

    Use the training features only. The sums are accumulated in float64 over chunks of rows, so x may be memory-mapped.
    A constant feature gets a standard deviation of 1.

    Args:
        x: `[rows, features]`.
        whitening: a number in [0, 1]. The divisor is `std ** whitening`, scaled so that the mean variance is 1. Below
            1 (partial whitening), features with a large variance, such as the first principal components, remain
            larger than the others. This is meaningful only for features of one unit.
        only: booleans `[features]`, the features to scale, such as `numeric_features` of an encoder. The others get
            mean 0 and standard deviation 1.

    >>> fit_standardizer(np.array([[0.0, 5.0], [2.0, 5.0]])).mean
    array([1., 5.])

    Raises:
        TypeError: x does not consist of numbers, or is a masked array.
        ValueError: x has another shape or is not finite, or whitening is out of range.
    """
    x = _features(x)
    if not 0 <= whitening <= 1:
        raise ValueError(f"whitening must be in [0, 1], but got {whitening}")
    first = np.asarray(x[0], np.float64)  # subtracted so that a constant feature has a std of exactly 0
    with np.errstate(over="ignore", invalid="ignore"):  # non-finite numbers are found below
        shift = _sum_of_chunks(x, lambda part: part - first) / len(x)
        std = np.sqrt(_sum_of_chunks(x, lambda part: np.square(part - first - shift)) / len(x))
    if not np.isfinite(std).all():
        column = int(np.argmin(np.isfinite(std)))
        raise ValueError(f"x and its squares must be finite, but those of feature {column} are not")
    std[std == 0] = 1
    mask = _mask(only, len(std))
    divisor = std**whitening
    if mask.any():
        divisor *= np.sqrt(np.mean(np.square(std / divisor)[mask]))
    return freeze(Standardizer(np.where(mask, first + shift, 0.0), np.where(mask, divisor, 1.0)))


def standardize(standardizer: Standardizer, x: npt.ArrayLike, *, dtype: npt.DTypeLike = "float32") -> Array:
    """`(x - mean) / std`, Chen & Wu, Eq. (1), computed in float64 and then rounded to the dtype.

    Large integers and timestamps therefore keep their differences.

    >>> x = [[10**9 - 17], [10**9], [10**9 + 17]]
    >>> standardize(fit_standardizer(x), x)[:, 0]
    array([-1.2247449,  0.       ,  1.2247449], dtype=float32)

    Raises:
        TypeError: x does not consist of numbers, or is a masked array.
        ValueError: x has another number of features.
    """
    x = _numbers(x)
    if x.ndim != 2 or x.shape[1:] != standardizer.mean.shape:
        raise ValueError(f"x must have shape [rows, {len(standardizer.mean)}], but got {list(x.shape)}")
    out = np.empty(x.shape, dtype)
    for start in range(0, len(x), CHUNK):
        with np.errstate(over="ignore"):  # overflow gives infinity, as in every cast
            z = np.subtract(x[start : start + CHUNK], standardizer.mean, dtype=np.float64)
            out[start : start + CHUNK] = np.divide(z, standardizer.std, out=z)
    return out


def _features(x: npt.ArrayLike) -> Array:
    x = _numbers(x)
    if x.ndim != 2 or x.size == 0:
        raise ValueError(f"x must be numbers [rows, features], but got {x.dtype}{list(x.shape)}")
    return x


def _numbers(x: npt.ArrayLike) -> Array:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            "x is a masked array, whose mask would be ignored; fill it: x.filled(value), or use "
            "fnet.data.from_columns, which treats masked values as missing"
        )
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise TypeError(f"x must be numbers, but got dtype {x.dtype}")
    return x


def _mask(only: npt.NDArray[np.bool] | None, features: int) -> npt.NDArray[np.bool]:
    mask = np.ones(features, bool) if only is None else np.asarray(only)
    if mask.shape != (features,) or mask.dtype != bool:
        raise ValueError(f"only must be {features} booleans, one per feature, but got {mask.dtype}{list(mask.shape)}")
    return mask


def _sum_of_chunks(x: Array, f: Callable[[Array], Array]) -> Array:
    """The sum of f(row) over all rows, in float64."""
    total = np.zeros(x.shape[1])
    for start in range(0, len(x), CHUNK):
        total += f(np.asarray(x[start : start + CHUNK], np.float64)).sum(axis=0)
    return total
