"""Data sets: loading, splitting, batching, and two that need no file. The scaling of features is in `fnet.scaling`."""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fnet import _npy
from fnet import random as frandom
from fnet.nn import Array
from fnet.random import Key
from fnet.scaling import (
    RobustScaler,
    Standardizer,
    fit_robust_scaler,
    fit_standardizer,
    robust_scale,
    standardize,
)
from fnet.tree import freeze, frozen

__all__ = [
    "Classes",
    "Dataset",
    "Labels",
    "RobustScaler",
    "Standardizer",
    "batch_slices",
    "batches",
    "digits",
    "encode_labels",
    "fingerprint",
    "fit_robust_scaler",
    "fit_standardizer",
    "gather",
    "load",
    "load_features",
    "num_rows",
    "robust_scale",
    "standardize",
    "synthetic",
    "take",
    "train_test_split",
]

Labels: TypeAlias = npt.NDArray[np.integer[Any]]
Classes: TypeAlias = tuple[int | str, ...]

CHUNK = 4096  # rows read at a time where all rows are gone through


class Dataset(NamedTuple):
    """Examples with their labels."""

    x: Array  # [rows, features]; may be memory-mapped
    y: Labels  # [rows] integers from 0: positions in classes
    classes: Classes | None = None  # the labels as the user knows them; None: 0, 1, 2, …


# Loading --------------------------------------------------------------------------------------------------------------


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
    if path.is_dir():
        if label is not None:
            raise ValueError(f"label={label!r} names a column of a csv, but {path} is a folder")
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
        header, rows = _read_csv(path)
        x = _csv_numbers(path, rows, range(len(rows[0])), first_line=2 if header else 1)
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
    header, rows = _read_csv(path)
    first_line = 2 if header else 1
    width = len(rows[0])
    if width < 2:
        raise ValueError(f"{path}: expected features and a label, but a row has {width} column")
    column = width - 1
    if label is not None:
        if label not in (header or []):
            raise ValueError(f"{path}: no column is named {label!r}; the columns are {header}")
        column = (header or []).index(label)
    numbers = [i for i in range(width) if i != column]
    x = _csv_numbers(path, rows, numbers, first_line)
    names = [row[column].strip() for row in rows]
    for line, name in enumerate(names, first_line):
        if not name:
            raise ValueError(f"{path}, line {line}: the label is empty")
    try:
        labels = np.array([int(name) for name in names])
    except ValueError:
        labels = np.array(names)
    return _datasets(str(path), (x, labels), None)[0]


def _read_csv(path: Path) -> tuple[list[str] | None, list[list[str]]]:
    """The header, if the first row is one, and the rows. A header has no number in it, or an unreadable feature."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a csv file: {error}") from None
    if not rows:
        raise ValueError(f"{path} is empty")
    header = None
    if not any(_is_number(cell) for cell in rows[0]):
        header = [cell.strip() for cell in rows.pop(0)]
    if not rows:
        raise ValueError(f"{path} has a header, but no rows")
    width = len(header or rows[0])
    for line, row in enumerate(rows, 2 if header else 1):
        if len(row) != width:
            raise ValueError(f"{path}, line {line}: expected {width} columns, but got {len(row)}")
    return header, rows


def _csv_numbers(path: Path, rows: list[list[str]], columns: Sequence[int], first_line: int) -> Array:
    x = np.empty((len(rows), len(columns)), np.float32)
    for i, row in enumerate(rows):
        try:
            x[i] = [float(row[column]) for column in columns]
        except ValueError:
            bad = next(column for column in columns if not _is_number(row[column]))
            raise ValueError(
                f"{path}, line {first_line + i}, column {bad + 1}: expected a number, but got {row[bad]!r}"
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
        ValueError: a label that is none of the classes.
    """
    labels = np.asarray(labels)
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


# Data sets that need no file ------------------------------------------------------------------------------------------


def digits() -> tuple[Dataset, Dataset]:
    """Handwritten digits: 1,437 training and 360 test images of 8 x 8 pixels (values 0 to 16), 10 classes.

    A fixed stratified split, in random order, of the test set of "Optical Recognition of Handwritten Digits", the part
    that scikit-learn ships: E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository, doi:10.24432/C50P49,
    licence CC BY 4.0.

    >>> train, test = digits()
    >>> train.x.shape, test.x.shape
    ((1437, 64), (360, 64))
    """
    with resources.as_file(resources.files("fnet").joinpath("digits.npz")) as path:
        arrays = _npy.read_npz(path)
    classes = tuple(range(10))
    train, test = (
        Dataset(
            freeze(arrays[f"x_{split}"].astype(np.float32)),
            freeze(arrays[f"y_{split}"].astype(np.int64)),
            classes,
        )
        for split in ("train", "test")
    )
    return train, test


def synthetic(
    key: Key,
    num_examples: int = 50_000,
    num_features: int = 128,
    num_classes: int = 10,
    *,
    clusters_per_class: int = 8,
    noise: float = 1.0,
) -> Dataset:
    """Classes that no linear model separates: each is spread over several Gaussian clusters.

    The centres of the clusters are drawn once for all classes, from a normal distribution of standard deviation
    `2 / sqrt(num_features / 16)` a feature, so that the task is about as hard at any number of features; an example is
    a centre plus noise of standard deviation `noise` a feature.

    >>> synthetic(frandom.key(0), 100, 5, 3).x.shape
    (100, 5)
    """
    for name, value, least in (
        ("num_examples", num_examples, num_classes),
        ("num_features", num_features, 1),
        ("num_classes", num_classes, 2),
        ("clusters_per_class", clusters_per_class, 1),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, but got {value}")
    centre_key, order_key, noise_key = frandom.split(key, 3)
    clusters = num_classes * clusters_per_class
    spread = 2.0 / np.sqrt(max(num_features / 16, 1.0))
    centres = float(spread) * frandom.normal(centre_key, (clusters, num_features))
    cluster = frandom.permutation(order_key, num_examples) % clusters
    x = frandom.normal(noise_key, (num_examples, num_features))
    x *= noise
    x += centres[cluster]
    return Dataset(freeze(x), freeze(cluster % num_classes), tuple(range(num_classes)))


def fingerprint(dataset: Dataset) -> str:
    """The SHA-256 of features, labels and classes, to tell whether data are the same.

    >>> fingerprint(Dataset(np.zeros((1, 2)), np.zeros(1, int)))[:8]
    '399b33bb'
    """
    sha256 = hashlib.sha256()
    for array in (dataset.x, dataset.y):
        sha256.update(f"{array.dtype.str}{array.shape}".encode())
        for start in range(0, len(array), CHUNK):
            sha256.update(array[start : start + CHUNK].tobytes())
    sha256.update(repr(dataset.classes).encode())
    return sha256.hexdigest()


# Splitting and batching -----------------------------------------------------------------------------------------------


def train_test_split(key: Key, dataset: Dataset, test_size: float | int) -> tuple[Dataset, Dataset]:
    """A random split into two, stratified: each class has the same share in both, as nearly as whole rows allow.

    Args:
        test_size: a share between 0 and 1, or a number of rows.

    Raises:
        ValueError: one of the two would be empty.
    """
    rows = len(dataset.y)
    size = num_rows(test_size, rows)
    # In the order of class and, within it, chance, every rows/size-th example goes into the test set.
    order = frandom.permutation(key, rows)
    order = order[np.argsort(dataset.y[order], kind="stable")]
    is_test = np.zeros(rows, bool)
    is_test[order[(np.arange(size) * rows + rows // 2) // size]] = True
    return take(dataset, np.flatnonzero(~is_test)), take(dataset, np.flatnonzero(is_test))


def num_rows(size: float | int, rows: int) -> int:
    """A number of rows, or a share of them, as a number of rows that leaves at least one over.

    >>> num_rows(0.25, 100), num_rows(7, 100)
    (25, 7)
    """
    if isinstance(size, float):
        if not 0 < size < 1:
            raise ValueError(f"a share of the rows must be between 0 and 1, but got {size}")
        size = round(size * rows)
    if not 1 <= size < rows:
        raise ValueError(f"a split of {size} of {rows} rows leaves one side empty")
    return size


def take(dataset: Dataset, rows: npt.NDArray[np.integer[Any]] | slice) -> Dataset:
    """The rows of a data set; a slice of a memory-mapped one stays so."""
    return dataset._replace(x=frozen(dataset.x[rows]), y=frozen(dataset.y[rows]))


def batches(key: Key, dataset: Dataset, batch_size: int, *, drop_last: bool = False) -> Iterator[tuple[Array, Labels]]:
    """The features and labels of an epoch's batches, in an order that the key decides.

    Every row comes once. The last batch may be smaller; `drop_last` leaves it out.

    Raises:
        ValueError: `batch_size` is not positive, or no batch is left.
    """
    order = frandom.permutation(key, len(dataset.y))
    for part in batch_slices(len(order), batch_size, drop_last=drop_last):
        yield gather(dataset.x, order[part]), dataset.y.take(order[part])


def batch_slices(rows: int, batch_size: int, *, drop_last: bool = False, min_size: int = 1) -> list[slice]:
    """Where each batch of an epoch begins and ends; a rest smaller than `min_size` joins the last whole batch.

    >>> batch_slices(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    >>> batch_slices(5, 2, min_size=2)
    [slice(0, 2, None), slice(2, 5, None)]
    """
    if batch_size < 1 or (drop_last and batch_size > rows):
        raise ValueError(f"batch_size must be from 1 to the {rows} rows, but got {batch_size}")
    starts = list(range(0, rows, batch_size))
    rest = rows % batch_size
    if rest and len(starts) > 1 and (drop_last or rest < min_size):
        starts.pop()
    ends = [*starts[1:], len(starts) * batch_size if drop_last else rows]
    return [slice(start, end) for start, end in zip(starts, ends, strict=True)]


def gather(x: Array, rows: npt.NDArray[np.integer[Any]]) -> Array:
    """The given rows. `take` is the faster way, but would copy all of an array that is not in C order."""
    return x.take(rows, axis=0) if x.flags.c_contiguous else x[rows]
