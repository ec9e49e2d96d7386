"""Data sets as values: two that need no file, splitting and batching."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from importlib import resources
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fnet import random as frandom
from fnet.data import npy as _npy
from fnet.nn import Array
from fnet.random import Key
from fnet.tree import container, freeze, frozen

__all__ = [
    "Classes",
    "Dataset",
    "Labels",
    "absent_classes",
    "batch_slices",
    "batches",
    "check_mapped",
    "digits",
    "even_batch_size",
    "fingerprint",
    "gather",
    "num_rows",
    "synthetic",
    "take",
    "train_test_split",
]

Labels: TypeAlias = npt.NDArray[np.integer[Any]]
Classes: TypeAlias = tuple[int | str, ...]


@container
class Dataset(NamedTuple):
    """Examples with labels or regression targets."""

    x: Array  # [rows, features]; may be memory-mapped
    y: Array  # [rows] integers from 0, indices into classes; or floats [rows] or [rows, targets]
    classes: Classes | None = None  # the names of the labels; None for 0, 1, 2, … and for regression


CHUNK = 4096  # rows read at a time


# Data sets that need no file ------------------------------------------------------------------------------------------


def digits() -> tuple[Dataset, Dataset]:
    """Handwritten digits: 1,437 training and 360 test images of 8 x 8 pixels (values 0 to 16), 10 classes.

    This is a fixed stratified split, in random order, of the test set of "Optical Recognition of Handwritten Digits",
    which scikit-learn includes: E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository, doi:10.24432/C50P49,
    licence CC BY 4.0.

    >>> train, test = digits()
    >>> train.x.shape, test.x.shape
    ((1437, 64), (360, 64))
    """
    with resources.as_file(resources.files("fnet.data").joinpath("digits.npz")) as path:
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
    """Classes that no linear model separates: each class is spread over several Gaussian clusters.

    The centres of the clusters are drawn from a normal distribution with standard deviation `2 / sqrt(num_features /
    16)` per feature, so that the difficulty hardly depends on the number of features. An example is a centre plus
    normal noise with standard deviation `noise` per feature.

    >>> synthetic(frandom.key(0), 100, 5, 3).x.shape
    (100, 5)

    Raises:
        ValueError: there are fewer examples than classes, fewer than 2 classes, no features or clusters; or noise is
            negative or not finite.
    """
    for name, value, least in (
        ("num_examples", num_examples, num_classes),
        ("num_features", num_features, 1),
        ("num_classes", num_classes, 2),
        ("clusters_per_class", clusters_per_class, 1),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, but got {value}")
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise must be a finite number of at least 0, but got {noise}")
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
    """The SHA-256 of features, labels and classes, which identifies the data.

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


def train_test_split(
    key: Key, dataset: Dataset, test_size: float | int, *, stratify: bool = True
) -> tuple[Dataset, Dataset]:
    """Split a data set at random in two; the rows of each part keep their order.

    If stratified, each class has the same proportion in both parts, as closely as whole rows allow, and no class is in
    the test set only unless that cannot be avoided. `absent_classes` finds classes too rare to be in both parts. For
    float targets, the split is stratified by the value of the first target.

    Args:
        test_size: a fraction between 0 and 1, or a number of rows.
        stratify: False chooses the rows purely at random.

    Raises:
        TypeError, ValueError: `test_size` is neither, or one part would be empty.
    """
    rows = len(dataset.y)
    size = num_rows(test_size, rows)
    order = frandom.permutation(key, rows)
    is_test = np.zeros(rows, bool)
    if stratify:
        # Sorted by class, and at random within a class, every rows/size-th example goes into the test set.
        order = sorted_rows(dataset.y, order)
        is_test[_every(order, size)] = True
        labels, count = np.unique(dataset.y, return_counts=True)
        if dataset.y.dtype.kind != "f" and len(np.unique(dataset.y[~is_test])) < len(labels) <= rows - size:
            # One row of each class is kept for training.
            stays = np.append(0, np.cumsum(count)[:-1])
            is_test[:] = False
            is_test[_every(np.delete(order, stays), size)] = True
    else:
        is_test[order[:size]] = True
    return take(dataset, np.flatnonzero(~is_test)), take(dataset, np.flatnonzero(is_test))


def sorted_rows(y: Array, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.integer[Any]]:
    """The rows sorted by label or first target; the sort is stable."""
    return rows[np.argsort(y.reshape(len(y), -1)[rows, 0], kind="stable")]


def _every(order: npt.NDArray[np.integer[Any]], size: int) -> npt.NDArray[np.integer[Any]]:
    """A number of the given rows, evenly spaced."""
    return order[(np.arange(size) * len(order) + len(order) // 2) // size]


def absent_classes(dataset: Dataset) -> Classes:
    """The classes without a row in a data set, such as classes too rare for one side of a split.

    >>> absent_classes(Dataset(np.zeros((2, 1)), np.array([0, 2]), ("a", "b", "c")))
    ('b',)
    """
    classes = dataset.classes or tuple(range(int(dataset.y.max(initial=0)) + 1))
    present = set(np.unique(dataset.y).tolist())
    return tuple(name for i, name in enumerate(classes) if i not in present)


def check_mapped(dataset: Dataset) -> None:
    """Check that memory-mapped files of a data set are not truncated; `fit` calls it at the start of each epoch.

    A truncated file raises an error here instead of killing the process (SIGBUS) when a missing row is read. A file
    that is truncated after this check still kills it, and a file whose content changes gives the new content. Do not
    change the files of a data set while it is used.

    Raises:
        FileNotFoundError: a file no longer exists.
        ValueError: a file is shorter than before.
    """
    for array in (dataset.x, dataset.y):
        base: Any = array
        while base is not None:
            if isinstance(base, np.memmap):
                _check_size(base)  # pyright: ignore[reportUnknownArgumentType]
            base = base.base if isinstance(base, np.ndarray) else None  # pyright: ignore[reportUnknownMemberType]


def _check_size(mapped: Any) -> None:
    if mapped.filename is not None:
        size, end = Path(mapped.filename).stat().st_size, mapped.offset + mapped.nbytes
        if size < end:
            raise ValueError(
                f"{mapped.filename} became shorter while it was in use: {size} bytes, but its data end at {end}; "
                "restore the file and load it again"
            )


def num_rows(size: float | int, rows: int) -> int:
    """Convert a number or a fraction of rows to a number of rows that leaves at least one row over.

    A fraction gives at least one row and at most all but one.

    >>> num_rows(0.25, 100), num_rows(7, 100), num_rows(0.1, 3)
    (25, 7, 1)

    Raises:
        TypeError, ValueError: the size is neither, or leaves no row over.
    """
    if isinstance(size, bool) or not isinstance(size, Real):
        raise TypeError(f"expected a number of rows, or a fraction as a float, but got {size!r}")
    if not isinstance(size, Integral):
        if not 0 < size < 1:
            raise ValueError(f"a fraction of the rows must be between 0 and 1, but got {size}")
        size = max(1, min(round(float(size) * rows), rows - 1))
    if not 1 <= size < rows:
        raise ValueError(
            f"a split of {size} of {rows} rows leaves one side empty; "
            + (f"give a number of rows from 1 to {rows - 1}" if rows > 1 else "one row cannot be split")
        )
    return int(size)


def take(dataset: Dataset, rows: npt.NDArray[np.integer[Any]] | slice) -> Dataset:
    """Some rows of a data set; a slice of a memory-mapped data set stays memory-mapped."""
    return dataset._replace(x=frozen(dataset.x[rows]), y=frozen(dataset.y[rows]))


def batches(key: Key, dataset: Dataset, batch_size: int, *, drop_last: bool = False) -> Iterator[tuple[Array, Array]]:
    """The features and the labels or targets of the batches of an epoch, in random order.

    Every row occurs once. The last batch may be smaller; `drop_last` leaves it out.

    Raises:
        TypeError: the order of the arguments is wrong.
        ValueError: `batch_size` is not positive, or there is no batch.
    """
    if not isinstance(dataset, Dataset):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"expected batches(key, dataset, batch_size), but got {type(dataset).__name__} second")
    order = frandom.permutation(key, len(dataset.y))
    for part in batch_slices(len(order), batch_size, drop_last=drop_last):
        yield gather(dataset.x, order[part]), dataset.y.take(order[part], axis=0)


def batch_slices(rows: int, batch_size: int, *, drop_last: bool = False, min_size: int = 1) -> list[slice]:
    """The slices of an epoch's batches; a remainder smaller than `min_size` is added to the last full batch.

    >>> batch_slices(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    >>> batch_slices(5, 2, min_size=2)
    [slice(0, 2, None), slice(2, 5, None)]

    Raises:
        ValueError: as for `batches`.
    """
    if rows < 1:
        raise ValueError("there are no rows for a batch")
    if batch_size < 1 or (drop_last and batch_size > rows):
        raise ValueError(f"batch_size must be from 1 to the {rows} rows, but got {batch_size}")
    starts = list(range(0, rows, batch_size))
    rest = rows % batch_size
    if rest and len(starts) > 1 and (drop_last or rest < min_size):
        starts.pop()
    ends = [*starts[1:], len(starts) * batch_size if drop_last else rows]
    return [slice(start, end) for start, end in zip(starts, ends, strict=True)]


def even_batch_size(rows: int, about: int) -> int:
    """A batch size within a quarter of `about` that makes the last batch as large as possible.

    A small last batch gives batch norm noisy statistics, which are the last to enter the running statistics: with 258
    rows, batches of 32 leave 2. On scikit-learn's digits, this raises the loss by 5 to 10 %.

    >>> [even_batch_size(rows, 32) for rows in (67, 80, 258, 100_000)]
    [34, 40, 37, 32]
    """
    sizes = range(max(about - about // 4, 1), about + about // 4 + 1)
    return min(sizes, key=lambda size: (-rows % size, abs(size - about)))


def gather(x: Array, rows: npt.NDArray[np.integer[Any]]) -> Array:
    """The given rows. `take` is faster, but copies the whole array if it is not in C order."""
    return x.take(rows, axis=0) if x.flags.c_contiguous else x[rows]
