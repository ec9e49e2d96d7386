"""Scaling of features: standardization, and a robust kind of it. `fnet.data` has all these names too."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fnet.nn import Array
from fnet.tree import freeze

CHUNK = 4096  # rows read at a time where all rows are gone through


class Standardizer(NamedTuple):
    """What `standardize` subtracts and divides by."""

    mean: Array  # [features]
    std: Array  # [features]


def fit_standardizer(x: npt.ArrayLike, *, power: float = 1.0) -> Standardizer:
    """The mean and standard deviation of each feature, for `standardize`: the report's Eq. (1).

    Fit it on the training features alone. Accumulated in float64 over chunks of rows, so x may be memory-mapped. A
    constant feature gets a standard deviation of 1.

    Args:
        x: `[rows, features]`.
        power: in [0, 1]; the divisor is `std ** power`, scaled so that the mean variance is 1 again. With less than 1,
            features of large variance, such as the first principal components, stay larger than the others (partial
            whitening).

    >>> fit_standardizer(np.array([[0.0, 5.0], [2.0, 5.0]]))
    Standardizer(mean=array([1., 5.]), std=array([1., 1.]))

    Raises:
        ValueError: x is not `[rows, features]` finite numbers; power is out of range.
    """
    x = np.asanyarray(x)
    if x.ndim != 2 or x.dtype.kind not in "fiub" or len(x) == 0:
        raise ValueError(f"x must be numbers [rows, features], but got {x.dtype}{list(x.shape)}")
    if not 0 <= power <= 1:
        raise ValueError(f"power must be in [0, 1], but got {power}")
    first = np.asarray(x[0], np.float64)  # taken off, so that a constant feature has a std of exactly 0
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found below
        shift = _sum_of_chunks(x, lambda part: part - first) / len(x)
        std = np.sqrt(_sum_of_chunks(x, lambda part: np.square(part - first - shift)) / len(x))
    if not np.isfinite(std).all():
        column = int(np.argmin(np.isfinite(std)))
        raise ValueError(f"x must be finite, but feature {column} is not everywhere, or its square is not")
    std[std == 0] = 1
    divisor = std**power
    divisor *= np.sqrt(np.mean(np.square(std / divisor)))
    dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float32)
    divisor = divisor.astype(dtype)
    divisor[divisor == 0] = 1  # too small for the dtype
    return freeze(Standardizer((first + shift).astype(dtype), divisor))


def standardize(standardizer: Standardizer, x: npt.ArrayLike) -> Array:
    """`(x - mean) / std`, the report's Eq. (1).

    Raises:
        TypeError: x is not numbers.
        ValueError: x has another number of features.
    """
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise TypeError(f"x must be numbers, but got dtype {x.dtype}")
    if x.ndim != 2 or x.shape[1:] != standardizer.mean.shape:
        raise ValueError(f"x must have shape [rows, {len(standardizer.mean)}], but got {list(x.shape)}")
    out = np.subtract(x, standardizer.mean, dtype=standardizer.mean.dtype)
    out /= standardizer.std
    return out


class RobustScaler(NamedTuple):
    """What `robust_scale` subtracts and divides by."""

    median: Array  # [features]
    scale: Array  # [features]; the interquartile range, or half the range where that is 0


def fit_robust_scaler(x: npt.ArrayLike) -> RobustScaler:
    """Median and interquartile range of each feature, for `robust_scale`: Holzmüller, Grinsztajn & Steinwart (2024).

    Fit it on the training features alone. A feature with an interquartile range of 0 is divided by half its range, a
    constant one by 1. In memory: quantiles of more than one pass are not worth it here.

    >>> fit_robust_scaler(np.array([[0.0], [1.0], [2.0], [3.0], [100.0]]))
    RobustScaler(median=array([2.]), scale=array([2.]))

    Raises:
        ValueError: x is not `[rows, features]` finite numbers.
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.dtype.kind not in "fiub" or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError(f"x must be finite numbers [rows, features], but got {x.dtype}{list(x.shape)}")
    dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float32)
    if x.dtype.kind != "f":
        x = x.astype(np.float64)  # differences of small integers wrap around, those of bools are none
    low, median, high = np.quantile(x, (0.25, 0.5, 0.75), axis=0)
    scale: Array = high - low
    half_range = (x.max(axis=0) - x.min(axis=0)) / 2
    scale[scale == 0] = half_range[scale == 0]
    scale[scale == 0] = 1
    return freeze(RobustScaler(median.astype(dtype), scale.astype(dtype)))


def robust_scale(scaler: RobustScaler, x: npt.ArrayLike, *, limit: float = 3.0) -> Array:
    """`z / sqrt(1 + (z / limit)^2)` with `z = (x - median) / scale`: outliers are clipped smoothly to +-limit.

    The same source as `fit_robust_scaler`.

    >>> robust_scale(RobustScaler(np.zeros(1), np.ones(1)), np.array([[0.0], [1e9]]))
    array([[0.],
           [3.]])

    Raises:
        TypeError: x is not numbers.
        ValueError: x has another number of features, or the limit is not positive.
    """
    if not limit > 0:
        raise ValueError(f"limit must be positive, but got {limit}")
    z = standardize(Standardizer(scaler.median, scaler.scale), x)
    z /= np.sqrt(1 + np.square(z / limit))
    return z


def _sum_of_chunks(x: Array, f: Callable[[Array], Array]) -> Array:
    """The sum of f(row) over all rows, in float64."""
    total = np.zeros(x.shape[1])
    for start in range(0, len(x), CHUNK):
        total += f(np.asarray(x[start : start + CHUNK], np.float64)).sum(axis=0)
    return total
