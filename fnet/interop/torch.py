"""PyTorch: conversion of parameters to and from the state dict of an `nn.Sequential`.

The modules of the `nn.Sequential`, in order, are::

    Dropout                                         if input_dropout > 0
    Linear, BatchNorm1d, activation, Dropout        for each hidden layer; BatchNorm1d if batch_norm (its Linear has no
                                                    bias), Dropout if dropout > 0
    Linear

The activation "identity" is `nn.Identity()`, and "gelu" is `nn.GELU(approximate="tanh")`. The names of arrays begin
with the position of their module, and weights are `[out, in]`, as in PyTorch. Only `sequential` needs PyTorch.

This is the network only. Its input is standardized features, and the outputs of a regression are scaled as by
`fnet.data.scale_targets`; `fnet.data.unscale_outputs(model.scale, …)` is the inverse.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fnet import nn, tree
from fnet.nn import Array, BatchNorm, BatchNormState, Linear
from fnet.params import Layer, MLPConfig, Params, State, check_params, param_shapes

__all__ = ["counter_name", "from_torch_state_dict", "sequential", "state_dict_names", "to_torch_state_dict"]

if TYPE_CHECKING:
    import torch


def to_torch_state_dict(config: MLPConfig, params: Params, state: State) -> dict[str, Array]:
    """The arrays for `sequential(config).load_state_dict`, to be converted with `torch.as_tensor`.

    >>> config = MLPConfig(sizes=(4, 8, 3), batch_norm=False)
    >>> to_torch_state_dict(config, *param_shapes(config))["0.weight"].shape
    (8, 4)

    Returns:
        New arrays, C-contiguous and writable. A linear layer has `weight` `[out, in]` and `bias` `[out]`. A batch norm
        has `weight`, `bias`, `running_mean`, `running_var` `[features]`, and `num_batches_tracked`, which is 0: fnet
        does not count batches, and PyTorch does not use the count with a fixed momentum.

    Raises:
        ValueError: params or state do not match the config.
    """
    check_params(config, params, state)
    out: dict[str, Array] = {}
    for name, leaf in tree.zip_leaves(state_dict_names(config), (params, state)):
        out[name] = np.array(leaf.T, order="C")
        if name.endswith("running_var"):
            out[counter_name(name)] = np.zeros((), np.int64)
    return out


def from_torch_state_dict(config: MLPConfig, state_dict: Mapping[str, Any]) -> tuple[Params, State]:
    """The parameters and the batch-norm state in a state dict: the inverse of `to_torch_state_dict`.

    Args:
        config: the architecture, which also gives the dtype of the result.
        state_dict: the state dict of a module such as `sequential(config)`, with tensors on any device or NumPy arrays.
            `num_batches_tracked` is ignored.

    Raises:
        TypeError: an array does not consist of real numbers.
        ValueError: arrays are missing, unexpected, of another shape, or not finite; the message names them.
    """
    like = param_shapes(config)
    names = state_dict_names(config)
    needed = set(tree.leaves(names))
    ignored = {counter_name(name) for name in needed if name.endswith("running_var")}
    missing, unexpected = sorted(needed - set(state_dict)), sorted(set(state_dict) - needed - ignored)
    if missing or unexpected:
        raise ValueError(
            f"the state dict does not match {config}: missing {missing or 'none'}, unexpected {unexpected or 'none'}"
        )

    def read(name: str, leaf: Array) -> Array:
        array = _to_array(state_dict[name])
        if array.dtype.kind not in "fiu":
            raise TypeError(f"{name} must be real numbers, but is {array.dtype}")
        if array.shape != leaf.T.shape:
            raise ValueError(f"{name} must have shape {list(leaf.T.shape)}, but has {list(array.shape)}")
        with np.errstate(over="ignore"):  # infinity in the new dtype is checked below
            array = np.array(array.T, leaf.dtype, order="C")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite in {leaf.dtype}")
        return array

    return tree.freeze(tree.map(read, names, like))


def sequential(config: MLPConfig) -> torch.nn.Sequential:
    """The network as a PyTorch module, with random parameters from PyTorch.

    With a state dict from `to_torch_state_dict`, it computes the logits of `fnet.predict_logits` in evaluation mode and
    trains like the network here; the momentum 0.1 in PyTorch corresponds to 0.9 in `fnet.nn`.

    Raises:
        ImportError: PyTorch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise ImportError("sequential needs torch: python -m pip install torch") from None

    activation = {
        "relu": torch.nn.ReLU,
        "leaky_relu": torch.nn.LeakyReLU,
        "tanh": torch.nn.Tanh,
        "sigmoid": torch.nn.Sigmoid,
        "gelu": lambda: torch.nn.GELU(approximate="tanh"),
        "silu": torch.nn.SiLU,
        "elu": torch.nn.ELU,
        "selu": torch.nn.SELU,
        "identity": torch.nn.Identity,
    }[config.activation]
    dtype = getattr(torch, config.dtype)
    modules: list[torch.nn.Module] = [torch.nn.Dropout(config.input_dropout)] if config.input_dropout else []
    for fan_in, fan_out in itertools.pairwise(config.sizes[:-1]):
        modules.append(torch.nn.Linear(fan_in, fan_out, bias=not config.batch_norm, dtype=dtype))
        if config.batch_norm:
            modules.append(torch.nn.BatchNorm1d(fan_out, nn.BATCH_NORM_EPS, 1 - nn.BATCH_NORM_MOMENTUM, dtype=dtype))
        modules.append(activation())
        if config.dropout:
            modules.append(torch.nn.Dropout(config.dropout))
    modules.append(torch.nn.Linear(config.sizes[-2], config.sizes[-1], dtype=dtype))
    return torch.nn.Sequential(*modules)


def state_dict_names(config: MLPConfig) -> tuple[Any, Any]:
    """`(params, state)`, with each array replaced by its name in the state dict."""
    first, stride = bool(config.input_dropout), 2 + bool(config.batch_norm) + bool(config.dropout)
    params: list[Layer] = []
    state: list[BatchNormState] = []
    for layer in range(len(config.sizes) - 1):
        linear, norm = first + layer * stride, first + layer * stride + 1
        if config.batch_norm and layer < len(config.hidden_sizes):
            scale_and_bias = BatchNorm(_at(norm, "weight"), _at(norm, "bias"))
            params.append(Layer(Linear(_at(linear, "weight"), None), scale_and_bias))
            state.append(BatchNormState(_at(norm, "running_mean"), _at(norm, "running_var")))
        else:
            params.append(Layer(Linear(_at(linear, "weight"), _at(linear, "bias")), None))
    return tuple(params), tuple(state)


def _at(position: int, name: str) -> Any:
    return f"{position}.{name}"


def counter_name(name: str) -> str:
    """The name of the counter that PyTorch keeps beside a running variance."""
    return name.replace("running_var", "num_batches_tracked")


def _to_array(value: Any) -> Array:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value if value.is_complex() else value.double()  # exact for all floats; NumPy has no bfloat16
    return np.asarray(value)
