"""No key is used twice: the helper that finds it, and the library that keeps to it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fnet
from fnet import MLPConfig, TrainConfig, data, testing
from fnet import random as frandom

DRAWS: list[Callable[[Any], Any]] = [
    lambda key: frandom.bits(key),
    lambda key: frandom.uniform(key, (2,)),
    lambda key: frandom.normal(key, (3,)),
    lambda key: frandom.bernoulli(key),
    lambda key: frandom.permutation(key, 4),
    lambda key: frandom.permutation(key, np.ones((2, 2))),
    lambda key: frandom.split(key),
]


@pytest.mark.parametrize("first", DRAWS)
@pytest.mark.parametrize("second", DRAWS)
def test_a_second_use_is_an_error_that_says_where(first: Callable[..., Any], second: Callable[..., Any]) -> None:
    with testing.check_key_reuse():
        first(frandom.key(0))
        second(frandom.key(1))
        with pytest.raises(testing.KeyReuseError, match=r"is used at .*test_keys\.py:\d+, but was used at .*test_keys"):
            second(frandom.key(0))


def test_fold_in_does_not_use_a_key_and_nothing_is_watched_afterwards() -> None:
    before = (frandom.split, frandom.bits)
    with testing.check_key_reuse():
        for i in range(3):
            frandom.normal(frandom.fold_in(frandom.key(0), i))
    frandom.normal(frandom.key(0))
    frandom.normal(frandom.key(0))
    assert (frandom.split, frandom.bits) == before


def test_training_uses_no_key_twice() -> None:
    with testing.check_key_reuse():
        train = data.synthetic(frandom.key(1), 60, 4, 3)
        config = MLPConfig(sizes=(4, 8, 3), input_dropout=0.1)
        train_config = TrainConfig(epochs=3, batch_size=16, input_noise=0.1)
        assert len(list(fnet.fit(config, train_config, train, key=frandom.key(0)))) == 3
