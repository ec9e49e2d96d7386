"""The architecture of a network and its parameters: configuration, initialization, and the checks that all fit.

Each hidden layer is linear, batch norm, activation, dropout; the last layer is linear and gives the logits. What the
network computes is in `fnet.mlp`, which has all these names too.
"""

import itertools
import math
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fnet import _memory, nn, tree
from fnet import random as frandom
from fnet.nn import Array, BatchNorm, BatchNormState, Linear
from fnet.random import Key

INITIALIZERS = ("lecun_normal", "he_normal", "he_uniform", "glorot_uniform", "torch_uniform")
DTYPES = ("float32", "float64")


class Layer(NamedTuple):
    """Parameters of one layer: a linear map and, on hidden layers with batch norm, its scale and bias."""

    linear: Linear
    norm: BatchNorm | None


class Packed(NamedTuple):
    """Parameters, or anything of their structure, in two flat arrays: a pytree of few and large leaves.

    A call of NumPy costs as much as the arithmetic on a thousand elements and most leaves are smaller, so the optimizer
    takes three quarters of the time for packed parameters.
    """

    weights: Array  # all weight matrices, in the order of the layers
    rest: Array  # biases and scales, likewise


Params: TypeAlias = tuple[Layer, ...]
State: TypeAlias = tuple[BatchNormState, ...]  # one for each batch norm


@dataclass(frozen=True)
class MLPConfig:
    """The architecture. Its defaults are the report's best model (Table I).

    >>> MLPConfig(sizes=(64, 32, 10), activation="gelu").hidden_sizes
    (32,)

    Raises:
        TypeError, ValueError: a value that is not allowed; says what is.
    """

    sizes: tuple[int, ...] = (128, 256, 256, 256, 10)  # features, hidden layers, classes
    activation: str = "relu"
    batch_norm: bool = True
    dropout: float = 0.3  # the share of hidden units that is dropped
    input_dropout: float = 0.0  # the share of features that is dropped
    initializer: str = "torch_uniform"  # see `init`
    dtype: str = "float32"

    def __post_init__(self) -> None:
        try:
            sizes = tuple(size.__index__() for size in self.sizes)
        except (AttributeError, TypeError):
            raise TypeError(
                "sizes must be integers: features, any hidden layers, classes, such as "
                f"(128, 256, 10); got {self.sizes!r}"
            ) from None
        if len(sizes) < 2 or min(sizes) < 1 or sizes[-1] < 2:
            raise ValueError(
                "sizes must be positive: features, any hidden layers, 2 classes or more, such as "
                f"(128, 256, 10); got {sizes}"
            )
        object.__setattr__(self, "sizes", sizes)
        for name, allowed in (
            ("activation", nn.ACTIVATION_NAMES),
            ("initializer", INITIALIZERS),
            ("dtype", DTYPES),
            ("batch_norm", (True, False)),
        ):
            if getattr(self, name) not in allowed:
                choices = ", ".join(str(choice) for choice in allowed)
                raise ValueError(f"{name} must be one of {choices}; got {getattr(self, name)!r}")
        object.__setattr__(self, "batch_norm", bool(self.batch_norm))  # JSON holds no scalars of NumPy
        object.__setattr__(self, "dtype", str(self.dtype))  # nor dtypes
        for name in ("dropout", "input_dropout"):
            rate = getattr(self, name)
            if not isinstance(rate, Real) or not 0 <= float(rate) < 1:
                raise ValueError(f"{name} is the share that is dropped and must be in [0, 1); got {rate!r}")
            object.__setattr__(self, name, float(rate))

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """The widths of the hidden layers."""
        return self.sizes[1:-1]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self.sizes[-1]


def init(key: Key, config: MLPConfig) -> tuple[Params, State]:
    """Random parameters, and the batch-norm state of a network that has seen nothing (mean 0, variance 1).

    Weights are drawn with these standard deviations, in terms of the number of inputs and outputs of the layer:
    `lecun_normal` sqrt(1 / in) (LeCun et al. 1998), `he_normal` and `he_uniform` sqrt(2 / in) (He et al. 2015),
    `glorot_uniform` sqrt(2 / (in + out)) (Glorot & Bengio 2010), `torch_uniform` sqrt(1 / (3 in)), which is PyTorch's
    default and draws the biases of linear layers too. Other biases are 0, and the scales of batch norms 1. Here it is
    the default as well: of the five it had the lowest loss on validation rows of the digits.

    >>> params, state = init(frandom.key(0), MLPConfig(sizes=(4, 8, 3)))
    >>> params[0].linear.w.shape, len(state)
    ((4, 8), 1)
    """
    params, state = _empty_params(config), _empty_state(config)
    for i, (layer_key, layer) in enumerate(zip(frandom.split(key, len(params)), params, strict=True)):
        w_key, b_key = frandom.split(layer_key)
        layer.linear.w[...] = _draw_weights(w_key, config.initializer, layer.linear.w)
        if layer.linear.b is not None:
            limit = math.sqrt(1 / config.sizes[i]) if config.initializer == "torch_uniform" else 0.0
            layer.linear.b[...] = limit * frandom.uniform(b_key, layer.linear.b.shape, config.dtype, -1)
        if layer.norm is not None:
            layer.norm.scale[...] = 1
            layer.norm.bias[...] = 0
    for mean, var in state:
        mean[...] = 0
        var[...] = 1
    return tree.freeze(params), tree.freeze(state)


def _draw_weights(key: Key, initializer: str, w: Array) -> Array:
    fan_in, fan_out = w.shape
    match initializer:
        case "lecun_normal":
            return math.sqrt(1 / fan_in) * frandom.normal(key, w.shape, w.dtype)
        case "he_normal":
            return math.sqrt(2 / fan_in) * frandom.normal(key, w.shape, w.dtype)
        case "he_uniform":
            limit = math.sqrt(6 / fan_in)
        case "glorot_uniform":
            limit = math.sqrt(6 / (fan_in + fan_out))
        case _:  # torch_uniform
            limit = math.sqrt(1 / fan_in)
    return frandom.uniform(key, w.shape, w.dtype, -limit, limit)


def _shapes(config: MLPConfig) -> list[tuple[int, int]]:
    """`[in, out]` of each layer."""
    return list(itertools.pairwise(config.sizes))


def _has_norm(config: MLPConfig, layer: int) -> bool:
    return config.batch_norm and layer < len(config.hidden_sizes)


def _empty_params(config: MLPConfig) -> Params:
    """Parameters of the right shapes, with anything in them."""
    return unpack(config, empty_packed(config))


def empty_packed(config: MLPConfig) -> Packed:
    """Packed parameters of the right sizes, with anything in them."""
    num_weights = sum(math.prod(shape) for shape in _shapes(config))
    num_rest = num_params(config) - num_weights
    return Packed(_memory.empty((num_weights,), config.dtype), _memory.empty((num_rest,), config.dtype))


def _empty_state(config: MLPConfig) -> State:
    widths = config.hidden_sizes if config.batch_norm else ()
    return tuple(BatchNormState(np.empty(width, config.dtype), np.empty(width, config.dtype)) for width in widths)


def num_params(config: MLPConfig) -> int:
    """The number of parameters.

    >>> num_params(MLPConfig(sizes=(4, 8, 3)))
    75
    """
    weights = sum(a * b for a, b in zip(config.sizes[:-1], config.sizes[1:], strict=True))
    per_hidden = 2 if config.batch_norm else 1
    return weights + per_hidden * sum(config.hidden_sizes) + config.num_classes


def pack(params: Params) -> Packed:
    """The parameters in two flat arrays, copied.

    >>> params, _ = init(frandom.key(0), MLPConfig(sizes=(4, 8, 3)))
    >>> pack(params).weights.shape, pack(params).rest.shape
    ((56,), (19,))
    """
    leaves = tree.leaves(params)
    return Packed(
        *(
            tree.freeze(np.concatenate([leaf.reshape(-1) for leaf in leaves if (leaf.ndim > 1) == matrices]))
            for matrices in (True, False)
        )
    )


def unpack(config: MLPConfig, packed: Packed) -> Params:
    """The parameters that `pack` has packed, as views of the two arrays."""
    weights, rest = packed
    params: list[Layer] = []
    for i, shape in enumerate(_shapes(config)):
        size, width = math.prod(shape), shape[1]
        w, weights = weights[:size].reshape(shape), weights[size:]
        first, rest = rest[:width], rest[width:]
        if _has_norm(config, i):
            second, rest = rest[:width], rest[width:]
            params.append(Layer(Linear(w, None), BatchNorm(first, second)))
        else:
            params.append(Layer(Linear(w, first), None))
    return tuple(params)


# Checks at the door ---------------------------------------------------------------------------------------------------


def check_features(config: MLPConfig, x: npt.ArrayLike, *, first_row: int = 0) -> Array:
    """The features in the dtype of the config, if they are finite numbers `[batch, features]`.

    `first_row` is the number of the first, for the message, where x is a part of an array.

    Raises:
        TypeError, ValueError: they are not; says where.
    """
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise TypeError(f"x must be numbers, but got dtype {x.dtype}")
    if x.ndim != 2 or x.shape[1] != config.sizes[0]:
        raise ValueError(f"x must have shape [batch, {config.sizes[0]}], but got {list(x.shape)}")
    if len(x) == 0:
        raise ValueError("x has no rows")
    if x.dtype != config.dtype:
        with np.errstate(over="ignore"):  # too large for the dtype: not finite
            x = x.astype(config.dtype)
    finite = np.isfinite(x)
    if not np.logical_and.reduce(finite, axis=None):
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(f"x must be finite, but x[{first_row + row}, {column}] is {x[row, column]}")
    return x


def check_params(config: MLPConfig, params: Params, state: State) -> None:
    """Raise a ValueError that names the path and both shapes where params or state do not fit the config."""
    if _fits(config, params, state):
        return
    expected_params, expected_state = _empty_params(config), _empty_state(config)
    for name, expected, got in (("params", expected_params, params), ("state", expected_state, state)):
        try:
            pairs = tree.zip_leaves(expected, got)
        except ValueError as error:
            raise ValueError(f"{name} do not fit the config {config}: {error}") from None
        paths = [path for path, _ in tree.flatten_with_path(expected)[0]]
        for path, (want, leaf) in zip(paths, pairs, strict=True):
            array = np.asarray(leaf)
            if array.shape != want.shape or array.dtype != want.dtype:
                raise ValueError(
                    f"{name}{path} does not fit the config: expected {want.dtype}{list(want.shape)}, "
                    f"but got {array.dtype}{list(array.shape)}"
                )


def _fits(config: MLPConfig, params: Params, state: State) -> bool:
    """Whether params and state fit, in a few microseconds: this runs in every training step."""
    dtype = np.dtype(config.dtype)
    hidden = config.hidden_sizes if config.batch_norm else ()
    try:
        for i, ((linear, norm), shape) in enumerate(zip(params, _shapes(config), strict=True)):
            if linear.w.shape != shape or linear.w.dtype != dtype:
                return False
            if (norm is not None) != _has_norm(config, i) or (linear.b is None) != (norm is not None):
                return False
            vectors = (linear.b,) if norm is None else norm
            for vector in vectors:
                if vector is None or vector.shape != shape[1:] or vector.dtype != dtype:
                    return False
        for (mean, var), width in zip(state, hidden, strict=True):
            if not (mean.shape == var.shape == (width,) and mean.dtype == var.dtype == dtype):
                return False
    except (AttributeError, TypeError, ValueError):
        return False
    return True
