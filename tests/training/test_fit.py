"""Training: the step, the loop, and what they refuse."""

import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fnet
from fnet import Dataset, MLPConfig, TrainConfig, TrainState, checkpoint, testing, training, tree
from fnet import random as frandom

KEY = frandom.key(0)
CONFIG = MLPConfig(sizes=(5, 8, 6, 3), dropout=0.3, input_dropout=0.1)


def data(rows: int = 50, seed: int = 0) -> Dataset:
    x = frandom.normal(frandom.key(seed), (rows, 5))
    y = (np.abs(x[:, 0]) + x[:, 1] > 0.8).astype(np.int64) + (x[:, 2] > 0.5)
    return Dataset(tree.freeze(x), tree.freeze(y))


def last(train_config: TrainConfig, config: MLPConfig = CONFIG, **options: Any) -> TrainState:
    options = {"valid": data(30, 1), "key": KEY, **options}
    state, _ = list(fnet.fit(config, train_config, data(), **options))[-1]
    return state


RUNS = {
    "adam": TrainConfig(epochs=3, batch_size=8),
    "sgd, one cycle": TrainConfig(
        epochs=3, batch_size=8, optimizer="sgd", learning_rate=0.05, schedule="onecycle", nesterov=True
    ),
    "averages": TrainConfig(epochs=3, batch_size=8, ema_decay=0.9, clip_norm=1.0, weight_decay=0.1, mixup=0.3),
    "best": TrainConfig(
        epochs=4, batch_size=7, keep="best", patience=2, input_noise=0.2, class_weight="balanced", label_smoothing=0.1
    ),
}


@pytest.mark.parametrize("train_config", RUNS.values(), ids=RUNS)
def test_a_run_that_stops_at_any_step_goes_on_to_the_same_bits(train_config: TrainConfig, tmp_path: Path) -> None:
    run = partial(fnet.fit, CONFIG, train_config, data(), data(30, 1), key=KEY)
    whole = list(run())
    for stop_at in (1, 5, 7, 13):  # 7 and 13 steps are the end of an epoch, or nearly
        state = next(state for state, record in run(every=1) if record.step == stop_at)
        checkpoint.save(tmp_path / "state.npz", state)
        loaded = checkpoint.load(tmp_path / "state.npz", fnet.init_train_state(KEY, CONFIG, train_config))
        rest = list(run(train_state=loaded))
        testing.assert_trees_equal(rest[-1][0], whole[-1][0])
        for (_, resumed), (_, record) in zip(reversed(rest), reversed(whole), strict=False):
            assert resumed._replace(seconds=0) == record._replace(seconds=0)


@pytest.mark.parametrize("train_config", RUNS.values(), ids=RUNS)
def test_fit_is_its_steps(train_config: TrainConfig) -> None:
    """The loop with donated memory gives the bits of the pure step without."""
    train_config = dataclasses.replace(train_config, patience=None, keep="last", epochs=2, ema_decay=None)
    init_key, order_key, step_key = frandom.split(KEY, 3)
    rows_ = data()
    expected = fnet.init_train_state(init_key, CONFIG, train_config)
    slices = fnet.data.batch_slices(50, train_config.batch_size, min_size=2)
    full = dataclasses.replace(train_config, total_steps=2 * len(slices))
    weights = training.example_weights(train_config, rows_.y, 3)
    for epoch in range(2):
        order = frandom.permutation(frandom.fold_in(order_key, epoch), 50)
        for part in slices:
            rows = order[part]
            expected, _ = fnet.train_step(
                CONFIG,
                full,
                expected,
                rows_.x[rows],
                rows_.y[rows],
                key=frandom.fold_in(step_key, int(expected.step)),
                sample_weight=None if weights is None else weights[rows],
            )
    got = last(train_config, valid=None)
    testing.assert_trees_equal((got.params, got.state, got.opt_state), expected[:3])


def test_yielded_states_stay_as_they_are() -> None:
    states = [(state, tree.map(lambda leaf: leaf.copy(), state)) for state, _ in fnet.fit(
        CONFIG, TrainConfig(epochs=3, batch_size=8), data(), key=KEY, every=2
    )]  # fmt: skip
    for state, copy in states:
        testing.assert_trees_equal(state, copy)
        assert not any(leaf.flags.writeable for leaf in tree.leaves(state))


def test_train_step_is_pure() -> None:
    train_config = TrainConfig(mixup=0.4, input_noise=0.1, ema_decay=0.9)
    state = fnet.init_train_state(KEY, CONFIG, train_config)
    before = tree.map(lambda leaf: leaf.copy(), state)
    batch = data(8)
    results = [fnet.train_step(CONFIG, train_config, state, batch.x, batch.y, key=KEY) for _ in range(2)]
    testing.assert_trees_equal(results[0], results[1])
    testing.assert_trees_equal(state, before)
    other, _ = fnet.train_step(CONFIG, train_config, state, batch.x, batch.y, key=frandom.key(1))
    assert not np.array_equal(tree.leaves(other)[0], tree.leaves(results[0][0])[0])


@pytest.mark.parametrize(("rows", "batch_size"), [(2, 2), (3, 2), (9, 4), (9, 8), (5, 100), (33, 2)])
def test_no_batch_of_one_with_batch_norm(rows: int, batch_size: int) -> None:
    whole = data(200)
    chosen = np.concatenate([np.flatnonzero(whole.y == 0)[: rows - 1], np.flatnonzero(whole.y == 1)[:1]])
    ((state, record),) = fnet.fit(
        CONFIG, TrainConfig(epochs=1, batch_size=batch_size), fnet.data.take(whole, chosen), key=KEY
    )
    assert int(state.totals.count) == rows
    assert math.isfinite(record.train_loss)


def test_learns_and_reports() -> None:
    records = [record for _, record in fnet.fit(
        MLPConfig(sizes=(5, 32, 3), dropout=0.0), TrainConfig(epochs=40, batch_size=8, learning_rate=5e-3),
        data(400), data(200, 1), key=KEY,
    )]  # fmt: skip
    assert [record.epoch for record in records] == list(range(1, 41))
    assert records[-1].valid_accuracy is not None
    assert records[-1].valid_accuracy > 0.75
    assert records[-1].train_loss < 0.7 * records[0].train_loss


def test_early_stopping_and_the_best_model() -> None:
    train_config = TrainConfig(epochs=60, batch_size=8, patience=3, keep="best", learning_rate=0.05)
    valid = data(30, 1)
    run = list(fnet.fit(CONFIG, train_config, data(), valid, key=KEY))
    losses = [record.valid_loss for _, record in run if record.valid_loss is not None]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3 < 60
    params, state = fnet.final_model(run[-1][0], train_config)
    assert fnet.evaluate(CONFIG, params, state, valid).loss == losses[best]
    assert fnet.is_finished(run[-1][0], train_config)
    by_accuracy = dataclasses.replace(train_config, monitor="accuracy", patience=None, epochs=10)
    run = list(fnet.fit(CONFIG, by_accuracy, data(), valid, key=KEY))
    accuracies = [record.valid_accuracy for _, record in run if record.valid_accuracy is not None]
    assert fnet.evaluate(CONFIG, *fnet.final_model(run[-1][0], by_accuracy), valid).accuracy == max(accuracies)


def test_stop_ends_after_a_step() -> None:
    run = list(fnet.fit(CONFIG, TrainConfig(batch_size=8), data(), key=KEY, stop=lambda: True))
    assert [(record.step, record.finished) for _, record in run] == [(1, False)]


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        (Dataset(np.zeros((4, 7)), np.array([0, 1, 0, 1])), {}, r"train.x must have shape \[rows, 5\]"),
        (Dataset(np.zeros((4, 5)), np.array([0, 1, 0, 3])), {}, "labels must be from 0 to 2"),
        (Dataset(np.zeros((4, 5)), np.array([0, 1, 0])), {}, "4 rows, but 3 labels"),
        (Dataset(np.zeros((4, 5)), np.zeros(4, int)), {}, "at least 2 classes"),
        (Dataset(np.zeros((0, 5)), np.zeros(0, int)), {}, "at least 2 examples"),
        (Dataset(np.full((4, 5), np.nan), np.array([0, 1, 0, 1])), {}, "x must be finite, but row"),
        (data(), {"train_config": TrainConfig(batch_size=1)}, "batches of at least 2"),
        (data(), {"train_config": TrainConfig(patience=1)}, "need validation data"),
        (data(), {"sample_weight": np.ones(3)}, "expected 50 sample weights"),
        (data(), {"every": 0}, "every must be at least 1 step, but got 0"),
    ],
)
def test_fit_refuses(dataset: Dataset, options: dict[str, Any], message: str) -> None:
    train_config = options.pop("train_config", TrainConfig(epochs=1))
    with pytest.raises(ValueError, match=message):
        next(fnet.fit(CONFIG, train_config, dataset, key=KEY, **options))


@pytest.mark.parametrize("dataset", [Dataset([[0.0] * 5], np.zeros(1, int)), Dataset(np.zeros((1, 5)), [0])])  # pyright: ignore
def test_fit_wants_arrays(dataset: Dataset) -> None:
    with pytest.raises(TypeError, match=r"train.[xy] must be an array, but got list: numpy.asarray"):
        next(fnet.fit(CONFIG, TrainConfig(epochs=1), dataset, key=KEY))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"batch_size": 16}, {"batch_size": 4}, "made 8 steps in 2 epochs, but here an epoch has 13"),
        ({"batch_size": 4}, {"batch_size": 16}, "made 26 steps in 2 epochs, but here an epoch has 4"),
        ({}, {"optimizer": "sgd"}, "optimizer='sgd' needs an opt_state of SGDState, but train_state has got AdamState"),
        ({}, {"ema_decay": 0.9}, "ema_decay=0.9, but of a moving average train_state has got none"),
        ({"ema_decay": 0.9}, {}, "ema_decay=None, but of a moving average train_state has got one"),
        ({}, {"keep": "best"}, "need a train_state that init_train_state has made with them"),
    ],
)
def test_a_state_of_another_config_is_not_gone_on_from(
    before: dict[str, Any], after: dict[str, Any], message: str
) -> None:
    state = last(TrainConfig(**{"epochs": 2, "batch_size": 8, **before}))
    with pytest.raises(ValueError, match=message):
        last(TrainConfig(**{"epochs": 4, "batch_size": 8, **after}), train_state=state)


def test_a_step_wants_labels() -> None:
    state = fnet.init_train_state(KEY, CONFIG)
    with pytest.raises(ValueError, match=r"y must be labels \[batch\], but got \[3, 3\]"):
        fnet.train_step(CONFIG, TrainConfig(), state, np.zeros((3, 5)), np.eye(3), key=KEY)


def test_a_loss_that_is_not_finite_stops_with_the_last_good_state() -> None:
    config = MLPConfig(sizes=(5, 8, 3), batch_norm=False, dropout=0.0)
    with pytest.raises(fnet.NonFiniteLossError, match=r"at epoch 1, step \d+: try a smaller learning rate") as caught:
        last(TrainConfig(optimizer="sgd", learning_rate=1e20, batch_size=8), config)
    state = caught.value.train_state
    assert all(np.isfinite(leaf).all() for leaf in tree.leaves(state))
    assert caught.value.step == int(state.step) + 1


def test_the_moving_average_is_of_the_parameters_after_each_step() -> None:
    train_config = TrainConfig(ema_decay=0.75)
    before = fnet.init_train_state(KEY, CONFIG, train_config)
    batch = data(8)
    after, _ = fnet.train_step(CONFIG, train_config, before, batch.x, batch.y, key=KEY)
    assert before.ema is not None
    assert after.ema is not None
    expected = tree.map(lambda old, new: 0.75 * old + 0.25 * new, before.ema[0], after.params)
    testing.assert_trees_close(after.ema[0], expected, rtol=1e-5, atol=1e-7)


def test_rows_without_weight_are_left_out() -> None:
    weights = np.zeros(50)
    weights[:20] = 1
    train_config = TrainConfig(epochs=1, batch_size=4)
    ((state, _),) = fnet.fit(CONFIG, train_config, data(), key=KEY, sample_weight=weights)
    assert int(state.totals.count) == 20
    with pytest.raises(ValueError, match="at least 2 examples with a weight above 0"):
        next(fnet.fit(CONFIG, train_config, data(), key=KEY, sample_weight=np.zeros(50)))


@pytest.mark.parametrize("options", [{"recompute_statistics": True}, {"ema_decay": 0.9}], ids=str)
def test_rows_without_weight_are_not_in_the_recomputed_statistics(options: dict[str, Any]) -> None:
    weights = np.ones(50)
    weights[:20] = 0
    train_config = TrainConfig(epochs=1, batch_size=4, **options)
    rows = data()
    others = rows._replace(x=np.where(weights[:, None] > 0, rows.x, np.float32(100)))
    (state, _), (expected, _) = (
        next(fnet.fit(CONFIG, train_config, dataset, key=KEY, sample_weight=weights)) for dataset in (others, rows)
    )
    testing.assert_trees_equal(state, expected)


def test_recomputed_statistics_are_of_all_rows_of_sorted_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fnet.training.fit.STATISTICS_ROWS", 400)
    rows = data(2000)
    rows = fnet.data.take(rows, np.argsort(rows.x[:, 0]))
    train_config = TrainConfig(epochs=1, recompute_statistics=True)
    ((state, _),) = fnet.fit(CONFIG, train_config, rows, key=KEY)
    expected = fnet.recompute_state(CONFIG, state.params, rows.x[frandom.permutation(KEY, 2000)])
    std = np.sqrt(expected[0].var)
    assert np.all(np.abs(state.state[0].mean - expected[0].mean) < 0.2 * std)
    np.testing.assert_allclose(state.state[0].var, expected[0].var, rtol=0.3)


def test_features_that_are_not_finite_are_named_by_their_row() -> None:
    rows = data()
    x = rows.x.copy()
    x[31, 2] = np.nan
    with pytest.raises(ValueError, match="row 31 of the training data has nan in column 2"):
        list(fnet.fit(CONFIG, TrainConfig(epochs=1, batch_size=8), rows._replace(x=x), key=KEY))


def test_a_donated_step_does_not_write_to_the_best_parameters() -> None:
    train_config = TrainConfig(ema_decay=0.5, keep="best")
    before, batch = fnet.init_train_state(KEY, CONFIG, train_config), data(8)
    assert not any(leaf.flags.writeable for leaf in tree.leaves((before.params, before.ema, before.best)))
    expected = tree.map(np.copy, before.best)
    memory = fnet.workspace(CONFIG, 8)
    after, _ = fnet.train_step(CONFIG, train_config, before, batch.x, batch.y, key=KEY, donate=memory)
    testing.assert_trees_equal(after.best, expected)
