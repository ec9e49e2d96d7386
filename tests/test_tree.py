"""Pytrees."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import check_purity

from fnet import tree
from fnet.testing import assert_trees_equal


class Point(NamedTuple):
    x: Any
    y: Any


class Twin(NamedTuple):
    x: Any
    y: Any


class NamedPoint(Point):
    """A subclass of a NamedTuple, such as one that adds methods."""


class Tagged(tuple):
    """A tuple that is not a NamedTuple."""


class Rows(list):
    pass


class Table(dict):
    pass


NESTED = {"b": [1, (2, None, {})], "a": Point(3, {"z": 4, "y": []}), "c": (NamedPoint(5, ()),)}
TREES = [1, None, (), [], {}, (None,), (1,), [1, 2], {"a": 1}, Point(1, 2), NamedPoint(None, (1,)), NESTED, "text"]


# Leaves, structures


@pytest.mark.parametrize(
    ("nested", "expected"),
    [
        (7, [7]),
        (None, []),
        ((), []),
        ((1, [2, (3,)], None, Point(4, 5)), [1, 2, 3, 4, 5]),
        ({"b": 1, "a": 2}, [2, 1]),
        ({2: "second", 10: "third", -1: "first"}, ["first", "second", "third"]),
        (NESTED, [3, 4, 1, 2, 5]),
    ],
)
def test_leaves_come_in_order(nested: Any, expected: list[Any]) -> None:
    assert tree.leaves(nested) == expected
    assert tree.flatten(nested) == (expected, tree.structure(nested))
    assert [leaf for _, leaf in tree.flatten_with_path(nested)[0]] == expected


@pytest.mark.parametrize(
    "leaf",
    [Tagged((1, 2)), Rows([1]), Table(a=1), OrderedDict(a=1), defaultdict(int), {1, 2}, np.ones(2), object(), Point],
)
def test_everything_else_is_a_leaf(leaf: Any) -> None:
    assert tree.leaves([leaf])[0] is leaf
    assert tree.structure(leaf) == tree.structure(0)
    assert tree.flatten_with_path(leaf)[0][0][0] == ""


@pytest.mark.parametrize("nested", TREES, ids=repr)
def test_unflatten_is_the_inverse_of_flatten(nested: Any) -> None:
    leaves, treedef = tree.flatten(nested)
    rebuilt = tree.unflatten(treedef, leaves)
    assert rebuilt == nested
    assert type(rebuilt) is type(nested)
    assert tree.structure(rebuilt) == treedef
    assert hash(treedef) == hash(tree.structure(nested))


def test_unflatten_keeps_the_types_of_inner_containers() -> None:
    rebuilt = tree.map(lambda leaf: leaf, NESTED)
    assert type(rebuilt["c"][0]) is NamedPoint
    assert type(rebuilt["a"]) is Point
    assert type(rebuilt["b"]) is list


def test_structures_are_equal_where_the_containers_are() -> None:
    structures = [tree.structure(t) for t in TREES if t != "text"]
    assert all((a == b) == (i == j) for i, a in enumerate(structures) for j, b in enumerate(structures))
    assert tree.structure({"a": 1, "b": (2,)}) == tree.structure({"b": ("x",), "a": 3})
    assert tree.structure(Point(1, 2)) != tree.structure(Twin(1, 2)) != tree.structure((1, 2))
    assert tree.structure({"a": 1}) != tree.structure({"b": 1})


@pytest.mark.parametrize(
    ("leaves", "message"),
    [([1, 2], "the structure has 3 leaves, but got 2"), ([1, 2, 3, 4, 5], "the structure has 3 leaves, but got 5")],
)
def test_unflatten_counts_the_leaves(leaves: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tree.unflatten(tree.structure((0, [0, {"a": 0}])), leaves)


@pytest.mark.parametrize("f", [tree.leaves, tree.flatten, tree.structure, tree.flatten_with_path])
def test_keys_that_cannot_be_sorted(f: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"keys of a dict in a tree must be sortable, but got \[1, 'a'\]"):
        f([{1: 2, "a": 3}])


def test_paths_are_the_python_that_reaches_the_leaf() -> None:
    pairs, treedef = tree.flatten_with_path(NESTED)
    assert [path for path, _ in pairs] == ["['a'].x", "['a'].y['z']", "['b'][0]", "['b'][1][0]", "['c'][0].x"]
    assert all(eval(f"NESTED{path}") == leaf for path, leaf in pairs)
    assert treedef == tree.structure(NESTED)


# map, zip_leaves


def test_map_applies_f_to_leaves_side_by_side() -> None:
    tens = tree.map(lambda leaf: 10 * leaf, NESTED)
    assert tens["b"] == [10, (20, None, {})]
    assert tree.map(lambda a, b, c: a + b + c, NESTED, tens, tens) == tree.map(lambda leaf: 21 * leaf, NESTED)
    assert tree.zip_leaves({"b": 1, "a": 2}, {"a": 3, "b": 4}) == [(2, 3), (1, 4)]
    assert tree.zip_leaves(None, None) == []
    assert tree.map(lambda a, b: (a, b), np.float32(1), 2) == (1, 2)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ((1, 2), (1, 2, 3), r"at the root: expected a tuple of 2, but got a tuple of 3"),
        ((1, [2, 3]), (1, [2]), r"at \[1\]: expected a list of 2, but got a list of 1"),
        ((1, [2]), (1, (2,)), r"at \[1\]: expected a list of 1, but got a tuple of 1"),
        ({"a": {"b": 1}}, {"a": {"c": 1}}, r"at \['a'\]: expected a dict with keys \['b'\], but .* keys \['c'\]"),
        (Point(1, Point(2, 3)), Point(1, Twin(2, 3)), r"at \.y: expected a Point of 2, but got a Twin of 2"),
        (Point((1,), 2), NamedPoint((1,), 2), r"at the root: expected a Point of 2, but got a NamedPoint of 2"),
        ({"a": [1, (2, [3])]}, {"a": [1, (2, 3)]}, r"at \['a'\]\[1\]\[1\]: expected a list of 1, but got a leaf"),
        ((1, None), (1, 2), r"at \[1\]: expected None, but got a leaf \(int\)"),
        ((1, 2.0), (1, None), r"at \[1\]: expected a leaf \(float\), but got None"),
        ((np.ones(2), 1), ([1, 2], 1), r"at \[0\]: expected a leaf \(ndarray\), but got a list of 2"),
        (({"a": 1},), (np.ones(1),), r"at \[0\]: expected a dict with keys \['a'\], but got a leaf \(ndarray\)"),
    ],
)
def test_trees_that_differ(first: Any, second: Any, message: str) -> None:
    for f in (lambda *trees: tree.map(max, *trees), tree.zip_leaves):
        with pytest.raises(ValueError, match=message):
            f(first, second)
        with pytest.raises(ValueError, match=message):
            f(first, first, second)


# Trees of arrays


def arrays() -> Any:
    rng = np.random.default_rng(0)
    return {
        "w": rng.normal(size=(2, 3)),
        "b": Point(rng.normal(size=3).astype(np.float32), np.array(7, np.int16)),
        "e": [np.zeros((0, 4)), None, np.array([True, False])],
    }


def test_ravel_and_unravel() -> None:
    nested = tree.freeze(arrays())
    flat, unravel = tree.ravel(nested)
    assert flat.dtype == np.float64
    assert flat.shape == (3 + 1 + 0 + 2 + 6,)
    assert not flat.flags.writeable
    np.testing.assert_array_equal(flat, np.concatenate([leaf.ravel() for leaf in tree.leaves(nested)]))
    restored = unravel(flat)
    assert_trees_equal(restored, nested)  # with the dtypes
    assert not any(leaf.flags.writeable for leaf in tree.leaves(restored))
    assert_trees_equal(unravel(flat.astype(np.float32))["b"], nested["b"])


@pytest.mark.parametrize("empty", [(), None, {"a": []}])
def test_ravel_of_nothing(empty: Any) -> None:
    flat, unravel = tree.ravel(empty)
    assert flat.shape == (0,)
    assert unravel(flat) == empty


def test_an_unravelled_tree_does_not_change_with_the_flat_array() -> None:
    flat = np.zeros(2)
    unravelled = tree.ravel((np.zeros(2),))[1](flat)
    flat += 1
    assert_trees_equal(unravelled, (np.zeros(2),))


def test_ravel_keeps_a_common_dtype_and_accepts_numbers() -> None:
    assert tree.ravel((np.ones(2, np.float32), np.zeros((), np.float32)))[0].dtype == np.float32
    assert tree.ravel((1, 2.5))[0].tolist() == [1.0, 2.5]


@pytest.mark.parametrize("number", [2**53, -(2**53), 0])
def test_ravel_preserves_integers(number: int) -> None:
    nested = {"a": np.ones(3, np.float32), "count": np.int64(number), "none": np.zeros(0, np.int64)}
    flat, unravel = tree.ravel(nested)
    assert flat.dtype == np.float64
    assert_trees_equal(unravel(flat), nested)
    integers = {"count": np.int64(-(2**63)), "small": np.int32(7), "true": np.True_}
    assert_trees_equal(tree.ravel(integers)[1](tree.ravel(integers)[0]), integers)


@pytest.mark.parametrize(
    ("leaf", "beside", "message"),
    [
        (np.array([0, 2**53 + 1]), np.ones(1, np.float32), r"\[1\] has integers beyond 2\*\*53, which float64"),
        (np.int64(-(2**63)), 1.0, "which float64 cannot represent exactly"),
        (np.uint64(2**64 - 1), np.ones(1, np.complex64), "which complex128 cannot represent exactly"),
        (np.uint64(2**63), np.int64(-1), "which float64 cannot represent exactly"),
    ],
)
def test_ravel_refuses_integers_that_would_be_rounded(leaf: Any, beside: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tree.ravel((beside, leaf))


@pytest.mark.parametrize("shape", [(11,), (13,), (12, 1), (), (1, 12)])
def test_unravel_checks_the_shape(shape: tuple[int, ...]) -> None:
    unravel = tree.ravel(arrays())[1]
    with pytest.raises(ValueError, match=r"expected an array of shape \(12,\), but got \("):
        unravel(np.zeros(shape))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"a": [np.ones(2), "text"]}, r"\['a'\]\[1\] must be numeric, but its dtype is <U4"),
        (np.array([None]), "the tree must be numeric, but its dtype is object"),
    ],
)
def test_ravel_needs_numbers(bad: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        tree.ravel(bad)


def test_global_norm_is_that_of_the_flat_vector() -> None:
    nested = arrays()
    flat = tree.ravel(nested)[0]
    assert tree.global_norm(nested) == pytest.approx(np.sqrt((flat * flat).sum()), rel=1e-7)
    assert tree.global_norm({"a": 3, "b": [np.full((2, 2), 2.0)]}) == 5.0
    assert tree.global_norm(()) == 0.0
    assert tree.global_norm(np.array([3 + 4j])) == 5.0
    assert type(tree.global_norm(np.ones(2, np.float32))) is float


def test_global_norm_of_small_integers_does_not_wrap_around() -> None:
    assert tree.global_norm(np.array([100, 100], np.int8)) == pytest.approx(100 * 2**0.5)


def test_freeze_makes_arrays_read_only() -> None:
    nested = arrays()
    assert tree.freeze(nested) is nested
    assert not any(leaf.flags.writeable for leaf in tree.leaves(nested))
    assert tree.freeze((1.0, None, np.float32(2))) == (1.0, None, 2)


def test_frozen_is_a_read_only_view() -> None:
    array = np.zeros(2)
    view = tree.frozen(array)
    array[0] = 1
    assert view.tolist() == [1, 0]
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 2


def test_purity() -> None:
    nested = tree.freeze(arrays())
    flat, unravel = tree.ravel(nested)
    check_purity(lambda nested: tree.ravel(nested)[0], nested)
    check_purity(unravel, flat)
    check_purity(tree.map, np.add, nested, nested)
    check_purity(tree.global_norm, nested)
    for f in (tree.flatten, tree.leaves, tree.structure, tree.flatten_with_path):
        check_purity(lambda nested, f=f: str(f(nested)), nested)
