"""A run that stops after any step goes on to the bits of a run that does not stop."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers import KEY, each_engine, examples, small

import fnet
from fnet import TrainConfig, checkpoint
from fnet.testing import assert_trees_equal
from fnet.training import is_finished, train_state_shapes

CONFIG = small(sizes=(4, 8, 6, 3), dtype="float32", dropout=0.3, input_dropout=0.1)
TRAIN, VALID = examples(CONFIG), examples(CONFIG, 30, seed=1)

RUNS: dict[str, dict[str, Any]] = {
    "adam": {},
    "adam without bias correction": {"bias_correction": False, "clip_norm": 1.0, "weight_decay": 0.1},
    "sgd": {"optimizer": "sgd", "momentum": 0.0},
    "momentum": {"optimizer": "sgd", "schedule": "cosine", "weight_decay": 0.1, "decay_weights_only": True},
    "nesterov": {"optimizer": "sgd", "learning_rate": 0.05, "schedule": "onecycle", "nesterov": True},
    "noise": {"input_noise": 0.2, "class_weight": "balanced", "label_smoothing": 0.1, "schedule": "warmup_cosine"},
    "best": {"keep": "best"},
    "patience": {"epochs": 20, "patience": 2, "learning_rate": 0.1, "keep": "best", "monitor": "accuracy"},
    "recomputed statistics": {"recompute_statistics": True, "keep": "best"},
}


@each_engine
@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_a_run_that_stops_goes_on_to_the_same_bits(options: dict[str, Any], engine: str) -> None:
    train_config = TrainConfig(**{"epochs": 3, "batch_size": 8, **options})
    fit = partial(fnet.fit, CONFIG, train_config, TRAIN, VALID, key=KEY, engine=engine)
    whole = list(fit())
    for steps in (1, 5, 7, 13):  # 7 steps are the end of an epoch
        state = next(state for state, record in fit(yield_every=1) if record.step == steps)
        rest = list(fit(train_state=state))
        assert_trees_equal(rest[-1][0], whole[-1][0])
        records = [record._replace(seconds=0) for _, record in rest]
        assert records == [record._replace(seconds=0) for _, record in whole][-len(records) :]
    assert is_finished(whole[-1][0], train_config)
    assert list(fit(train_state=whole[-1][0])) == []


@each_engine
@pytest.mark.parametrize("loss", ["squared_error", "huber", "pinball"])
def test_a_run_of_numbers_goes_on_to_the_same_bits(loss: str, engine: str) -> None:
    config = small(loss=loss, dropout=0.3)
    fit = partial(fnet.fit, config, TrainConfig(epochs=2, batch_size=16), examples(config), key=KEY, engine=engine)
    *_, (whole, _) = fit()
    stopped, _ = next(fit(yield_every=3))
    *_, (resumed, _) = fit(train_state=stopped)
    assert_trees_equal(resumed, whole)


@each_engine
def test_a_stopped_run_goes_on_from_a_checkpoint(engine: str, tmp_path: Path) -> None:
    train_config = TrainConfig(epochs=3, batch_size=8, keep="best")
    fit = partial(fnet.fit, CONFIG, train_config, TRAIN, VALID, key=KEY, engine=engine)
    *_, (whole, _) = fit()
    path, state = tmp_path / "state.npz", None
    while state is None or not is_finished(state, train_config):
        asked = iter(range(10))
        *_, (state, _) = fit(train_state=state, stop=lambda asked=asked: next(asked) == 3)
        checkpoint.save(path, state)
        state = checkpoint.load(path, train_state_shapes(CONFIG, train_config))
    assert_trees_equal(state, whole)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"batch_size": 16}, {"batch_size": 4}, "has 8 steps in 2 epochs, but an epoch here has 13"),
        ({"batch_size": 4}, {"batch_size": 16}, "has 26 steps in 2 epochs, but an epoch here has 4"),
        ({}, {"optimizer": "sgd"}, "optimizer='sgd' needs an opt_state of SGDState, but train_state has AdamState"),
        ({}, {"keep": "best"}, "need a train_state that was initialized with them"),
    ],
)
def test_a_state_of_another_train_config_is_refused(
    before: dict[str, Any], after: dict[str, Any], message: str
) -> None:
    *_, (state, _) = fnet.fit(CONFIG, TrainConfig(**{"epochs": 2, "batch_size": 8, **before}), TRAIN, key=KEY)
    with pytest.raises(ValueError, match=message):
        fnet.fit(
            CONFIG, TrainConfig(**{"epochs": 4, "batch_size": 8, **after}), TRAIN, VALID, key=KEY, train_state=state
        )
