"""Properties that hold for all inputs, on inputs that Hypothesis generates."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import library

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fnet
from fnet import checkpoint, data, losses, metrics, random, testing, tree
from fnet.engine import Processes

settings.register_profile("fnet", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("fnet")

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
NUMBERS = hnp.arrays(st.sampled_from(["?", "u1", "i8", ">i4", "f2", "f4", ">f8", "c16"]), SHAPES)
ANY = hnp.arrays(st.sampled_from(["?", "u2", "i8", ">i4", "f2", "f4", ">f8", "c8", "U3", "M8[s]"]), SHAPES)


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.one_of(leaves, st.none()),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(st.text(max_size=4), inner, max_size=3),
        ),
        max_leaves=8,
    )


@given(trees(st.integers()))
def test_flatten_and_unflatten(nested: Any) -> None:
    leaves, treedef = tree.flatten(nested)
    assert tree.unflatten(treedef, leaves) == nested
    assert [leaf for _, leaf in tree.flatten_with_path(nested)[0]] == leaves


@given(trees(hnp.arrays("f8", SHAPES)))
def test_ravel_and_unravel(nested: Any) -> None:
    flat, unravel = tree.ravel(nested)
    testing.assert_trees_equal(unravel(flat), nested)


@given(trees(ANY))
def test_save_and_load(nested: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(Path(folder, "tree.npz"), nested)
        testing.assert_trees_equal(checkpoint.load(Path(folder, "tree.npz"), nested), nested)


@given(st.integers(1, 300), st.integers(1, 70), st.integers(0, 2**40), st.booleans())
def test_batches_cover_every_row_once(rows: int, batch_size: int, seed: int, drop_last: bool) -> None:
    batch_size = min(batch_size, rows)
    dataset = fnet.Dataset(np.arange(rows)[:, None], np.arange(rows))
    parts = [y for _, y in data.batches(random.key(seed), dataset, batch_size, drop_last=drop_last)]
    seen = np.concatenate(parts)
    assert len(np.unique(seen)) == len(seen)
    assert len(seen) == (rows - rows % batch_size if drop_last else rows)


@settings(max_examples=40)
@given(st.integers(2, 60), st.integers(2, 64))
def test_any_rows_and_batch_size_train_with_batch_norm(rows: int, batch_size: int) -> None:
    x = random.normal(random.key(rows), (rows, 2))
    train = fnet.Dataset(x, np.arange(rows) % 2)
    config = fnet.MLPConfig(sizes=(2, 3, 2))
    train_config = fnet.TrainConfig(epochs=1, batch_size=batch_size)
    ((state, record),) = fnet.fit(config, train_config, train, key=random.key(0))
    assert int(state.totals.count) == rows
    assert np.isfinite(record.train_loss)


@given(st.integers(0, 100), st.integers(1, 9))
def test_processes_share_all_rows_of_a_batch(rows: int, size: int) -> None:
    parts = [Processes(rank, size, lambda array: array).own(rows) for rank in range(size)]
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(rows))
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) - min(lengths) <= 1


@given(hnp.arrays(st.sampled_from(["f4", "f8"]), (3, 4), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_softmax_sums_to_one(logits: np.ndarray) -> None:
    np.testing.assert_allclose(losses.softmax(logits).sum(axis=1), 1, rtol=1e-6)


@given(
    st.integers(2, 5).flatmap(
        lambda k: st.tuples(st.just(k), st.lists(st.tuples(*[st.integers(0, k - 1)] * 2), min_size=1))
    )
)
def test_metrics_are_those_of_scikit_learn(case: tuple[int, list[tuple[int, int]]]) -> None:
    sklearn = library("sklearn.metrics")
    num_classes, pairs = case
    labels, predictions = (list(column) for column in zip(*pairs, strict=True))
    report = metrics.classification_report(labels, predictions, num_classes)
    options = {"labels": range(num_classes), "zero_division": 0}
    expected = sklearn.precision_recall_fscore_support(labels, predictions, **options)
    np.testing.assert_allclose([report.precision, report.recall, report.f1, report.support], expected)
    assert report.accuracy == sklearn.accuracy_score(labels, predictions)


@given(st.lists(st.integers(0, 3), min_size=4, max_size=80), st.floats(0.05, 0.95))
def test_a_split_is_a_stratified_partition(labels: list[int], share: float) -> None:
    rows = len(labels)
    size = round(share * rows)
    if not 1 <= size < rows:
        return
    whole = fnet.Dataset(np.arange(rows)[:, None], np.array(labels))
    first, second = data.train_test_split(random.key(0), whole, size)
    assert sorted([*first.x[:, 0], *second.x[:, 0]]) == list(range(rows))
    counts = np.bincount(labels)
    if np.count_nonzero(counts) <= rows - size:
        assert set(first.y) == set(labels)
    if all(count * (rows - size) >= rows for count in counts if count):  # none so rare that it would be missing
        assert np.all(np.abs(np.bincount(second.y, minlength=len(counts)) - counts * size / rows) <= 1 + 1e-9)
