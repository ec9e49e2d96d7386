"""The architecture of a network and its parameters: configuration, initialization, shapes.

The functions of the network are in `fnet.mlp`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fnet import nn, random, tree
from fnet.nn import Array, BatchNorm, BatchNormState, Linear
from fnet.random import Key
from fnet.tree import PyTree

__all__ = [
    "INITIALIZERS",
    "LOSSES",
    "Layer",
    "MLPConfig",
    "Params",
    "State",
    "check_like",
    "check_params",
    "init",
    "num_params",
    "param_shapes",
]

INITIALIZERS = ("lecun_normal", "he_normal", "he_uniform", "glorot_uniform", "torch_uniform")
LOSSES = ("cross_entropy", "squared_error", "huber", "pinball")
DTYPES = ("float32", "float64")


@tree.container
class Layer(NamedTuple):
    """Parameters of one layer: a linear map and, on hidden layers with batch norm, its scale and bias."""

    linear: Linear
    norm: BatchNorm | None


Params: TypeAlias = tuple[Layer, ...]
State: TypeAlias = tuple[BatchNormState, ...]  # one for each batch norm


@dataclass(frozen=True)
class MLPConfig:
    """The architecture, and what its outputs mean. The defaults are Chen & Wu's best model (Table I).

    >>> MLPConfig(sizes=(64, 32, 10), activation="gelu").hidden_sizes
    (32,)

    Args:
        sizes: the number of features, the widths of the hidden layers, and the number of outputs: classes, targets or
            quantiles, depending on the loss. Without hidden layers, the model is softmax or linear regression.
        activation: the activation of the hidden layers, one of `fnet.nn.ACTIVATIONS`.
        batch_norm: whether each hidden layer has a batch norm.
        dropout: the fraction of the units of each hidden layer that is dropped in training.
        input_dropout: the fraction of the features that is dropped in training.
        initializer: the distribution of the initial weights; see `init`.
        dtype: the dtype of parameters and arithmetic, "float32" or "float64".
        loss: "cross_entropy" for classification; "squared_error", "huber" or, for quantiles, "pinball" for regression.
        huber_delta: where the Huber loss becomes linear; only with `loss="huber"`.
        quantiles: increasing levels in (0, 1), one per output; only with `loss="pinball"`.

    Raises:
        TypeError, ValueError: a value is not allowed; the message says what is.
    """

    sizes: tuple[int, ...] = (128, 256, 256, 256, 10)
    activation: str = "relu"
    batch_norm: bool = True
    dropout: float = 0.3
    input_dropout: float = 0.0
    initializer: str = "torch_uniform"
    dtype: str = "float32"
    loss: str = "cross_entropy"
    huber_delta: float = 1.0
    quantiles: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, allowed in (
            ("activation", tuple(nn.ACTIVATIONS)),
            ("initializer", INITIALIZERS),
            ("dtype", DTYPES),
            ("batch_norm", (True, False)),
            ("loss", LOSSES),
        ):
            if getattr(self, name) not in allowed:
                choices = ", ".join(str(choice) for choice in allowed)
                raise ValueError(f"{name} must be one of {choices}; got {getattr(self, name)!r}")
        # NumPy scalars and dtypes are converted to Python types, which JSON can represent.
        self._set(sizes=_checked_sizes(self.sizes, 2 if self.loss == "cross_entropy" else 1))
        self._set(batch_norm=bool(self.batch_norm), dtype=str(self.dtype))
        for name in ("dropout", "input_dropout"):
            rate = getattr(self, name)
            if not isinstance(rate, Real) or not 0 <= float(rate) < 1:
                raise ValueError(f"{name} is the fraction that is dropped and must be in [0, 1); got {rate!r}")
            self._set(**{name: float(rate)})
        if not isinstance(self.huber_delta, Real) or not 0 < float(self.huber_delta) < math.inf:
            raise ValueError(f"huber_delta must be a positive number; got {self.huber_delta!r}")
        self._set(huber_delta=float(self.huber_delta), quantiles=tuple(float(q) for q in self.quantiles))
        if self.loss != "huber" and self.huber_delta != 1.0:
            raise ValueError(f'huber_delta applies only to loss="huber", but the loss is {self.loss!r}')
        if self.loss != "pinball":
            if self.quantiles:
                raise ValueError(f'quantiles apply only to loss="pinball", but the loss is {self.loss!r}')
        elif len(self.quantiles) != self.num_outputs or not _increasing((0.0, *self.quantiles, 1.0)):
            raise ValueError(
                f"quantiles must be {self.num_outputs} increasing numbers in (0, 1), one for each output of "
                f"sizes={self.sizes}; got {self.quantiles}"
            )

    def _set(self, **fields: object) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """The widths of the hidden layers."""
        return self.sizes[1:-1]

    @property
    def num_outputs(self) -> int:
        """The number of classes, targets or quantiles."""
        return self.sizes[-1]

    @property
    def num_targets(self) -> int:
        """The number of regression targets: one for quantiles, otherwise one per output."""
        return 1 if self.loss == "pinball" else self.num_outputs


def _checked_sizes(sizes: Any, least_outputs: int) -> tuple[int, ...]:
    example = "features, any hidden layers, outputs, such as (128, 256, 10)"
    try:
        checked: tuple[int, ...] = tuple(size.__index__() for size in sizes)
    except (AttributeError, TypeError):
        raise TypeError(f"sizes must be integers: {example}; got {sizes!r}") from None
    if len(checked) < 2 or min(checked) < 1 or checked[-1] < least_outputs:
        raise ValueError(f"sizes must be positive, with at least {least_outputs} outputs: {example}; got {checked}")
    return checked


def _increasing(numbers: tuple[float, ...]) -> bool:
    return all(a < b for a, b in itertools.pairwise(numbers))


# Parameters -----------------------------------------------------------------------------------------------------------


def init(key: Key, config: MLPConfig) -> tuple[Params, State]:
    """Random parameters and the initial batch-norm state (mean 0, variance 1).

    The standard deviation of the weights depends on the numbers of inputs and outputs of the layer:
    `lecun_normal` sqrt(1 / in) (LeCun et al. 1998), `he_normal` and `he_uniform` sqrt(2 / in) (He et al. 2015),
    `glorot_uniform` sqrt(2 / (in + out)) (Glorot & Bengio 2010), `torch_uniform` sqrt(1 / (3 in)), which is PyTorch's
    default and also draws the biases of linear layers. Other biases are 0, and the scales of batch norms are 1. The
    default is the initializer with the lowest loss on validation rows of the digits.

    >>> params, state = init(random.key(0), MLPConfig(sizes=(4, 8, 3)))
    >>> params[0].linear.w.shape, len(state)
    ((4, 8), 1)
    """
    shapes, state = param_shapes(config)
    params: list[Layer] = []
    for layer_key, (linear, norm) in zip(random.split(key, len(shapes)), shapes, strict=True):
        w_key, b_key = random.split(layer_key)
        w = _init_weights(w_key, config.initializer, linear.w)
        b = linear.b
        if b is not None:
            limit = math.sqrt(1 / len(w)) if config.initializer == "torch_uniform" else 0.0
            b = limit * random.uniform(b_key, b.shape, config.dtype, -1)
        params.append(Layer(Linear(w, b), norm and BatchNorm(np.ones_like(norm.scale), np.zeros_like(norm.bias))))
    state = tuple(BatchNormState(np.zeros_like(mean), np.ones_like(var)) for mean, var in state)
    return tree.freeze((tuple(params), state))


def _init_weights(key: Key, initializer: str, w: Array) -> Array:
    fan_in, fan_out = w.shape
    match initializer:
        case "lecun_normal":
            return math.sqrt(1 / fan_in) * random.normal(key, w.shape, w.dtype)
        case "he_normal":
            return math.sqrt(2 / fan_in) * random.normal(key, w.shape, w.dtype)
        case "he_uniform":
            limit = math.sqrt(6 / fan_in)
        case "glorot_uniform":
            limit = math.sqrt(6 / (fan_in + fan_out))
        case _:  # torch_uniform
            limit = math.sqrt(1 / fan_in)
    return random.uniform(key, w.shape, w.dtype, -limit, limit)


def param_shapes(config: MLPConfig) -> tuple[Params, State]:
    """Params and state with the shapes and dtypes of `init`, without its memory, like `jax.eval_shape`.

    >>> param_shapes(MLPConfig(sizes=(4, 8, 3)))[0][1].linear.w.shape
    (8, 3)

    Raises:
        TypeError: the argument is not an MLPConfig.
    """
    if not isinstance(config, MLPConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"config must be an MLPConfig, not {type(config).__name__}; check the order of the arguments")

    def zeros(*shape: int) -> Array:
        return np.broadcast_to(np.zeros((), config.dtype), shape)

    last = len(config.sizes) - 2
    params = tuple(
        Layer(Linear(zeros(fan_in, fan_out), None), BatchNorm(zeros(fan_out), zeros(fan_out)))
        if config.batch_norm and i < last
        else Layer(Linear(zeros(fan_in, fan_out), zeros(fan_out)), None)
        for i, (fan_in, fan_out) in enumerate(zip(config.sizes[:-1], config.sizes[1:], strict=True))
    )
    widths = config.hidden_sizes if config.batch_norm else ()
    return params, tuple(BatchNormState(zeros(width), zeros(width)) for width in widths)


def num_params(config: MLPConfig) -> int:
    """The number of parameters.

    >>> num_params(MLPConfig(sizes=(4, 8, 3)))
    75

    Raises:
        TypeError: the argument is not an MLPConfig.
    """
    return sum(leaf.size for leaf in tree.leaves(param_shapes(config)[0]))


def check_params(config: MLPConfig, params: Params, state: State) -> None:
    """Raise a ValueError that names the path and both shapes if params or state do not match the config."""
    for name, expected, actual in zip(("params", "state"), param_shapes(config), (params, state), strict=True):
        check_like(name, expected, actual, config)


def check_like(name: str, expected: PyTree, actual: PyTree, config: MLPConfig) -> None:
    """Raise a ValueError that names the path and both shapes if a tree differs from the one that is expected."""
    try:
        pairs = tree.zip_leaves(expected, actual)
    except ValueError as error:
        raise ValueError(f"{name} do not match the config {config}: {error}") from None
    for i, (want, leaf) in enumerate(pairs):
        if getattr(leaf, "shape", None) != want.shape or leaf.dtype != want.dtype:
            path, _ = tree.flatten_with_path(expected)[0][i]
            leaf = np.asarray(leaf)
            raise ValueError(
                f"{name}{path} does not match the config: expected {want.dtype}{list(want.shape)}, "
                f"but got {leaf.dtype}{list(leaf.shape)}"
            )
