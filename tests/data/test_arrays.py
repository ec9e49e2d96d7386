"""Loading from files."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fnet import data

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
        ("1,2,007\n3,4,7\n5,6,007\n", None, ("007", "7"), [0, 1, 0]),
        ("kind,u,v\ny,1,2\nn,3,4\ny,5,6\n", "kind", ("n", "y"), [1, 0, 1]),
        ('\ufeffu,v,w\r\n1,2,"a,b"\r\n\r\n3,4,c\r\n5,6,"a,b"\r\n', None, ("a,b", "c"), [0, 1, 0]),
    ],
)
def test_csv(text: str, label: str | None, classes: tuple[Any, ...], codes: list[int], tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(text, newline="")
    train, test = data.load(tmp_path / "d.csv", target=label)
    assert (train.classes, train.y.tolist(), test) == (classes, codes, None)
    np.testing.assert_array_equal(train.x, np.array([[1, 2], [3, 4], [5, 6]], np.float32))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"), ("a,b\n", "no rows"), ("1,2,a\n1,a\n", "line 2: expected 3 columns, but got 2"),
        ("1,x,a\n2,3,b\n", r"line 1: '1', 'x', 'a' may be column names"),
        ("1,2,\n1,2,b\n", "line 1, column '3': the target is missing"), ("1,2,a\n2,3,a\n", "at least 2 classes"),
        ("1,,a\n2,3,b\n", r"line 1, column '2': expected a number, but it is missing; .* drop=\['2'\], or use"),
        ("a\nb\n", "there is one column, 'a'"),
        ("a,t,y\n1,u,x\n2,v,y\n", "column 't': expected a number, but the column is text"),
    ],
)  # fmt: skip
def test_bad_csv(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path / "d.csv")


def test_a_csv_without_the_named_column(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("u,v\n1,2\n")
    with pytest.raises(ValueError, match="no column is named 'w'"):
        data.load(tmp_path / "d.csv", target="w")


def test_a_label_column_of_what_is_no_csv(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    for path in (tmp_path, tmp_path / "d.npz"):
        with pytest.raises(ValueError, match=r"target='w' names a column of a table, but .* is not a .csv"):
            data.load(path, target="w")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "expected arrays x, y"), ({"x": X, "y": Y[:3]}, "6 rows of features, but 3 labels"),
        ({"x": X, "y": Y.astype(complex)}, "labels must be integers"), ({"x": X[0], "y": Y}, "rows, features"),
        ({"x": X, "y": np.zeros(6, int)}, "at least 2 classes"), ({"x": X[:0], "y": Y[:0]}, "0 rows"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "expected arrays"), ({"x": X.astype(str), "y": Y}, "numbers"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1}, r"labels \[2, 6, 10\] are not among the classes"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :1], "y_test": Y}, r"as many features .* got \[6, 1\]"),
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
    with pytest.raises(ValueError, match=r"expected a folder, an \.npz, a \.csv or \.tsv"):
        data.load(tmp_path / "x.txt")


def test_features_for_prediction(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.csv").write_text("u,v\n1,2\n")
    assert data.load_features(tmp_path / "x.npy", 2).shape == (6, 2)
    assert data.load_features(tmp_path / "x.csv", 2).tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="expected 3 features per row"):
        data.load_features(tmp_path / "x.npy", 3)
    with pytest.raises(FileNotFoundError):
        data.load_features(tmp_path / "none.npy", 3)


@pytest.mark.parametrize("labels", [[["a"], ["b"]], "a"])
def test_labels_to_encode_have_one_axis(labels: Any) -> None:
    with pytest.raises(ValueError, match=r"labels must have shape \[rows\], but got"):
        data.encode_labels(labels, ("a", "b"))


@pytest.mark.parametrize("bad", ["1,x,1", "1,1", "1,2,"])
def test_messages_name_the_line_of_a_csv_with_empty_lines(bad: str, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(f"a,b,y\n\n1,2,0\n\n{bad}\n")
    with pytest.raises(ValueError, match=r"d\.csv, line 5"):
        data.load(tmp_path / "d.csv")


@pytest.mark.parametrize("name", ["d.csv", "d.CSV.gz", "d.tsv", "d.tsv.gz"])
def test_tables_by_any_of_their_names(name: str, tmp_path: Path) -> None:
    text = "id,a,b,y\n1,1700000000001,2.5,x\n2,1700000000004,1,y\n"
    if "tsv" in name:
        text = text.replace(",", "\t")
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    train, test = data.load(tmp_path / name, drop=["id"])
    assert test is None
    assert train.x.dtype == np.float64
    assert train.x.tolist() == [[1700000000001, 2.5], [1700000000004, 1]]
    with pytest.raises(ValueError, match=r"column 'y': expected a number, but the column is text"):
        data.load_features(tmp_path / name, 3)


# Numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [X[:, 0] + 0.5, X + 0.5, np.arange(6) + 0.5, np.arange(12).reshape(6, 2) / 4])
def test_floats_are_the_numbers_of_a_regression(y: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_train=X, y_train=y, x_test=X, y_test=y)
    folder = tmp_path / "folder"
    folder.mkdir()
    write_folder(folder, train_data=X, train_label=y, test_data=X, test_label=y)
    for path in (tmp_path / "d.npz", folder):
        for split in data.load(path):
            assert split is not None
            assert split.classes is None
            assert split.y.dtype == np.float64
            np.testing.assert_array_equal(split.y, y)
            assert not split.y.flags.writeable


def test_whole_floats_that_are_few_are_classes_and_kind_overrules(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y.astype(float)[:, None])
    np.savez(tmp_path / "i.npz", x=X, y=Y)
    train, _ = data.load(tmp_path / "d.npz")
    assert train.classes == tuple(np.unique(Y).tolist())
    assert train.y.dtype == np.int64
    for name in ("d.npz", "i.npz"):
        numbers, _ = data.load(tmp_path / name, kind="regression")
        assert (numbers.classes, numbers.y.tolist()) == (None, Y.tolist())


def test_a_table_has_numbers_too(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,y\n" + "".join(f"{i % 7},{i / 4}\n" for i in range(40)))
    train, _ = data.load(tmp_path / "d.csv")
    assert (train.classes, train.y.tolist()) == (None, [i / 4 for i in range(40)])


def test_integers_that_could_be_both_are_asked_about(tmp_path: Path) -> None:
    y = np.arange(600) % 200
    np.savez(tmp_path / "d.npz", x=y[:, None], y=y)
    with pytest.raises(ValueError, match=r"are 200 distinct integers in 600 rows classes or numbers\? specify kind="):
        data.load(tmp_path / "d.npz")
    assert len(data.load(tmp_path / "d.npz", kind="classification")[0].classes or ()) == 200
    np.savez(tmp_path / "many.npz", x=y[:, None].repeat(5, axis=0), y=y.repeat(5))
    assert len(data.load(tmp_path / "many.npz")[0].classes or ()) == 200


@pytest.mark.parametrize(
    ("y", "kind", "message"),
    [
        (np.array([0.5, np.nan, 1, 2, 3, 4]), None, "targets must be finite numbers"),
        (np.array([0.5, np.inf, 1, 2, 3, 4]), None, "targets must be finite numbers"),
        (np.array([1, np.inf, 1, 2, 3, 4]), "classification", "labels must be integers or strings"),
        (np.full(6, 0.5), None, "expected targets that vary, but all are 0.5"),
        (np.array(list("abcdef")), "regression", r"targets must be finite numbers .*, but got <U1\[6\]"),
        (np.zeros((6, 2, 2)) + 0.5, None, r"but got float64\[6, 2, 2\]"),
        (np.array([0.5, 1, 2, 3, 4, 5]), "classification", "labels must be integers or strings"),
        (Y, "numbers", 'kind must be "classification", "regression" or None'),
    ],
)
def test_targets_that_are_none(y: Any, kind: str | None, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=y)
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path / "d.npz", kind=kind)


def test_integers_of_an_npz_stay_exact_until_they_are_standardized(tmp_path: Path) -> None:
    x = np.array([[10**9 - 17], [10**9], [10**9 + 17]])
    np.savez(tmp_path / "d.npz", x=x, y=[0, 1, 0])
    train, _ = data.load(tmp_path / "d.npz")
    assert train.x.dtype == np.int64
    z = data.standardize(data.fit_standardizer(train.x), train.x)
    np.testing.assert_allclose(z[:, 0], [-1.2247449, 0, 1.2247449], rtol=1e-6)


def test_masked_labels_are_refused() -> None:
    with pytest.raises(TypeError, match="labels are a masked array, whose mask would be ignored"):
        data.encode_labels(np.ma.MaskedArray([1, 2], [True, False]), (1, 2))
