"""Schedules at their corners and against their equations; against Optax in test_oracles_jax."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from fnet import schedules


def approx(*values: float) -> Any:
    return pytest.approx(list(values), rel=1e-12, abs=1e-15)


def at(schedule: schedules.Schedule, *counts: int) -> list[float]:
    return [schedule(count) for count in counts]


def test_constant() -> None:
    assert at(schedules.constant_schedule(0.1), 0, 1, 10**6) == [0.1] * 3


@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_cosine_decay(exponent: float) -> None:
    schedule = schedules.cosine_decay_schedule(2.0, 100, alpha=0.1, exponent=exponent)
    quarter = 2 * (0.9 * ((1 + math.sqrt(0.5)) / 2) ** exponent + 0.1)
    half = 2 * (0.9 * 0.5**exponent + 0.1)
    assert at(schedule, 0, 25, 50, 100, 101, 1000) == approx(2, quarter, half, 0.2, 0.2, 0.2)
    assert at(schedules.cosine_decay_schedule(2.0, 100), 100, 150) == approx(0, 0)


def test_warmup_cosine_decay() -> None:
    schedule = schedules.warmup_cosine_decay_schedule(0.2, 1.0, 10, 110, end_value=0.5)
    assert at(schedule, 0, 1, 5, 9, 10) == approx(0.2, 0.28, 0.6, 0.92, 1)
    assert at(schedule, 60, 110, 111, 1000) == approx(0.75, 0.5, 0.5, 0.5)
    squared = schedules.warmup_cosine_decay_schedule(0.0, 2.0, 0, 100, end_value=1.0, exponent=2.0)
    assert at(squared, 0, 50, 100) == approx(2, 1.25, 1)
    assert at(schedules.warmup_cosine_decay_schedule(0.5, 0.0, 10, 20), 0, 5, 10, 20) == approx(0.5, 0.25, 0, 0)


def test_cosine_onecycle() -> None:
    schedule = schedules.cosine_onecycle_schedule(100, 1.0, pct_start=0.2, div_factor=10.0, final_div_factor=100.0)
    assert at(schedule, 0, 10, 20) == approx(0.1, 0.55, 1)
    assert at(schedule, 60, 100, 101, 1000) == approx(0.5005, 0.001, 0.001, 0.001)
    default = schedules.cosine_onecycle_schedule(100, 1.0)
    assert at(default, 0, 30, 100) == approx(1 / 25, 1, 1 / 25e4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.cosine_decay_schedule(1.0, 0), "decay_steps must be positive, but got 0"),
        (lambda: schedules.cosine_decay_schedule(1.0, -5), "decay_steps must be positive, but got -5"),
        (
            lambda: schedules.warmup_cosine_decay_schedule(0.0, 1.0, 10, 10),
            "warmup_steps must be at least 0 and less than decay_steps, but got 10 and 10",
        ),
        (lambda: schedules.warmup_cosine_decay_schedule(0.0, 1.0, -1, 10), "warmup_steps must be at least 0"),
        (lambda: schedules.cosine_onecycle_schedule(0, 1.0), "transition_steps must be positive, but got 0"),
        (lambda: schedules.cosine_onecycle_schedule(10, 1.0, 0.0), "pct_start must be between 0 and 1, but got 0.0"),
        (lambda: schedules.cosine_onecycle_schedule(10, 1.0, 1.0), "pct_start must be between 0 and 1, but got 1.0"),
    ],
)
def test_bad_input(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
