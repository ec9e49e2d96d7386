"""Pytrees: nested containers of arrays, with the meaning and the order of `jax.tree`.

Containers are tuples, `NamedTuple`s, lists, dicts (their keys sorted) and None, which holds nothing. Whatever else
stands in them is a leaf: an array, as a rule, or a number. Other subclasses of tuple, list and dict are leaves too. So
they are in JAX, but for `OrderedDict` and `defaultdict`, which are containers there. A path is written as the Python
that reaches the leaf, such as `[0].linear.w` or `['layers'][1]`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

PyTree: TypeAlias = Any
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TreeDef:
    """The structure of a tree without its leaves; equal where the structures are."""

    node: type | None  # the type of the container, or None for a leaf
    keys: tuple[Any, ...] = ()  # of a dict
    children: tuple["TreeDef", ...] = ()


_LEAF = TreeDef(None)


def flatten(tree: PyTree) -> tuple[list[Any], TreeDef]:
    """The leaves in order, and the structure that `unflatten` takes.

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
        ValueError: too few or too many leaves.
    """
    rest = iter(leaves)
    try:
        tree = _build(treedef, rest)
    except StopIteration:
        raise ValueError(f"too few leaves for the structure: {len(leaves)}") from None
    if surplus := len(list(rest)):
        raise ValueError(f"{surplus} of {len(leaves)} leaves are too many for the structure")
    return tree


def structure(tree: PyTree) -> TreeDef:
    """The structure of a tree.

    >>> structure((1, 2)) == structure((3, 4)), structure((1, 2)) == structure([3, 4])
    (True, False)
    """
    node = _node(tree)
    if node is None:
        return _LEAF
    keys = tuple(_sorted(tree)) if node is dict else ()
    return TreeDef(node, keys, tuple(structure(child) for child in _children(node, tree)))


def leaves(tree: PyTree) -> list[Any]:
    """The leaves of a tree, in order.

    >>> leaves([1, (2, None), {"y": 4, "x": 3}])
    [1, 2, 3, 4]
    """
    out: list[Any] = []
    _collect(tree, out)
    return out


def flatten_with_path(tree: PyTree) -> tuple[list[tuple[str, Any]], TreeDef]:
    """The leaves in order, each with its path, and the structure.

    >>> flatten_with_path({"a": [1, 2]})[0]
    [("['a'][0]", 1), ("['a'][1]", 2)]
    """
    out: list[tuple[str, Any]] = []
    _collect_with_path(tree, "", out)
    return out, structure(tree)


def map(f: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """Apply f to the leaves of trees of one structure, which the result has too.

    >>> map(lambda a, b: a + b, {"w": 1, "b": 2}, {"w": 10, "b": 20})
    {'b': 22, 'w': 11}

    Raises:
        ValueError: the structures differ; says where.
    """
    return unflatten(structure(tree), [f(*xs) for xs in zip_leaves(tree, *rest)])


def zip_leaves(tree: PyTree, *rest: PyTree) -> list[tuple[Any, ...]]:
    """The leaves of several trees of one structure, side by side.

    >>> zip_leaves((1, [2]), (3, [4]))
    [(1, 3), (2, 4)]

    Raises:
        ValueError: the structures differ; says where.
    """
    trees = (tree, *rest)
    out: list[tuple[Any, ...]] = []
    if not _zip(trees, out):
        raise ValueError(next(_difference(tree, other, "") for other in rest if not _zip((tree, other), [])))
    return out


def ravel(
    tree: PyTree,
) -> tuple[npt.NDArray[Any], Callable[[npt.NDArray[Any]], PyTree]]:
    """All leaves in one flat array, and the function that cuts such an array back into the tree.

    Leaves of several dtypes are promoted to a common one that holds all their numbers, and `unravel` gives each its own
    again.

    >>> flat, unravel = ravel({"a": np.ones(2), "b": np.zeros((1, 1))})
    >>> flat
    array([1., 1., 0.])
    >>> unravel(flat + 1)["a"]
    array([2., 2.])

    Raises:
        TypeError: a leaf is not a number or an array of numbers.
        ValueError: integers beside floats are too large for the common dtype, as beyond 2**53 for float64; `unravel` is
            given an array of another shape.
    """
    pairs, treedef = flatten_with_path(tree)
    arrays = [np.asarray(leaf) for _, leaf in pairs]
    for (path, _), array in zip(pairs, arrays, strict=True):
        if array.dtype.kind not in "biufc":
            raise TypeError(f"leaf {path or '(the tree)'} is not numeric: {array.dtype}")
    common = np.result_type(*(array.dtype for array in arrays)) if arrays else np.dtype(np.float32)
    for (path, _), array in zip(pairs, arrays, strict=True):
        if array.dtype.kind in "iu" and common.kind in "fc" and array.size:
            digits = np.finfo(common).nmant + 1
            if max(-int(array.min()), int(array.max())) > 2**digits:
                raise ValueError(f"leaf {path} holds integers beyond 2**{digits}, which {common} cannot hold exactly")
    sizes = [array.size for array in arrays]
    parts = [array.reshape(-1) for array in arrays] or [np.zeros(0, common)]

    def unravel(flat: npt.NDArray[Any]) -> PyTree:
        flat = np.asarray(flat)
        if flat.shape != (sum(sizes),):
            raise ValueError(f"expected an array of shape ({sum(sizes)},), but got {flat.shape}")
        out: list[npt.NDArray[Any]] = []
        start = 0
        for array, size in zip(arrays, sizes, strict=True):
            part = flat[start : start + size].astype(array.dtype)  # a copy: the caller may write to flat
            out.append(frozen(part.reshape(array.shape)))
            start += size
        return unflatten(treedef, out)

    return frozen(np.concatenate(parts)), unravel


def global_norm(tree: PyTree) -> float:
    """The Euclidean norm of all leaves taken as one vector: `sqrt(sum_i x_i ** 2)`.

    >>> global_norm((np.array([3.0]), np.array([4.0])))
    5.0
    """
    return math.sqrt(sum(_square(leaf) for leaf in leaves(tree)))


def _square(leaf: npt.ArrayLike) -> float:
    flat = np.asarray(leaf).reshape(-1)
    if flat.dtype.kind in "biu":
        flat = flat.astype(np.float64)  # the squares of small integers wrap around
    square = float(np.abs(np.vdot(flat, flat)))
    if math.isinf(square) and flat.dtype.kind == "f" and flat.itemsize < 8:  # not infinite in float64, as a rule
        return _square(flat.astype(np.float64))
    return square


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A read-only view of an array."""
    view = array.view()
    view.flags.writeable = False
    return view


def freeze(tree: T) -> T:
    """The tree itself, its arrays made read-only; for new arrays, which still own their memory."""
    for leaf in leaves(tree):
        if isinstance(leaf, np.ndarray):  # NumPy scalars are read-only anyway
            leaf.flags.writeable = False
    return tree


def _node(tree: PyTree) -> Any:
    """The container type of a node, or None for a leaf."""
    kind: Any = tree.__class__
    if kind is tuple or kind is list or kind is dict or tree is None:
        return kind
    return kind if hasattr(tree, "_fields") and isinstance(tree, tuple) else None


def _children(node: type, tree: PyTree) -> Sequence[Any]:
    if node is dict:
        return [tree[key] for key in _sorted(tree)]
    children: Sequence[Any] = () if node is type(None) else tree
    return children


def _sorted(tree: dict[Any, Any]) -> list[Any]:
    try:
        return sorted(tree)
    except TypeError:
        raise TypeError(f"the keys of a dict in a tree must be sortable: {list(tree)}") from None


def _collect(tree: PyTree, out: list[Any]) -> None:
    node = _node(tree)
    if node is None:
        out.append(tree)
        return
    for child in _children(node, tree):
        if type(child) is np.ndarray:  # spares most calls: this runs in every training step
            out.append(child)
        else:
            _collect(child, out)


def _build(treedef: TreeDef, rest: Any) -> PyTree:
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
    """How to reach each child of a node, as Python."""
    if node is dict:
        return [f"[{key!r}]" for key in _sorted(tree)]
    if hasattr(node, "_fields"):
        return [f".{field}" for field in tree._fields]
    return [f"[{i}]" for i in range(0 if tree is None else len(tree))]


def _collect_with_path(tree: PyTree, path: str, out: list[tuple[str, Any]]) -> None:
    node = _node(tree)
    if node is None:
        out.append((path, tree))
        return
    for step, child in zip(_steps(node, tree), _children(node, tree), strict=True):
        _collect_with_path(child, path + step, out)


def _zip(trees: tuple[PyTree, ...], out: list[tuple[Any, ...]]) -> bool:
    """Collect the leaves of trees side by side; False if the trees differ. This runs in every training step."""
    first = trees[0]
    kind = first.__class__
    if kind is np.ndarray or _node(first) is None:
        out.append(trees)
        return all(other.__class__ is kind or _node(other) is None for other in trees)
    for other in trees:
        if other.__class__ is not kind or _keys(other) != _keys(first):
            return False
    if first is None:
        return True
    if kind is dict:
        trees = tuple(_children(dict, tree) for tree in trees)
    return all(_zip(group, out) for group in zip(*trees, strict=True))


def _difference(tree: PyTree, other: PyTree, path: str) -> str:
    """Where two trees that are not alike first differ, and how."""
    node = _node(tree)
    if node is not None and type(other) is node and _keys(tree) == _keys(other):
        children = zip(_steps(node, tree), _children(node, tree), _children(node, other), strict=True)
        for step, child, twin in children:
            if not _zip((child, twin), []):
                return _difference(child, twin, path + step)
    return f"the trees differ at {path or 'the root'}: expected {_describe(tree)}, but got {_describe(other)}"


def _keys(tree: PyTree) -> Any:
    """What two containers of one type must have in common."""
    kind = tree.__class__
    return tree.keys() if kind is dict else 0 if tree is None else len(tree)


def _describe(tree: PyTree) -> str:
    node = _node(tree)
    if node is None:
        return f"a leaf ({type(tree).__name__})"
    if node is dict:
        return f"a dict with keys {_sorted(tree)}"
    return "None" if tree is None else f"a {node.__name__} of {len(tree)}"
