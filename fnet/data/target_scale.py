"""The scale of the targets of a regression: standardized for the network, and back in the user's unit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fnet.nn import Array
from fnet.tree import container, freeze

__all__ = ["TargetScale", "fit_target_scale", "scale_targets", "unscale_outputs"]


@container
class TargetScale(NamedTuple):
    """What `scale_targets` subtracts and divides by."""

    mean: Array  # [targets] float64; of the logarithms, where log
    std: Array  # [targets] float64
    log: np.bool = np.False_  # whether the logarithms are scaled


def fit_target_scale(y: npt.ArrayLike, *, log: bool = False, sample_weight: npt.ArrayLike | None = None) -> TargetScale:
    """The mean and standard deviation of each target, or of its logarithm, for `scale_targets`.

    Fit it on the training rows alone. The network then learns numbers of about the same size, whatever the unit:
    LeCun et al. (1998), section 4.3. With the logarithm, errors count by their ratio; the prediction is the
    exponential of the mean logarithm, which lies below the mean: Box & Cox (1964).

    >>> fit_target_scale([2.0, 4.0]).mean
    array([3.])

    Args:
        y: `[rows]` or `[rows, targets]`, in the user's unit.
        log: whether to take logarithms, for positive targets.
        sample_weight: `[rows]`, not negative and not all 0; weighs the rows.

    Returns:
        A constant target gets a standard deviation of 1.

    Raises:
        TypeError: y is not numbers, or a masked array.
        ValueError: y is not `[rows]` or `[rows, targets]`, or not finite; a logarithm of a number that is not positive.
    """
    y = _columns(y, log)
    weights = None if sample_weight is None else np.asarray(sample_weight, np.float64)
    first = y[0]  # taken off, so that a constant target has a std of exactly 0
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found below
        shift = np.average(y - first, axis=0, weights=weights)
        std = np.sqrt(np.average(np.square(y - first - shift), axis=0, weights=weights))
    if not np.isfinite(std).all():
        raise ValueError("targets must be finite, and so must be their squares")
    std[std == 0] = 1
    return freeze(TargetScale(first + shift, std, np.bool(log)))


def scale_targets(scale: TargetScale, y: npt.ArrayLike, *, dtype: npt.DTypeLike = "float32") -> Array:
    """`(y - mean) / std`, or `(log(y) - mean) / std`, `[rows, targets]`, rounded to the dtype.

    Raises:
        TypeError, ValueError: as `fit_target_scale`, or another number of targets.
    """
    y = _columns(y, bool(scale.log))
    if y.shape[1:] != scale.mean.shape:
        raise ValueError(f"expected {len(scale.mean)} targets per row, but got {y.shape[1]}")
    with np.errstate(over="ignore"):  # beyond the dtype is infinite, as in every cast
        return ((y - scale.mean) / scale.std).astype(dtype)


def unscale_outputs(scale: TargetScale, outputs: Array) -> Array:
    """`mean + std * outputs`, or its exponential, float64 `[rows, outputs]`: the inverse of `scale_targets`.

    >>> scale = fit_target_scale([1.0, 100.0], log=True)
    >>> unscale_outputs(scale, scale_targets(scale, [10.0], dtype=float)).round(6)
    array([[10.]])

    Args:
        outputs: of a network, `[rows, targets]`, or `[rows, quantiles]` of a single target.
    """
    with np.errstate(over="ignore"):  # what is infinite is found by the caller
        y = scale.mean + scale.std * outputs.astype(np.float64)
        return np.exp(y) if scale.log else y


def _columns(y: npt.ArrayLike, log: bool) -> Array:
    """Targets as float64 `[rows, targets]`, or their logarithms."""
    if isinstance(y, np.ma.MaskedArray):
        raise TypeError("targets are a masked array, whose mask would be lost; leave out the masked rows")
    y = np.asarray(y)
    if y.dtype.kind not in "fiub":
        raise TypeError(f"targets must be numbers, but got dtype {y.dtype}")
    if y.ndim not in (1, 2) or y.size == 0:
        raise ValueError(f"targets must be [rows] or [rows, targets], but got {list(y.shape)}")
    y = y.astype(np.float64).reshape(len(y), -1)
    if not np.isfinite(y).all():
        row = int(np.argmin(np.isfinite(y).all(axis=1)))
        raise ValueError(f"targets must be finite, but that of row {row} is {y[row].tolist()}")
    if not log:
        return y
    if y.min() <= 0:
        row = int(np.argmin(y.min(axis=1)))
        raise ValueError(f"only positive targets have a logarithm, but row {row} has {y[row].min():g}")
    return np.log(y)
