"""Optimizers: pure functions of parameters, gradients and optimizer state, for any pytree of float arrays.

An optimizer is a `NamedTuple` for its state and two functions, `NAME_init` and `NAME_update`. To make it an option of
`TrainConfig`, enter it in `OPTIMIZERS` (`training/config.py`), call it in `training/step.py`, and write its kernel in
`engine/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from fnet import tree
from fnet.nn import Array
from fnet.schedules import Schedule
from fnet.tree import PyTree

__all__ = [
    "AdamState",
    "DecayMask",
    "LearningRate",
    "SGDState",
    "adam_init",
    "adam_update",
    "clip_by_global_norm",
    "ema_update",
    "sgd_init",
    "sgd_update",
]

LearningRate: TypeAlias = float | Schedule
DecayMask: TypeAlias = PyTree | Callable[[PyTree], PyTree]
P = TypeVar("P")


# Stochastic gradient descent ------------------------------------------------------------------------------------------


@tree.container
class SGDState(NamedTuple):
    """State of SGD with momentum."""

    count: np.int64  # pyright: ignore[reportIncompatibleMethodOverride]  # updates so far
    velocity: PyTree  # like params


def sgd_init(params: PyTree) -> SGDState:
    """The initial state: a velocity of 0."""
    return SGDState(np.int64(0), _zeros(params))


def sgd_update(
    params: P,
    grads: PyTree,
    opt_state: SGDState,
    *,
    learning_rate: LearningRate,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    decay_mask: DecayMask | None = None,
) -> tuple[P, SGDState]:
    """SGD with momentum and decoupled weight decay: Chen & Wu, Eq. (7)-(8) and (4).

    With learning rate eta, momentum gamma and weight decay alpha::

        v <- gamma v + eta g
        p <- p - v - eta alpha p              or, with Nesterov's momentum (Sutskever et al. 2013),
        p <- p - (gamma v + eta g) - eta alpha p

    Args:
        params, grads: trees with the same structure.
        opt_state: from `sgd_init` or the previous update.
        learning_rate: a number, or a schedule, which is evaluated at the count of the given `opt_state`.
        decay_mask: which leaves decay: a tree of bools or a function of params that returns one; None means all.

    Raises:
        ValueError: a hyperparameter is out of range, or the trees differ.
    """
    eta = _learning_rate(learning_rate, opt_state.count)
    gamma, alpha = _in_unit("momentum", momentum), _not_negative("weight_decay", weight_decay)
    decays = _decays(params, decay_mask)

    def new_velocity(v: Array, g: Array) -> Array:
        return gamma * v + eta * g

    def new_param(p: Array, v: Array, g: Array, decays: bool) -> Array:
        step = gamma * v + eta * g if nesterov else v
        return p - step - eta * alpha * p if alpha and decays else p - step

    _check_trees(params, grads, opt_state.velocity)
    velocity = tree.map(new_velocity, opt_state.velocity, grads)
    params = tree.map(new_param, params, velocity, grads, decays)
    return tree.freeze((params, SGDState(opt_state.count + 1, velocity)))


# Adam -----------------------------------------------------------------------------------------------------------------


@tree.container
class AdamState(NamedTuple):
    """State of Adam."""

    count: np.int64  # pyright: ignore[reportIncompatibleMethodOverride]  # updates so far
    mu: PyTree  # like params; moving average of the gradients
    nu: PyTree  # like params; moving average of their squares


def adam_init(params: PyTree) -> AdamState:
    """The initial state: moments of 0."""
    return AdamState(np.int64(0), _zeros(params), _zeros(params))


def adam_update(
    params: P,
    grads: PyTree,
    opt_state: AdamState,
    *,
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    bias_correction: bool = True,
    weight_decay: float = 0.0,
    decay_mask: DecayMask | None = None,
) -> tuple[P, AdamState]:
    """Adam: Kingma & Ba (2015), Algorithm 1; with decoupled weight decay: Loshchilov & Hutter (2019).

    With learning rate eta, weight decay alpha, and t updates including this one::

        mu <- b1 mu + (1 - b1) g
        nu <- b2 nu + (1 - b2) g^2
        p <- p - eta (mu / (1 - b1^t)) / (sqrt(nu / (1 - b2^t)) + eps) - eta alpha p

    Without bias correction, the two divisors `1 - b^t` are 1: Chen & Wu, Eq. (9)-(11). The decay is their Eq. (4).

    Args:
        params, grads: trees with the same structure.
        opt_state: from `adam_init` or the previous update.
        learning_rate: a number, or a schedule, which is evaluated at the count of the given `opt_state`.
        decay_mask: which leaves decay: a tree of bools or a function of params that returns one; None means all.

    Raises:
        ValueError: a hyperparameter is out of range, or the trees differ.
    """
    eta = _learning_rate(learning_rate, opt_state.count)
    b1, b2, alpha = _in_unit("b1", b1), _in_unit("b2", b2), _not_negative("weight_decay", weight_decay)
    eps = _positive("eps", eps)
    t = int(opt_state.count) + 1
    c1, c2 = (1 / (1 - b1**t), 1 / (1 - b2**t)) if bias_correction else (1.0, 1.0)
    decays = _decays(params, decay_mask)

    def new_mu(mu: Array, g: Array) -> Array:
        return b1 * mu + (1 - b1) * g

    def new_nu(nu: Array, g: Array) -> Array:
        return b2 * nu + (1 - b2) * (g * g)

    def new_param(p: Array, mu: Array, nu: Array, decays: bool) -> Array:
        step = eta * c1 * mu / (np.sqrt(c2 * nu) + eps)
        return p - step - eta * alpha * p if alpha and decays else p - step

    _check_trees(params, grads, opt_state.mu, opt_state.nu)
    mu = tree.map(new_mu, opt_state.mu, grads)
    nu = tree.map(new_nu, opt_state.nu, grads)
    params = tree.map(new_param, params, mu, nu, decays)
    return tree.freeze((params, AdamState(np.int64(t), mu, nu)))


# Gradients and averages -----------------------------------------------------------------------------------------------


def clip_by_global_norm(grads: P, max_norm: float) -> P:
    """`grads * min(1, max_norm / norm)`, with the global Euclidean norm: Pascanu, Mikolov & Bengio (2013).

    Raises:
        ValueError: `max_norm` is not positive.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be positive, but got {max_norm}")
    norm = tree.global_norm(grads)
    if norm <= max_norm:
        return grads
    scale = float(max_norm) / norm

    def scaled(g: Array) -> Array:
        return scale * g

    return tree.freeze(tree.map(scaled, grads))


def ema_update(ema: P, params: P, *, decay: float) -> P:
    """An exponential moving average, `ema <- decay * ema + (1 - decay) * params`: Polyak & Juditsky (1992).

    Args:
        ema: the average so far; initially params.
        params: the newest parameters.
        decay: the weight of the average so far, in [0, 1].

    Raises:
        ValueError: decay is out of range, or the trees differ.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"decay must be in [0, 1], but got {decay}")
    decay = float(decay)
    _check_trees(ema, params)

    def averaged(average: Array, p: Array) -> Array:
        return decay * average + (1 - decay) * p

    return tree.freeze(tree.map(averaged, ema, params))


# Checks ---------------------------------------------------------------------------------------------------------------
# Hyperparameters are converted to Python floats, because a NumPy float64 scalar would promote float32 arrays.


def _check_trees(params: PyTree, *rest: PyTree) -> None:
    """Raise a ValueError that names the leaf if a tree differs from params or if params are not floats."""
    leaves, _ = tree.flatten_with_path(params)
    for (path, p), others in zip(leaves, tree.zip_leaves(params, *rest), strict=True):
        if not hasattr(p, "dtype") or p.dtype.kind != "f":
            raise ValueError(f"parameters must be arrays of floats, but {path or 'the root'} is {_describe(p)}")
        for leaf in others[1:]:
            if not hasattr(leaf, "dtype") or leaf.shape != p.shape or leaf.dtype != p.dtype:
                where = path or "the root"
                raise ValueError(f"the trees differ at {where}: expected {_describe(p)}, but got {_describe(leaf)}")


def _describe(leaf: Any) -> str:
    if hasattr(leaf, "dtype"):
        return f"{leaf.dtype}{list(leaf.shape)}"
    return f"{leaf!r}, a {type(leaf).__name__} instead of an array"


def _decays(params: PyTree, decay_mask: DecayMask | None) -> PyTree:
    """A bool for each leaf."""
    if decay_mask is None:
        return tree.map(_always, params)
    return decay_mask(params) if callable(decay_mask) else decay_mask


def _always(leaf: Array) -> bool:
    return True


def _zeros(params: PyTree) -> PyTree:
    return tree.freeze(tree.map(np.zeros_like, params))


def _learning_rate(learning_rate: LearningRate, count: np.int64) -> float:
    value = learning_rate(int(count)) if callable(learning_rate) else learning_rate
    return _not_negative("learning_rate", value)


def _not_negative(name: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number of at least 0, but got {value}")
    return float(value)


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive, but got {value}")
    return float(value)


def _in_unit(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), but got {value}")
    return float(value)
