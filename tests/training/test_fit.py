"""The loop over epochs: what it yields, when it stops, and what it refuses."""

import dataclasses
import itertools
import math
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from helpers import KEY, LOSSES, check_purity, each_engine, examples, small, steps_of_fit

import fnet
from fnet import TrainConfig, data, random, tree
from fnet.testing import assert_trees_close, assert_trees_equal
from fnet.training import is_finished, recompute_state

CONFIG = small(dtype="float32", dropout=0.3, input_dropout=0.1)
TRAIN, VALID = examples(CONFIG), examples(CONFIG, 30, seed=1)


# What is yielded


@each_engine
def test_yielded_states_are_read_only_copies(engine: str) -> None:
    train_config = TrainConfig(epochs=3, batch_size=8, keep="best")
    run = fnet.fit(CONFIG, train_config, TRAIN, VALID, key=KEY, engine=engine, yield_every=2)
    states = [(state, tree.map(lambda leaf: leaf.copy(), state)) for state, _ in run]
    for state, copy in states:
        assert_trees_equal(state, copy)
        assert not any(leaf.flags.writeable for leaf in tree.leaves(state) if isinstance(leaf, np.ndarray))


@each_engine
def test_yield_every_yields_parts_of_epochs(engine: str) -> None:
    train_config = TrainConfig(epochs=2, batch_size=8)
    run = [record for _, record in fnet.fit(CONFIG, train_config, TRAIN, key=KEY, engine=engine, yield_every=3)]
    assert [(record.epoch, record.step, record.finished) for record in run] == [
        (1, 3, False), (1, 6, False), (1, 7, True), (2, 9, False), (2, 12, False), (2, 14, True),
    ]  # fmt: skip
    whole = [record for _, record in fnet.fit(CONFIG, train_config, TRAIN, key=KEY, engine=engine)]
    finished = [record._replace(seconds=0) for record in run if record.finished]
    assert finished == [record._replace(seconds=0) for record in whole]


@each_engine
@pytest.mark.parametrize("loss", LOSSES)
def test_training_learns(loss: str, engine: str) -> None:
    config = small(loss=loss, sizes=(4, 32, 3), dtype="float32")
    train, valid = examples(config, 400), examples(config, 200, seed=1)
    train_config = TrainConfig(epochs=30, batch_size=16, learning_rate=5e-3)
    _, _, records = fnet.run(config, train_config, train, valid, key=KEY, engine=engine)
    assert [record.epoch for record in records] == list(range(1, 31))
    assert records[-1].train_loss < 0.7 * records[0].train_loss
    loss_, score = records[-1].valid_loss, records[-1].valid_score
    assert loss_ is not None
    assert score is not None
    if loss == "cross_entropy":
        assert score == records[-1].valid_accuracy
        assert score > 0.9
    elif loss == "pinball":
        assert 0.6 < score < 0.95  # the share between the quantiles 0.1 and 0.9
    else:
        assert score < 0.6 * valid.y.std()  # the root mean squared error


@pytest.mark.parametrize("loss", LOSSES)
def test_records_are_means_over_the_examples_of_the_epoch(loss: str) -> None:
    config = small(loss=loss, dropout=0.3)
    train, valid = examples(config, 50), examples(config, 30, seed=1)
    ((state, record),) = fnet.fit(config, TrainConfig(epochs=1, batch_size=16), train, valid, key=KEY)
    totals = state.totals
    assert totals.count == 50
    assert record.train_loss == totals.loss / 50
    assert record.train_score == fnet.metrics.mean_score(loss, totals.score, 50)
    result = fnet.evaluate(config, state.params, state.state, valid)
    assert (record.valid_loss, record.valid_score) == (result.loss, result.score)
    expected = steps_of_fit(config, TrainConfig(epochs=1, batch_size=16), train, 4)
    assert_trees_close(totals, expected.totals, rtol=1e-12)


def test_the_learning_rate_of_a_record_is_that_of_its_last_step() -> None:
    train_config = TrainConfig(epochs=2, batch_size=8, schedule="cosine", learning_rate=1.0)
    rates = [record.learning_rate for _, record in fnet.fit(CONFIG, train_config, TRAIN, key=KEY, yield_every=1)]
    assert rates == pytest.approx([(1 + math.cos(math.pi * step / 14)) / 2 for step in range(14)])


@each_engine
def test_fit_is_pure(engine: str) -> None:
    def states(*args: Any, **options: Any) -> Any:
        return [state for state, _ in fnet.fit(*args, **options)]

    train_config = TrainConfig(epochs=2, batch_size=8, keep="best", recompute_statistics=True)
    weights = tree.freeze(random.uniform(random.key(1), (50,), "float64"))
    first = check_purity(states, CONFIG, train_config, TRAIN, VALID, key=KEY, engine=engine, sample_weight=weights)
    check_purity(states, CONFIG, train_config, TRAIN, VALID, key=KEY, engine=engine, train_state=first[0])


# When it ends


def test_early_stopping_and_the_best_model() -> None:
    train_config = TrainConfig(epochs=60, batch_size=8, patience=3, keep="best", learning_rate=0.05)
    run = list(fnet.fit(CONFIG, train_config, TRAIN, VALID, key=KEY))
    losses = [record.valid_loss for _, record in run if record.valid_loss is not None]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3 < 60
    params, state = fnet.final_model(run[-1][0], train_config)
    assert fnet.evaluate(CONFIG, params, state, VALID).loss == losses[best]
    assert is_finished(run[-1][0], train_config)
    by_accuracy = dataclasses.replace(train_config, monitor="accuracy", patience=None, epochs=10)
    run = list(fnet.fit(CONFIG, by_accuracy, TRAIN, VALID, key=KEY))
    accuracies = [record.valid_accuracy for _, record in run if record.valid_accuracy is not None]
    assert fnet.evaluate(CONFIG, *fnet.final_model(run[-1][0], by_accuracy), VALID).accuracy == max(accuracies)


def test_the_first_of_equal_epochs_is_the_best() -> None:
    config = small(batch_norm=False)
    train_config = TrainConfig(epochs=9, learning_rate=0.0, patience=3, keep="best")
    *_, (state, record) = fnet.fit(config, train_config, examples(config), examples(config, 30, seed=1), key=KEY)
    assert state.best is not None
    assert (state.best.epoch, state.best.value, record.epoch) == (1, record.valid_loss, 4)


@each_engine
@pytest.mark.parametrize("steps", [1, 3, 7, 9])
def test_stop_ends_after_a_step(engine: str, steps: int) -> None:
    asked: list[None] = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) >= steps + steps // 8  # asked after the epoch of 7 steps too

    run = list(fnet.fit(CONFIG, TrainConfig(batch_size=8), TRAIN, key=KEY, engine=engine, stop=stop))
    assert (run[-1][1].step, run[-1][1].finished) == (steps, steps == 7)
    assert run[-1][0].step == steps


@pytest.mark.parametrize(("rows", "batch_size"), [(2, 2), (3, 2), (9, 4), (9, 8), (5, 100), (33, 2)])
def test_no_batch_of_one_with_batch_norm(rows: int, batch_size: int) -> None:
    train = data.take(TRAIN, slice(rows))._replace(y=np.arange(rows) % 3)
    ((state, record),) = fnet.fit(CONFIG, TrainConfig(epochs=1, batch_size=batch_size), train, key=KEY)
    assert state.totals.count == rows
    assert math.isfinite(record.train_loss)


def test_recomputed_statistics_of_many_sorted_rows_are_of_random_ones() -> None:
    rows = examples(CONFIG, 20_000)
    rows = data.take(rows, np.argsort(rows.x[:, 0]))
    train_config = TrainConfig(epochs=1, batch_size=1000, recompute_statistics=True)
    ((state, _),) = fnet.fit(CONFIG, train_config, rows, key=KEY)
    expected = recompute_state(CONFIG, state.params, rows.x)
    std = np.sqrt(expected[0].var)
    assert np.all(np.abs(state.state[0].mean - expected[0].mean) < 0.05 * std)
    np.testing.assert_allclose(state.state[0].var, expected[0].var, rtol=0.05)


@each_engine
@pytest.mark.parametrize("batch_size", [10**7, 10**12])
def test_a_batch_size_beyond_the_rows_needs_no_memory(engine: str, batch_size: int) -> None:
    tracemalloc.start()
    try:
        list(fnet.fit(CONFIG, TrainConfig(epochs=1, batch_size=batch_size), TRAIN, key=KEY, engine=engine))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8e6


def test_a_clock_that_is_set_back_gives_no_negative_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", itertools.count(0, -1).__next__)
    records = [record for _, record in fnet.fit(CONFIG, TrainConfig(epochs=2), TRAIN, VALID, key=KEY)]
    assert all(0 < record.seconds < 60 for record in records)


# What is refused


def call(*args: Any, **options: Any) -> None:
    fnet.fit(*args, **{"key": KEY, **options})


NUMBERS = small(loss="squared_error")


@pytest.mark.parametrize(
    ("args", "options", "error", "message"),
    [
        ((TrainConfig(), CONFIG, TRAIN), {}, TypeError, r"\(config, train_config, …\).* got TrainConfig and MLP"),
        ((CONFIG, TRAIN), {"train": TRAIN}, TypeError, "got MLPConfig and Dataset"),
        ((CONFIG, TrainConfig(batch_size=1), TRAIN), {}, ValueError, "batches of at least 2 examples; got"),
        ((CONFIG, TrainConfig(patience=1), TRAIN), {}, ValueError, "need validation data"),
        ((CONFIG, TrainConfig(keep="best"), TRAIN), {}, ValueError, "need validation data"),
        ((CONFIG, TrainConfig(), TRAIN), {"yield_every": 0}, ValueError, "yield_every must be at least 1 step"),
        ((CONFIG, TrainConfig(), TRAIN), {"engine": "cuda"}, ValueError, "engine must be one of numpy, numba, auto"),
        ((CONFIG, TrainConfig(), TRAIN), {"key": 0}, TypeError, r"key must come from fnet.random.key\(seed\)"),
        ((NUMBERS, TrainConfig(label_smoothing=0.1), TRAIN), {}, ValueError, "label_smoothing=0.1 is for cla"),
        ((NUMBERS, TrainConfig(class_weight="balanced"), TRAIN), {}, ValueError, "class_weight='balanced' is for cla"),
        ((NUMBERS, TrainConfig(monitor="accuracy"), TRAIN), {}, ValueError, "monitor='accuracy' is for classification"),
    ],
)  # fmt: skip
def test_wrong_calls(args: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(*args, **options)


STATE = fnet.init_train_state(KEY, CONFIG)


@pytest.mark.parametrize(
    ("train_state", "error", "message"),
    [
        (STATE[:2], TypeError, "train_state must be a TrainState from fit, not tuple; for parameters"),
        (fnet.init_train_state(KEY, dataclasses.replace(CONFIG, sizes=(4, 1, 3))), ValueError,
         r"params\[0\].linear.w does not match the config: expected float32\[4, 5\], but got float32\[4, 1\]"),
        (fnet.init_train_state(KEY, dataclasses.replace(CONFIG, dtype="float64")), ValueError,
         r"expected float32\[4, 5\], but got float64\[4, 5\]"),
        (fnet.init_train_state(KEY, dataclasses.replace(CONFIG, batch_norm=False)), ValueError,
         "params do not match the config"),
        (STATE._replace(state=()), ValueError, "state do not match the config"),
        (STATE._replace(opt_state=fnet.adam_init(np.zeros(3))), ValueError, "opt_state.mu do not match the config"),
        (STATE._replace(opt_state=fnet.sgd_init(STATE.params)), ValueError, "needs an opt_state of AdamState"),
    ],
)  # fmt: skip
def test_a_train_state_of_another_network_is_refused(train_state: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(CONFIG, TrainConfig(batch_size=8), TRAIN, train_state=train_state)


def test_run_is_fit_to_its_end() -> None:
    train_config = TrainConfig(epochs=3, batch_size=8, keep="best")
    params, state, records = fnet.run(CONFIG, train_config, TRAIN, VALID, key=KEY)
    run = list(fnet.fit(CONFIG, train_config, TRAIN, VALID, key=KEY))
    assert_trees_equal((params, state), fnet.final_model(run[-1][0], train_config))
    assert [record._replace(seconds=0) for record in records] == [record._replace(seconds=0) for _, record in run]
