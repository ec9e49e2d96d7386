"""The training step, and the state of a run."""

from typing import Any

import numpy as np
import pytest
from helpers import KEY, LOSSES, check_purity, each_dtype, examples, small

import fnet
from fnet import TrainConfig, checkpoint, random, tree
from fnet.testing import assert_trees_close, assert_trees_equal
from fnet.training import Totals, train_state_shapes

CONFIG = small(dropout=0.3, input_dropout=0.1)
OPTIMIZERS = {"adam": {}, "sgd": {"optimizer": "sgd", "nesterov": True}}
each_optimizer = pytest.mark.parametrize("options", OPTIMIZERS.values(), ids=OPTIMIZERS)


@each_optimizer
@each_dtype
@pytest.mark.parametrize("loss", LOSSES)
def test_train_step_is_pure_and_keeps_the_dtype(loss: str, options: dict[str, Any], dtype: str) -> None:
    config = small(loss=loss, dtype=dtype, dropout=0.3, input_dropout=0.1)
    regularizers: dict[str, Any] = {"label_smoothing": 0.1} if loss == "cross_entropy" else {}
    train_config = TrainConfig(
        **options, **regularizers, schedule="onecycle", total_steps=10, weight_decay=0.1, decay_weights_only=True,
        clip_norm=0.1, input_noise=0.1,
    )  # fmt: skip
    train_state = fnet.init_train_state(KEY, config, train_config)
    x, y, _ = examples(config, 6)
    weights = tree.freeze(random.uniform(KEY, (6,), "float64"))
    options = {"key": KEY, "sample_weight": weights}
    train_state, _ = check_purity(fnet.train_step, config, train_config, train_state, x, y, **options)
    train_state, metrics = check_purity(fnet.train_step, config, train_config, train_state, x, y, **options)
    assert {leaf.dtype.name for leaf in tree.leaves((train_state[:2], train_state.opt_state[1:]))} == {dtype}
    assert not any(leaf.flags.writeable for leaf in tree.leaves(train_state) if isinstance(leaf, np.ndarray))
    assert (train_state.step, train_state.totals.count, metrics.count) == (2, 12, 6)


@each_optimizer
def test_train_step_is_gradients_clipping_and_update(options: dict[str, Any]) -> None:
    train_config = TrainConfig(**options, clip_norm=0.1, weight_decay=0.1, learning_rate=0.01)
    before = fnet.init_train_state(KEY, CONFIG, train_config)
    x, y, _ = examples(CONFIG, 6)
    after, metrics = fnet.train_step(CONFIG, train_config, before, x, y, key=KEY)
    (loss, aux), grads = fnet.loss_and_grads(CONFIG, before.params, before.state, x, y, key=KEY)
    assert tree.global_norm(grads) > 0.1
    grads = fnet.clip_by_global_norm(grads, 0.1)
    if options:
        update: Any = fnet.sgd_update
        hyper_parameters: Any = {"momentum": 0.9, "nesterov": True}
    else:
        update, hyper_parameters = fnet.adam_update, {}
    # opt_state is of params: the update takes the three as they are
    params, opt_state = update(
        before.params, grads, before.opt_state, learning_rate=0.01, weight_decay=0.1, **hyper_parameters
    )
    assert_trees_equal((after.params, after.state, after.opt_state), (params, aux.state, opt_state))
    assert (metrics.loss, metrics.score) == (loss, float((aux.logits.argmax(axis=1) == y).sum()))
    assert_trees_close(after.totals, Totals(np.float64(6 * loss), np.float64(metrics.score), np.int64(6)))


def test_the_key_decides_the_noise() -> None:
    train_config = TrainConfig(input_noise=0.1)
    state = fnet.init_train_state(KEY, small(), train_config)
    x, y, _ = examples(small(), 6)
    steps = [fnet.train_step(small(), train_config, state, x, y, key=random.key(seed))[0] for seed in (0, 1)]
    assert not np.array_equal(tree.leaves(steps[0].params)[0], tree.leaves(steps[1].params)[0])


def test_probabilities_are_targets_of_a_step() -> None:
    state = fnet.init_train_state(KEY, CONFIG)
    x, y, _ = examples(CONFIG, 6)
    expected = fnet.train_step(CONFIG, TrainConfig(), state, x, y, key=KEY)
    assert_trees_equal(fnet.train_step(CONFIG, TrainConfig(), state, x, np.eye(3)[y], key=KEY), expected)


def test_a_loss_that_is_not_finite_updates_nothing() -> None:
    config = small(loss="squared_error", dtype="float32")
    state = fnet.init_train_state(KEY, config)
    x, y, _ = examples(config, 6)
    with pytest.raises(fnet.NonFiniteLossError, match="the training loss is inf at step 1: try a smaller") as caught:
        fnet.train_step(config, TrainConfig(), state, x, np.full_like(y, 1e30), key=KEY)
    assert caught.value.train_state is state


def test_the_optimizer_must_be_that_of_the_state() -> None:
    state = fnet.init_train_state(KEY, CONFIG, TrainConfig())
    x, y, _ = examples(CONFIG, 6)
    with pytest.raises(
        ValueError, match="optimizer='sgd' needs an opt_state of SGDState, but train_state has AdamStat"
    ):
        fnet.train_step(CONFIG, TrainConfig(optimizer="sgd"), state, x, y, key=KEY)


@each_optimizer
@pytest.mark.parametrize("keep", ["last", "best"])
def test_train_state_shapes_need_no_memory_and_load_a_checkpoint(
    options: dict[str, Any], keep: str, tmp_path: Any
) -> None:
    train_config = TrainConfig(**options, keep=keep)
    state, shapes = fnet.init_train_state(KEY, CONFIG, train_config), train_state_shapes(CONFIG, train_config)
    assert tree.structure(shapes) == tree.structure(state)
    for template, leaf in tree.zip_leaves(shapes, state):
        assert (template.shape, template.dtype) == (leaf.shape, leaf.dtype)
        assert set(getattr(template, "strides", ())) <= {0}
    checkpoint.save(tmp_path / "state.npz", state)
    assert_trees_equal(checkpoint.load(tmp_path / "state.npz", shapes), state)


def test_swapped_configs_show_the_right_order() -> None:
    config, train_config = small(), TrainConfig()
    train_state = fnet.init_train_state(KEY, config, train_config)
    with pytest.raises(TypeError, match=r"expected \(config, train_config, …\).* but got TrainConfig and MLPConfig"):
        fnet.train_step(train_config, config, train_state, np.ones((2, 4)), [0, 1], key=KEY)  # pyright: ignore
    with pytest.raises(TypeError, match=r"expected \(config, train_config, …\).* but got TrainConfig and MLPConfig"):
        fnet.init_train_state(KEY, train_config, config)  # pyright: ignore
