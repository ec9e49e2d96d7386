"""Optimizers: pure functions of parameters, gradients and state, for any pytree of arrays.

The equations stand in the `_leaf` functions, line by line as in the papers. They are written with `out`, since most of
the time of an update goes into moving memory.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from fnet import _memory, tree
from fnet.nn import Array
from fnet.schedules import Schedule
from fnet.tree import PyTree

LearningRate: TypeAlias = float | Schedule
DecayMask: TypeAlias = PyTree | Callable[[PyTree], PyTree]
P = TypeVar("P")

CHUNK = 65536  # elements; so that the four arrays of a chunk and a temporary stay in a core's cache


# Stochastic gradient descent ------------------------------------------------------------------------------------------


class SGDState(NamedTuple):
    """State of SGD with momentum."""

    count: np.int64  # pyright: ignore[reportIncompatibleMethodOverride]  # updates so far
    velocity: PyTree  # as params


def sgd_init(params: PyTree) -> SGDState:
    """The state before the first update: a velocity of 0."""
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
    donate: bool = False,
) -> tuple[P, SGDState]:
    """SGD with momentum and decoupled weight decay: the report's Eq. (7)-(8) and (4).

    With learning rate eta, momentum gamma and weight decay alpha::

        v <- gamma v + eta g
        p <- p - v - eta alpha p              or, with Nesterov's momentum (Sutskever et al. 2013),
        p <- p - (gamma v + eta g) - eta alpha p

    Args:
        params, grads, opt_state: trees of one structure, and the state from `sgd_init` or the last update.
        learning_rate: a number, or a schedule, evaluated at `opt_state.count` as it comes in.
        decay_mask: a tree of bools, or a function of params that gives one: which leaves decay. None: all.
        donate: write the results into the memory of params and opt_state, which must not be used afterwards, as
            `donate_argnums` of `jax.jit`.

    Raises:
        ValueError: a hyper-parameter out of range, or trees that differ; says where.
    """
    eta = _learning_rate(learning_rate, opt_state.count)
    momentum = _in_unit("momentum", momentum)
    weight_decay = _not_negative("weight_decay", weight_decay)

    def leaf(decays: bool, old: Sequence[Array], new: Sequence[Array], step: Array) -> None:
        (p, g, v), (p_new, v_new) = old, new
        np.multiply(g, eta, out=step)
        np.multiply(v, momentum, out=v_new)
        v_new += step
        if nesterov:
            step += momentum * v_new
        else:
            step = v_new
        np.multiply(p, 1 - eta * weight_decay if decays else 1, out=p_new)
        p_new -= step

    params, velocity = _update(leaf, (params, opt_state.velocity), grads, decay_mask, donate)
    return params, SGDState(opt_state.count + 1, velocity)


# Adam -----------------------------------------------------------------------------------------------------------------


class AdamState(NamedTuple):
    """State of Adam."""

    count: np.int64  # pyright: ignore[reportIncompatibleMethodOverride]  # updates so far
    mu: PyTree  # as params; the moving mean of the gradients
    nu: PyTree  # as params; the moving mean of their squares


def adam_init(params: PyTree) -> AdamState:
    """The state before the first update: moments of 0."""
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
    donate: bool = False,
) -> tuple[P, AdamState]:
    """Adam: Kingma & Ba (2015), Algorithm 1; with decoupled weight decay: Loshchilov & Hutter (2019).

    With learning rate eta, weight decay alpha and t updates, this one included::

        mu <- b1 mu + (1 - b1) g
        nu <- b2 nu + (1 - b2) g^2
        p <- p - eta (mu / (1 - b1^t)) / (sqrt(nu / (1 - b2^t)) + eps) - eta alpha p

    Without bias correction the two divisors `1 - b^t` are 1: the report's Eq. (9)-(11); the decay is its Eq. (4).

    Args:
        params, grads, opt_state: trees of one structure, and the state from `adam_init` or the last update.
        learning_rate: a number, or a schedule, evaluated at `opt_state.count` as it comes in.
        decay_mask: a tree of bools, or a function of params that gives one: which leaves decay. None: all.
        donate: write the results into the memory of params and opt_state, which must not be used afterwards, as
            `donate_argnums` of `jax.jit`.

    Raises:
        ValueError: a hyper-parameter out of range, or trees that differ; says where.
    """
    eta = _learning_rate(learning_rate, opt_state.count)
    b1, b2 = _in_unit("b1", b1), _in_unit("b2", b2)
    if not (math.isfinite(eps) and eps > 0):
        raise ValueError(f"eps must be positive, but got {eps}")
    eps, weight_decay = float(eps), _not_negative("weight_decay", weight_decay)
    count = opt_state.count + 1
    correct1 = 1 - b1 ** int(count) if bias_correction else 1.0
    correct2 = 1 - b2 ** int(count) if bias_correction else 1.0
    # The same, with the divisors moved out of the arrays, as at the end of section 2 of the paper.
    step_size = eta * math.sqrt(correct2) / correct1
    step_eps = eps * math.sqrt(correct2)

    def leaf(decays: bool, old: Sequence[Array], new: Sequence[Array], t: Array) -> None:
        (p, g, mu, nu), (p_new, mu_new, nu_new) = old, new
        np.multiply(g, 1 - b1, out=t)
        np.multiply(mu, b1, out=mu_new)
        mu_new += t
        np.multiply(g, g, out=t)
        t *= 1 - b2
        np.multiply(nu, b2, out=nu_new)
        nu_new += t
        np.sqrt(nu_new, out=t)
        t += step_eps
        np.divide(mu_new, t, out=t)
        t *= step_size
        if weight_decay and decays:
            np.multiply(p, 1 - eta * weight_decay, out=p_new)
            p = p_new
        np.subtract(p, t, out=p_new)

    moments = (params, opt_state.mu, opt_state.nu)
    params, mu, nu = _update(leaf, moments, grads, decay_mask, donate)
    return params, AdamState(count, mu, nu)


# Gradients and averages -----------------------------------------------------------------------------------------------


def clip_by_global_norm(grads: P, max_norm: float) -> P:
    """`grads * min(1, max_norm / norm)`, with the Euclidean norm of all: Pascanu, Mikolov & Bengio (2013).

    Raises:
        ValueError: `max_norm` is not positive.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be positive, but got {max_norm}")
    norm = tree.global_norm(grads)
    if norm <= max_norm:
        return grads
    scale = float(max_norm) / norm  # a float64 of NumPy would make the gradients float64
    return tree.freeze(tree.map(partial(np.multiply, scale), grads))


def ema_update(ema: P, params: P, *, decay: float, donate: bool = False) -> P:
    """An exponential moving average: `ema <- decay * ema + (1 - decay) * params`, Polyak & Juditsky (1992).

    Args:
        ema: a tree as params; to begin with, params themselves.
        params: the newest.
        decay: in [0, 1].
        donate: write the result into the memory of ema, which must not be used afterwards.

    Raises:
        ValueError: a decay out of range, or trees that differ.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"decay must be in [0, 1], but got {decay}")
    decay = float(decay)

    def leaf(decays: bool, old: Sequence[Array], new: Sequence[Array], step: Array) -> None:
        (average, p), (average_new,) = old, new
        np.multiply(p, 1 - decay, out=step)
        np.multiply(average, decay, out=average_new)
        average_new += step

    return _update(leaf, (ema,), params, None, donate)[0]


# What they share ------------------------------------------------------------------------------------------------------


def _update(
    leaf: Callable[[bool, Sequence[Array], Sequence[Array], Array], None],
    threaded: tuple[PyTree, ...],
    given: PyTree,
    decay_mask: DecayMask | None,
    donate: bool,
) -> tuple[Any, ...]:
    """Apply `leaf(decays, old, new, scratch)` to each leaf of several trees, in chunks of rows.

    `threaded` are the trees that come out updated; `given` is one that is only read, and stands second in `old`.
    """
    rows = tree.zip_leaves(threaded[0], given, *threaded[1:])
    decays = [True] * len(rows)
    if decay_mask is not None:
        mask = decay_mask(threaded[0]) if callable(decay_mask) else decay_mask
        decays = [bool(flag) for _, flag in tree.zip_leaves(threaded[0], mask)]
    results: list[list[Array]] = []
    scratch = np.empty(0)  # one for all leaves
    in_place = donate
    for i, old in enumerate(rows):
        first = old[0]
        _check_leaves(threaded[0], i, old)
        kept = [first, *old[2:]]
        new = [_writable(a) for a in kept] if donate else [_memory.empty_like(a) for a in kept]
        for part in _parts(first):
            olds, news = [a[part] for a in old], [a[part] for a in new]
            shape, size = news[0].shape, news[0].size
            if scratch.size < size or scratch.dtype != first.dtype:
                scratch = _memory.empty((size,), first.dtype)
            leaf(decays[i], olds, news, scratch[:size].reshape(shape))
        for before, after in zip(kept, new, strict=True):
            after.flags.writeable = False
            in_place = in_place and before is after
        results.append(new)
    if in_place:
        return threaded
    treedef = tree.structure(threaded[0])
    return tuple(tree.unflatten(treedef, [new[k] for new in results]) for k in range(len(threaded)))


def _parts(array: Array) -> list[Any]:
    """Indices that cut an array into parts of at most CHUNK elements, or of one row."""
    if array.size <= CHUNK:
        return [...]
    step = max(1, CHUNK * len(array) // array.size)
    return [slice(start, start + step) for start in range(0, len(array), step)]


def _check_leaves(params: PyTree, i: int, leaves: Sequence[Any]) -> None:
    """That the leaves at place i of the trees are arrays of floats, and alike."""
    first = leaves[0]
    if hasattr(first, "dtype") and first.dtype.kind in "biu":
        path = tree.flatten_with_path(params)[0][i][0] or "the root"
        raise ValueError(f"parameters must be floats, but {path} is {_describe(first)}")
    for leaf in leaves:
        if not hasattr(leaf, "dtype") or leaf.shape != first.shape or leaf.dtype != first.dtype:
            path = tree.flatten_with_path(params)[0][i][0] or "the root"
            raise ValueError(f"the trees differ at {path}: expected {_describe(first)}, but got {_describe(leaf)}")


def _describe(leaf: Any) -> str:
    if hasattr(leaf, "dtype"):
        return f"{leaf.dtype}{list(leaf.shape)}"
    return f"{leaf!r}, a {type(leaf).__name__} instead of an array"


def _writable(array: Array) -> Array:
    """A donated array, writable again; or new memory where it is not ours to write to."""
    try:
        array.flags.writeable = True
    except ValueError:
        return np.empty_like(array)
    return array


def _zeros(params: PyTree) -> PyTree:
    return tree.freeze(tree.map(_zeros_like, params))


def _zeros_like(array: Array) -> Array:
    zeros = _memory.empty_like(np.asarray(array))
    zeros.fill(0)
    return zeros


def _learning_rate(learning_rate: LearningRate, count: np.int64) -> float:
    value = learning_rate(int(count)) if callable(learning_rate) else learning_rate
    return _not_negative("learning_rate", value)


# Hyper-parameters become numbers, for a float64 of NumPy computes in float64 where a number computes in float32.


def _not_negative(name: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number of at least 0, but got {value}")
    return float(value)


def _in_unit(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), but got {value}")
    return float(value)
