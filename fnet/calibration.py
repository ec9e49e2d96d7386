"""Temperature scaling of logits. The calibration error is in `fnet.metrics`."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fnet import losses
from fnet.nn import Array

__all__ = ["fit_temperature"]

LOWEST, HIGHEST = 0.01, 100.0  # temperatures


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The temperature T that minimizes the cross entropy of `softmax(logits / T)`: Guo et al. (2017), section 4.2.

    Use examples that the network was not trained on. Accuracy does not depend on T.

    >>> logits = np.array([[4.0, 0.0]] * 4)
    >>> round(fit_temperature(logits, [0, 0, 0, 1]), 3)  # 4 / T = log(3)
    3.641

    Args:
        logits: `[batch, classes]`; or `[members, batch, classes]` of an ensemble, which averages probabilities.
        labels: `[batch]`.

    Returns:
        A temperature from 0.01 to 100.

    Raises:
        TypeError, ValueError: shapes that differ, labels out of range, or logits that are not finite.
    """
    z = np.asarray(logits, np.float64)
    z = z[None] if z.ndim == 2 else z
    if z.ndim != 3 or not z.size:
        raise ValueError(f"logits must have shape [batch, classes] or [members, batch, classes], but got {[*z.shape]}")
    if not np.isfinite(z).all():
        raise ValueError("logits must be finite")
    y = losses.check_labels(labels, z.shape[2])
    if len(y) != z.shape[1]:
        raise ValueError(f"got {len(y)} labels for {z.shape[1]} rows of logits")
    log_t = _golden_section(lambda log_t: _cross_entropy(z / math.exp(log_t), y), math.log(LOWEST), math.log(HIGHEST))
    return math.exp(log_t)


def _cross_entropy(z: Array, labels: Array) -> float:
    """The mean cross entropy of the probabilities that the members of z `[members, batch, classes]` have on average."""
    log_p = losses.log_softmax(z)[:, np.arange(len(labels)), labels]
    top = log_p.max(axis=0)
    return float(-(top + np.log(np.exp(log_p - top).mean(axis=0))).mean())


def _golden_section(f: Callable[[float], float], low: float, high: float, *, tolerance: float = 1e-6) -> float:
    """The minimum of a function that has one, to within the tolerance: Kiefer (1953)."""
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
