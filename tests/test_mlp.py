"""The network in training: loss and gradients."""

from typing import Any

import numpy as np
import pytest
from helpers import (
    KEY,
    LOSSES,
    check_purity,
    each_dtype,
    examples,
    frozen_copy,
    network,
    small,
    with_and_without_norm,
)

import fnet
from fnet import MLPConfig, losses, nn, random, tree
from fnet.mlp import Aux
from fnet.testing import assert_trees_close, assert_trees_equal, check_grads

each_activation = pytest.mark.parametrize("activation", nn.ACTIVATIONS)
each_loss = pytest.mark.parametrize("loss", LOSSES)
WEIGHTS = tree.freeze(np.array([1.0, 0.5, 3.0, 2.0, 0.7, 1.5]))


def batch(config: MLPConfig, rows: int = 6) -> tuple[Any, Any]:
    return examples(config, rows)[:2]


def check_network_grads(config: MLPConfig, **options: Any) -> None:
    params, state = network(config)
    x, y = batch(config)

    def f_and_grads(params: fnet.Params) -> tuple[float, fnet.Params]:
        (loss, _), grads = fnet.loss_and_grads(config, params, state, x, y, key=KEY, **options)
        return loss, grads

    check_grads(f_and_grads, params, rtol=1e-6, atol=1e-8)


# Gradients


@each_activation
@with_and_without_norm
def test_gradient_of_each_activation(activation: str, batch_norm: bool) -> None:
    check_network_grads(small(activation=activation, batch_norm=batch_norm))


@each_activation
@with_and_without_norm
def test_gradient_with_dropout_smoothing_and_weights(activation: str, batch_norm: bool) -> None:
    config = small(activation=activation, batch_norm=batch_norm, dropout=0.3, input_dropout=0.15)
    check_network_grads(config, label_smoothing=0.2, sample_weight=WEIGHTS)


@each_loss
@with_and_without_norm
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_gradient_of_each_loss(loss: str, batch_norm: bool, weights: Any) -> None:
    config = small(loss=loss, batch_norm=batch_norm, activation="tanh", dropout=0.3)
    check_network_grads(config, sample_weight=weights)


@each_loss
@with_and_without_norm
@pytest.mark.parametrize("sizes", [(4, 3), (3, 4, 2, 5, 3)], ids=str)
def test_gradient_at_other_depths(loss: str, sizes: tuple[int, ...], batch_norm: bool) -> None:
    check_network_grads(small(loss=loss, sizes=sizes, batch_norm=batch_norm, activation="gelu", dropout=0.3))


# The loss


@with_and_without_norm
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_loss_is_the_mean_over_the_batch(batch_norm: bool, dropout: float) -> None:
    config = small(batch_norm=batch_norm, dropout=dropout, input_dropout=dropout)
    params, state = network(config)
    x, y = batch(config)
    logits, new_state = fnet.forward(config, params, state, x, key=KEY, train=True)
    (loss, aux), grads = fnet.loss_and_grads(config, params, state, x, y, key=KEY, label_smoothing=0.1)
    expected = losses.softmax_cross_entropy(logits, losses.label_targets(y, 3, 0.1, "float64"))
    assert type(loss) is float
    assert loss == pytest.approx(expected.mean(), rel=1e-12)
    assert_trees_equal(aux, Aux(new_state, logits))
    assert tree.structure(grads) == tree.structure(params)
    weighted = fnet.loss_and_grads(config, params, state, x, y, key=KEY, label_smoothing=0.1, sample_weight=WEIGHTS)
    assert weighted[0][0] == pytest.approx((expected * WEIGHTS).sum() / WEIGHTS.sum(), rel=1e-12)


@with_and_without_norm
def test_probabilities_as_targets(batch_norm: bool) -> None:
    config = small(batch_norm=batch_norm)
    params, state = network(config)
    x, y = batch(config)
    by_label = fnet.loss_and_grads(config, params, state, x, y, label_smoothing=0.1)
    targets = losses.label_targets(y, 3, dtype="float64")
    assert_trees_equal(fnet.loss_and_grads(config, params, state, x, targets, label_smoothing=0.1), by_label)
    smooth = losses.label_targets(y, 3, 0.1, "float64")
    assert_trees_close(fnet.loss_and_grads(config, params, state, x, smooth), by_label, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("loss", ["squared_error", "huber", "pinball"])
def test_one_target_may_be_a_vector(loss: str) -> None:
    options = {"quantiles": (0.5,)} if loss == "pinball" else {}
    config = small(loss=loss, sizes=(4, 5, 1), **options)
    params, state = network(config)
    x, y = batch(config)
    assert y.shape == (6, 1)
    expected = fnet.loss_and_grads(config, params, state, x, y)
    assert_trees_equal(fnet.loss_and_grads(config, params, state, x, y[:, 0]), expected)
    assert_trees_equal(fnet.loss_and_grads(config, params, state, x, y.astype("float32").astype("float64")),
                       fnet.loss_and_grads(config, params, state, x, y.astype("float32")))  # fmt: skip


def test_sample_weights_count_examples() -> None:
    config = small(batch_norm=False)
    params, state = network(config)
    x, y = batch(config)
    repeats = np.array([2, 1, 0, 3, 0, 1])
    (loss, _), grads = fnet.loss_and_grads(config, params, state, x, y, sample_weight=repeats)
    (expected, _), expected_grads = fnet.loss_and_grads(config, params, state, x.repeat(repeats, 0), y.repeat(repeats))
    assert_trees_close((loss, grads), (expected, expected_grads), rtol=1e-12, atol=1e-15)


@each_dtype
@pytest.mark.parametrize("weight", [7, 1e-50, 1e37, 1e39, 1e300])
def test_equal_weights_of_any_size_are_none(weight: float, dtype: str) -> None:
    config = small(dtype=dtype)
    params, state = network(config)
    x, y = batch(config)
    weighted = fnet.loss_and_grads(config, params, state, x, y, sample_weight=np.full(6, weight))
    rtol = 1e-6 if dtype == "float32" else 1e-12
    assert_trees_close(weighted, fnet.loss_and_grads(config, params, state, x, y), rtol=rtol, atol=rtol)


def test_logits_of_1e4_have_a_finite_loss_and_gradient() -> None:
    config = small(sizes=(4, 3), dtype="float32")
    params, state = network(config)
    x, y = batch(config)
    (loss, aux), grads = fnet.loss_and_grads(config, params, state, x * np.float32(1e4), y)
    assert np.abs(aux.logits).max() > 1e4
    assert np.isfinite([loss, tree.global_norm(grads)]).all()


# Dropout


def test_the_masks_come_from_one_draw_of_the_key() -> None:
    config = small(sizes=(4, 5, 6, 3), dropout=0.4, input_dropout=0.2, activation="tanh", batch_norm=False)
    params, state = network(config)
    x, _ = batch(config)
    parts = np.split(random.bits(KEY, 6 * (4 + 5 + 6), np.uint16), [6 * 4, 6 * 9])
    h = x
    for i, (bits, rate) in enumerate(zip(parts, (0.2, 0.4, 0.4), strict=True)):
        threshold = round(65536 * rate)
        h = np.where(bits.reshape(6, -1) >= threshold, h / (1 - threshold / 65536), 0)
        linear = params[i].linear
        h = h @ linear.w + linear.b
        h = h if i == 2 else np.tanh(h)
    logits, _ = fnet.forward(config, params, state, x, key=KEY, train=True)
    np.testing.assert_allclose(logits, h, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("options", [{"dropout": 0.3}, {"input_dropout": 0.3}], ids=str)
def test_dropout_needs_a_key_and_depends_on_it_alone(options: dict[str, float]) -> None:
    config = small(**options)
    params, state = network(config)
    x, y = batch(config)
    first = fnet.loss_and_grads(config, params, state, x, y, key=KEY)
    assert_trees_equal(fnet.loss_and_grads(config, params, state, x, y, key=KEY.copy()), first)
    other = fnet.loss_and_grads(config, params, state, x, y, key=random.key(12))
    assert (other[0][1].logits != first[0][1].logits).any()
    for f in (
        lambda: fnet.loss_and_grads(config, params, state, x, y),
        lambda: fnet.forward(config, params, state, x, train=True),
    ):
        with pytest.raises(ValueError, match=r"dropout needs a key: pass key=fnet\.random\.key\(seed\)"):
            f()


def test_dropout_keeps_the_mean_of_a_linear_network() -> None:
    config = small(activation="identity", batch_norm=False, dropout=0.5, input_dropout=0.2)
    params, state = network(config)
    x = np.tile(batch(config, 1)[0], (20_000, 1))
    logits, _ = fnet.forward(config, params, state, x, key=KEY, train=True)
    sigma = logits.std(axis=0) / len(x) ** 0.5
    expected = fnet.predict_logits(config, params, state, x[:1])[0]
    assert (np.abs(logits.mean(axis=0) - expected) < 3 * sigma).all()


# Purity


@each_loss
@each_dtype
@with_and_without_norm
def test_loss_and_grads_is_pure_and_keeps_the_dtype(loss: str, dtype: str, batch_norm: bool) -> None:
    config = small(loss=loss, sizes=(4, 5, 6, 3), dtype=dtype, dropout=0.3, input_dropout=0.1, batch_norm=batch_norm)
    params, state = network(config)
    x, y = batch(config)
    options: Any = {"key": KEY, "sample_weight": WEIGHTS}
    if loss == "cross_entropy":
        options["label_smoothing"] = 0.1
    (_, aux), grads = check_purity(fnet.loss_and_grads, config, params, state, x, y, **options)
    forward = check_purity(fnet.forward, config, params, state, x, key=KEY, train=True)
    assert {leaf.dtype.name for leaf in tree.leaves((aux, grads, forward))} == {dtype}
    assert not any(leaf.flags.writeable for leaf in tree.leaves((aux, grads, forward)))


@with_and_without_norm
def test_arrays_of_the_caller_stay_writeable(batch_norm: bool) -> None:
    config = small(sizes=(4, 5, 3), activation="identity", batch_norm=batch_norm)
    trees = tree.map(np.array, (*network(config), *batch(config)))
    fnet.loss_and_grads(config, *trees)
    fnet.forward(config, *trees[:3], train=True)
    fnet.predict(config, *trees[:3])
    assert all(leaf.flags.writeable for leaf in tree.leaves(trees))


def test_lists_and_integers_are_features_and_labels_too() -> None:
    config = small(dtype="float32")
    params, state = network(config)
    rows = [[1, 2, 3, 4], [0, -1, 2, 5]]
    expected = fnet.loss_and_grads(config, params, state, np.array(rows, np.float32), np.array([0, 2]))
    assert_trees_equal(fnet.loss_and_grads(config, params, state, rows, [0, 2]), expected)
    integers = frozen_copy(np.array(rows, np.int8)), np.array([0, 2], np.uint8)
    assert_trees_equal(fnet.loss_and_grads(config, params, state, *integers), expected)


def test_nothing_touches_the_global_generator() -> None:
    config = small(dropout=0.3)
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    train_config = fnet.TrainConfig(epochs=1, batch_size=8, input_noise=0.1)
    fnet.run(config, train_config, examples(config), key=KEY)
    assert_trees_equal(np.random.get_state(legacy=False), before)  # noqa: NPY002


# Errors


def test_a_training_batch_of_one_with_batch_norm() -> None:
    config = small()
    x, y = batch(config, 1)
    for f in (
        lambda: fnet.loss_and_grads(config, *network(config), x, y),
        lambda: fnet.forward(config, *network(config), x, train=True),
    ):
        with pytest.raises(ValueError, match=r"at least 2 examples, but got 1; .*batch_norm=False"):
            f()
    assert fnet.forward(config, *network(config), x)[0].shape == (1, 3)
    for allowed in (small(batch_norm=False), small(sizes=(4, 3))):
        assert fnet.loss_and_grads(allowed, *network(allowed), x, y)[0][0] > 0


NUMBERS = {"loss": "squared_error"}
QUANTILES = {"loss": "pinball"}


@pytest.mark.parametrize(
    ("config", "y", "options", "error", "message"),
    [
        ({}, [0, 1], {}, ValueError, r"x has 6 rows, but y has shape \[2\]"),
        ({}, 1, {}, ValueError, r"x has 6 rows, but y has shape \[\]"),
        ({}, [0.0] * 6, {}, TypeError, "labels must be integers, but got float64"),
        ({}, [0, 1, 2, 3, 0, 0], {}, ValueError, "labels must be from 0 to 2 for 3 classes, but got 0 to 3"),
        ({}, np.zeros((6, 2)), {}, ValueError, r"targets must be numbers \[batch, 3\], but got float64\[6, 2\]"),
        ({}, np.eye(3, dtype=int)[[0] * 6], {}, ValueError, r"labels must have shape \[batch\], but got \[6, 3\]"),
        ({}, np.full((6, 3), np.nan), {}, ValueError, r"y must be finite in float\d\d, but y\[0, 0\] is nan"),
        ({}, np.ones((6, 3)), {}, ValueError, "targets must be probabilities"),
        ({}, np.array([[-0.5, 1, 0.5]] * 6), {}, ValueError, "targets must be probabilities"),
        ({}, [0] * 6, {"label_smoothing": 1.5}, ValueError, r"label_smoothing must be in \[0, 1\], but got 1.5"),
        ({}, np.ones((6, 3)), {"label_smoothing": -1}, ValueError, r"label_smoothing must be in \[0, 1\], but got -1"),
        ({}, [0] * 6, {"sample_weight": [1] * 5}, ValueError, r"sample_weight must have shape \[6\], but got \[5\]"),
        ({}, [0] * 6, {"sample_weight": [[1]] * 6}, ValueError, r"must have shape \[6\], but got \[6, 1\]"),
        ({}, [0] * 6, {"sample_weight": 1.0}, ValueError, r"sample_weight must have shape \[6\], but got \[\]"),
        ({}, [0] * 6, {"sample_weight": [0] * 6}, ValueError, "sample_weight must be .* not all 0"),
        ({}, np.ma.masked_equal([0] * 6, 1), {}, TypeError, "y is a masked array, whose mask would be ignored"),
        ({}, [0] * 6, {"sample_weight": np.ma.masked_equal([1] * 6, 1)}, TypeError, "sample_weight is a masked array"),
        ({}, [0] * 6, {"sample_weight": [2] * 5 + [-1]}, ValueError, "not negative, .* got -1.0 to 2.0"),
        ({}, [0] * 6, {"sample_weight": [1] * 5 + [np.nan]}, ValueError, "sample_weight must be finite"),
        ({}, [0] * 6, {"sample_weight": [1] * 5 + [np.inf]}, ValueError, "sample_weight must be finite"),
        (NUMBERS, np.zeros(6), {}, ValueError, r"targets must be numbers \[batch, 3\], but got float64\[6, 1\]"),
        (NUMBERS, np.zeros((6, 2)), {}, ValueError, r"must be numbers \[batch, 3\], but got float64\[6, 2\]"),
        (NUMBERS, [["a"] * 3] * 6, {}, ValueError, r"targets must be numbers \[batch, 3\], but got <U1\[6, 3\]"),
        (NUMBERS, np.full((6, 3), np.inf), {}, ValueError, r"finite in float64, but y\[0, 0\] is inf"),
        ({**NUMBERS, "dtype": "float32"}, np.full((6, 3), -1e300), {}, ValueError, r"float32, but y\[0, 0\] is -inf"),
        (NUMBERS, np.zeros((6, 3)), {"label_smoothing": 0.1}, ValueError, "label_smoothing=0.1 is for cla"),
        (QUANTILES, np.zeros((6, 3)), {}, ValueError, r"must be numbers \[batch, 1\], but got float64\[6, 3\]"),
    ],
)
def test_bad_targets_and_weights(
    config: dict[str, Any], y: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    mlp_config = small(**config)
    with pytest.raises(error, match=message):
        fnet.loss_and_grads(mlp_config, *network(mlp_config), batch(mlp_config)[0], y, **options)
