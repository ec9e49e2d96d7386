"""Data sets that need no file, splitting, batching."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fnet
from fnet import Dataset, data
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
    with pytest.raises(ValueError, match="there are no rows for a batch"):
        next(data.batches(KEY, Dataset(np.zeros((0, 2)), np.zeros(0, int)), 4))


def test_sizes_of_a_split() -> None:
    sizes: list[Any] = [np.float32(0.25), np.int8(25)]
    assert [data.num_rows(size, 100) for size in sizes] == [25, 25]
    for bad in ("0.5", None, True):
        with pytest.raises(TypeError, match="expected a number of rows, or a fraction as a float, but got"):
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


def test_a_share_of_few_rows_is_at_least_one_and_leaves_one() -> None:
    assert [data.num_rows(share, 3) for share in (0.01, 0.1, 0.5, 0.99)] == [1, 1, 2, 2]
    with pytest.raises(
        ValueError, match="a split of 3 of 3 rows leaves one side empty; give a number of rows from 1 to 2"
    ):
        data.num_rows(3, 3)
    with pytest.raises(ValueError, match="one row cannot be split"):
        data.num_rows(0.5, 1)


@pytest.mark.parametrize("size", [1, 5, 10, 50, 0.5])
def test_no_class_is_in_the_test_set_alone(size: float) -> None:
    y = np.array([0] * 40 + [1] * 40 + list(range(2, 22)))  # twenty classes of one row
    for seed in range(20):
        train, test = data.train_test_split(frandom.key(seed), Dataset(np.arange(100.0)[:, None], y), size)
        assert len(np.unique(train.y)) == 22
        assert len(test.y) == data.num_rows(size, 100)
        assert sorted([*train.x[:, 0], *test.x[:, 0]]) == list(range(100))


def test_rows_sorted_by_class_are_split_into_all_classes() -> None:
    whole = Dataset(np.zeros((90, 1)), np.repeat([0, 1, 2], 30), ("a", "b", "c"))
    _, test = data.train_test_split(KEY, whole, 9)
    assert np.bincount(test.y).tolist() == [3, 3, 3]
    _, by_chance = data.train_test_split(KEY, whole, 9, stratify=False)
    counts = {
        tuple(np.bincount(data.train_test_split(frandom.key(seed), whole, 9, stratify=False)[1].y, minlength=3))
        for seed in range(9)
    }
    assert len(by_chance.y) == 9
    assert len(counts) > 1


def test_numbers_to_predict_are_split_evenly() -> None:
    whole = Dataset(np.zeros((100, 1)), np.linspace(0, 1, 100))  # pyright: ignore[reportArgumentType]
    _, test = data.train_test_split(KEY, whole, 10)
    assert np.histogram(test.y, 10, (0, 1))[0].tolist() == [1] * 10


def test_classes_too_rare_for_both_sides_are_named() -> None:
    whole = Dataset(np.zeros((21, 1)), np.array([0] * 10 + [1] * 10 + [2]), ("a", "b", "rare"))
    train, test = data.train_test_split(KEY, whole, 4)
    assert data.absent_classes(train) == ()
    assert data.absent_classes(test) == ("rare",)
    assert data.absent_classes(Dataset(X, Y)) == (0, 2, 3, 4, 6, 7, 8)


def test_a_mapped_file_that_has_become_shorter_is_noticed(tmp_path: Path) -> None:
    np.save(tmp_path / "train_data.npy", np.zeros((1000, 4), np.float32))
    np.save(tmp_path / "train_label.npy", np.arange(1000) % 2)
    train, _ = data.load(tmp_path)
    part = data.take(train, slice(10, 20))
    for dataset in (train, part, Dataset(X, Y)):
        data.check_mapped(dataset)
    with (tmp_path / "train_data.npy").open("r+b") as file:
        file.truncate(8000)
    for dataset in (train, part):
        with pytest.raises(
            ValueError, match=r"train_data\.npy became shorter while it was in use: 8000 bytes, but its data"
        ):
            data.check_mapped(dataset)
    (tmp_path / "train_data.npy").unlink()
    with pytest.raises(FileNotFoundError):
        data.check_mapped(train)


def test_batches_with_swapped_arguments_show_the_right_call() -> None:
    with pytest.raises(TypeError, match=r"expected batches\(key, dataset, batch_size\)"):
        next(fnet.data.batches(fnet.data.digits()[0], 64, fnet.random.key(0)))  # pyright: ignore
