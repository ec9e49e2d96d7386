"""Pytrees: nested containers of arrays, with the meaning and the order of `jax.tree`.

Containers are tuples, `NamedTuple`s, lists, dicts (in the order of their sorted keys), and None, which is a container
without leaves. Everything else is a leaf: usually an array or a number. Other subclasses of tuple, list and dict are
leaves too, as in JAX; unlike in JAX, so are `OrderedDict` and `defaultdict`. A path is the Python expression that
reaches a leaf, such as `[0].linear.w` or `['layers'][1]`; the path of the root is empty.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ForwardRef, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = [
    "PyTree",
    "TreeDef",
    "container",
    "flatten",
    "flatten_with_path",
    "freeze",
    "frozen",
    "global_norm",
    "leaves",
    "map",
    "ravel",
    "structure",
    "summary",
    "unflatten",
    "zip_leaves",
]

PyTree: TypeAlias = Any
T = TypeVar("T")
C = TypeVar("C", bound=type)


@dataclass(frozen=True, slots=True)
class TreeDef:
    """The structure of a tree, without its leaves."""

    node: type | None  # the type of the container; None for a leaf
    keys: tuple[Any, ...] = ()  # the keys of a dict
    children: tuple[TreeDef, ...] = ()


_LEAF = TreeDef(None)
_WIDTH, _MOST = 100, 20  # characters of a line, children of a container, in a summary


def flatten(tree: PyTree) -> tuple[list[Any], TreeDef]:
    """The leaves of a tree in order, and its structure.

    >>> flatten({"b": 2.0, "a": (1.0, None)})[0]
    [1.0, 2.0]

    Raises:
        TypeError: the keys of a dict cannot be sorted.
    """
    return leaves(tree), structure(tree)


def unflatten(treedef: TreeDef, leaves: Sequence[Any]) -> PyTree:
    """The inverse of `flatten`.

    >>> unflatten(structure({"a": 0, "b": [0]}), [1, 2])
    {'a': 1, 'b': [2]}

    Raises:
        ValueError: the number of leaves is wrong.
    """
    expected = _num_leaves(treedef)
    if len(leaves) != expected:
        raise ValueError(f"the structure has {expected} leaves, but got {len(leaves)}")
    return _build(treedef, iter(leaves))


def structure(tree: PyTree) -> TreeDef:
    """The structure of a tree.

    >>> structure((1, 2)) == structure((3, 4)), structure((1, 2)) == structure([3, 4])
    (True, False)
    """
    node = _node(tree)
    if node is None:
        return _LEAF
    keys = tuple(_sorted_keys(tree)) if node is dict else ()
    return TreeDef(node, keys, tuple(structure(child) for child in _children(node, tree)))


def leaves(tree: PyTree) -> list[Any]:
    """The leaves of a tree, in order.

    >>> leaves([1, (2, None), {"y": 4, "x": 3}])
    [1, 2, 3, 4]
    """
    node = _node(tree)
    if node is None:
        return [tree]
    return [leaf for child in _children(node, tree) for leaf in leaves(child)]


def flatten_with_path(tree: PyTree) -> tuple[list[tuple[str, Any]], TreeDef]:
    """The leaves of a tree in order, each with its path, and the structure of the tree.

    >>> flatten_with_path({"a": [1, 2]})[0]
    [("['a'][0]", 1), ("['a'][1]", 2)]
    """
    return list(_leaves_with_path(tree, "")), structure(tree)


def map(f: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """Apply f to the corresponding leaves of trees with the same structure.

    >>> map(lambda a, b: a + b, {"w": 1, "b": 2}, {"w": 10, "b": 20})
    {'b': 22, 'w': 11}

    Raises:
        ValueError: the structures differ; the message says where.
    """
    return unflatten(structure(tree), [f(*xs) for xs in zip_leaves(tree, *rest)])


def zip_leaves(tree: PyTree, *rest: PyTree) -> list[tuple[Any, ...]]:
    """The corresponding leaves of trees with the same structure.

    >>> zip_leaves((1, [2]), (3, [4]))
    [(1, 3), (2, 4)]

    Raises:
        ValueError: the structures differ; the message says where.
    """
    for other in rest:
        if not _alike(tree, other):
            raise ValueError(_difference(tree, other, ""))
    return list(zip(*[leaves(each) for each in (tree, *rest)], strict=True))


def ravel(tree: PyTree) -> tuple[npt.NDArray[Any], Callable[[npt.NDArray[Any]], PyTree]]:
    """All leaves in one flat array, and `unravel`, the function that restores the tree from such an array.

    Leaves of different dtypes are promoted to a common dtype; `unravel` restores the dtype of each.

    >>> flat, unravel = ravel({"a": np.ones(2), "b": np.zeros((1, 1))})
    >>> flat
    array([1., 1., 0.])
    >>> unravel(flat + 1)["a"]
    array([2., 2.])

    Raises:
        TypeError: a leaf is not a number or an array of numbers.
        ValueError: the common dtype is floating-point and cannot represent the integers of a leaf, or `unravel` gets
            an array of another shape.
    """
    pairs, treedef = flatten_with_path(tree)
    arrays = [np.asarray(leaf) for _, leaf in pairs]
    for (path, _), array in zip(pairs, arrays, strict=True):
        if array.dtype.kind not in "biufc":
            raise TypeError(f"{path or 'the tree'} must be numeric, but its dtype is {array.dtype}")
    common = np.result_type(*(array.dtype for array in arrays)) if arrays else np.dtype(np.float32)
    for (path, _), array in zip(pairs, arrays, strict=True):
        if array.dtype.kind in "iu" and common.kind in "fc" and array.size:
            digits = np.finfo(common).nmant + 1
            if max(-int(array.min()), int(array.max())) > 2**digits:
                raise ValueError(f"{path} has integers beyond 2**{digits}, which {common} cannot represent exactly")
    ends = [0, *itertools.accumulate(array.size for array in arrays)]

    def unravel(flat: npt.NDArray[Any]) -> PyTree:
        flat = np.asarray(flat)
        if flat.shape != (ends[-1],):
            raise ValueError(f"expected an array of shape ({ends[-1]},), but got {flat.shape}")
        parts = np.split(flat, ends[1:])[:-1]
        new = [part.astype(array.dtype).reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]
        return unflatten(treedef, freeze(new))

    return freeze(np.concatenate([np.zeros(0, common), *(array.reshape(-1) for array in arrays)])), unravel


def global_norm(tree: PyTree) -> float:
    """The Euclidean norm of all leaves as one vector: `sqrt(sum_i |x_i|^2)`.

    >>> global_norm((np.array([3.0]), np.array([4.0])))
    5.0
    """
    return math.sqrt(sum(_square(leaf) for leaf in leaves(tree)))


def _square(leaf: npt.ArrayLike) -> float:
    flat = np.asarray(leaf).reshape(-1)
    if flat.dtype.kind in "biu":
        flat = flat.astype(np.float64)  # the squares of small integers wrap around
    square = float(np.abs(np.vdot(flat, flat)))
    if math.isinf(square) and flat.dtype.kind == "f" and flat.itemsize < 8:
        return _square(flat.astype(np.float64))  # the sum is then usually finite
    return square


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A read-only view of an array."""
    view = array.view()
    view.flags.writeable = False
    return view


def freeze(tree: T) -> T:
    """Make the arrays of a tree read-only, in place, and return it; only for new arrays that nothing else refers to."""
    for leaf in leaves(tree):
        if isinstance(leaf, np.ndarray):  # NumPy's scalars are immutable
            leaf.flags.writeable = False
    return tree


# Text -----------------------------------------------------------------------------------------------------------------


def summary(tree: PyTree) -> str:
    """A tree as text, with the dtypes and shapes of its arrays in place of their elements.

    >>> print(summary({"w": np.zeros((2, 3), np.float32), "rate": 0.1}))
    {'rate': 0.1, 'w': float32[2, 3]}
    """
    if tree is None:
        return "None"
    node = _node(tree)
    if node is None:
        is_array = hasattr(tree, "dtype") and np.ndim(tree) > 0
        return f"{tree.dtype}{[*np.shape(tree)]}" if is_array else repr(tree)
    start, end = {tuple: "()", list: "[]", dict: "{}"}.get(node, (f"{node.__name__}(", ")"))
    names = [""] * len(tree)
    if node is dict:
        names = [f"{key!r}: " for key in _sorted_keys(tree)]
    elif hasattr(node, "_fields"):
        names = [f"{field}=" for field in node._fields]
    children = list(_children(node, tree))
    parts = [name + summary(child) for name, child in zip(names[:_MOST], children[:_MOST], strict=True)]
    if len(children) > _MOST:
        parts.append(f"... and {len(children) - _MOST} more")
    line = start + ", ".join(parts) + ("," if node is tuple and len(parts) == 1 else "") + end
    if len(line) <= _WIDTH and "\n" not in line:
        return line
    return "\n".join([start, textwrap.indent(",\n".join(parts), "  "), end])


def container(cls: C) -> C:
    """Decorate a `NamedTuple` class: its `repr` is `summary`, and `help` shows its annotations as they are written."""
    type.__setattr__(cls, "__repr__", summary)
    for name, hint in cls.__annotations__.items():
        if isinstance(hint, ForwardRef):
            cls.__annotations__[name] = hint.__forward_arg__
    return cls


# Nodes ----------------------------------------------------------------------------------------------------------------


def _node(tree: PyTree) -> Any:
    """The type of a container; None for a leaf."""
    kind: Any = tree.__class__
    if kind is tuple or kind is list or kind is dict or tree is None:
        return kind
    return kind if hasattr(tree, "_fields") and isinstance(tree, tuple) else None


def _children(node: type, tree: PyTree) -> Sequence[Any]:
    if node is dict:
        return [tree[key] for key in _sorted_keys(tree)]
    children: Sequence[Any] = () if node is type(None) else tree
    return children


def _sorted_keys(tree: dict[Any, Any]) -> list[Any]:
    try:
        return sorted(tree)
    except TypeError:
        raise TypeError(f"the keys of a dict in a tree must be sortable, but got {list(tree)}") from None


def _num_leaves(treedef: TreeDef) -> int:
    return 1 if treedef.node is None else sum(_num_leaves(child) for child in treedef.children)


def _build(treedef: TreeDef, rest: Iterator[Any]) -> PyTree:
    """Build a tree from the next leaves."""
    node = treedef.node
    if node is None:
        return next(rest)
    if node is type(None):
        return None
    children = [_build(child, rest) for child in treedef.children]
    if node is dict:
        return dict(zip(treedef.keys, children, strict=True))
    make: Callable[..., PyTree] = node
    return make(children) if node is tuple or node is list else make(*children)


def _steps(node: type, tree: PyTree) -> list[str]:
    """The Python expressions that reach the children of a container."""
    if node is dict:
        return [f"[{key!r}]" for key in _sorted_keys(tree)]
    if hasattr(node, "_fields"):
        return [f".{field}" for field in tree._fields]
    return [f"[{i}]" for i in range(len(_children(node, tree)))]


def _leaves_with_path(tree: PyTree, path: str) -> Iterator[tuple[str, Any]]:
    node = _node(tree)
    if node is None:
        yield path, tree
        return
    for step, child in zip(_steps(node, tree), _children(node, tree), strict=True):
        yield from _leaves_with_path(child, path + step)


def _alike(tree: PyTree, other: PyTree) -> bool:
    """Whether two trees have the same structure."""
    node = _node(tree)
    if node is None or tree is None or node is not _node(other):
        return node is _node(other)
    if len(tree) != len(other) or (node is dict and tree.keys() != other.keys()):
        return False
    return all(_alike(child, twin) for child, twin in zip(_children(node, tree), _children(node, other), strict=True))


def _difference(tree: PyTree, other: PyTree, path: str) -> str:
    """Where and how two trees of different structures first differ."""
    node = _node(tree)
    if node is not None and node is _node(other) and _steps(node, tree) == _steps(node, other):
        children = zip(_steps(node, tree), _children(node, tree), _children(node, other), strict=True)
        for step, child, twin in children:
            if not _alike(child, twin):
                return _difference(child, twin, path + step)
    return f"the trees differ at {path or 'the root'}: expected {_describe(tree)}, but got {_describe(other)}"


def _describe(tree: PyTree) -> str:
    node = _node(tree)
    if node is None:
        return f"a leaf ({type(tree).__name__})"
    if node is dict:
        return f"a dict with keys {_sorted_keys(tree)}"
    return "None" if tree is None else f"a {node.__name__} of {len(tree)}"
