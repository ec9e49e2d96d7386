"""Scaling of regression targets: standardized for the network, and back to the user's unit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fnet.nn import Array
from fnet.tree import container, freeze

__all__ = ["TargetScale", "fit_target_scale", "scale_targets", "unscale_outputs"]


@container
class TargetScale(NamedTuple):
    """The mean that `scale_targets` subtracts and the divisor that it applies."""

    mean: Array  # [targets] float64; of the logarithms if log
    std: Array  # [targets] float64
    log: np.bool = np.False_  # whether the logarithms are scaled


def fit_target_scale(y: npt.ArrayLike, *, log: bool = False, sample_weight: npt.ArrayLike | None = None) -> TargetScale:
    """The mean and standard deviation of each target, or of its logarithm, for `scale_targets`.

    Use the training rows only. The network then learns numbers of about the same size, whatever the unit: LeCun et al.
    (1998), section 4.3. With logarithms, the loss measures relative errors, and the prediction is the exponential of
    the mean logarithm, which is below the mean: Box & Cox (1964).

    >>> fit_target_scale([2.0, 4.0]).mean
    array([3.])

    Args:
        y: `[rows]` or `[rows, targets]`, in the user's unit.
        log: whether to take logarithms, for positive targets.
        sample_weight: weights of the rows, `[rows]`, not negative and not all 0.

    Returns:
        The scale. A constant target gets a standard deviation of 1.

    Raises:
        TypeError: y does not consist of numbers, or is a masked array.
        ValueError: y has another shape, is not finite, or is not positive although logarithms are asked for.
    """
    y = _columns(y, log)
    weights = None if sample_weight is None else np.asarray(sample_weight, np.float64)
    first = y[0]  # subtracted so that a constant target has a std of exactly 0
    with np.errstate(over="ignore", invalid="ignore"):  # non-finite numbers are found below
        shift = np.average(y - first, axis=0, weights=weights)
        std = np.sqrt(np.average(np.square(y - first - shift), axis=0, weights=weights))
    if not np.isfinite(std).all():
        raise ValueError("targets and their squares must be finite")
    std[std == 0] = 1
    return freeze(TargetScale(first + shift, std, np.bool(log)))


def scale_targets(scale: TargetScale, y: npt.ArrayLike, *, dtype: npt.DTypeLike = "float32") -> Array:
    """`(y - mean) / std`, or `(log(y) - mean) / std`, `[rows, targets]`, rounded to the dtype.

    Raises:
        TypeError, ValueError: as for `fit_target_scale`, or the number of targets differs.
    """
    y = _columns(y, bool(scale.log))
    if y.shape[1:] != scale.mean.shape:
        raise ValueError(f"expected {len(scale.mean)} targets per row, but got {y.shape[1]}")
    with np.errstate(over="ignore"):  # overflow gives infinity, as in every cast
        return ((y - scale.mean) / scale.std).astype(dtype)


def unscale_outputs(scale: TargetScale, outputs: Array) -> Array:
    """`mean + std * outputs`, or its exponential, float64 `[rows, outputs]`: the inverse of `scale_targets`.

    >>> scale = fit_target_scale([1.0, 100.0], log=True)
    >>> unscale_outputs(scale, scale_targets(scale, [10.0], dtype=float)).round(6)
    array([[10.]])

    Args:
        outputs: outputs of a network, `[rows, targets]`, or `[rows, quantiles]` for a single target.
    """
    with np.errstate(over="ignore"):  # the caller checks for infinity
        y = scale.mean + scale.std * outputs.astype(np.float64)
        return np.exp(y) if scale.log else y


def _columns(y: npt.ArrayLike, log: bool) -> Array:
    """Targets as float64 `[rows, targets]`, or their logarithms."""
    if isinstance(y, np.ma.MaskedArray):
        raise TypeError("targets are a masked array, whose mask would be ignored; leave out the masked rows")
    y = np.asarray(y)
    if y.dtype.kind not in "fiub":
        raise TypeError(f"targets must be numbers, but got dtype {y.dtype}")
    if y.ndim not in (1, 2) or y.size == 0:
        raise ValueError(f"targets must be [rows] or [rows, targets], but got {list(y.shape)}")
    y = y.astype(np.float64).reshape(len(y), -1)
    if not np.isfinite(y).all():
        row = int(np.argmin(np.isfinite(y).all(axis=1)))
        raise ValueError(f"targets must be finite, but row {row} has {y[row].tolist()}")
    if not log:
        return y
    if y.min() <= 0:
        row = int(np.argmin(y.min(axis=1)))
        raise ValueError(f"only positive targets have a logarithm, but row {row} has {y[row].min():g}")
    return np.log(y)
