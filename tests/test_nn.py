"""The layers: each `_fwd` against its equation, each `_bwd` against finite differences."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import check_purity, each_dtype

from fnet import nn, random, tree
from fnet.nn import BatchNorm, BatchNormState, Linear
from fnet.testing import check_grads

# Written independently of fnet, as in the papers; for |x| whose exponential is finite.
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
each_activation = pytest.mark.parametrize("name", nn.ACTIVATIONS)


def draw(*shape: int, seed: int = 0, dtype: str = "float64") -> Any:
    """Read-only normal numbers, none nearer than 1e-3 to 0, where some activations have a kink."""
    x = random.normal(random.key(seed), shape, dtype)
    x += np.copysign(1e-3, x).astype(dtype)
    return tree.freeze(x)


def check_vjp(fwd: Callable[[Any], tuple[Any, Any]], bwd: Callable[[Any, Any], Any], inputs: Any) -> None:
    """Check `bwd` through the scalar `sum(cotangent * out)` with a random cotangent."""
    cotangent = draw(*fwd(inputs)[0].shape, seed=99)

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


# Batch norm


def batch_norm_inputs(rows: int = 6, *, dtype: str = "float64") -> tuple[BatchNorm, BatchNormState, Any]:
    params = BatchNorm(draw(3, dtype=dtype), draw(3, seed=1, dtype=dtype))
    state = BatchNormState(draw(3, seed=2, dtype=dtype), np.exp(draw(3, seed=3, dtype=dtype)))
    return tree.freeze((params, state, 2 + 3 * draw(rows, 3, seed=4, dtype=dtype)))


def test_batch_norm_normalizes_with_the_biased_variance() -> None:
    params, state, x = batch_norm_inputs()
    (y, _), _ = nn.batch_norm_fwd(params, state, x)
    expected = (x - np.mean(x, 0)) / np.sqrt(np.var(x, 0, ddof=0) + 1e-5) * params.scale + params.bias
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)
    unit = BatchNorm(np.ones(3), np.zeros(3))
    (y, _), _ = nn.batch_norm_fwd(unit, state, x)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-14)
    np.testing.assert_allclose(y.var(0), 1, rtol=1e-5)


def test_running_statistics_have_the_unbiased_variance_and_momentum_0_9() -> None:
    params, state, x = batch_norm_inputs()
    (_, new), _ = nn.batch_norm_fwd(params, state, x)
    np.testing.assert_allclose(new.mean, 0.9 * state.mean + 0.1 * np.mean(x, 0), rtol=1e-12)
    np.testing.assert_allclose(new.var, 0.9 * state.var + 0.1 * np.var(x, 0, ddof=1), rtol=1e-12)


def test_batch_norm_computes_the_variance_in_two_passes() -> None:
    params, state, x = batch_norm_inputs(200, dtype="float32")
    far = (x * np.float32(0.01) + np.float32(1000)).astype(np.float32)
    (_, new), _ = nn.batch_norm_fwd(params, state._replace(var=np.zeros(3, np.float32)), far)
    np.testing.assert_allclose(new.var, 0.1 * np.var(far.astype(np.float64), 0, ddof=1), rtol=2e-3)


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


# Activations


@each_activation
def test_activation_is_its_equation(name: str) -> None:
    x = np.append(np.linspace(-20, 20, 401), draw(50))
    np.testing.assert_allclose(nn.activation_fwd(name, x)[0], EQUATIONS[name](x), rtol=1e-12, atol=1e-14)


@each_activation
def test_activation_gradient(name: str) -> None:
    x = np.concatenate([draw(5, 8).ravel(), [-6.0, -1e-3, 1e-3, 6.0]])
    check_vjp(lambda x: nn.activation_fwd(name, x), nn.activation_bwd, x)


@each_activation
@each_dtype
def test_activation_of_extreme_numbers(name: str, dtype: str) -> None:
    x = np.array([-1e10, -200.0, 0.0, 200.0, 1e10], dtype)
    y, slope = nn.activation_fwd(name, x)
    limits = {"tanh": (-1, 1), "sigmoid": (0, 1), "elu": (-1, 1e10), "selu": (-1.7580993, 1.05070099e10)}
    low, high = limits.get(name, (0, 1e10))
    low = {"leaky_relu": -1e8, "identity": -1e10}.get(name, low)
    np.testing.assert_allclose(y[[0, -1]], np.array([low, high]), rtol=1e-6)
    assert np.isfinite(slope).all()


# Noise


@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999999])
def test_dropout_keeps_the_mean_exactly(rate: float) -> None:
    bits = np.arange(65536, dtype=np.uint16)  # all values of 16 bits once: means over them are exact expectations
    y, mask = nn.dropout_fwd(bits, rate, np.full(65536, 2.0))
    assert y.mean() == pytest.approx(2, rel=1e-12)
    assert (y == 0).mean() == pytest.approx(rate, abs=1 / 65536)
    np.testing.assert_array_equal(y, 2 * mask)
    assert len(np.unique(mask)) == (1 if rate in (0.0, 1e-6) else 2)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_of_random_bits(rate: float) -> None:
    n = 100_000
    y, _ = nn.dropout_fwd(random.bits(random.key(0), (n,), np.uint16), rate, np.ones(n))
    sigma = (rate * (1 - rate) / n) ** 0.5
    assert (y == 0).mean() == pytest.approx(rate, abs=3 * sigma)
    assert y.mean() == pytest.approx(1, abs=3 * sigma / (1 - rate))


def test_dropout_gradient() -> None:
    bits = random.bits(random.key(5), (4, 6), np.uint16)
    check_vjp(lambda x: nn.dropout_fwd(bits, 0.4, x), nn.dropout_bwd, draw(4, 6))


def test_gaussian_noise_has_its_standard_deviation() -> None:
    x = draw(1000, 10)
    noise = nn.gaussian_noise(random.key(1), x, 0.5) - x
    assert noise.mean() == pytest.approx(0, abs=4 * 0.5 / 100)
    assert noise.std() == pytest.approx(0.5, rel=0.03)
    assert abs(np.corrcoef(noise.ravel(), x.ravel())[0, 1]) < 0.04


# All layers


def layers(dtype: str) -> dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]]:
    linear = Linear(draw(3, 4, seed=7, dtype=dtype), draw(4, seed=8, dtype=dtype))
    norm, state, _ = batch_norm_inputs(dtype=dtype)
    bits = tree.freeze(random.bits(random.key(6), (6, 3), np.uint16))
    return {
        "linear": (lambda x: nn.linear_fwd(linear, x), nn.linear_bwd),
        "batch_norm": (lambda x: nn.batch_norm_fwd(norm, state, x), nn.batch_norm_bwd),
        "dropout": (lambda x: nn.dropout_fwd(bits, 0.4, x), nn.dropout_bwd),
        **{name: (lambda x, name=name: nn.activation_fwd(name, x), nn.activation_bwd) for name in nn.ACTIVATIONS},
    }


@each_dtype
@pytest.mark.parametrize("name", layers("float64"))
def test_layers_are_pure_and_keep_the_dtype(name: str, dtype: str) -> None:
    fwd, bwd = layers(dtype)[name]
    out, residuals = check_purity(fwd, draw(6, 3, dtype=dtype))
    y = out[0] if isinstance(out, tuple) else out
    cotangents = check_purity(bwd, residuals, draw(*y.shape, seed=1, dtype=dtype))
    assert {leaf.dtype.name for leaf in tree.leaves((out, cotangents))} == {dtype}


@each_dtype
def test_noise_and_inference_are_pure_and_keep_the_dtype(dtype: str) -> None:
    assert check_purity(nn.gaussian_noise, random.key(0), draw(6, 3, dtype=dtype), 0.1).dtype == dtype
    assert check_purity(nn.batch_norm_inference, *batch_norm_inputs(dtype=dtype)).dtype == dtype
