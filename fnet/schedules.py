"""Learning-rate schedules with the names and arguments of Optax: functions `count -> float`.

`count` is the number of updates made so far; it is 0 at the first update.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

__all__ = [
    "Schedule",
    "constant_schedule",
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "warmup_cosine_decay_schedule",
]

Schedule: TypeAlias = Callable[[int], float]


def constant_schedule(value: float) -> Schedule:
    """A constant `value`.

    >>> constant_schedule(0.1)(1000)
    0.1
    """
    return lambda count: value


def cosine_decay_schedule(init_value: float, decay_steps: int, alpha: float = 0.0, exponent: float = 1.0) -> Schedule:
    """From `init_value` to `alpha * init_value` along half a cosine period: Loshchilov & Hutter (2017), Eq. (5).

    `init_value * ((1 - alpha) * (0.5 * (1 + cos(pi t / decay_steps))) ** exponent + alpha)`, with
    `t = min(count, decay_steps)`.

    >>> cosine_decay_schedule(1.0, 100)(50)
    0.5

    Raises:
        ValueError: `decay_steps` is not positive.
    """
    _positive("decay_steps", decay_steps)

    def schedule(count: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * min(count, decay_steps) / decay_steps))
        return init_value * ((1 - alpha) * cosine**exponent + alpha)

    return schedule


def warmup_cosine_decay_schedule(
    init_value: float,
    peak_value: float,
    warmup_steps: int,
    decay_steps: int,
    end_value: float = 0.0,
    exponent: float = 1.0,
) -> Schedule:
    """Linear from `init_value` to `peak_value` in `warmup_steps`, then along half a cosine period to `end_value`.

    `decay_steps` is the total number of steps, including the warm-up: Goyal et al. (2017); Loshchilov & Hutter (2017).

    >>> schedule = warmup_cosine_decay_schedule(0.0, 1.0, 10, 110)
    >>> schedule(5), schedule(10), schedule(110)
    (0.5, 1.0, 0.0)

    Raises:
        ValueError: `warmup_steps` is negative, or not less than `decay_steps`.
    """
    if not 0 <= warmup_steps < decay_steps:
        raise ValueError(
            f"warmup_steps must be at least 0 and less than decay_steps, but got {warmup_steps} and {decay_steps}"
        )
    alpha = 0.0 if peak_value == 0 else end_value / peak_value
    decay = cosine_decay_schedule(peak_value, decay_steps - warmup_steps, alpha, exponent)

    def schedule(count: int) -> float:
        if count < warmup_steps:
            return init_value + (peak_value - init_value) * count / warmup_steps
        return decay(count - warmup_steps)

    return schedule


def cosine_onecycle_schedule(
    transition_steps: int,
    peak_value: float,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """One cycle of two half cosine periods: Smith & Topin (2018).

    It rises from `peak_value / div_factor` to `peak_value` in the fraction `pct_start` of the steps, then falls to
    `peak_value / (div_factor * final_div_factor)`.

    >>> cosine_onecycle_schedule(100, 1.0)(30)
    1.0

    Raises:
        ValueError: `transition_steps` is not positive, or `pct_start` is not between 0 and 1.
    """
    _positive("transition_steps", transition_steps)
    if not 0 < pct_start < 1:
        raise ValueError(f"pct_start must be between 0 and 1, but got {pct_start}")
    top = int(pct_start * transition_steps)
    first = peak_value / div_factor
    last = first / final_div_factor

    def schedule(count: int) -> float:
        if count < top:
            return _cosine_between(first, peak_value, count / top)
        return _cosine_between(peak_value, last, (min(count, transition_steps) - top) / (transition_steps - top))

    return schedule


def _cosine_between(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * fraction))


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be positive, but got {value}")
