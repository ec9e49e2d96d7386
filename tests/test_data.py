"""Loading, scaling, splitting, batching."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fnet
from fnet import Dataset, data
from fnet import random as frandom

KEY = frandom.key(0)
X, Y = np.arange(12, dtype=np.float32).reshape(6, 2), np.array([1, 5, 5, 1, 9, 1], np.uint8)


def write_folder(folder: Path, **arrays: np.ndarray) -> Path:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


@pytest.mark.parametrize("labels", [Y, Y[:, None], Y.astype(str)])
@pytest.mark.parametrize("test", [True, False])
def test_folder(labels: np.ndarray, test: bool, tmp_path: Path) -> None:
    arrays = {"train_data": X, "train_label": labels}
    if test:
        arrays |= {"test_data": X[:2] + 1, "test_label": labels[4:]}
    train, test_set = data.load(write_folder(tmp_path, **arrays))
    np.testing.assert_array_equal(train.x, X)
    assert train.y.tolist() == [0, 1, 1, 0, 2, 0]
    assert train.classes == ((1, 5, 9) if labels.dtype.kind == "u" else ("1", "5", "9"))
    assert (test_set is not None) == test
    if test_set is not None:
        assert test_set.y.tolist() == [2, 0]
        assert test_set.classes == train.classes
    assert not train.x.flags.writeable


def test_features_of_a_folder_stay_on_the_disk(tmp_path: Path) -> None:
    train, _ = data.load(write_folder(tmp_path, train_data=X, train_label=Y))
    base: Any = train.x
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


@pytest.mark.parametrize("names", [("x", "y"), ("x_train", "y_train")])
def test_npz(names: tuple[str, str], tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **dict(zip(names, (X, Y), strict=True)))  # pyright: ignore[reportArgumentType]
    train, test = data.load(tmp_path / "d.npz")
    assert (train.y.tolist(), test) == ([0, 1, 1, 0, 2, 0], None)
    np.savez(tmp_path / "d.npz", x_train=X, y_train=Y, x_test=X[:1], y_test=Y[1:2])
    _, test = data.load(tmp_path / "d.npz")
    assert test is not None
    assert test.y.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "label", "classes", "codes"),
    [
        ("1,2,b\n3,4,a\n5,6,b\n", None, ("a", "b"), [1, 0, 1]),
        ("u,v,w\n1,2,7\n3,4,-1\n5,6,7\n", None, (-1, 7), [1, 0, 1]),
        ("kind,u,v\ny,1,2\nn,3,4\ny,5,6\n", "kind", ("n", "y"), [1, 0, 1]),
        ('\ufeffu,v,w\r\n1,2,"a,b"\r\n\r\n3,4,c\r\n5,6,"a,b"\r\n', None, ("a,b", "c"), [0, 1, 0]),
    ],
)
def test_csv(text: str, label: str | None, classes: tuple[Any, ...], codes: list[int], tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(text, newline="")
    train, test = data.load(tmp_path / "d.csv", label=label)
    assert (train.classes, train.y.tolist(), test) == (classes, codes, None)
    np.testing.assert_array_equal(train.x, np.array([[1, 2], [3, 4], [5, 6]], np.float32))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"), ("a,b\n", "no rows"), ("1,2,a\n1,a\n", "line 2: expected 3 columns, but got 2"),
        ("1,x,a\n2,3,b\n", r"line 1, column 2: expected a number, but got 'x'"), ("1,2,\n1,2,b\n", "label is empty"),
        ("1,,a\n2,3,b\n", "column 2: expected a number, but got ''"), ("1,2,a\n2,3,a\n", "at least 2 classes"),
        ("a\nb\n", "a row has 1 column"),
    ],
)  # fmt: skip
def test_bad_csv(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path / "d.csv")


def test_a_csv_without_the_named_column(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("u,v\n1,2\n")
    with pytest.raises(ValueError, match="no column is named 'w'"):
        data.load(tmp_path / "d.csv", label="w")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "expected arrays x, y"), ({"x": X, "y": Y[:3]}, "6 rows of features, but 3 labels"),
        ({"x": X, "y": Y.astype(float)}, "labels must be integers or strings"), ({"x": X[0], "y": Y}, "rows, features"),
        ({"x": X, "y": np.zeros(6, int)}, "at least 2 classes"), ({"x": X[:0], "y": Y[:0]}, "0 rows"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "expected arrays"), ({"x": X.astype(str), "y": Y}, "numbers"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1}, r"labels \[2, 6, 10\] are none of the classes"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :1], "y_test": Y}, "2 features in training, 1 in test"),
    ],
)  # fmt: skip
def test_bad_npz(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path / "d.npz")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        data.load(tmp_path / "none.csv")
    with pytest.raises(FileNotFoundError, match=r"no train_data\.npy"):
        data.load(tmp_path)
    write_folder(tmp_path, train_data=X, train_label=Y, test_data=X)
    with pytest.raises(FileNotFoundError, match="but not both"):
        data.load(tmp_path)
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(ValueError, match=r"expected a folder, an \.npz or a \.csv"):
        data.load(tmp_path / "x.txt")


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


def test_features_for_prediction(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.csv").write_text("u,v\n1,2\n")
    assert data.load_features(tmp_path / "x.npy", 2).shape == (6, 2)
    assert data.load_features(tmp_path / "x.csv", 2).tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="expected 3 features a row"):
        data.load_features(tmp_path / "x.npy", 3)
    with pytest.raises(FileNotFoundError):
        data.load_features(tmp_path / "none.npy", 3)
