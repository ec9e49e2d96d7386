"""L-BFGS: Nocedal & Wright (2006), *Numerical Optimization*, chapters 3 and 7, for any pytree of float arrays.

It minimizes a deterministic function, such as the loss of all rows without dropout. The numbers of equations and
algorithms are those of the book.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from fnet import tree
from fnet.nn import Array
from fnet.tree import PyTree

__all__ = [
    "Evaluated",
    "LBFGSState",
    "ValueAndGrad",
    "begun",
    "flat_update",
    "lbfgs_init",
    "lbfgs_update",
    "two_loop_recursion",
]

P = TypeVar("P")
ValueAndGrad: TypeAlias = Callable[[P], tuple[Any, P]]


@tree.container
class LBFGSState(NamedTuple):
    """State of L-BFGS for n parameters in the order of `tree.ravel`; the last pair (s, y) is the newest."""

    count: np.int64  # pyright: ignore[reportIncompatibleMethodOverride]  # []; steps so far
    s: tuple[Array, ...]  # memory_size arrays [n]; steps x_{k+1} - x_k
    y: tuple[Array, ...]  # memory_size arrays [n]; changes of the gradient g_{k+1} - g_k
    rho: Array  # [memory_size]; 1 / (y_k . s_k), or 0 if there is no pair
    value: np.float64  # []; at params; infinite before the first update
    grads: Array  # [n]; at params; infinite before the first update
    grad_norm: np.float64  # []; Euclidean norm of grads; infinite before the first update
    evaluations: np.int64  # []; calls of value_and_grad so far
    failed: np.bool_  # []; whether the last update found no step; a further update would not find one either


def lbfgs_init(params: PyTree, memory_size: int = 10) -> LBFGSState:
    """The initial state, without pairs and without a value.

    Args:
        params: a tree of float arrays.
        memory_size: the number of pairs that are kept, m in the book; 3 to 20 are usual.

    Raises:
        ValueError: `memory_size` is not positive, or the parameters are not floats.
    """
    if memory_size < 1:
        raise ValueError(f"memory_size must be at least 1, but got {memory_size}")
    for i, leaf in enumerate(tree.leaves(params)):
        if np.asarray(leaf).dtype.kind != "f":
            path = tree.flatten_with_path(params)[0][i][0] or "the root"
            raise ValueError(f"parameters must be floats, but {path} is {_describe(leaf)}")
    x, _ = tree.ravel(params)
    zero, rho, grads = tree.freeze((np.zeros_like(x), np.zeros(memory_size, x.dtype), np.full_like(x, math.inf)))
    history, unknown, none = (zero,) * memory_size, np.float64(math.inf), np.int64(0)
    return LBFGSState(none, history, history, rho, unknown, grads, unknown, none, np.bool_(False))


def lbfgs_update(
    value_and_grad: ValueAndGrad[P],
    params: P,
    opt_state: LBFGSState,
    *,
    c1: float = 1e-4,
    c2: float = 0.9,
    max_linesearch_steps: int = 20,
) -> tuple[P, LBFGSState]:
    """A step of L-BFGS: Nocedal & Wright (2006), Algorithm 7.5.

    With value f and gradient g at the parameters x, and the approximation H of the inverse Hessian by the pairs of the
    state (Algorithm 7.4)::

        p = -H g
        x <- x + a p

    where Algorithms 3.5 and 3.6 find a step size a that satisfies the strong Wolfe conditions (3.7)::

        f(x + a p) <= f(x) + c1 a g.p
        |g(x + a p).p| <= c2 |g.p|

    A trial step with a value or a gradient that is not finite counts as too long. If the trials run out, or if the
    interval is so small that f changes by less than its rounding error, the result is the lowest point that satisfies
    the first condition. If there is none, the pairs are discarded and the search is repeated along -g. If there is
    still none, params are returned unchanged, and `failed` is true. The algorithm thus ends at the latest when rounding
    hides further progress, at a gradient of about `sqrt(eps |f| L)` with curvature L and the eps of the dtype.

    >>> def value_and_grad(x):
    ...     return float((x - 3) @ (x - 3)), 2 * (x - 3)
    >>> x = np.zeros(2)
    >>> opt_state = lbfgs_init(x)
    >>> while opt_state.grad_norm > 1e-6 and not opt_state.failed:
    ...     x, opt_state = lbfgs_update(value_and_grad, x, opt_state)
    >>> x, int(opt_state.evaluations)
    (array([3., 3.]), 3)

    Args:
        value_and_grad: a pure function of params that returns a number and its gradient, a tree like params; the same
            function in all updates.
        params, opt_state: from the previous update, or initial params and `lbfgs_init(params)`.
        c1, c2: the constants of the Wolfe conditions, 0 < c1 < c2 < 1.
        max_linesearch_steps: the largest number of trials in a search.

    Raises:
        TypeError: the value is not a number.
        ValueError: an argument is out of range, or the state or the gradient do not match params.
    """
    if not 0 < c1 < c2 < 1:
        raise ValueError(f"expected 0 < c1 < c2 < 1, but got c1={c1} and c2={c2}")
    if max_linesearch_steps < 1:
        raise ValueError(f"max_linesearch_steps must be at least 1, but got {max_linesearch_steps}")
    x, unravel = tree.ravel(params)
    if x.shape != opt_state.grads.shape or x.dtype != opt_state.grads.dtype:
        raise ValueError(
            f"params are {_describe(x)}, but opt_state is for {_describe(opt_state.grads)}; "
            "start with lbfgs_init(params)"
        )

    def evaluate(x: Array) -> Evaluated:
        trial = unravel(x)
        value, grads = _checked(trial, *value_and_grad(trial))
        return Evaluated(tree.freeze(_ravel(trial, x.dtype)), value, tree.freeze(_ravel(grads, x.dtype)))

    x, opt_state = flat_update(evaluate, x, opt_state, c1=c1, c2=c2, max_linesearch_steps=max_linesearch_steps)
    return unravel(x), opt_state


@tree.container
class Evaluated(NamedTuple):
    """The value and the gradient of a function at a point; the arrays are read-only."""

    x: Array  # [n]; the point, rounded to the dtypes of the parameters
    value: float
    grads: Array  # [n]


@np.errstate(all="ignore")  # a trial step may be far too long, and is then not taken
def flat_update(
    evaluate: Callable[[Array], Evaluated],
    x: Array,
    opt_state: LBFGSState,
    *,
    c1: float = 1e-4,
    c2: float = 0.9,
    max_linesearch_steps: int = 20,
) -> tuple[Array, LBFGSState]:
    """`lbfgs_update` for parameters in one array `[n]`, without checks."""
    if opt_state.evaluations == 0:
        opt_state = begun(opt_state, evaluate(x))
    if opt_state.grad_norm == 0:
        return x, opt_state
    g, s, y, rho = opt_state.grads, opt_state.s, opt_state.y, opt_state.rho
    gamma = 1 / float(rho[-1] * (y[-1] @ y[-1])) if rho[-1] else 1 / float(opt_state.grad_norm)  # (7.20); a unit step
    p = -two_loop_recursion(g, s, y, rho, gamma)

    def phi(step: float) -> _Point:
        at = evaluate(x + step * p)
        slope = float(at.grads @ p)
        return _Point(step, at.value if math.isfinite(at.value) and math.isfinite(slope) else math.inf, slope, at)

    value = float(opt_state.value)
    start = _Point(0.0, value, float(g @ p), Evaluated(x, value, g))
    end, trials = _line_search(phi, start, c1, c2, max_linesearch_steps)
    opt_state = opt_state._replace(evaluations=opt_state.evaluations + trials)
    if end is start:
        if not rho.any():
            return x, opt_state._replace(failed=np.bool_(True))
        opt_state = opt_state._replace(rho=tree.freeze(np.zeros_like(rho)))
        return flat_update(evaluate, x, opt_state, c1=c1, c2=c2, max_linesearch_steps=max_linesearch_steps)

    new_s, new_y = tree.freeze((end.at.x - x, end.at.grads - g))
    sy, yy = float(new_s @ new_y), float(new_y @ new_y)
    if min(sy, yy) > np.finfo(x.dtype).tiny:  # (6.7): else H would not be positive definite
        s, y, rho = (*s[1:], new_s), (*y[1:], new_y), tree.freeze(np.append(rho[1:], np.asarray(1 / sy, x.dtype)))
    return end.at.x, LBFGSState(
        count=opt_state.count + 1,
        s=s,
        y=y,
        rho=rho,
        value=np.float64(end.value),
        grads=end.at.grads,
        grad_norm=_norm(end.at.grads),
        evaluations=opt_state.evaluations,
        failed=np.bool_(False),
    )


def begun(opt_state: LBFGSState, at: Evaluated) -> LBFGSState:
    """The state with its pairs at a point where the function has been evaluated."""
    evaluations = opt_state.evaluations + (opt_state.evaluations == 0)
    return opt_state._replace(
        value=np.float64(at.value), grads=at.grads, grad_norm=_norm(at.grads), evaluations=evaluations
    )


def two_loop_recursion(grads: Array, s: Sequence[Array], y: Sequence[Array], rho: Array, gamma: float) -> Array:
    """H g for the gradient g, `[n]`: Algorithm 7.4, with H_0 = gamma I and the pairs of the state with nonzero rho."""
    pairs = [pair for pair in zip(rho.tolist(), s, y, strict=True) if pair[0]]
    q, alphas = grads.copy(), list[float]()
    for rho_i, s_i, y_i in reversed(pairs):
        alphas.append(rho_i * float(s_i.dot(q)))
        q -= alphas[-1] * y_i
    r = gamma * q
    for (rho_i, s_i, y_i), alpha in zip(pairs, reversed(alphas), strict=True):
        r += (alpha - rho_i * float(y_i.dot(r))) * s_i
    return r


# Line search ----------------------------------------------------------------------------------------------------------


class _Point(NamedTuple):
    """phi(a) = f(x + a p) at a step size a."""

    step: float  # a
    value: float  # phi(a); infinite where it or the slope is not finite
    slope: float  # phi'(a)
    at: Evaluated  # x + a p


def _line_search(
    phi: Callable[[float], _Point], start: _Point, c1: float, c2: float, max_steps: int
) -> tuple[_Point, int]:
    """A point that satisfies the strong Wolfe conditions, or the lowest that satisfies the first; and the trials.

    Algorithm 3.5 brackets a step size, Algorithm 3.6 zooms in. Here they are one loop, for their tests are the same: lo
    is the lowest point that meets the first condition, and hi the other end of the interval, None while at infinity.
    """
    if not (start.slope < 0 and math.isfinite(start.value)):
        return start, 0
    rounding = float(np.finfo(start.at.x.dtype).eps) * abs(start.value)
    lo, hi, step, trials = start, None, 1.0, 0
    while trials < max_steps:
        new, trials = phi(step), trials + 1
        if new.value > start.value + c1 * step * start.slope or new.value >= lo.value:
            hi = new
        elif abs(new.slope) <= -c2 * start.slope:
            return new, trials
        elif new.slope * (math.inf if hi is None else hi.step - lo.step) >= 0:
            lo, hi = new, lo
        else:
            lo = new
        if hi is None:
            step = 4 * lo.step
        elif abs(lo.slope * (hi.step - lo.step)) <= rounding:
            break
        else:
            step = _interpolate(lo, hi)
    return lo, trials


def _interpolate(lo: _Point, hi: _Point) -> float:
    """The minimizer of the cubic through both points and their slopes, (3.59), kept off the ends of the interval.

    If there is no minimizer, it is the middle; if hi is not finite, a tenth of the way to hi.
    """
    width = hi.step - lo.step
    if math.isinf(hi.value):
        return lo.step + 0.1 * width
    d1 = lo.slope + hi.slope - 3 * (lo.value - hi.value) / (lo.step - hi.step)
    square = d1 * d1 - lo.slope * hi.slope
    d2 = math.copysign(math.sqrt(square), width) if square >= 0 else math.nan
    divisor = hi.slope - lo.slope + 2 * d2
    share = 1 - (hi.slope + d2 - d1) / divisor if divisor else math.nan
    return lo.step + width * (min(max(share, 0.1), 0.9) if math.isfinite(share) else 0.5)


# Arrays ---------------------------------------------------------------------------------------------------------------


def _checked(params: P, value: Any, grads: P) -> tuple[float, P]:
    """The value as a number, and the gradient."""
    try:
        value = float(value)
    except TypeError:
        raise TypeError(
            f"value_and_grad must return (value, grads) with a number, but the value is a {type(value).__name__}; "
            "for fnet.loss_and_grads, which returns ((loss, aux), grads), pass a function that returns (loss, grads)"
        ) from None
    for i, (p, g) in enumerate(tree.zip_leaves(params, grads)):
        if np.shape(p) != np.shape(g) or np.asarray(p).dtype != np.asarray(g).dtype:
            path = tree.flatten_with_path(params)[0][i][0] or "the root"
            raise ValueError(f"the gradient at {path} must be {_describe(p)}, but is {_describe(g)}")
    return value, grads


def _ravel(params: PyTree, dtype: Any) -> Array:
    leaves = [np.ravel(leaf) for leaf in tree.leaves(params)]
    return np.concatenate(leaves, dtype=dtype) if leaves else np.zeros(0, dtype)


def _norm(grads: Array) -> np.float64:
    grads = grads.astype(np.float64)  # squares of small float32 numbers would be 0
    return np.float64(math.sqrt(grads @ grads))


def _describe(leaf: Any) -> str:
    array = np.asarray(leaf)
    return f"{array.dtype}{list(array.shape)}"
