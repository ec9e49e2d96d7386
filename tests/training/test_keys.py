"""No key is used twice: the helper that notices it, and the library that keeps to it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import each_engine, examples, small

import fnet
from fnet import TrainConfig, random, testing

DRAWS: dict[str, Callable[[Any], Any]] = {
    "bits": lambda key: random.bits(key),
    "uniform": lambda key: random.uniform(key, (2,)),
    "normal": lambda key: random.normal(key, (3,)),
    "bernoulli": lambda key: random.bernoulli(key),
    "permutation": lambda key: random.permutation(key, 4),
    "permutation of rows": lambda key: random.permutation(key, np.ones((2, 2))),
    "split": lambda key: random.split(key),
}


@pytest.mark.parametrize("first", DRAWS)
@pytest.mark.parametrize("second", DRAWS)
def test_a_second_use_is_an_error_that_names_both_places(first: str, second: str) -> None:
    with testing.check_key_reuse():
        DRAWS[first](random.key(0))
        DRAWS[second](random.key(1))
        with pytest.raises(testing.KeyReuseError, match=r"is used at .*test_keys\.py:\d+, but was used at .*test_keys"):
            DRAWS[second](random.key(0))


def test_fold_in_does_not_use_its_key() -> None:
    with testing.check_key_reuse():
        for i in range(3):
            random.normal(random.fold_in(random.key(0), i))


def test_keys_are_watched_in_the_context_alone() -> None:
    before = (random.split, random.bits)
    with testing.check_key_reuse():
        random.normal(random.key(0))
    random.normal(random.key(0))
    random.normal(random.key(0))
    assert (random.split, random.bits) == before


@each_engine
def test_training_uses_no_key_twice(engine: str) -> None:
    config = small(input_dropout=0.1, dropout=0.3)
    train_config = TrainConfig(epochs=3, batch_size=16, input_noise=0.1, recompute_statistics=True)
    train = examples(config)
    with testing.check_key_reuse():
        fnet.run(config, train_config, train, key=random.key(0), engine=engine)


def test_a_step_uses_no_key_twice() -> None:
    config, train_config = small(input_dropout=0.1, dropout=0.3), TrainConfig(input_noise=0.1)
    x, y, _ = examples(config)
    init_key, step_key = random.split(random.key(0))
    state = fnet.init_train_state(init_key, config, train_config)
    with testing.check_key_reuse():
        fnet.train_step(config, train_config, state, x, y, key=step_key)
