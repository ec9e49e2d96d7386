"""The architecture and its parameters: configuration, initialization, shapes."""

import dataclasses
import itertools
import json
from typing import Any

import numpy as np
import pytest
from helpers import LOSSES, check_purity, each_dtype, network, small, with_and_without_norm

import fnet
from fnet import MLPConfig, random, tree
from fnet.nn import BatchNormState
from fnet.params import INITIALIZERS, param_shapes
from fnet.testing import assert_trees_equal

KEY = random.key(11)
SIZES = [(4, 3), (4, 5, 3), (4, 6, 5, 7, 3)]

# The configuration


def test_config() -> None:
    config = MLPConfig()
    assert (config.sizes, config.activation, config.dropout) == ((128, 256, 256, 256, 10), "relu", 0.3)
    assert MLPConfig(sizes=[4, np.int64(5), 3]).sizes == (4, 5, 3)  # pyright: ignore[reportArgumentType]
    assert (small().hidden_sizes, small().num_outputs) == ((5,), 3)
    assert small(sizes=(4, 3)).hidden_sizes == ()
    assert hash(small()) == hash(small())
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.dropout = 0.0  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("loss", LOSSES)
def test_config_survives_json(loss: str) -> None:
    config = small(loss=loss, dtype=np.dtype("float64"), dropout=np.float32(0.5))
    restored = json.loads(json.dumps(dataclasses.asdict(config)))
    assert MLPConfig(**restored) == config


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sizes": 128}, TypeError, r"sizes must be integers: .* such as \(128, 256, 10\); got 128"),
        ({"sizes": (4, 5.0, 3)}, TypeError, "sizes must be integers"),
        ({"sizes": (4,)}, ValueError, r"sizes must be positive, .*; got \(4,\)"),
        ({"sizes": (4, 0, 3)}, ValueError, r"sizes must be positive, .*; got \(4, 0, 3\)"),
        ({"sizes": (4, 1)}, ValueError, "at least 2 outputs"),
        ({"sizes": (4, 0), "loss": "squared_error"}, ValueError, "at least 1 outputs"),
        ({"activation": "swish"}, ValueError, "activation must be one of relu, .*, identity; got 'swish'"),
        ({"initializer": "zeros"}, ValueError, "initializer must be one of lecun_normal, .*; got 'zeros'"),
        ({"dtype": "float16"}, ValueError, "dtype must be one of float32, float64; got 'float16'"),
        ({"batch_norm": "yes"}, ValueError, "batch_norm must be one of True, False; got 'yes'"),
        ({"loss": "hinge"}, ValueError, "loss must be one of cross_entropy, .*, pinball; got 'hinge'"),
        ({"dropout": 1.0}, ValueError, r"dropout is the fraction that is dropped and must be in \[0, 1\); got 1.0"),
        ({"dropout": float("nan")}, ValueError, "dropout is the fraction that is dropped .* got nan"),
        ({"dropout": "0.1"}, ValueError, "dropout is the fraction that is dropped .* got '0.1'"),
        ({"input_dropout": -0.1}, ValueError, "input_dropout is the fraction that is dropped .* got -0.1"),
        ({"huber_delta": 2.0}, ValueError, 'huber_delta applies only to loss="huber"'),
        ({"loss": "huber", "huber_delta": 0.0}, ValueError, "huber_delta must be a positive number; got 0.0"),
        ({"loss": "huber", "huber_delta": np.inf}, ValueError, "huber_delta must be a positive number; got inf"),
        ({"quantiles": (0.5,)}, ValueError, 'quantiles apply only to loss="pinball"'),
        ({"loss": "pinball"}, ValueError, r"quantiles must be 10 increasing numbers in \(0, 1\).*; got \(\)"),
        ({"sizes": (4, 2), "loss": "pinball", "quantiles": (0.9, 0.1)}, ValueError, "quantiles must be 2 increasing"),
        ({"sizes": (4, 2), "loss": "pinball", "quantiles": (0.0, 0.5)}, ValueError, "quantiles must be 2 increasing"),
        ({"sizes": (4, 2), "loss": "pinball", "quantiles": (0.5, np.nan)}, ValueError, "quantiles must be 2 incr"),
    ],
)
def test_bad_config(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MLPConfig(**options)


# Initialization


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@with_and_without_norm
@each_dtype
def test_init_gives_the_shapes_of_the_config(sizes: tuple[int, ...], batch_norm: bool, dtype: str) -> None:
    config = small(sizes=sizes, batch_norm=batch_norm, dtype=dtype)
    params, state = check_purity(fnet.init, KEY, config)
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


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@with_and_without_norm
def test_param_shapes_are_those_of_init_without_its_memory(sizes: tuple[int, ...], batch_norm: bool) -> None:
    config = small(sizes=sizes, batch_norm=batch_norm)
    shapes, trees = param_shapes(config), fnet.init(KEY, config)
    assert tree.structure(shapes) == tree.structure(trees)
    for template, leaf in tree.zip_leaves(shapes, trees):
        assert (template.shape, template.dtype) == (leaf.shape, leaf.dtype)
        assert set(template.strides) <= {0}
        assert not template.any()


@pytest.mark.parametrize("name", INITIALIZERS)
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


@pytest.mark.parametrize("name", INITIALIZERS)
def test_only_torch_uniform_draws_biases(name: str) -> None:
    params, _ = fnet.init(KEY, small(sizes=(4, 500, 3), initializer=name, batch_norm=False))
    b = params[0].linear.b
    assert b is not None
    if name == "torch_uniform":
        assert 0.49 < b.max() < 0.5
        assert -0.5 <= b.min() < -0.49
    else:
        assert not b.any()


def test_init_draws_each_layer_independently() -> None:
    config = small(sizes=(4, 4, 4, 4), batch_norm=False)
    params, _ = fnet.init(KEY, config)
    weights = [layer.linear.w for layer in (*params, *fnet.init(random.key(3), config)[0])]
    assert all((a != b).all() for a, b in itertools.combinations(weights, 2))


# Checks


@pytest.mark.parametrize("bad", [fnet.init(KEY, small())[0], (4, 5, 3), None])
def test_num_params_needs_a_config(bad: Any) -> None:
    with pytest.raises(TypeError, match=f"config must be an MLPConfig, not {type(bad).__name__}"):
        fnet.num_params(bad)


def misfits() -> list[tuple[Any, Any, str]]:
    params, state = network(small())
    single = tree.map(lambda leaf: leaf.astype(np.float32), params)
    short_bias = params[1]._replace(linear=params[1].linear._replace(b=np.zeros(4)))
    without_bias = params[1]._replace(linear=params[1].linear._replace(b=None))
    wide = (BatchNormState(state[0].mean, np.ones(6)),)
    return [
        (params[:1], state, "params do not match the config .*: .* at the root: expected a tuple of 2, but .* of 1"),
        ((*params, params[-1]), state, "params do not match the config .* expected a tuple of 2, but got a tuple of 3"),
        (None, state, "params do not match the config .* at the root: expected a tuple of 2, but got None"),
        (params[::-1], state, r"params do not match the config .* differ at \[0\]\.linear\.b: expected None"),
        (single, state, r"params\[0\]\.linear\.w does not match .* expected float64\[4, 5\], but got float32\[4, 5\]"),
        (
            (params[0], short_bias),
            state,
            r"params\[1\]\.linear\.b does not match .* expected float64\[3\], but .*\[4\]",
        ),
        ((params[0], without_bias), state, r"params do not match the config .* differ at \[1\]\.linear\.b"),
        (params, (), "state do not match the config .* at the root: expected a tuple of 1, but got a tuple of 0"),
        (params, None, "state do not match the config .* at the root: expected a tuple of 1, but got None"),
        (params, wide, r"state\[0\]\.var does not match the config: expected float64\[5\], but got float64\[6\]"),
    ]


@pytest.mark.parametrize(("params", "state", "message"), misfits(), ids=range(len(misfits())))
def test_params_and_state_that_do_not_fit_are_named(params: Any, state: Any, message: str) -> None:
    config, x = small(), np.zeros((6, 4))
    for f in (
        lambda: fnet.loss_and_grads(config, params, state, x, [0] * 6),
        lambda: fnet.forward(config, params, state, x),
        lambda: fnet.forward(config, params, state, x, train=True),
        lambda: fnet.predict(config, params, state, x),
        lambda: fnet.fold_batch_norm(config, params, state),
    ):
        with pytest.raises(ValueError, match=message):
            f()


def test_the_same_key_gives_the_same_parameters() -> None:
    assert_trees_equal(fnet.init(KEY, small()), fnet.init(KEY.copy(), small()))
