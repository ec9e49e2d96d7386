"""Helpers for unit tests of code that uses fnet: finite differences, comparison of trees, reuse of keys."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from fnet import random, tree
from fnet.random import Key
from fnet.tree import PyTree

__all__ = ["KeyReuseError", "assert_trees_close", "assert_trees_equal", "check_grads", "check_key_reuse"]


def check_grads(
    f_and_grads: Callable[[PyTree], tuple[float, PyTree]],
    params: PyTree,
    *,
    eps: float = 1e-6,
    rtol: float = 1e-6,
    atol: float = 1e-8,
) -> None:
    """Check a gradient against central differences, element by element.

    `df/dp_i` is compared with `(f(p + eps e_i) - f(p - eps e_i)) / (2 eps)`. The function must be smooth within eps of
    params, which excludes the kink of a ReLU, for example.

    >>> check_grads(lambda w: (float(w @ w), 2 * w), np.array([1.0, 2.0]))

    Args:
        f_and_grads: returns the value and the gradient, which has the structure of params.
        params: a tree of float64 arrays.
        eps: the step of the differences.
        rtol, atol: as in `numpy.testing.assert_allclose`.

    Raises:
        AssertionError: an element differs; the message names the path, the index and both values.
        TypeError: a leaf is not float64.
    """
    for path, leaf in tree.flatten_with_path(params)[0]:
        if np.asarray(leaf).dtype != np.float64:
            raise TypeError(f"{path or 'the tree'} must be float64 for finite differences")
    grads = f_and_grads(params)[1]
    flat, unravel = tree.ravel(params)
    numeric = np.empty_like(flat)
    for i in range(len(flat)):
        up, down = flat.copy(), flat.copy()
        up[i] += eps
        down[i] -= eps
        difference = f_and_grads(unravel(up))[0] - f_and_grads(unravel(down))[0]
        numeric[i] = difference / (2 * eps)
        if not np.isfinite(numeric[i]):
            raise AssertionError(f"the difference quotient of parameter {i} of {len(flat)} is {numeric[i]}")
    assert_trees_close(grads, unravel(numeric), rtol=rtol, atol=atol)


def assert_trees_close(actual: PyTree, expected: PyTree, *, rtol: float = 1e-6, atol: float = 0.0) -> None:
    """Check that two trees have the same structure and nearly equal leaves, `|a - e| <= atol + rtol |e|`.

    >>> assert_trees_close((1.0, [2.0]), (1.0, [2.0 + 1e-9]))

    Raises:
        AssertionError: they differ; the message names the first leaf that differs, its worst element and both values.
    """
    for path, a, e in _leaf_pairs(actual, expected):
        a, e = np.asarray(a), np.asarray(e)
        if a.shape != e.shape:
            raise AssertionError(f"{path}: shape {a.shape}, expected {e.shape}")
        wrong = ~np.isclose(a, e, rtol=rtol, atol=atol, equal_nan=True)
        if wrong.any():
            with np.errstate(invalid="ignore"):  # the difference of infinities
                excess = np.where(wrong, np.nan_to_num(np.abs(a.astype(complex) - e), nan=np.inf), -1)
            worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(excess)), a.shape))
            raise AssertionError(
                f"{path}: {int(wrong.sum())} of {a.size} elements differ, the worst at "
                f"{list(worst)}: {a[worst]!r}, expected {e[worst]!r}"
            )


def assert_trees_equal(actual: PyTree, expected: PyTree) -> None:
    """Check that two trees have the same structure and the same leaves: dtypes, shapes and bits.

    >>> assert_trees_equal((np.zeros(2),), (np.zeros(2),))

    Raises:
        AssertionError: they differ; the message names the path of the first leaf that differs.
    """
    for path, a, e in _leaf_pairs(actual, expected):
        a, e = np.asarray(a), np.asarray(e)
        if a.dtype != e.dtype or a.shape != e.shape or a.tobytes() != e.tobytes():
            raise AssertionError(f"{path}: {a.dtype}{list(a.shape)} and {e.dtype}{list(e.shape)} differ in their bits")


class KeyReuseError(ValueError):
    """A key was used twice."""


@contextlib.contextmanager
def check_key_reuse() -> Generator[None]:
    """A context manager that raises an error if a key is used twice, like `jax_debug_key_reuse` in JAX.

    Draws and `split` use their key. `fold_in` does not, since it derives keys from one key and different data. Calls of
    `split` are noticed only through the module, as `fnet.random.split(…)`, not through a name that was imported.

    >>> from fnet import random
    >>> with check_key_reuse():
    ...     a, b = random.split(random.key(0))
    ...     x, y = random.normal(a), random.normal(b)

    Raises:
        KeyReuseError: a key is used again; the message names both places.
    """
    used: dict[bytes, str] = {}
    split, bit_generator = random.split, random._bit_generator  # pyright: ignore[reportPrivateUsage]

    def use(key: Key) -> None:
        frames = [frame for frame in traceback.extract_stack() if frame.filename not in (__file__, random.__file__)]
        here = f"{frames[-1].filename}:{frames[-1].lineno}"
        words = np.asarray(key).tobytes()
        if words in used:
            raise KeyReuseError(f"key {np.asarray(key).tolist()} is used at {here}, but was used at {used[words]}")
        used[words] = here

    def watched_split(key: Key, num: int = 2) -> tuple[Key, ...]:
        use(key)
        return split(key, num)

    def watched_bit_generator(key: Key) -> Any:
        use(key)
        return bit_generator(key)

    random.split, random._bit_generator = watched_split, watched_bit_generator  # pyright: ignore[reportPrivateUsage]
    try:
        yield
    finally:
        random.split, random._bit_generator = split, bit_generator  # pyright: ignore[reportPrivateUsage]


def _leaf_pairs(actual: PyTree, expected: PyTree) -> list[tuple[str, object, object]]:
    try:
        pairs = tree.zip_leaves(expected, actual)
    except ValueError as error:
        raise AssertionError(str(error)) from None
    paths = [path or "the tree" for path, _ in tree.flatten_with_path(expected)[0]]
    return [(path, a, e) for path, (e, a) in zip(paths, pairs, strict=True)]
