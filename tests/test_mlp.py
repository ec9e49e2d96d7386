"""The network: initialization, loss and gradients, prediction."""

import dataclasses
import itertools
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fnet
from fnet import MLPConfig, losses, mlp, nn, tree
from fnet import random as frandom
from fnet.nn import BatchNormState
from fnet.testing import assert_trees_close, assert_trees_equal, check_grads

KEY = frandom.key(11)
each_activation = pytest.mark.parametrize("activation", nn.ACTIVATION_NAMES)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
with_and_without_norm = pytest.mark.parametrize("batch_norm", [True, False])


def small(**options: Any) -> MLPConfig:
    return MLPConfig(**{"sizes": (4, 5, 3), "dropout": 0.0, "dtype": "float64", **options})


def network(config: MLPConfig) -> tuple[fnet.Params, fnet.State]:
    """Parameters and a state in which no number is special: no bias is 0, no scale is 1."""
    params, state = fnet.init(frandom.key(0), config)
    leaves, treedef = tree.flatten(params)
    noise = [frandom.normal(frandom.fold_in(KEY, i), leaf.shape, leaf.dtype) for i, leaf in enumerate(leaves)]
    params = tree.unflatten(treedef, [leaf + leaf.dtype.type(0.3) * n for leaf, n in zip(leaves, noise, strict=True)])
    state = tuple(BatchNormState(0.1 + norm.mean, 2 * norm.var) for norm in state)
    return tree.freeze(params), tree.freeze(state)


def batch(config: MLPConfig, rows: int = 6) -> tuple[Any, Any]:
    x = frandom.normal(frandom.key(1), (rows, config.sizes[0]), config.dtype)
    return tree.freeze(x), tree.freeze(np.arange(rows) % config.num_classes)


def weights_of(rows: int) -> Any:
    return tree.freeze(frandom.uniform(frandom.key(2), (rows,), "float64", 0.5, 3.0))


# The configuration


def test_config() -> None:
    config = MLPConfig()
    assert (config.sizes, config.activation, config.dropout) == ((128, 256, 256, 256, 10), "relu", 0.3)
    assert MLPConfig(sizes=[4, np.int64(5), 3]).sizes == (4, 5, 3)  # pyright: ignore[reportArgumentType]
    assert (small().hidden_sizes, small().num_classes) == ((5,), 3)
    assert small(sizes=(4, 3)).hidden_sizes == ()
    assert hash(small()) == hash(small())
    json.dumps(dataclasses.asdict(MLPConfig(dtype=np.dtype("float64"))))  # pyright: ignore[reportArgumentType]
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.dropout = 0.0  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sizes": 128}, TypeError, r"sizes must be integers: .* such as \(128, 256, 10\); got 128"),
        ({"sizes": (4, 5.0, 3)}, TypeError, "sizes must be integers"),
        ({"sizes": (4,)}, ValueError, r"sizes must be positive: .*; got \(4,\)"),
        ({"sizes": (4, 0, 3)}, ValueError, r"sizes must be positive: .*; got \(4, 0, 3\)"),
        ({"sizes": (4, 1)}, ValueError, "2 classes or more"),
        ({"activation": "swish"}, ValueError, "activation must be one of relu, .*, identity; got 'swish'"),
        ({"initializer": "zeros"}, ValueError, "initializer must be one of lecun_normal, .*; got 'zeros'"),
        ({"dtype": "float16"}, ValueError, "dtype must be one of float32, float64; got 'float16'"),
        ({"batch_norm": "yes"}, ValueError, "batch_norm must be one of True, False; got 'yes'"),
        ({"dropout": 1.0}, ValueError, r"dropout is the share that is dropped and must be in \[0, 1\); got 1.0"),
        ({"dropout": float("nan")}, ValueError, "dropout is the share that is dropped .* got nan"),
        ({"dropout": "0.1"}, ValueError, "dropout is the share that is dropped .* got '0.1'"),
        ({"input_dropout": -0.1}, ValueError, "input_dropout is the share that is dropped .* got -0.1"),
    ],
)
def test_bad_config(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MLPConfig(**options)


# Initialization

SIZES = [(4, 3), (4, 5, 3), (4, 6, 5, 7, 3)]


@pytest.mark.parametrize("sizes", SIZES)
@with_and_without_norm
@each_dtype
def test_init_gives_the_shapes_of_the_config(sizes: tuple[int, ...], batch_norm: bool, dtype: str) -> None:
    config = small(sizes=sizes, batch_norm=batch_norm, dtype=dtype)
    params, state = fnet.init(KEY, config)
    assert [layer.linear.w.shape for layer in params] == list(itertools.pairwise(sizes))
    for i, layer in enumerate(params):
        if batch_norm and i < len(sizes) - 2:
            assert layer.linear.b is None
            assert layer.norm is not None
            assert layer.norm.scale.tolist() == [1] * sizes[i + 1]
            assert layer.norm.bias.tolist() == [0] * sizes[i + 1]
        else:
            assert layer.norm is None
            assert layer.linear.b is not None
            assert layer.linear.b.shape == (sizes[i + 1],)
    widths = sizes[1:-1] if batch_norm else ()
    assert [(norm.mean.tolist(), norm.var.tolist()) for norm in state] == [([0] * n, [1] * n) for n in widths]
    leaves = tree.leaves((params, state))
    assert {leaf.dtype.name for leaf in leaves} == {dtype}
    assert not any(leaf.flags.writeable for leaf in leaves)
    assert fnet.num_params(config) == sum(leaf.size for leaf in tree.leaves(params))


@pytest.mark.parametrize("name", mlp.INITIALIZERS)
def test_initializers_have_their_standard_deviations(name: str) -> None:
    fan_in, fan_out = 300, 100
    params, _ = fnet.init(KEY, small(sizes=(fan_in, fan_out, 2), initializer=name))
    w = params[0].linear.w
    variance = {
        "lecun_normal": 1 / fan_in,
        "he_normal": 2 / fan_in,
        "he_uniform": 2 / fan_in,
        "glorot_uniform": 2 / (fan_in + fan_out),
        "torch_uniform": 1 / (3 * fan_in),
    }[name]
    assert w.mean() == pytest.approx(0, abs=4 * (variance / w.size) ** 0.5)
    assert w.var() == pytest.approx(variance, rel=0.03)
    bound = (3 * variance) ** 0.5
    if name.endswith("uniform"):
        assert 0.99 * bound < np.abs(w).max() < bound
    else:
        assert np.abs(w).max() > 3 * variance**0.5


@pytest.mark.parametrize("name", mlp.INITIALIZERS)
def test_only_torch_draws_biases(name: str) -> None:
    params, _ = fnet.init(KEY, small(sizes=(4, 500, 3), initializer=name, batch_norm=False))
    b = params[0].linear.b
    assert b is not None
    if name == "torch_uniform":
        assert 0.49 < b.max() < 0.5
        assert -0.5 <= b.min() < -0.49
    else:
        assert not b.any()


def test_init_draws_every_layer_anew_from_the_key() -> None:
    config = small(sizes=(4, 4, 4, 4), batch_norm=False)
    params, state = fnet.init(KEY, config)
    assert_trees_equal(fnet.init(KEY, config), (params, state))
    weights = [layer.linear.w for layer in (*params, *fnet.init(frandom.key(3), config)[0])]
    assert all((a != b).all() for a, b in itertools.combinations(weights, 2))


@pytest.mark.parametrize("sizes", SIZES)
@with_and_without_norm
def test_unpack_is_the_inverse_of_pack(sizes: tuple[int, ...], batch_norm: bool) -> None:
    config = small(sizes=sizes, batch_norm=batch_norm)
    params, _ = network(config)
    packed = mlp.pack(params)
    assert_trees_equal(mlp.unpack(config, packed), params)
    assert [part.shape for part in packed] == [
        (sum(leaf.size for leaf in tree.leaves(params) if leaf.ndim == n),) for n in (2, 1)
    ]
    assert not any(part.flags.writeable for part in packed)


# Loss and gradients


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@with_and_without_norm
@each_activation
def test_gradient(activation: str, batch_norm: bool, dropout: float, smoothing: float, weighted: bool) -> None:
    config = MLPConfig((3, 4, 3), activation, batch_norm, dropout, input_dropout=dropout / 2, dtype="float64")
    params, state = network(config)
    x, y = batch(config)

    def f_and_grads(params: fnet.Params) -> tuple[float, fnet.Params]:
        (loss, _), grads = fnet.loss_and_grads(
            config,
            params,
            state,
            x,
            y,
            key=KEY,
            label_smoothing=smoothing,
            sample_weight=weights_of(6) if weighted else None,
        )
        return loss, grads

    check_grads(f_and_grads, params, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("sizes", [(4, 3), (3, 4, 2, 5, 3)])
@with_and_without_norm
@pytest.mark.parametrize("activation", ["identity", "gelu"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradient_at_other_depths(sizes: tuple[int, ...], batch_norm: bool, activation: str, dropout: float) -> None:
    config = small(sizes=sizes, batch_norm=batch_norm, activation=activation, dropout=dropout)
    params, state = network(config)
    x, y = batch(config)

    def f_and_grads(params: fnet.Params) -> tuple[float, fnet.Params]:
        (loss, _), grads = fnet.loss_and_grads(config, params, state, x, y, key=KEY)
        return loss, grads

    check_grads(f_and_grads, params, rtol=1e-6, atol=1e-8)


@with_and_without_norm
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_loss_is_the_mean_cross_entropy_of_the_training_logits(batch_norm: bool, dropout: float) -> None:
    config = small(batch_norm=batch_norm, dropout=dropout, input_dropout=dropout)
    params, state = network(config)
    x, y = batch(config)
    logits, new_state = fnet.forward(config, params, state, x, key=KEY, train=True)
    (loss, aux), grads = fnet.loss_and_grads(config, params, state, x, y, key=KEY, label_smoothing=0.1)
    expected = losses.softmax_cross_entropy_with_integer_labels(logits, y, label_smoothing=0.1)
    assert type(loss) is float
    assert loss == pytest.approx(expected.mean(), rel=1e-12)
    assert_trees_equal(aux, fnet.Aux(new_state, logits))
    assert tree.structure(grads) == tree.structure(params)
    w = weights_of(6)
    weighted = fnet.loss_and_grads(config, params, state, x, y, key=KEY, label_smoothing=0.1, sample_weight=w)
    assert weighted[0][0] == pytest.approx((expected * w).sum() / w.sum(), rel=1e-12)


@with_and_without_norm
def test_soft_targets(batch_norm: bool) -> None:
    config = small(batch_norm=batch_norm)
    params, state = network(config)
    x, y = batch(config)
    by_label = fnet.loss_and_grads(config, params, state, x, y, label_smoothing=0.1)
    targets = losses.label_targets(y, 3, dtype="float64")
    assert_trees_equal(fnet.loss_and_grads(config, params, state, x, targets, label_smoothing=0.1), by_label)
    smooth = losses.label_targets(y, 3, 0.1, "float64")
    assert_trees_close(fnet.loss_and_grads(config, params, state, x, smooth), by_label, rtol=1e-12, atol=1e-15)


def test_sample_weights_count_examples() -> None:
    config = small(batch_norm=False)
    params, state = network(config)
    x, y = batch(config)
    repeats = np.array([2, 1, 0, 3, 0, 1])
    (loss, _), grads = fnet.loss_and_grads(config, params, state, x, y, sample_weight=repeats)
    (expected, _), expected_grads = fnet.loss_and_grads(config, params, state, x.repeat(repeats, 0), y.repeat(repeats))
    assert_trees_close((loss, grads), (expected, expected_grads), rtol=1e-12, atol=1e-15)
    equal = fnet.loss_and_grads(config, params, state, x, y, sample_weight=[7] * 6)
    assert_trees_close(equal, fnet.loss_and_grads(config, params, state, x, y), rtol=1e-12, atol=1e-15)


def test_loss_and_grads_of_logits_of_1e4_are_finite() -> None:
    config = small(sizes=(4, 3), dtype="float32")
    params, state = network(config)
    x, y = batch(config)
    (loss, aux), grads = fnet.loss_and_grads(config, params, state, x * np.float32(1e4), y)
    assert np.abs(aux.logits).max() > 1e4
    assert np.isfinite([loss, tree.global_norm(grads)]).all()


def test_the_masks_are_those_of_the_bits_of_the_key() -> None:
    config = small(sizes=(4, 5, 6, 3), dropout=0.4, input_dropout=0.2, activation="tanh", batch_norm=False)
    params, state = network(config)
    x, _ = batch(config)
    blocks = np.split(frandom.bits(KEY, 6 * (4 + 5 + 6), np.uint16), [6 * 4, 6 * 9])
    h = x
    for i, (block, rate) in enumerate(zip(blocks, (0.2, 0.4, 0.4), strict=True)):
        threshold = round(65536 * rate)
        h = np.where(block.reshape(6, -1) >= threshold, h / (1 - threshold / 65536), 0)
        linear = params[i].linear
        h = h @ linear.w + linear.b
        h = h if i == 2 else np.tanh(h)
    logits, _ = fnet.forward(config, params, state, x, key=KEY, train=True)
    np.testing.assert_allclose(logits, h, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("options", [{"dropout": 0.3}, {"input_dropout": 0.3}])
def test_dropout_needs_a_key_and_only_that_decides(options: dict[str, float]) -> None:
    config = small(**options)
    params, state = network(config)
    x, y = batch(config)
    first = fnet.loss_and_grads(config, params, state, x, y, key=KEY)
    assert_trees_equal(fnet.loss_and_grads(config, params, state, x, y, key=KEY.copy()), first)
    other = fnet.loss_and_grads(config, params, state, x, y, key=frandom.key(12))
    assert (other[0][1].logits != first[0][1].logits).any()
    for use in (
        lambda: fnet.loss_and_grads(config, params, state, x, y),
        lambda: fnet.forward(config, params, state, x, train=True),
    ):
        with pytest.raises(ValueError, match=r"dropout needs a key: pass key=fnet\.random\.key\(seed\)"):
            use()


def test_dropout_keeps_the_mean_of_a_linear_network() -> None:
    config = small(activation="identity", batch_norm=False, dropout=0.5, input_dropout=0.2)
    params, state = network(config)
    x = np.tile(batch(config, 1)[0], (20_000, 1))
    logits, _ = fnet.forward(config, params, state, x, key=KEY, train=True)
    sigma = logits.std(axis=0) / len(x) ** 0.5
    expected = fnet.predict_logits(config, params, state, x[:1])[0]
    assert (np.abs(logits.mean(axis=0) - expected) < 3 * sigma).all()


# One batch among several processes


def shared(size: int, f: Callable[[int, nn.Reduce], Any]) -> list[Any]:
    """`[f(rank, reduce) for each rank]`, in threads, with a `reduce` that sums over them."""
    barrier = threading.Barrier(size, timeout=20)
    parts: list[Any] = [None] * size

    def run(rank: int) -> Any:
        def reduce(array: Any) -> Any:
            parts[rank] = array
            barrier.wait()
            total = np.sum(parts, axis=0)
            barrier.wait()
            return total

        return f(rank, reduce)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))


@pytest.mark.parametrize("bounds", [(0, 2, 4, 7), (0, 0, 3, 7), (0, 4, 8, 12)], ids=str)
@with_and_without_norm
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_shares_of_three_processes_sum_up_to_those_of_one(
    bounds: tuple[int, ...], batch_norm: bool, dropout: float
) -> None:
    rows = bounds[-1]
    config = small(sizes=(4, 6, 5, 3), batch_norm=batch_norm, dropout=dropout, input_dropout=dropout)
    params, state = network(config)
    x, y = batch(config, rows)
    options: Any = {"key": KEY, "label_smoothing": 0.1, "sample_weight": weights_of(rows)}
    (loss, aux), grads = fnet.loss_and_grads(config, params, state, x, y, **options)

    def share(rank: int, reduce: nn.Reduce) -> Any:
        shard = slice(bounds[rank], bounds[rank + 1])
        return fnet.loss_and_grads(config, params, state, x, y, **options, reduce=reduce, shard=shard)

    results = shared(3, share)
    assert sum(result[0][0] for result in results) == pytest.approx(loss, rel=1e-12)
    total = tree.map(lambda *leaves: sum(leaves), *(result[1] for result in results))
    assert_trees_close(total, grads, rtol=1e-12, atol=1e-12)
    logits = np.concatenate([result[0][1].logits for result in results])
    np.testing.assert_allclose(logits, aux.logits, rtol=1e-12, atol=1e-12)
    for result in results:
        assert_trees_close(result[0][1].state, aux.state, rtol=1e-12, atol=1e-12)


# Memory


@each_activation
@with_and_without_norm
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_donated_memory_changes_no_bit(activation: str, batch_norm: bool, dropout: float) -> None:
    config = small(sizes=(4, 5, 6, 3), activation=activation, batch_norm=batch_norm, dropout=dropout)
    config = dataclasses.replace(config, input_dropout=dropout)
    params, state = network(config)
    x, y = batch(config)
    expected = fnet.loss_and_grads(config, params, state, x, y, key=KEY)
    memory = fnet.workspace(config, 6)
    for _ in range(2):  # the second time with what the first has left in it
        (loss, aux), grads = fnet.loss_and_grads(config, params, state, x, y, key=KEY, donate=memory)
        assert_trees_equal(((loss, aux), grads), expected)
        assert all(np.shares_memory(leaf, memory.packed_grads[leaf.ndim == 1]) for leaf in tree.leaves(grads))


def test_a_workspace_for_another_batch_size_is_not_used() -> None:
    config = small(dropout=0.3)
    params, state = network(config)
    x, y = batch(config)
    expected = fnet.loss_and_grads(config, params, state, x, y, key=KEY)
    memory = fnet.workspace(config, 5)
    assert_trees_equal(fnet.loss_and_grads(config, params, state, x, y, key=KEY, donate=memory), expected)


@pytest.mark.parametrize("rows", [5, 6])
def test_train_step_with_a_workspace_changes_no_bit(rows: int) -> None:
    config, train_config = small(dropout=0.3), fnet.TrainConfig(ema_decay=0.9, clip_norm=1.0, weight_decay=0.1)
    x, y = batch(config, 6)
    memory = fnet.workspace(config, 6)
    expected = donated = fnet.init_train_state(KEY, config, train_config)
    donated = tree.freeze(tree.map(lambda leaf: leaf.copy(), donated))
    for _ in range(2):
        expected, _ = fnet.train_step(config, train_config, expected, x, y, key=KEY)
        donated, _ = fnet.train_step(config, train_config, donated, x, y, key=KEY, donate=memory)
    # The last batch of an epoch may be a smaller one.
    expected, metrics = fnet.train_step(config, train_config, expected, x[:rows], y[:rows], key=KEY)
    donated, donated_metrics = fnet.train_step(
        config, train_config, donated, x[:rows], y[:rows], key=KEY, donate=memory
    )
    assert donated_metrics == metrics
    assert_trees_equal(donated, expected)


@each_dtype
@with_and_without_norm
def test_all_results_have_the_dtype_of_the_config_and_are_read_only(dtype: str, batch_norm: bool) -> None:
    config = small(sizes=(4, 5, 6, 3), dtype=dtype, dropout=0.3, input_dropout=0.1, batch_norm=batch_norm)
    params, state = network(config)
    x, y = batch(config)
    given = (params, state, x, y, weights_of(6), KEY)
    copies = tree.map(np.copy, given)
    (_, aux), grads = fnet.loss_and_grads(
        config, params, state, x, y, key=KEY, label_smoothing=0.1, sample_weight=given[4]
    )
    results = (
        aux,
        grads,
        fnet.forward(config, params, state, x.astype("float64")),
        fnet.forward(config, params, state, x.astype("float32"), key=KEY, train=True),
        fnet.fold_batch_norm(config, params, state)[1],
    )
    assert {leaf.dtype.name for leaf in tree.leaves(results)} == {dtype}
    assert not any(leaf.flags.writeable for leaf in tree.leaves(results))
    for predict in (fnet.predict_logits, fnet.predict_proba):
        assert predict(config, params, state, x).dtype == dtype
    fnet.predict(config, params, state, x)
    assert_trees_equal(given, copies)


def test_lists_and_integers_are_features_too() -> None:
    config = small(dtype="float32")
    params, state = network(config)
    rows = [[1, 2, 3, 4], [0, -1, 2, 5]]
    expected = fnet.loss_and_grads(config, params, state, np.array(rows, np.float32), np.array([0, 2]))
    assert_trees_equal(fnet.loss_and_grads(config, params, state, rows, [0, 2]), expected)
    assert_trees_equal(
        fnet.loss_and_grads(config, params, state, np.array(rows, np.int8), np.array([0, 2], np.uint8)), expected
    )


# Inference


def unfolded_logits(config: MLPConfig, params: fnet.Params, state: fnet.State, x: Any) -> Any:
    h = x
    for i, layer in enumerate(params):
        h, _ = nn.linear_fwd(layer.linear, h)
        if layer.norm is not None:
            h = nn.batch_norm_inference(layer.norm, state[i], h)
        if i + 1 < len(params):
            h, _ = nn.activation_fwd(config.activation, h)
    return h


@each_activation
@with_and_without_norm
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_folded_batch_norm_is_the_same_function(
    activation: str, batch_norm: bool, dtype: str, tolerance: float
) -> None:
    config = small(sizes=(4, 5, 6, 3), activation=activation, batch_norm=batch_norm, dtype=dtype, dropout=0.3)
    params, state = network(config)
    x, _ = batch(config)
    for _ in range(3):  # statistics other than those of a new network
        _, state = fnet.forward(config, params, state, x, key=KEY, train=True)
    expected = unfolded_logits(config, params, state, x)
    logits, same = fnet.forward(config, params, state, x)
    np.testing.assert_allclose(logits, expected, rtol=tolerance, atol=tolerance)
    assert same is state
    folded_config, folded = fnet.fold_batch_norm(config, params, state)
    assert folded_config == dataclasses.replace(config, batch_norm=False)
    assert_trees_equal(fnet.predict_logits(folded_config, folded, (), x), logits)
    assert fnet.fold_batch_norm(folded_config, folded, ())[1] is folded


@pytest.mark.parametrize("rows", [1, 511, 512, 513, 1025])
def test_prediction_in_chunks(rows: int) -> None:
    config = small(sizes=(4, 5, 3), dropout=0.3)
    params, state = network(config)
    x, _ = batch(config, rows)
    logits = fnet.predict_logits(config, params, state, x)
    np.testing.assert_allclose(logits, unfolded_logits(config, params, state, x), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(fnet.predict(config, params, state, x), logits.argmax(axis=1))
    p = fnet.predict_proba(config, params, state, x)
    np.testing.assert_allclose(p, losses.softmax(logits), rtol=1e-12)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)


def test_prediction_names_the_row_of_x_that_is_not_finite() -> None:
    config = small(sizes=(4, 5, 3))
    x = np.zeros((1000, 4))
    x[700, 2] = np.nan
    with pytest.raises(ValueError, match=r"x\[700, 2\] is nan"):
        fnet.predict_logits(config, *network(config), x)


def test_training_mode_updates_the_state_and_inference_does_not_use_the_batch() -> None:
    config = small(sizes=(4, 5, 6, 3))
    params, state = network(config)
    x, _ = batch(config)
    train_logits, new_state = fnet.forward(config, params, state, x, train=True)
    z = x @ params[0].linear.w
    np.testing.assert_allclose(new_state[0].mean, 0.9 * state[0].mean + 0.1 * z.mean(0), rtol=1e-12)
    np.testing.assert_allclose(new_state[0].var, 0.9 * state[0].var + 0.1 * z.var(0, ddof=1), rtol=1e-12)
    assert len(new_state) == 2
    logits, _ = fnet.forward(config, params, state, x)
    assert np.abs(train_logits - logits).max() > 0.01
    np.testing.assert_allclose(fnet.forward(config, params, state, x[:1])[0], logits[:1], rtol=1e-12)
    other_state = fnet.forward(config, params, new_state, x, train=True)[0]
    np.testing.assert_array_equal(other_state, train_logits)


# Errors


def test_a_training_batch_of_one() -> None:
    config = small()
    x, y = batch(config, 1)
    for use in (
        lambda: fnet.loss_and_grads(config, *network(config), x, y),
        lambda: fnet.forward(config, *network(config), x, train=True),
    ):
        with pytest.raises(ValueError, match=r"at least 2 examples, but got 1; .*batch_norm=False"):
            use()
    assert fnet.forward(config, *network(config), x)[0].shape == (1, 3)
    for allowed in (small(batch_norm=False), small(sizes=(4, 3))):
        assert fnet.loss_and_grads(allowed, *network(allowed), x, y)[0][0] > 0


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((6, 5)), ValueError, r"x must have shape \[batch, 4\], but got \[6, 5\]"),
        (np.zeros(4), ValueError, r"x must have shape \[batch, 4\], but got \[4\]"),
        (1.0, ValueError, r"x must have shape \[batch, 4\], but got \[\]"),
        (np.zeros((0, 4)), ValueError, "x has no rows"),
        (np.array([["a"] * 4]), TypeError, "x must be numbers, but got dtype <U1"),
        (np.zeros((6, 4), complex), TypeError, "x must be numbers, but got dtype complex128"),
        (None, TypeError, "x must be numbers, but got dtype object"),
        (np.where(np.arange(24).reshape(6, 4) == 9, np.nan, 0), ValueError, r"finite, but x\[2, 1\] is nan"),
        (np.full((6, 4), -np.inf), ValueError, r"finite, but x\[0, 0\] is -inf"),
    ],
)
def test_bad_features(x: Any, error: type[Exception], message: str) -> None:
    config = small()
    params, state = network(config)
    for use in (
        lambda: fnet.forward(config, params, state, x),
        lambda: fnet.forward(config, params, state, x, train=True),
        lambda: fnet.loss_and_grads(config, params, state, x, [0]),
        lambda: fnet.predict(config, params, state, x),
        lambda: fnet.predict_proba(config, params, state, x),
    ):
        with pytest.raises(error, match=message):
            use()


@pytest.mark.parametrize(
    ("y", "options", "error", "message"),
    [
        ([0, 1], {}, ValueError, r"x has 6 rows, but y has shape \(2,\)"),
        ([0.0] * 6, {}, TypeError, "labels must be integers, but got float64"),
        ([0, 1, 2, 3, 0, 0], {}, ValueError, "labels must be from 0 to 2 for 3 classes, but got 0 to 3"),
        (np.zeros((6, 2)), {}, ValueError, r"targets must have the shape of the logits, \(6, 3\), but got \(6, 2\)"),
        (np.eye(3, dtype=int)[[0] * 6], {}, ValueError, r"labels must have shape \[batch\], but got \(6, 3\)"),
        ([0] * 6, {"label_smoothing": 1.5}, ValueError, r"label_smoothing must be in \[0, 1\], but got 1.5"),
        (np.ones((6, 3)), {"label_smoothing": -1}, ValueError, r"label_smoothing must be in \[0, 1\], but got -1"),
        ([0] * 6, {"sample_weight": [1] * 5}, ValueError, r"sample_weight must have shape \(6,\), but got \(5,\)"),
        ([0] * 6, {"sample_weight": [[1]] * 6}, ValueError, r"sample_weight must have shape \(6,\), but got \(6, 1\)"),
        ([0] * 6, {"sample_weight": 1.0}, ValueError, r"sample_weight must have shape \(6,\), but got \(\)"),
        ([0] * 6, {"sample_weight": [0] * 6}, ValueError, "sample_weight must be .* not all 0"),
        ([0] * 6, {"sample_weight": [2] * 5 + [-1]}, ValueError, "not negative, .* got -1.0 to 2.0"),
        ([0] * 6, {"sample_weight": [1] * 5 + [np.nan]}, ValueError, "sample_weight must be finite"),
        ([0] * 6, {"sample_weight": [1] * 5 + [np.inf]}, ValueError, "sample_weight must be finite"),
    ],
)
def test_bad_labels_and_weights(y: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    config = small()
    params, state = network(config)
    with pytest.raises(error, match=message):
        fnet.loss_and_grads(config, params, state, batch(config)[0], y, **options)


def test_params_and_state_that_do_not_fit_are_named() -> None:
    config = small()
    params, state = network(config)
    x, y = batch(config)
    single = tree.map(lambda leaf: leaf.astype(np.float32), params)
    flat = params[1]._replace(linear=params[1].linear._replace(b=np.zeros(4)))
    without_bias = params[1]._replace(linear=params[1].linear._replace(b=None))
    wide = (BatchNormState(state[0].mean, np.ones(6)),)
    for bad_params, bad_state, message in (
        (params[:1], state, "params do not fit the config .*: .* at the root: expected a tuple of 2, but .* of 1"),
        ((*params, params[-1]), state, "params do not fit the config .* expected a tuple of 2, but got a tuple of 3"),
        (None, state, "params do not fit the config .* at the root: expected a tuple of 2, but got None"),
        (params[::-1], state, r"params do not fit the config .* differ at \[0\]\.linear\.b: expected None"),
        (single, state, r"params\[0\]\.linear\.w does not fit .* expected float64\[4, 5\], but got float32\[4, 5\]"),
        ((params[0], flat), state, r"params\[1\]\.linear\.b does not fit .* expected float64\[3\], but .*\[4\]"),
        ((params[0], without_bias), state, r"params do not fit the config .* differ at \[1\]\.linear\.b"),
        (params, (), "state do not fit the config .* at the root: expected a tuple of 1, but got a tuple of 0"),
        (params, None, "state do not fit the config .* at the root: expected a tuple of 1, but got None"),
        (params, wide, r"state\[0\]\.var does not fit the config: expected float64\[5\], but got float64\[6\]"),
    ):
        given: Any = (bad_params, bad_state)
        for use in (
            lambda given=given: fnet.loss_and_grads(config, given[0], given[1], x, y),
            lambda given=given: fnet.forward(config, given[0], given[1], x),
            lambda given=given: fnet.forward(config, given[0], given[1], x, train=True),
            lambda given=given: fnet.predict(config, given[0], given[1], x),
        ):
            with pytest.raises(ValueError, match=message):
                use()


def test_nothing_touches_the_global_generator() -> None:
    config = small(dropout=0.3)
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    x, y = batch(config)
    train_state = fnet.init_train_state(KEY, config)
    fnet.train_step(config, fnet.TrainConfig(mixup=0.2, input_noise=0.1), train_state, x, y, key=KEY)
    assert_trees_equal(np.random.get_state(legacy=False), before)  # noqa: NPY002


@pytest.mark.parametrize("bad", [np.nan, -0.5])
def test_soft_targets_must_be_probabilities(bad: float) -> None:
    config = small()
    params, state = network(config)
    x, _ = batch(config)
    targets = np.full((6, config.num_classes), 1 / config.num_classes)
    targets[2, 1] = bad
    with pytest.raises(ValueError, match="targets must be probabilities"):
        fnet.loss_and_grads(config, params, state, x, targets, key=KEY)


def test_a_workspace_of_another_config_is_refused() -> None:
    config = small()
    params, state = network(config)
    x, y = batch(config)
    other = fnet.workspace(dataclasses.replace(config, batch_norm=not config.batch_norm), 6)
    with pytest.raises(ValueError, match="workspace is for another config"):
        fnet.loss_and_grads(config, params, state, x, y, key=KEY, donate=other)


def test_features_too_large_for_the_dtype() -> None:
    config = small(dtype="float32")
    params, state = network(config)
    with pytest.raises(ValueError, match="x must be finite"):
        fnet.predict(config, params, state, np.full((1, config.sizes[0]), 1e300))
