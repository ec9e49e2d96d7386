"""What a data set is, and its loading from files. `fnet.data` has all these names too."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fnet.data import npy as _npy
from fnet.data.dataset import Classes, Dataset, Labels
from fnet.nn import Array
from fnet.tree import freeze, frozen


def load(path: str | Path, *, label: str | None = None) -> tuple[Dataset, Dataset | None]:
    """The training data and, where there is one, the test data at a path.

    - a folder with `train_data.npy`, `train_label.npy` and perhaps `test_data.npy`, `test_label.npy`; features are
      memory-mapped, so that they may be larger than memory; labels `[rows]` or `[rows, 1]`;
    - an `.npz` with `x, y` or `x_train, y_train` and perhaps `x_test, y_test`;
    - a `.csv` of numbers, with or without a header, and the label in the last column or in the one named `label`.

    Labels are integers or strings. Sorted, they are the classes; the labels of a Dataset are positions among them.

    Raises:
        FileNotFoundError: nothing is there.
        TypeError, ValueError: a file that is damaged or holds something else; says which and what.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    if label is not None and path.suffix.lower() != ".csv":
        raise ValueError(f"label={label!r} names a column of a csv, but {path} is none")
    if path.is_dir():
        return _load_folder(path)
    match path.suffix.lower():
        case ".npz":
            return _load_npz(path)
        case ".csv":
            return _load_csv(path, label), None
        case _:
            raise ValueError(f"expected a folder, an .npz or a .csv, but got {path}")


def load_features(path: str | Path, num_features: int) -> Array:
    """Features without labels, from a `.npy` (memory-mapped) or a `.csv`; for prediction.

    Raises:
        FileNotFoundError, TypeError, ValueError: as `load`, or another number of features.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    if path.suffix.lower() == ".csv":
        _, lines, rows = _read_csv(path)
        x = _csv_numbers(path, lines, rows, range(len(rows[0])))
    else:
        x = _npy.read_npy(path, mmap=True)
    if x.ndim != 2 or x.shape[1] != num_features:
        raise ValueError(f"{path}: expected {num_features} features a row, but got {list(x.shape)}")
    return x


def _load_folder(path: Path) -> tuple[Dataset, Dataset | None]:
    for name in ("train_data.npy", "train_label.npy"):
        if not (path / name).exists():
            raise FileNotFoundError(f"{path} has no {name}")
    present = [(path / f"test_{part}.npy").exists() for part in ("data", "label")]
    if any(present) and not all(present):
        raise FileNotFoundError(f"{path} has one of test_data.npy and test_label.npy, but not both")
    train, test = (
        (
            _npy.read_npy(path / f"{split}_data.npy", mmap=True),
            _npy.read_npy(path / f"{split}_label.npy"),
        )
        if split == "train" or all(present)
        else None
        for split in ("train", "test")
    )
    assert train is not None
    return _datasets(str(path), train, test)


def _load_npz(path: Path) -> tuple[Dataset, Dataset | None]:
    arrays = _npy.read_npz(path, ("x", "y", "x_train", "y_train", "x_test", "y_test"))
    names = ("x_train", "y_train") if "x_train" in arrays else ("x", "y")
    missing = [name for name in names if name not in arrays]
    if missing or ("x_test" in arrays) != ("y_test" in arrays):
        raise ValueError(
            f"{path}: expected arrays x, y or x_train, y_train and perhaps x_test, y_test; "
            f"got {', '.join(arrays) or 'none of these'}"
        )
    test = (arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
    return _datasets(str(path), (arrays[names[0]], arrays[names[1]]), test)


def _load_csv(path: Path, label: str | None) -> Dataset:
    header, lines, rows = _read_csv(path)
    width = len(rows[0])
    if width < 2:
        raise ValueError(f"{path}: expected features and a label, but a row has {width} column")
    column = width - 1
    if label is not None:
        if label not in (header or []):
            raise ValueError(f"{path}: no column is named {label!r}; the columns are {header}")
        column = (header or []).index(label)
    numbers = [i for i in range(width) if i != column]
    x = _csv_numbers(path, lines, rows, numbers)
    names = [row[column].strip() for row in rows]
    for line, name in zip(lines, names, strict=True):
        if not name:
            raise ValueError(f"{path}, line {line}: the label is empty")
    try:
        codes = [int(name) for name in names]
    except ValueError:
        codes = []
    # Integers only where nothing is lost: "007" and "7" are two labels.
    labels = np.array(codes if [str(code) for code in codes] == names else names)
    return _datasets(str(path), (x, labels), None)[0]


def _read_csv(path: Path) -> tuple[list[str] | None, list[int], list[list[str]]]:
    """The header, if the first row is one, and the rows that are not empty, with the line on which each ends.

    A header has no number in it.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            found = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a csv file: {error}") from None
    if not found:
        raise ValueError(f"{path} is empty")
    lines, rows = [line for line, _ in found], [row for _, row in found]
    header = None
    if not any(_is_number(cell) for cell in rows[0]):
        header = [cell.strip() for cell in rows.pop(0)]
        del lines[0]
    if not rows:
        raise ValueError(f"{path} has a header, but no rows")
    width = len(header or rows[0])
    for line, row in zip(lines, rows, strict=True):
        if len(row) != width:
            raise ValueError(f"{path}, line {line}: expected {width} columns, but got {len(row)}")
    return header, lines, rows


def _csv_numbers(path: Path, lines: list[int], rows: list[list[str]], columns: Sequence[int]) -> Array:
    x = np.empty((len(rows), len(columns)), np.float32)
    for i, row in enumerate(rows):
        try:
            x[i] = [float(row[column]) for column in columns]
        except ValueError:
            bad = next(column for column in columns if not _is_number(row[column]))
            raise ValueError(
                f"{path}, line {lines[i]}, column {bad + 1}: expected a number, but got {row[bad]!r}"
            ) from None
    return x


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _datasets(
    source: str, train: tuple[Array, Array], test: tuple[Array, Array] | None
) -> tuple[Dataset, Dataset | None]:
    x, labels = _checked(source, *train)
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{source}: expected at least 2 classes, but all labels are {classes[0]}")
    names: Classes = tuple(classes.tolist())
    dataset = Dataset(frozen(x), freeze(codes.astype(np.int64, copy=False)), names)
    if test is None:
        return dataset, None
    test_x, test_labels = _checked(f"{source} (test)", *test)
    if test_x.shape[1] != x.shape[1]:
        raise ValueError(f"{source}: {x.shape[1]} features in training, {test_x.shape[1]} in test")
    return dataset, Dataset(frozen(test_x), encode_labels(test_labels, names), names)


def encode_labels(labels: npt.ArrayLike, classes: Classes) -> Labels:
    """The position of each label among the classes.

    >>> encode_labels(["no", "yes"], ("no", "yes"))
    array([0, 1])

    Raises:
        ValueError: a label that is none of the classes, or labels that are not `[rows]`.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"labels must have shape [rows], but got {list(labels.shape)}")
    positions = {name: i for i, name in enumerate(classes)}
    unknown = [name for name in np.unique(labels).tolist() if name not in positions]
    if unknown:
        raise ValueError(f"labels {unknown} are none of the classes {list(classes)}")
    return freeze(np.array([positions[name] for name in labels.tolist()], np.int64))


def _checked(source: str, x: Array, labels: Array) -> tuple[Array, Array]:
    if x.ndim != 2 or x.dtype.kind not in "fiub":
        raise ValueError(f"{source}: features must be numbers [rows, features], but got {x.dtype}{list(x.shape)}")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise ValueError(
            f"{source}: labels must be integers or strings [rows], but got {labels.dtype}{list(labels.shape)}"
        )
    if len(x) != len(labels) or len(x) == 0:
        raise ValueError(f"{source}: {len(x)} rows of features, but {len(labels)} labels")
    return np.asarray(x), labels  # a plain array, also of mapped memory: operations on a memmap take longer
