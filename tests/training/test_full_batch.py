"""`fit` with L-BFGS is `lbfgs_update` of the mean loss of all examples, and goes on to the same bits."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import KEY, LOSSES, assert_close_to_scale, each_dtype, each_engine, examples, small

import fnet
from fnet import Dataset, MLPConfig, Params, TrainConfig, checkpoint, data, random, tree
from fnet.lbfgs import LBFGSState
from fnet.testing import assert_trees_equal
from fnet.training import EpochRecord, example_weights, full_batch, is_finished, train_state_shapes

ROWS, EPOCHS = 50, 6
CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"sizes": (4, 3)}, {}),
    ({"sizes": (4, 3), "batch_norm": True, "dropout": 0.5}, {}),  # of hidden layers, and there is none
    ({"sizes": (4, 8, 6, 3), "activation": "tanh"}, {"batch_size": 1000}),
    ({"activation": "silu"}, {"weight_decay": 0.1}),
    ({}, {"weight_decay": 0.1, "decay_weights_only": True, "batch_size": 17}),
    ({}, {"label_smoothing": 0.1, "class_weight": "balanced"}),
    ({}, {"class_weight": (1.0, 0.0, 3.0)}),
    *[({"loss": loss}, {}) for loss in LOSSES],
]
each_case = pytest.mark.parametrize(("options", "train_options"), CASES, ids=str)


def configs(options: dict[str, Any], train_options: dict[str, Any], dtype: str) -> tuple[MLPConfig, TrainConfig]:
    config = small(**{"batch_norm": False, **options}, dtype=dtype)
    return config, TrainConfig(**{"optimizer": "lbfgs", "epochs": EPOCHS, "batch_size": 16, **train_options})


def minimized(
    config: MLPConfig, train_config: TrainConfig, train: Dataset, sample_weight: Any = None
) -> tuple[Params, LBFGSState]:
    """The equations: `lbfgs_update` of the mean of `loss_and_grads` over chunks, and of the decay."""
    params, state = fnet.init(random.split(KEY, 4)[0], config)
    weights = example_weights(train_config, train.y, config.num_outputs, sample_weight)
    weights = np.ones(len(train.y)) if weights is None else weights
    used = np.flatnonzero(weights)
    alpha, weights_only = train_config.weight_decay, train_config.decay_weights_only

    def value_and_grad(params: Params) -> tuple[float, Params]:
        loss, grads = 0.0, tree.map(np.zeros_like, params)
        for part in data.batch_slices(len(used), train_config.batch_size):
            rows = used[part]
            share = float(weights[rows].sum() / weights[used].sum())
            (mean, _), chunk_grads = fnet.loss_and_grads(
                config,
                params,
                state,
                train.x[rows],
                train.y[rows],
                key=KEY,
                label_smoothing=train_config.label_smoothing,
                sample_weight=weights[rows],
            )
            loss, grads = loss + share * mean, tree.map(lambda total, g, w=share: total + w * g, grads, chunk_grads)
        x, unravel = tree.ravel(params)
        decays = tree.ravel(tree.map(lambda p: np.full_like(p, not weights_only or p.ndim > 1), params))[0]
        pull = alpha * decays.astype(np.float64) * x
        grads = tree.map(lambda g, p: (g + p).astype(g.dtype), grads, unravel(pull))
        return loss + 0.5 * float(pull @ x), grads

    opt_state = fnet.lbfgs_init(params)
    for _ in range(train_config.epochs):
        params, opt_state = fnet.lbfgs_update(value_and_grad, params, opt_state)
    return params, opt_state


def fitted(
    config: MLPConfig, train_config: TrainConfig, train: Dataset, engine: str, **options: Any
) -> tuple[fnet.TrainState, EpochRecord]:
    *_, last = fnet.fit(config, train_config, train, key=KEY, engine=engine, **options)
    return last


@each_case
@each_dtype
def test_numpy_computes_the_bits_of_lbfgs_update(
    options: dict[str, Any], train_options: dict[str, Any], dtype: str
) -> None:
    config, train_config = configs(options, train_options, dtype)
    train, weights = examples(config, ROWS), np.linspace(0, 2, ROWS)
    state, record = fitted(config, train_config, train, "numpy", sample_weight=weights)
    params, opt_state = minimized(config, train_config, train, weights)
    assert_trees_equal((state.params, state.opt_state), (params, opt_state))
    assert (state.step, state.epoch) == (EPOCHS, EPOCHS)
    assert record.gradient == np.abs(opt_state.grads).max()
    if not train_config.weight_decay:
        assert record.train_loss == pytest.approx(opt_state.value, rel=1e-12)


@each_case
@each_dtype
def test_numba_computes_lbfgs_update(options: dict[str, Any], train_options: dict[str, Any], dtype: str) -> None:
    pytest.importorskip("numba", reason="Numba is not installed")
    config, train_config = configs(options, {**train_options, "epochs": 3}, dtype)
    train = examples(config, ROWS)
    state, _ = fitted(config, train_config, train, "numba")
    tolerance = {"float32": 1e-4, "float64": 1e-11}[dtype]  # the length of a step amplifies what is rounding
    assert_close_to_scale(state.params, minimized(config, train_config, train)[0], tolerance)


@each_engine
def test_features_that_are_gathered_each_time_give_the_same_bits(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, train_config = configs({}, {}, "float32")
    train = examples(config, ROWS)
    expected, _ = fitted(config, train_config, train, engine)
    monkeypatch.setattr(full_batch, "KEPT", 0)
    assert_trees_equal(fitted(config, train_config, train, engine)[0], expected)


@each_engine
@pytest.mark.parametrize("train_options", [{}, {"keep": "best", "patience": 3}, {"tolerance": 0.0, "epochs": 1000}])
def test_a_run_that_stops_goes_on_from_a_checkpoint_to_the_same_bits(
    train_options: dict[str, Any], engine: str, tmp_path: Path
) -> None:
    config, train_config = configs({}, {"epochs": 15, **train_options}, "float32")
    train, valid = examples(config, ROWS), examples(config, 30, seed=1)

    def fit(**options: Any) -> list[Any]:
        epochs = fnet.fit(config, train_config, train, valid, key=KEY, engine=engine, **options)
        return [(state, record._replace(seconds=0)) for state, record in epochs]

    whole = fit()
    path = tmp_path / "state.npz"
    for state, record in [whole[0], whole[len(whole) // 2], whole[-1]]:
        checkpoint.save(path, state)
        rest = fit(train_state=checkpoint.load(path, train_state_shapes(config, train_config)))
        assert [record for _, record in rest] == [record for _, record in whole[record.epoch :]]
        if rest:
            assert_trees_equal(rest[-1][0], whole[-1][0])


@each_dtype
@each_engine
def test_it_ends_where_the_gradient_is_small(engine: str, dtype: str) -> None:
    config, train_config = configs(
        {"activation": "tanh"}, {"weight_decay": 0.01, "epochs": 1000, "tolerance": 1e-4}, dtype
    )
    state, record = fitted(config, train_config, examples(config, ROWS), engine)
    assert is_finished(state, train_config)
    assert record.converged
    assert record.gradient is not None
    assert record.gradient <= 1e-4
    assert record.epoch < 200
    assert not is_finished(state, dataclasses.replace(train_config, tolerance=0.0))


@each_dtype
@each_engine
def test_it_ends_where_rounding_hides_what_is_left_to_gain(engine: str, dtype: str) -> None:
    config, train_config = configs(
        {"activation": "tanh"}, {"weight_decay": 0.01, "epochs": 1000, "tolerance": 0.0}, dtype
    )
    state, record = fitted(config, train_config, examples(config, ROWS), engine)
    assert isinstance(state.opt_state, LBFGSState)
    assert state.opt_state.failed
    assert not record.converged
    assert record.gradient is not None
    assert record.gradient < {"float32": 1e-3, "float64": 1e-7}[dtype]
    assert record.epoch < 1000


def test_a_state_of_other_examples_is_evaluated_first() -> None:
    config, train_config = configs({}, {}, "float64")
    state, _ = fitted(config, train_config, examples(config, ROWS), "numpy")
    train = examples(config, ROWS, seed=3)
    more = dataclasses.replace(train_config, epochs=EPOCHS + 1)
    state, record = fitted(config, more, train, "numpy", train_state=state)
    assert record.train_loss == pytest.approx(fnet.evaluate(config, state.params, state.state, train).loss, rel=1e-12)
    assert isinstance(state.opt_state, LBFGSState)
    assert record.train_loss == pytest.approx(state.opt_state.value, rel=1e-12)


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    config, train_config = configs({"loss": "squared_error"}, {}, "float32")
    train = examples(config, ROWS)
    with pytest.raises(fnet.NonFiniteLossError, match="epoch 1, step 1: look for extreme values in the features") as e:
        fitted(config, train_config, train._replace(x=np.full_like(train.x, 1e30)), "numpy")
    assert_trees_equal(e.value.train_state, fnet.init_train_state(random.split(KEY, 4)[0], config, train_config))


@pytest.mark.parametrize(
    ("options", "train_options", "message"),
    [
        ({"batch_norm": True}, {}, "needs a loss without noise .* got batch_norm=True"),
        ({"dropout": 0.1}, {}, "batch_norm=False, dropout=0.0 and input_dropout=0.0; got dropout=0.1"),
        ({"sizes": (4, 3), "input_dropout": 0.1}, {}, "got input_dropout=0.1"),
        (
            {},
            {"learning_rate": 0.1},
            'learning_rate has no meaning with optimizer="lbfgs"; leave out learning_rate=0.1',
        ),
        ({}, {"schedule": "cosine"}, "leave out schedule='cosine'"),
        ({}, {"momentum": 0.5}, "momentum has no meaning"),
        ({}, {"clip_norm": 1.0}, "clip_norm has no meaning"),
        ({}, {"input_noise": 0.1}, "input_noise has no meaning"),
        ({}, {"recompute_statistics": True}, "recompute_statistics has no meaning"),
        ({}, {"tolerance": -1.0}, "tolerance must be a finite number of at least 0"),
    ],
)
def test_what_has_no_meaning_is_refused(options: dict[str, Any], train_options: dict[str, Any], message: str) -> None:
    def fit() -> None:
        config, train_config = configs(options, train_options, "float32")
        fnet.fit(config, train_config, examples(config), key=KEY)

    with pytest.raises(ValueError, match=message):
        fit()


def test_a_step_on_a_batch_is_refused() -> None:
    config, train_config = configs({}, {}, "float32")
    x, y, _ = examples(config)
    with pytest.raises(ValueError, match=r"needs the loss of all examples, not of a batch: use fnet\.fit"):
        fnet.train_step(config, train_config, fnet.init_train_state(KEY, config, train_config), x, y, key=KEY)
