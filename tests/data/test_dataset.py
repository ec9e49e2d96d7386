"""Data sets that need no file, splitting, batching."""

from typing import Any

import numpy as np
import pytest

import fnet
from fnet import Dataset, data, loading
from fnet import random as frandom

KEY = frandom.key(0)
X, Y = np.arange(12, dtype=np.float32).reshape(6, 2), np.array([1, 5, 5, 1, 9, 1], np.uint8)


def test_digits() -> None:
    train, test = data.digits()
    assert (train.x.shape, test.x.shape, train.x.dtype) == ((1437, 64), (360, 64), np.float32)
    assert train.x.min() == 0
    assert train.x.max() == 16
    shares = np.bincount(test.y) / np.bincount(np.concatenate([train.y, test.y]))
    assert np.all(np.abs(shares - 0.2) < 0.01)
    assert {row.tobytes() for row in train.x}.isdisjoint(row.tobytes() for row in test.x)


def test_synthetic_is_not_linear() -> None:
    whole = data.synthetic(KEY, 3000, 8, 3)
    assert np.bincount(whole.y).min() > 900
    train, test = data.train_test_split(KEY, whole, 500)
    accuracies = []
    for hidden in ((), (64,)):
        config = fnet.MLPConfig(sizes=(8, *hidden, 3), dropout=0.0)
        train_config = fnet.TrainConfig(epochs=15, learning_rate=5e-3)
        *_, (state, _) = fnet.fit(config, train_config, train, key=KEY)
        accuracies.append(fnet.evaluate(config, state.params, state.state, test).accuracy)
    assert accuracies[1] > accuracies[0] + 0.15


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.train_test_split(KEY, Dataset(X, Y), 6), "leaves one side empty"),
        (lambda: data.train_test_split(KEY, Dataset(X, Y), 1.5), "between 0 and 1"),
        (lambda: next(data.batches(KEY, Dataset(X, Y), 0)), "batch_size must be from 1"),
        (lambda: data.synthetic(KEY, 2), "num_examples must be at least 10"),
    ],
)
def test_bad_calls(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("size", [0.25, 20])
def test_a_split_is_stratified_and_complete(size: float) -> None:
    y = np.array([0] * 40 + [1] * 32 + [2] * 8)
    whole = Dataset(np.arange(80.0)[:, None], y)
    first, second = data.train_test_split(KEY, whole, size)
    assert np.bincount(second.y).tolist() == [10, 8, 2]
    assert sorted([*first.x[:, 0], *second.x[:, 0]]) == list(range(80))
    assert (first.x[:, 0] == np.sort(first.x[:, 0])).all()
    other = data.train_test_split(frandom.key(1), whole, size)[1]
    assert other.x.tolist() != second.x.tolist()


def test_no_batches_of_no_rows() -> None:
    with pytest.raises(ValueError, match="there are no rows to make batches of"):
        next(data.batches(KEY, Dataset(np.zeros((0, 2)), np.zeros(0, int)), 4))


def test_sizes_of_a_split() -> None:
    sizes: list[Any] = [np.float32(0.25), np.int8(25)]
    assert [data.num_rows(size, 100) for size in sizes] == [25, 25]
    for bad in ("0.5", None, True):
        with pytest.raises(TypeError, match="expected a number of rows, or a share of them as a float, but got"):
            data.num_rows(bad, 100)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("noise", [-1.0, np.nan, np.inf])
def test_noise_of_synthetic_data(noise: float) -> None:
    with pytest.raises(ValueError, match="noise must be a finite number of at least 0, but got"):
        data.synthetic(KEY, 100, noise=noise)


@pytest.mark.parametrize("drop_last", [True, False])
def test_batches_cover_every_row_once(drop_last: bool) -> None:
    dataset = Dataset(np.arange(10.0)[:, None], np.arange(10))
    parts = list(data.batches(KEY, dataset, 4, drop_last=drop_last))
    assert [len(y) for _, y in parts] == ([4, 4] if drop_last else [4, 4, 2])
    rows = np.concatenate([y for _, y in parts])
    assert len(set(rows.tolist())) == len(rows)
    assert all((x[:, 0] == y).all() for x, y in parts)
    again = np.concatenate([y for _, y in data.batches(KEY, dataset, 4, drop_last=drop_last)])
    np.testing.assert_array_equal(again, rows)


def test_fingerprint_tells_data_apart() -> None:
    base = Dataset(X, Y, (1, 2))
    others = [base._replace(x=X + 1), base._replace(y=Y[::-1].copy()), base._replace(classes=(1, 3))]
    prints = {data.fingerprint(dataset) for dataset in (base, *others)}
    assert len(prints) == 4
    assert data.fingerprint(base._replace(x=X.copy())) == data.fingerprint(base)


def test_the_names_of_loading_are_here_too() -> None:
    names = ["Classes", "Dataset", "Labels", "encode_labels", "load", "load_features"]
    assert all(getattr(data, name) is getattr(loading, name) for name in names)
