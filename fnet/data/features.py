"""Scaling of features: standardization, and a robust kind of it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fnet.nn import Array
from fnet.tree import freeze

__all__ = [
    "RobustScaler",
    "Standardizer",
    "fit_robust_scaler",
    "fit_standardizer",
    "robust_scale",
    "standardize",
]

CHUNK = 4096  # rows read at a time where all rows are gone through


class Standardizer(NamedTuple):
    """What `standardize` subtracts and divides by."""

    mean: Array  # [features] float64
    std: Array  # [features] float64


def fit_standardizer(
    x: npt.ArrayLike, *, whitening: float = 1.0, only: npt.NDArray[np.bool] | None = None
) -> Standardizer:
    """The mean and standard deviation of each feature, for `standardize`: Chen & Wu, Eq. (1).

    Fit it on the training features alone. Accumulated in float64 over chunks of rows, so x may be memory-mapped. A
    constant feature gets a standard deviation of 1.

    Args:
        x: `[rows, features]`.
        whitening: in [0, 1]; the divisor is `std ** whitening`, scaled so that the mean variance is 1 again. With less
            than 1, features of large variance, such as the first principal components, stay larger than the others
            (partial whitening). It makes sense for features of one unit only.
        only: `[features]`; the features that are scaled, such as `numeric_features` of an encoder. The others get
            mean 0 and standard deviation 1.

    >>> fit_standardizer(np.array([[0.0, 5.0], [2.0, 5.0]]))
    Standardizer(mean=array([1., 5.]), std=array([1., 1.]))

    Raises:
        TypeError: x is not numbers, or a masked array.
        ValueError: x is not `[rows, features]`, or not finite; whitening is out of range.
    """
    x = _features(x)
    if not 0 <= whitening <= 1:
        raise ValueError(f"whitening must be in [0, 1], but got {whitening}")
    first = np.asarray(x[0], np.float64)  # taken off, so that a constant feature has a std of exactly 0
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found below
        shift = _sum_of_chunks(x, lambda part: part - first) / len(x)
        std = np.sqrt(_sum_of_chunks(x, lambda part: np.square(part - first - shift)) / len(x))
    if not np.isfinite(std).all():
        column = int(np.argmin(np.isfinite(std)))
        raise ValueError(f"x must be finite, but feature {column} is not everywhere, or its square is not")
    std[std == 0] = 1
    mask = _mask(only, len(std))
    divisor = std**whitening
    if mask.any():
        divisor *= np.sqrt(np.mean(np.square(std / divisor)[mask]))
    return freeze(Standardizer(np.where(mask, first + shift, 0.0), np.where(mask, divisor, 1.0)))


def standardize(standardizer: Standardizer, x: npt.ArrayLike, *, dtype: npt.DTypeLike = np.float32) -> Array:
    """`(x - mean) / std`, Chen & Wu, Eq. (1), computed in float64 and then rounded to the dtype.

    So integers, timestamps, and numbers of any dtype keep what tells them apart.

    >>> x = [[10**9 - 17], [10**9], [10**9 + 17]]
    >>> standardize(fit_standardizer(x), x)[:, 0]
    array([-1.2247449,  0.       ,  1.2247449], dtype=float32)

    Raises:
        TypeError: x is not numbers, or a masked array.
        ValueError: x has another number of features.
    """
    return _scaled(x, standardizer.mean, standardizer.std, dtype, None)


class RobustScaler(NamedTuple):
    """What `robust_scale` subtracts and divides by."""

    median: Array  # [features] float64
    scale: Array  # [features] float64; the interquartile range, or half the range where that is 0


def fit_robust_scaler(x: npt.ArrayLike, *, only: npt.NDArray[np.bool] | None = None) -> RobustScaler:
    """Median and interquartile range of each feature, for `robust_scale`: Holzmüller, Grinsztajn & Steinwart (2024).

    Fit it on the training features alone. A feature with an interquartile range of 0 is divided by half its range, a
    constant one by 1. One feature at a time is sorted in float64.

    Args:
        x: `[rows, features]`.
        only: `[features]`; the features that are scaled, such as `numeric_features` of an encoder. The others get
            median 0 and scale 1.

    >>> fit_robust_scaler(np.array([[0.0], [1.0], [2.0], [3.0], [100.0]]))
    RobustScaler(median=array([2.]), scale=array([2.]))

    Raises:
        TypeError: x is not numbers, or a masked array.
        ValueError: x is not `[rows, features]`, or not finite.
    """
    x = _features(x)
    median, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
    for feature in np.flatnonzero(_mask(only, x.shape[1])).tolist():
        column = np.asarray(x[:, feature], np.float64)
        if not np.isfinite(column).all():
            raise ValueError(f"x must be finite, but feature {feature} is not everywhere")
        # Halved first, so that the difference of two numbers near the largest float64 is finite.
        low, middle, high = np.quantile(column / 2, (0.25, 0.5, 0.75))
        half_range = (column.max() / 2 - column.min() / 2).item()
        width = min(2 * float(high - low), float(np.finfo(np.float64).max)) or half_range
        median[feature], scale[feature] = 2 * middle, width or 1.0
    return freeze(RobustScaler(median, scale))


def robust_scale(
    scaler: RobustScaler, x: npt.ArrayLike, *, limit: float = 3.0, dtype: npt.DTypeLike = np.float32
) -> Array:
    """`z / sqrt(1 + (z / limit)^2)` with `z = (x - median) / scale`: outliers are clipped smoothly to +-limit.

    Computed in float64 and then rounded to the dtype. The same source as `fit_robust_scaler`.

    >>> robust_scale(RobustScaler(np.zeros(1), np.ones(1)), np.array([[0.0], [1e20]]))
    array([[0.],
           [3.]], dtype=float32)

    Raises:
        TypeError: x is not numbers, or a masked array.
        ValueError: x has another number of features, or the limit is not positive.
    """
    if not limit > 0:
        raise ValueError(f"limit must be positive, but got {limit}")
    return _scaled(x, scaler.median, scaler.scale, dtype, limit)


def _scaled(x: npt.ArrayLike, centre: Array, scale: Array, dtype: npt.DTypeLike, limit: float | None) -> Array:
    x = _numbers(x)
    if x.ndim != 2 or x.shape[1:] != centre.shape:
        raise ValueError(f"x must have shape [rows, {len(centre)}], but got {list(x.shape)}")
    out = np.empty(x.shape, dtype)
    for start in range(0, len(x), CHUNK):
        with np.errstate(over="ignore"):  # beyond the dtype is infinite, as in every cast
            z = np.subtract(x[start : start + CHUNK], centre, dtype=np.float64)
            z /= scale
            if limit is not None:
                z /= np.hypot(1, z / limit)  # sqrt(1 + (z / limit)^2) without its square
            out[start : start + CHUNK] = z
    return out


def _features(x: npt.ArrayLike) -> Array:
    x = _numbers(x)
    if x.ndim != 2 or x.size == 0:
        raise ValueError(f"x must be numbers [rows, features], but got {x.dtype}{list(x.shape)}")
    return x


def _numbers(x: npt.ArrayLike) -> Array:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            "x is a masked array, whose mask would be lost; fill it: x.filled(value), or use fnet.data.from_columns, "
            "where masked values are missing"
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
