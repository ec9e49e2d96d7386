"""The layers: each `_fwd` against its equation, each `_bwd` against finite differences."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fnet import nn, tree
from fnet import random as frandom
from fnet.nn import BatchNorm, BatchNormState, Linear
from fnet.testing import assert_trees_close, assert_trees_equal, check_grads

# Written apart from fnet, as the papers have them; all for |x| that exp can stand.
EQUATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "tanh": lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1)),
    "identity": lambda x: x,
}
each_activation = pytest.mark.parametrize("name", nn.ACTIVATION_NAMES)


def draw(*shape: int, seed: int = 0, dtype: str = "float64") -> Any:
    """Read-only normal numbers, none nearer than 1e-3 to 0, where some activations have a kink."""
    x = frandom.normal(frandom.key(seed), shape, dtype)
    x += np.copysign(1e-3, x).astype(dtype)
    return tree.freeze(x)


def check_vjp(
    fwd: Callable[[Any], tuple[Any, Any]], bwd: Callable[[Any, Any], Any], inputs: Any, *, seed: int = 99
) -> None:
    """Check `bwd` through the scalar `sum(cotangent * out)` with a random cotangent."""
    cotangent = draw(*fwd(inputs)[0].shape, seed=seed)

    def f_and_grads(inputs: Any) -> tuple[float, Any]:
        out, residuals = fwd(inputs)
        return float((cotangent * out).sum()), bwd(residuals, cotangent)

    check_grads(f_and_grads, inputs, rtol=1e-6, atol=1e-7)


# Linear


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias: bool) -> None:
    params = Linear(draw(4, 3), draw(3, seed=1) if bias else None)
    x = draw(5, 4, seed=2)
    y = nn.linear_fwd(params, x)[0]
    products = np.array([[sum(x[i, k] * params.w[k, j] for k in range(4)) for j in range(3)] for i in range(5)])
    np.testing.assert_allclose(y, products if params.b is None else products + params.b, rtol=1e-12)
    check_vjp(lambda inputs: nn.linear_fwd(*inputs), nn.linear_bwd, (params, x))


def test_linear_without_the_cotangent_of_its_input() -> None:
    _, residuals = nn.linear_fwd(Linear(draw(4, 3), draw(3)), draw(5, 4))
    grads, dx = nn.linear_bwd(residuals, draw(5, 3), input_cotangent=False)
    assert dx is None
    assert_trees_equal(grads, nn.linear_bwd(residuals, draw(5, 3))[0])


# Batch norm


def batch_norm_inputs(rows: int = 6, *, dtype: str = "float64") -> tuple[BatchNorm, BatchNormState, Any]:
    params = BatchNorm(draw(3, dtype=dtype), draw(3, seed=1, dtype=dtype))
    state = BatchNormState(draw(3, seed=2, dtype=dtype), np.exp(draw(3, seed=3, dtype=dtype)))
    return params, state, 2 + 3 * draw(rows, 3, seed=4, dtype=dtype)


def test_batch_norm_normalizes_with_the_biased_variance() -> None:
    params, state, x = batch_norm_inputs()
    (y, _), _ = nn.batch_norm_fwd(params, state, x)
    expected = (x - np.mean(x, 0)) / np.sqrt(np.var(x, 0, ddof=0) + 1e-5) * params.scale + params.bias
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)
    unit = BatchNorm(np.ones(3), np.zeros(3))
    (y, _), _ = nn.batch_norm_fwd(unit, state, x)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-14)
    np.testing.assert_allclose(y.var(0), 1, rtol=1e-5)


def test_batch_norm_runs_the_unbiased_variance_with_momentum_0_9() -> None:
    params, state, x = batch_norm_inputs()
    (_, new), _ = nn.batch_norm_fwd(params, state, x)
    np.testing.assert_allclose(new.mean, 0.9 * state.mean + 0.1 * np.mean(x, 0), rtol=1e-12)
    np.testing.assert_allclose(new.var, 0.9 * state.var + 0.1 * np.var(x, 0, ddof=1), rtol=1e-12)


def test_batch_norm_takes_the_variance_in_two_passes() -> None:
    params, state, x = batch_norm_inputs(200, dtype="float32")
    far = (x * np.float32(0.01) + np.float32(1000)).astype(np.float32)
    (_, new), _ = nn.batch_norm_fwd(params, state._replace(var=np.zeros(3, np.float32)), far)
    expected = 0.1 * np.var(far.astype(np.float64), 0, ddof=1)
    np.testing.assert_allclose(new.var, expected, rtol=2e-3)
    # As much of it is left where two processes pool theirs.
    other = far[120:].astype(np.float64)
    sums = np.stack([other.sum(0), (other**2).sum(0)])
    (_, pooled), _ = nn.batch_norm_fwd(
        params, state._replace(var=np.zeros(3, np.float32)), far[:120], reduce=lambda a: a + sums, count=200
    )
    np.testing.assert_allclose(pooled.var, expected, rtol=2e-2)


@pytest.mark.parametrize("rows", [2, 6])
def test_batch_norm_gradient(rows: int) -> None:
    params, state, x = batch_norm_inputs(rows)

    def fwd(inputs: tuple[BatchNorm, Any]) -> tuple[Any, Any]:
        (y, _), residuals = nn.batch_norm_fwd(inputs[0], state, inputs[1])
        return y, residuals

    check_vjp(fwd, nn.batch_norm_bwd, (params, x))


def test_batch_norm_inference_uses_the_running_statistics() -> None:
    params, state, x = batch_norm_inputs()
    y = nn.batch_norm_inference(params, state, x)
    expected = params.scale * (x - state.mean) / np.sqrt(state.var + 1e-5) + params.bias
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(nn.batch_norm_inference(params, state, x[:1]), y[:1])


@pytest.mark.parametrize("rows", [0, 1])
def test_batch_norm_needs_two_examples(rows: int) -> None:
    params, state, x = batch_norm_inputs(rows)
    with pytest.raises(ValueError, match=f"batch norm needs a training batch of at least 2 examples, but got {rows}"):
        nn.batch_norm_fwd(params, state, x)


def test_batch_norm_pools_the_statistics_of_all_processes() -> None:
    params, state, x = batch_norm_inputs(7, dtype="float32")
    (y, new), residuals = nn.batch_norm_fwd(params, state, x)
    cotangent = draw(7, 3, dtype="float32")
    grads, dx = nn.batch_norm_bwd(residuals, cotangent)
    # The other process holds the last four rows; what it would send is worked out here.
    others = x[3:].astype(np.float64)
    sums = np.stack([others.sum(0), (others**2).sum(0)])
    (y_mine, new_mine), residuals = nn.batch_norm_fwd(params, state, x[:3], reduce=lambda a: a + sums, count=7)
    assert_trees_close((y_mine, new_mine), (y[:3], new), rtol=1e-5, atol=1e-6)
    x_hat = (x - x.mean(0)) / np.sqrt(x.var(0) + np.float32(1e-5))
    sums = np.stack([(cotangent * x_hat)[3:].sum(0), cotangent[3:].sum(0)])
    mine, dx_mine = nn.batch_norm_bwd(residuals, cotangent[:3], reduce=lambda a: a + sums)
    np.testing.assert_allclose(dx_mine, dx[:3], rtol=1e-4, atol=1e-6)
    assert_trees_close(mine, BatchNorm(grads.scale - sums[0], grads.bias - sums[1]), rtol=1e-4, atol=1e-5)
    assert {leaf.dtype.name for leaf in tree.leaves((y_mine, new_mine, mine, dx_mine))} == {"float32"}


# Activations


@each_activation
def test_activation_is_its_equation(name: str) -> None:
    x = np.append(np.linspace(-20, 20, 401), draw(50))
    np.testing.assert_allclose(nn.activation_fwd(name, x)[0], EQUATIONS[name](x), rtol=1e-12, atol=1e-14)
    in_place = x.copy()
    np.testing.assert_array_equal(
        nn.activation(name, in_place, out=in_place, scratch=np.empty_like(x)), nn.activation_fwd(name, x)[0]
    )


@each_activation
def test_activation_gradient(name: str) -> None:
    x = np.concatenate([draw(5, 8).ravel(), [-6.0, -1e-3, 1e-3, 6.0]])
    check_vjp(lambda x: nn.activation_fwd(name, x), nn.activation_bwd, x)


@each_activation
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activation_of_extreme_numbers(name: str, dtype: str) -> None:
    x = np.array([-1e10, -200.0, 0.0, 200.0, 1e10], dtype)
    y, slope = nn.activation_fwd(name, x)
    limits = {"tanh": (-1, 1), "sigmoid": (0, 1), "elu": (-1, 1e10), "selu": (-1.7580993, 1.05070099e10)}
    low, high = limits.get(name, (0, 1e10))
    low = {"leaky_relu": -1e8, "identity": -1e10}.get(name, low)
    np.testing.assert_allclose(y[[0, -1]], np.array([low, high]), rtol=1e-6)
    assert np.isfinite(nn.activation_bwd(slope, np.ones_like(x))).all()
    assert y.dtype == dtype


def test_unknown_activation() -> None:
    with pytest.raises((KeyError, ValueError), match="swish"):
        nn.activation_fwd("swish", np.ones(2))


# Dropout


def every_pattern() -> Any:
    """Each 16 random bits once, so that means over them are exact expectations."""
    return np.arange(65536, dtype=np.uint16)


@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999999])
def test_dropout_keeps_the_mean_exactly(rate: float) -> None:
    y, mask = nn.dropout_fwd(every_pattern(), rate, np.full(65536, 2.0))
    assert y.mean() == pytest.approx(2, rel=1e-12)
    assert (y == 0).mean() == pytest.approx(rate, abs=1 / 65536)
    np.testing.assert_array_equal(y, 2 * mask)
    assert len(np.unique(mask)) == (1 if rate in (0.0, 1e-6) else 2)


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
def test_dropout_drops_the_share_it_should(rate: float) -> None:
    n = 100_000
    bits = frandom.bits(frandom.key(0), (n,), np.uint16)
    y, _ = nn.dropout_fwd(bits, rate, np.ones(n))
    sigma = (rate * (1 - rate) / n) ** 0.5
    assert (y == 0).mean() == pytest.approx(rate, abs=3 * sigma)
    assert y.mean() == pytest.approx(1, abs=3 * sigma / (1 - rate))


def test_dropout_gradient() -> None:
    bits = frandom.bits(frandom.key(5), (4, 6), np.uint16)
    check_vjp(lambda x: nn.dropout_fwd(bits, 0.4, x), nn.dropout_bwd, draw(4, 6))


# What they share


def layers(dtype: str) -> dict[str, tuple[Callable[..., Any], Callable[..., Any], Any]]:
    """For each layer: the forward pass of x, with `out`; the backward pass; and what `out` is for each."""
    linear = Linear(draw(3, 4, seed=7, dtype=dtype), draw(4, seed=8, dtype=dtype))
    norm, state, _ = batch_norm_inputs(dtype=dtype)
    bits = frandom.bits(frandom.key(6), (6, 3), np.uint16)

    def empty(*shape: int) -> Any:
        return np.full(shape, np.nan, dtype)

    passes: dict[str, Any] = {
        "linear": (
            lambda x, **out: nn.linear_fwd(linear, x, **out),
            nn.linear_bwd,
            (lambda x: empty(6, 4), lambda dy: (Linear(empty(3, 4), empty(4)), empty(6, 3))),
        ),
        "batch_norm": (
            lambda x, **out: nn.batch_norm_fwd(norm, state, x, **out),
            nn.batch_norm_bwd,
            (lambda x: (empty(6, 3), x), lambda dy: (BatchNorm(empty(3), empty(3)), dy)),
        ),
        "dropout": (
            lambda x, **out: nn.dropout_fwd(bits, 0.4, x, **out),
            nn.dropout_bwd,
            (lambda x: (x, empty(6, 3)), lambda dy: dy),
        ),
    }
    for name in nn.ACTIVATION_NAMES:
        passes[name] = (
            lambda x, name=name, **out: nn.activation_fwd(name, x, **out),
            nn.activation_bwd,
            (lambda x: (x, empty(6, 3)), lambda dy: dy),
        )
    return passes


LAYERS = tuple(layers("float64"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_purity_dtypes_and_out(name: str, dtype: str) -> None:
    fwd, bwd, (out_of, cotangent_out_of) = layers(dtype)[name]
    x = draw(6, 3, dtype=dtype)
    before = x.copy()
    result, residuals = fwd(x)
    y = result[0] if isinstance(result, tuple) else result
    cotangent = draw(*y.shape, seed=1, dtype=dtype)
    cotangents = bwd(residuals, cotangent)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(cotangent, draw(*y.shape, seed=1, dtype=dtype))
    assert {leaf.dtype.name for leaf in tree.leaves((result, cotangents))} == {dtype}
    assert_trees_equal(bwd(residuals, cotangent), cotangents)  # the residuals are as they were, too
    # The same bits in memory that is given, be it that of the input.
    x, dy = x.copy(), cotangent.copy()
    result_out, residuals_out = fwd(x, out=out_of(x))
    assert_trees_equal(result_out, result)
    assert_trees_equal(bwd(residuals_out, dy, out=cotangent_out_of(dy)), cotangents)


def test_the_identity_is_written_to_out() -> None:
    x, out = np.ones(2), np.zeros(2)
    assert nn.activation("identity", x, out=out, scratch=np.zeros(2)) is out
    np.testing.assert_array_equal(out, x)
