"""Loading from files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fnet import loading

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
    train, test_set = loading.load(write_folder(tmp_path, **arrays))
    np.testing.assert_array_equal(train.x, X)
    assert train.y.tolist() == [0, 1, 1, 0, 2, 0]
    assert train.classes == ((1, 5, 9) if labels.dtype.kind == "u" else ("1", "5", "9"))
    assert (test_set is not None) == test
    if test_set is not None:
        assert test_set.y.tolist() == [2, 0]
        assert test_set.classes == train.classes
    assert not train.x.flags.writeable


def test_features_of_a_folder_stay_on_the_disk(tmp_path: Path) -> None:
    train, _ = loading.load(write_folder(tmp_path, train_data=X, train_label=Y))
    base: Any = train.x
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


@pytest.mark.parametrize("names", [("x", "y"), ("x_train", "y_train")])
def test_npz(names: tuple[str, str], tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **dict(zip(names, (X, Y), strict=True)))  # pyright: ignore[reportArgumentType]
    train, test = loading.load(tmp_path / "d.npz")
    assert (train.y.tolist(), test) == ([0, 1, 1, 0, 2, 0], None)
    np.savez(tmp_path / "d.npz", x_train=X, y_train=Y, x_test=X[:1], y_test=Y[1:2])
    _, test = loading.load(tmp_path / "d.npz")
    assert test is not None
    assert test.y.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "label", "classes", "codes"),
    [
        ("1,2,b\n3,4,a\n5,6,b\n", None, ("a", "b"), [1, 0, 1]),
        ("u,v,w\n1,2,7\n3,4,-1\n5,6,7\n", None, (-1, 7), [1, 0, 1]),
        ("1,2,007\n3,4,7\n5,6,007\n", None, ("007", "7"), [0, 1, 0]),
        ("kind,u,v\ny,1,2\nn,3,4\ny,5,6\n", "kind", ("n", "y"), [1, 0, 1]),
        ('\ufeffu,v,w\r\n1,2,"a,b"\r\n\r\n3,4,c\r\n5,6,"a,b"\r\n', None, ("a,b", "c"), [0, 1, 0]),
    ],
)
def test_csv(text: str, label: str | None, classes: tuple[Any, ...], codes: list[int], tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(text, newline="")
    train, test = loading.load(tmp_path / "d.csv", label=label)
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
        loading.load(tmp_path / "d.csv")


def test_a_csv_without_the_named_column(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("u,v\n1,2\n")
    with pytest.raises(ValueError, match="no column is named 'w'"):
        loading.load(tmp_path / "d.csv", label="w")


def test_a_label_column_of_what_is_no_csv(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    for path in (tmp_path, tmp_path / "d.npz"):
        with pytest.raises(ValueError, match=r"label='w' names a column of a csv, but .* is none"):
            loading.load(path, label="w")


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
        loading.load(tmp_path / "d.npz")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        loading.load(tmp_path / "none.csv")
    with pytest.raises(FileNotFoundError, match=r"no train_data\.npy"):
        loading.load(tmp_path)
    write_folder(tmp_path, train_data=X, train_label=Y, test_data=X)
    with pytest.raises(FileNotFoundError, match="but not both"):
        loading.load(tmp_path)
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(ValueError, match=r"expected a folder, an \.npz or a \.csv"):
        loading.load(tmp_path / "x.txt")


def test_features_for_prediction(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.csv").write_text("u,v\n1,2\n")
    assert loading.load_features(tmp_path / "x.npy", 2).shape == (6, 2)
    assert loading.load_features(tmp_path / "x.csv", 2).tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="expected 3 features a row"):
        loading.load_features(tmp_path / "x.npy", 3)
    with pytest.raises(FileNotFoundError):
        loading.load_features(tmp_path / "none.npy", 3)


@pytest.mark.parametrize("labels", [[["a"], ["b"]], "a"])
def test_labels_to_encode_have_one_axis(labels: Any) -> None:
    with pytest.raises(ValueError, match=r"labels must have shape \[rows\], but got"):
        loading.encode_labels(labels, ("a", "b"))


@pytest.mark.parametrize("bad", ["1,x,1", "1,1", "1,2,"])
def test_messages_name_the_line_of_a_csv_with_empty_lines(bad: str, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(f"a,b,y\n\n1,2,0\n\n{bad}\n")
    with pytest.raises(ValueError, match=r"d\.csv, line 5"):
        loading.load(tmp_path / "d.csv")
