"""Data sets in files: folders of `.npy` files, `.npz` files, and tables of numbers.

A further format is a suffix in `load`, with a reader that passes arrays to `_datasets`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from fnet.data import npy as _npy
from fnet.data.cells import looks_like_number
from fnet.data.dataset import Classes, Dataset, Labels
from fnet.data.delimited import read_table
from fnet.data.tables import Table, drop_columns, numbers, where
from fnet.data.targets import are_classes, check_kind, split_target
from fnet.nn import Array
from fnet.tree import freeze, frozen

__all__ = ["encode_labels", "is_table", "load", "load_features"]


FEW_ROWS = 5  # per class; with fewer, and more than MANY_CLASSES classes, integers may be numbers
MANY_CLASSES = 100


def load(
    path: str | Path, *, target: str | None = None, drop: Collection[str] = (), kind: str | None = None
) -> tuple[Dataset, Dataset | None]:
    """Load training data and, if there is any, test data. The path is one of these:

    - a folder with `train_data.npy`, `train_label.npy` and optionally `test_data.npy`, `test_label.npy`. Features are
      memory-mapped, so they may be larger than memory; see `check_mapped`. Labels are `[rows]` or `[rows, 1]`; numbers
      may also be `[rows, targets]`.
    - an `.npz` with `x, y` or `x_train, y_train` and optionally `x_test, y_test`.
    - a `.csv` or `.tsv`, plain or with `.gz`, for `read_table`, with the target from `split_target`. The features are
      the other columns, float64, in order; all of them must be numbers without missing cells. For text, dates and
      missing cells, use `fit_encoder` and `encode`.

    Labels are integers or strings. The classes are the sorted labels, and the labels of the Dataset are indices into
    them. Floats are the targets of a regression, with `classes` None and y float64, unless they are few whole numbers;
    see `split_target`.

    Args:
        target: the column of a table that holds the labels.
        drop: names of columns of a table that are not features, such as an ID.
        kind: "classification" or "regression"; None decides as above.

    Raises:
        FileNotFoundError: there is no such file or folder.
        TypeError, ValueError: a file is damaged or has other content; the message says which and why.
    """
    path = Path(path)
    check_kind(kind)
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    if is_table(path) and not path.is_dir():
        return _load_table(path, target, drop, kind), None
    if target is not None or drop:
        name = f"target={target!r}" if target is not None else f"drop={list(drop)!r}"
        raise ValueError(f"{name} names a column of a table, but {path} is not a .csv or .tsv")
    if path.is_dir():
        return _load_folder(path, kind)
    if path.suffix.lower() == ".npz":
        return _load_npz(path, kind)
    raise ValueError(f"expected a folder, an .npz, a .csv or .tsv, or one of these with .gz, but got {path}")


def load_features(path: str | Path | IO[bytes], num_features: int) -> Array:
    """Load features without labels, for prediction.

    The source is a `.npy` file (memory-mapped) or a table of numbers, which may be an open binary file.

    Raises:
        FileNotFoundError, TypeError, ValueError: as for `load`; or the number of features differs.
    """
    if isinstance(path, str | Path) and not Path(path).exists():
        raise FileNotFoundError(f"no such file: {path}")
    if isinstance(path, str | Path) and not is_table(path):
        x = _npy.read_npy(Path(path), mmap=True)
    else:
        x = _complete_numbers(read_table(path))
    if x.ndim != 2 or x.shape[1] != num_features:
        raise ValueError(f"{path}: expected {num_features} features per row, but got {list(x.shape)}")
    return x


def is_table(path: str | Path) -> bool:
    """Whether a file name is that of a table of delimited text.

    >>> is_table("a.csv"), is_table("a.TSV.gz"), is_table("a.npz")
    (True, True, False)
    """
    return Path(path).name.lower().removesuffix(".gz").endswith((".csv", ".tsv"))


def _load_folder(path: Path, kind: str | None) -> tuple[Dataset, Dataset | None]:
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
    return _datasets(str(path), train, test, kind)


def _load_npz(path: Path, kind: str | None) -> tuple[Dataset, Dataset | None]:
    arrays = _npy.read_npz(path, ("x", "y", "x_train", "y_train", "x_test", "y_test"))
    names = ("x_train", "y_train") if "x_train" in arrays else ("x", "y")
    missing = [name for name in names if name not in arrays]
    if missing or ("x_test" in arrays) != ("y_test" in arrays):
        raise ValueError(
            f"{path}: expected arrays x, y or x_train, y_train and perhaps x_test, y_test; "
            f"got {', '.join(arrays) or 'none of these'}"
        )
    test = (arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
    return _datasets(str(path), (arrays[names[0]], arrays[names[1]]), test, kind)


def _load_table(path: Path, target: str | None, drop: Collection[str], kind: str | None) -> Dataset:
    features, labels = split_target(drop_columns(read_table(path, target=target), drop), kind=kind)
    return Dataset(_complete_numbers(features), labels.values, labels.classes)


def _complete_numbers(table: Table) -> Array:
    x = np.empty((len(table.lines), len(table.columns)))
    for i, column in enumerate(table.columns):
        text = column.levels is not None and (column.typed or not all(map(looks_like_number, column.levels)))
        if not text:
            x[:, i] = numbers(table, column)
        if text or np.isnan(x[:, i]).any():
            row = 0 if text else int(np.argmax(np.isnan(x[:, i])))
            what = "the column is text" if text else "it is missing"
            raise ValueError(
                f"{where(table, row, column.name)}: expected a number, but {what}; leave the column out with "
                f"drop=[{column.name!r}], or use fnet.data.fit_encoder and encode, which take text and missing cells"
            )
    return frozen(x)


def _datasets(
    source: str, train: tuple[Array, Array], test: tuple[Array, Array] | None, kind: str | None
) -> tuple[Dataset, Dataset | None]:
    kind = kind or _kind(source, train[1])
    x, labels = _checked(source, *train, kind)
    test = None if test is None else _checked(f"{source} (test)", *test, kind)
    if test is not None and (test[0].shape[1:], test[1].shape[1:]) != (x.shape[1:], labels.shape[1:]):
        raise ValueError(
            f"{source}: expected as many features and targets in the test data as in training, but got "
            f"{list(test[0].shape)}, {list(test[1].shape)} and {list(x.shape)}, {list(labels.shape)}"
        )
    if kind == "regression":
        if (labels == labels[0]).all():
            raise ValueError(f"{source}: expected targets that vary, but all are {labels[0]}")
        return Dataset(frozen(x), frozen(labels)), None if test is None else Dataset(frozen(test[0]), frozen(test[1]))
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{source}: expected at least 2 classes, but all labels are {classes[0]}")
    names: Classes = tuple(classes.tolist())
    dataset = Dataset(frozen(x), freeze(codes.astype(np.int64, copy=False)), names)
    return dataset, None if test is None else Dataset(frozen(test[0]), encode_labels(test[1], names), names)


def _kind(source: str, labels: Array) -> str:
    """The kind of the labels; an error if it is ambiguous."""
    if labels.dtype.kind == "f":
        column = labels.ndim == 1 or labels.shape[1:] == (1,)
        return "classification" if column and are_classes(labels.ravel()) else "regression"
    if labels.dtype.kind in "iu":
        count = len(np.unique(labels))
        if count > max(MANY_CLASSES, labels.size / FEW_ROWS):
            raise ValueError(
                f"{source}: are {count} distinct integers in {labels.size} rows classes or numbers? specify "
                'kind="classification" (--task classify) or kind="regression" (--task regress)'
            )
    return "classification"


def encode_labels(labels: npt.ArrayLike, classes: Classes) -> Labels:
    """The index of each label in the classes.

    >>> encode_labels(["no", "yes"], ("no", "yes"))
    array([0, 1])

    Raises:
        TypeError: labels are a masked array.
        ValueError: a label is not one of the classes, or labels do not have shape `[rows]`.
    """
    if isinstance(labels, np.ma.MaskedArray):
        raise TypeError(
            "labels are a masked array, whose mask would be ignored; leave out the masked rows: labels.compressed()"
        )
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"labels must have shape [rows], but got {list(labels.shape)}")
    positions = {name: i for i, name in enumerate(classes)}
    unknown = [name for name in np.unique(labels).tolist() if name not in positions]
    if unknown:
        raise ValueError(f"labels {unknown} are not among the classes {list(classes)}")
    return freeze(np.array([positions[name] for name in labels.tolist()], np.int64))


def _checked(source: str, x: Array, labels: Array, kind: str) -> tuple[Array, Array]:
    if x.ndim != 2 or x.dtype.kind not in "fiub":
        raise ValueError(f"{source}: features must be numbers [rows, features], but got {x.dtype}{list(x.shape)}")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if kind == "regression":
        if labels.dtype.kind not in "fiu" or labels.ndim not in (1, 2) or not np.isfinite(labels).all():
            raise ValueError(
                f"{source}: targets must be finite numbers [rows] or [rows, targets], but got "
                f"{labels.dtype}{list(labels.shape)}"
            )
        labels = labels.astype(np.float64)
    elif (
        labels.dtype.kind == "f"
        and labels.ndim == 1
        and (labels == np.rint(labels)).all()
        and np.isfinite(labels).all()
    ):
        labels = labels.astype(np.int64)
    elif labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise ValueError(
            f"{source}: labels must be integers or strings [rows], but got {labels.dtype}{list(labels.shape)}"
        )
    if len(x) != len(labels) or len(x) == 0:
        raise ValueError(f"{source}: {len(x)} rows of features, but {len(labels)} labels")
    return np.asarray(x), labels  # a plain array even if memory-mapped, since operations on a memmap take longer
