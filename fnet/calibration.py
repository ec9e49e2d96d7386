"""Calibration: temperature scaling of logits, shifts of quantiles. `fnet.metrics` has the errors that they reduce."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from fnet import losses
from fnet.nn import Array

__all__ = ["cross_fitted_temperatures", "fit_quantile_shifts", "fit_temperature", "safe_temperature"]

LOWEST, HIGHEST = 0.01, 100.0  # temperatures
PRIOR_STD = 0.5  # of log T in safe_temperature, which puts 95 % of T between 0.37 and 2.7
FOLDS = 5


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike, *, prior_std: float = math.inf) -> float:
    """The temperature T that minimizes the cross entropy of `softmax(logits / T)`: Guo et al. (2017), section 4.2.

    Use examples that the network was not trained on. With few examples, use `safe_temperature`: if all of them are
    classified correctly, T goes to its lower limit. Accuracy does not depend on T.

    >>> logits = np.array([[4.0, 0.0]] * 4)
    >>> round(fit_temperature(logits, [0, 0, 0, 1]), 3)  # 4 / T = log(3)
    3.641

    Args:
        logits: `[batch, classes]`, or `[members, batch, classes]` of an ensemble that averages probabilities.
        labels: `[batch]`.
        prior_std: the standard deviation of a normal prior of log T with mean 0. The result is the most probable T,
            which minimizes `sum of cross entropies + log(T)**2 / (2 * prior_std**2)`.

    Returns:
        A temperature from 0.01 to 100.

    Raises:
        TypeError, ValueError: the shapes differ, labels are out of range, or logits are not finite.
    """
    z, y = _checked(logits, labels)
    return _fit(z, y, prior_std)


def safe_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """A temperature for few rows: regularized by a prior, and used only if it helps on held-out rows.

    It is the result of `fit_temperature` with a normal prior of `log(T)`, standard deviation 0.5, whose influence
    shrinks as the number of rows grows. It is 1, which leaves the probabilities unchanged, unless the temperatures
    fitted in 5-fold cross-validation (Stone 1974) lower the cross entropy of the held-out rows.

    >>> logits = np.array([[2.0, 0.0]] * 4)
    >>> fit_temperature(logits, [0, 0, 0, 0]) < 0.1, round(safe_temperature(logits, [0, 0, 0, 0]), 2)
    (True, 0.82)

    Args:
        logits, labels: as for `fit_temperature`.

    Raises:
        TypeError, ValueError: as for `fit_temperature`.
    """
    z, y = _checked(logits, labels)
    before = after = 0.0
    for rest, rows in _folds(len(y)):
        temperature = _fit(z[:, rest], y[rest], PRIOR_STD)
        before += len(rows) * _cross_entropy(z[:, rows], y[rows])
        after += len(rows) * _cross_entropy(z[:, rows] / temperature, y[rows])
    return _fit(z, y, PRIOR_STD) if after < before else 1.0


def cross_fitted_temperatures(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Array:
    """For each row the `safe_temperature` of the rows of the other four folds, `[batch]`.

    To judge how well a network is calibrated on the rows that its own temperature is fitted on.

    >>> cross_fitted_temperatures(np.array([[2.0, 0.0]] * 5), [0, 0, 0, 0, 1]).round(2)
    array([1.  , 1.  , 1.  , 1.  , 0.82])

    Args:
        logits, labels: as for `fit_temperature`.

    Raises:
        TypeError, ValueError: as `fit_temperature`.
    """
    z, y = _checked(logits, labels)
    temperatures = np.ones(len(y))
    for rest, rows in _folds(len(y)):
        temperatures[rows] = safe_temperature(z[:, rest], y[rest])
    return temperatures


def _folds(count: int) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """The other rows and the rows of each fold; none of a single row."""
    fold = np.arange(count) % FOLDS
    for held_out in range(min(FOLDS, count) if count > 1 else 0):
        yield np.flatnonzero(fold != held_out), np.flatnonzero(fold == held_out)


def _checked(logits: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Array, npt.NDArray[np.integer]]:
    """Logits `[members, batch, classes]` and labels `[batch]`."""
    z = np.asarray(logits, np.float64)
    z = z[None] if z.ndim == 2 else z
    if z.ndim != 3 or not z.size:
        raise ValueError(f"logits must have shape [batch, classes] or [members, batch, classes], but got {[*z.shape]}")
    if not np.isfinite(z).all():
        raise ValueError("logits must be finite")
    y = losses.check_labels(labels, z.shape[2])
    if len(y) != z.shape[1]:
        raise ValueError(f"got {len(y)} labels for {z.shape[1]} rows of logits")
    return z, y


def _fit(z: Array, y: npt.NDArray[np.integer], prior_std: float) -> float:
    weight = 0.5 / prior_std**2 / len(y)

    def objective(log_t: float) -> float:
        return _cross_entropy(z / math.exp(log_t), y) + weight * log_t**2

    return math.exp(_golden_section(objective, math.log(LOWEST), math.log(HIGHEST)))


def _cross_entropy(z: Array, labels: Array) -> float:
    """The mean cross entropy of the probabilities averaged over the members of z, `[members, batch, classes]`."""
    log_p = losses.log_softmax(z)[:, np.arange(len(labels)), labels]
    top = log_p.max(axis=0)
    return float(-(top + np.log(np.exp(log_p - top).mean(axis=0))).mean())


def _golden_section(f: Callable[[float], float], low: float, high: float, *, tolerance: float = 1e-6) -> float:
    """The minimum of a unimodal function, to within the tolerance: Kiefer (1953)."""
    ratio = (math.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    f_a, f_b = f(a), f(b)
    while high - low > tolerance:
        if f_a < f_b:
            high, b, f_b = b, a, f_a
            a = high - ratio * (high - low)
            f_a = f(a)
        else:
            low, a, f_a = a, b, f_b
            b = low + ratio * (high - low)
            f_b = f(b)
    return (low + high) / 2


def fit_quantile_shifts(quantiles: npt.ArrayLike, targets: npt.ArrayLike, levels: tuple[float, ...]) -> Array:
    """Offsets `[quantiles]` that calibrate predicted quantiles: Romano, Patterson & Candès (2019), for each tail.

    The offset for the level q is the q-quantile of `targets - quantiles[:, k]` over n examples that the network was
    not trained on, at position `q (n + 1)` in sorted order. Whatever the network, a new target is then at most the
    shifted quantile with probability q. If n is too small for the position to be from 1 to n, the offset is 0.

    >>> fit_quantile_shifts(np.zeros((9, 2)), np.arange(9.0), (0.01, 0.5))
    array([0., 4.])

    Args:
        quantiles: the predicted quantiles, `[rows, quantiles]`.
        targets: `[rows]`.
        levels: the level of each quantile, in (0, 1).

    Raises:
        ValueError: the shapes do not match, or a number is not finite.
    """
    q, y = np.asarray(quantiles, np.float64), np.asarray(targets, np.float64)
    if q.shape != (*y.shape, len(levels)) or y.ndim != 1 or not y.size:
        raise ValueError(f"expected targets [rows] and quantiles [rows, {len(levels)}], but got {y.shape}, {q.shape}")
    residuals, rows = y[:, None] - q, len(y)
    if not np.isfinite(residuals).all():
        raise ValueError("targets and quantiles must be finite")
    enough = [1 <= level * (rows + 1) <= rows for level in levels]
    shifts = [np.quantile(r, level, method="weibull") for r, level in zip(residuals.T, levels, strict=True)]
    return np.where(enough, shifts, 0.0)
