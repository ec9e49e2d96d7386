"""The target column of a table: classes or numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fnet.data.cells import is_number, shown
from fnet.data.dataset import Classes, Labels
from fnet.data.tables import Column, Table, column_named, drop_columns, numbers, take_rows, texts, where
from fnet.nn import Array
from fnet.tree import container, freeze, frozen

__all__ = [
    "Target",
    "TargetGuess",
    "are_classes",
    "check_kind",
    "guess_target",
    "labels_of",
    "split_target",
    "values_of",
]

NAMES = (
    *("label", "labels", "target", "class", "classes", "y", "outcome", "species", "output", "response", "category"),
    *("survived", "diagnosis", "churn"),
)
FEW = 20  # the most distinct values of a column that may be classes
SAMPLE = 2000  # rows examined for a guess


@container
class Target(NamedTuple):
    """What is predicted for each row."""

    name: str
    kind: str  # "classification" or "regression"
    values: Array  # [rows]; int64 indices into classes, or float64
    classes: Classes | None = None  # sorted; integers if all labels are plain integers; None for a regression
    note: str = ""  # a sentence for the user if the column was found by its name


@container
class TargetGuess(NamedTuple):
    """Which column is probably the target if the caller does not name one."""

    name: str
    why: str  # empty for the last column
    sure: bool


def split_target(table: Table, *, kind: str | None = None) -> tuple[Table, Target]:
    """Split a table into features and target: `table.target`, or the column that `guess_target` is sure of.

    Text is a classification. Whole numbers are a classification if there are few distinct ones: at most 10, or 5 % of
    the rows up to 100. Other numbers are a regression. Classes keep their spelling, or are integers if all of them are
    plain integers.

    Args:
        kind: "classification" or "regression"; None decides as above.

    Raises:
        ValueError: the target is ambiguous, has missing cells, is constant, or has too many distinct texts; there is no
            other column; or the target of a regression is text.
    """
    check_kind(kind)
    note = ""
    name = table.target
    if name is None:
        guess = guess_target(table)
        if not guess.sure:
            raise ValueError(
                f"{table.source}: which column is the target? {guess.why}; specify target={shown(guess.name)} "
                f"(--target), or target={shown(table.columns[-1].name)} for the last column"
            )
        name, note = guess.name, guess.why and f"{guess.why} and is used as the target"
    column = column_named(table, name)
    features = drop_columns(table, [name])._replace(target=None)
    if not features.columns:
        raise ValueError(
            f"{table.source}: expected features and a target, but there is one column, {shown(name)}; columns are "
            "separated by commas, semicolons or tabs"
        )
    gone = np.flatnonzero(np.isnan(column.values) if column.levels is None else column.values < 0)
    if len(gone):
        raise ValueError(
            f"{where(table, int(gone[0]), name)}: the target is missing (in {len(gone)} of {len(table.lines)} rows); "
            "fill it in or leave these rows out"
        )
    kind = kind or ("classification" if _has_classes(table, column) else "regression")
    if kind == "regression":
        if column.levels is not None and 2 * sum(map(is_number, column.levels)) < len(column.levels):
            raise ValueError(
                f"{table.source}: expected numbers to predict, but the target {shown(name)} is text, such as "
                f"{shown(column.levels[0])}; name another column: target= (--target), or predict classes: "
                'kind="classification" (--task classify)'
            )
        values = numbers(table, column)
        if values.min() == values.max():
            raise ValueError(
                f"{table.source}: expected a target that varies, but {shown(name)} is {values[0]:g} in all "
                f"{len(values)} rows"
            )
        return features, Target(name, kind, frozen(values), None, note)
    classes, labels = _classes(table, column)
    return features, Target(name, kind, labels, classes, note)


def check_kind(kind: str | None) -> None:
    """Raise a ValueError unless it is "classification", "regression" or None."""
    if kind not in (None, "classification", "regression"):
        raise ValueError(f'kind must be "classification", "regression" or None, but got {kind!r}')


def labels_of(table: Table, name: str, classes: Classes) -> Labels:
    """The labels of a table that is scored, as indices into `classes`.

    An integer class may be written as another number of the same value, such as 1.0.

    Raises:
        ValueError: no column has that name, or a label is missing or not among the classes; the message says where.
    """
    column = column_named(table, name)
    codes, levels = texts(column)
    positions = {str(label): i for i, label in enumerate(classes)}
    whole = all(isinstance(label, int) for label in classes)

    def position(level: str) -> int:
        if level not in positions and whole and is_number(level) and float(level).is_integer():
            level = f"{float(level):.0f}"
        return positions.get(level, -1)

    labels = np.array([*map(position, levels), -1])[codes]
    if (labels < 0).any():
        row = int(np.argmin(labels))
        label = "a missing label" if codes[row] < 0 else shown(levels[int(codes[row])])
        known = ", ".join(shown(str(label)) for label in classes[:10]) + (", …" if len(classes) > 10 else "")
        raise ValueError(
            f"{where(table, row, name)}: expected one of the classes {known}, but got {label} "
            f"(as in {int((labels < 0).sum())} of {len(labels)} rows)"
        )
    return freeze(labels)


def values_of(table: Table, name: str) -> Array:
    """The targets `[rows]` of a table that is scored.

    Raises:
        ValueError: no column has that name, or a cell is missing or not a number; the message says where.
    """
    values = numbers(table, column_named(table, name))
    missing = np.isnan(values)
    if missing.any():
        row = int(np.argmax(missing))
        raise ValueError(f"{where(table, row, name)}: it is missing (in {int(missing.sum())} of {len(values)} rows)")
    return frozen(values)


def guess_target(table: Table) -> TargetGuess:
    """Guess the target column of a table.

    It is the last column, unless another column is named like a target, or only the first column looks like classes
    while the last looks like the others, as in images that are stored label first. The guess is sure if it is the last
    column, or a first column of text that is named like a target.
    """
    rows = np.linspace(0, len(table.lines) - 1, min(len(table.lines), SAMPLE)).astype(np.int64)
    columns = take_rows(table, rows).columns
    first, last = columns[0], columns[-1]
    usual = TargetGuess(last.name, "", True)
    if table.named and last.name.lower() in NAMES:
        return usual
    named = [column.name for column in columns[:-1] if table.named and column.name.lower() in NAMES]
    if named:
        name = min(named, key=lambda name: NAMES.index(name.lower()))
        sure = named == [first.name] and _is_text(first) and not _is_text(last)
        return TargetGuess(name, f"column {shown(name)} is named like a target", sure)
    if len(columns) < 3 or not _like_classes(first) or _is_text(last):
        return usual
    if not any(_like_classes(column) for column in columns[1:]) or _like_pixels(first, columns[1:]):
        count = len(np.unique(first.values))
        why = f"the first, {shown(first.name)}, has {count} distinct values, and the last column is like the others"
        return TargetGuess(first.name, why, False)
    return usual


def _like_classes(column: Column) -> bool:
    """Whether a column could be classes: a few texts or a few consecutive whole numbers."""
    distinct = np.unique(column.values)
    if not 2 <= len(distinct) <= min(FEW, len(column.values) // 2):
        return False
    if _is_text(column):
        return True
    values = _floats(column)
    low, high = values.min(), values.max()
    return bool((values == np.rint(values)).all()) and (high - low + 1 == len(distinct) or (low, high) == (-1, 1))


def _like_pixels(first: Column, others: Sequence[Column]) -> bool:
    """Whether the other columns are whole numbers from one range that exceeds the range of the first column."""
    if len(others) < 8 or _is_text(first) or any(_is_text(column) for column in others):
        return False
    values: npt.NDArray[np.float64] = np.stack([_floats(column) for column in others])
    if not (values == np.rint(values)).all():
        return False
    low: npt.NDArray[np.float64] = values.min(axis=1)
    least = float(low.min())
    share = np.count_nonzero(low == least) / len(low)
    return bool(share > 0.8) and bool(low[-1] == least) and bool(_floats(first).max() < values.max())


def _is_text(column: Column) -> bool:
    return column.levels is not None and (column.typed or not all(map(is_number, column.levels)))


def _floats(column: Column) -> npt.NDArray[np.float64]:
    """The values of a column that is not text, NaN where missing."""
    return column.values if column.levels is None else np.array([*map(float, column.levels), np.nan])[column.values]


def _has_classes(table: Table, column: Column) -> bool:
    if _is_text(column):
        return True
    return are_classes(numbers(table, column))


def are_classes(values: Array) -> bool:
    """Whether numbers `[rows]` count as classes: whole, with at most 10 distinct ones, or 5 % of the rows up to 100.

    >>> are_classes(np.array([0.0, 1.0])), are_classes(np.array([0.5, 1.0]))
    (True, False)
    """
    distinct = np.unique(values)
    few = max(10, min(100, len(values) // 20))
    return len(distinct) <= few and bool((distinct == np.rint(distinct)).all())


def _classes(table: Table, column: Column) -> tuple[Classes, Labels]:
    codes, levels = texts(column)
    present: Array
    present, codes = np.unique(codes, return_inverse=True)
    labels = [levels[int(i)] for i in present]
    rows = len(table.lines)
    if len(labels) < 2:
        raise ValueError(
            f"{table.source}: expected at least 2 classes, but the target {shown(column.name)} is {shown(labels[0])} "
            f"in all {rows} rows"
        )
    if len(labels) > max(rows // 2, 2):
        raise ValueError(
            f"{table.source}: the target {shown(column.name)} has {len(labels)} distinct values in {rows} rows, too "
            "many for classes; name another column: target= (--target)"
        )
    whole = not (column.typed and column.levels is not None) and all(_is_plain_integer(label) for label in labels)
    names: list[int] | list[str] = [int(label) for label in labels] if whole else labels
    order = sorted(range(len(names)), key=names.__getitem__)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return tuple(names[i] for i in order), freeze(ranks[codes])


def _is_plain_integer(label: str) -> bool:
    """Whether a label is spelled like a Python integer: "007" and "7" are two labels."""
    return re.fullmatch(r"0|-?[1-9]\d{0,17}", label, re.ASCII) is not None
