"""Encoding of a table: from columns to features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fnet.data.cells import counted, days, shown
from fnet.data.encoder import EncodedColumn, Encoder, column_features, feature_names
from fnet.data.tables import Column, Table, numbers, texts, where
from fnet.nn import Array
from fnet.tree import container, frozen

__all__ = ["EncodeNotes", "dates", "encode"]


@container
class EncodeNotes(NamedTuple):
    """What `encode` did to a table that the user should know."""

    ignored: tuple[str, ...]  # columns that the encoder does not know
    unseen: tuple[tuple[str, int], ...]  # columns with categories absent from the training rows, and the cells
    filled: tuple[tuple[str, int], ...]  # columns with missing cells, unlike in the training rows, and the cells

    def lines(self) -> list[str]:
        """The notes as sentences."""
        unseen, filled = "with a category that the training rows do not have", "filled with the median"
        return [
            *([f"ignored: {', '.join(map(shown, self.ignored))}"] if self.ignored else []),
            *(f"column {shown(name)}: {counted(count, 'cell')} {unseen}" for name, count in self.unseen),
            *(f"column {shown(name)}: {counted(count, 'missing cell')} {filled}" for name, count in self.filled),
        ]


def encode(encoder: Encoder, table: Table) -> tuple[Array, EncodeNotes]:
    """The features of a table, float64 `[rows, features]`, and notes for the user.

    Columns are matched by name, in any order; additional columns are ignored and noted. If this table or the training
    table has no header, columns are matched by position, and the number of columns must be the same.

    Raises:
        ValueError: a column is missing, or a cell does not have the type of its column; the message says where.
    """
    columns, ignored = _matched(encoder, table)
    x = np.zeros((len(table.lines), len(feature_names(encoder))))
    unseen: list[tuple[str, int]] = []
    filled: list[tuple[str, int]] = []
    start = 0
    for known, column in zip(encoder.columns, columns, strict=True):
        if known.kind == "dropped" or column is None:
            continue
        if known.kind == "categorical":
            codes = _positions(known, column)
            found = np.flatnonzero(codes >= 0)
            x[found, start + codes[found]] = 1
            counts = unseen, len(codes) - len(found)
        else:
            values = dates(table, column) if known.kind == "date" else numbers(table, column)
            missing = np.isnan(values)
            x[:, start] = values
            x[missing, start] = known.median
            if known.indicator:
                x[:, start + 1] = missing
            counts = filled, 0 if known.indicator else int(missing.sum())
        if counts[1]:
            counts[0].append((known.name, counts[1]))
        start += len(column_features(known))
    return frozen(x), EncodeNotes(tuple(ignored), tuple(unseen), tuple(filled))


def dates(table: Table, column: Column) -> npt.NDArray[np.float64]:
    """The values of a column of ISO dates in days since 1970, NaN where missing.

    Raises:
        ValueError: a cell is not a date; the message says where.
    """
    if column.levels is None:
        moments, row = None, int(np.argmin(np.isnan(column.values)))
        if np.isnan(column.values).all():
            return column.values
        cell = str(column.values[row])
    else:
        moments = days(column.levels)
        bad = next((i for i, level in enumerate(column.levels) if moments is None and days([level]) is None), 0)
        row, cell = int(np.argmax(column.values == bad)), column.levels[bad] if column.levels else ""
    if moments is None:
        raise ValueError(
            f"{where(table, row, column.name)}: expected a date such as 2024-12-31, but got {shown(cell)}; "
            "leave the cell empty if the value is missing"
        )
    return np.append(moments, np.nan)[column.values]


def _positions(known: EncodedColumn, column: Column) -> npt.NDArray[np.int64]:
    """The index of the feature of each cell among those of its column, or -1."""
    codes, levels = texts(column)
    feature = {level: i for i, level in enumerate(known.levels)} | dict.fromkeys(known.pooled, len(known.levels))
    missing = len(column_features(known)) - 1 if known.missing else -1
    return np.array([feature.get(level, -1) for level in levels] + [missing], np.int64)[codes]


def _matched(encoder: Encoder, table: Table) -> tuple[list[Column | None], list[str]]:
    """The column of the table for each column of the encoder, and the names of the other columns."""
    if not (encoder.named and table.named):
        expected, found = len(encoder.columns), len(table.columns)
        if found == expected:
            return list(table.columns), []
        if found == expected + 1 and not encoder.named:  # the target is present too
            positions = [int(column.name) - 1 for column in encoder.columns]
            return [table.columns[i] for i in positions], []
        raise ValueError(
            f"{table.source}: expected {expected} columns, but got {found}; without a header, columns are matched by "
            "position; add a header with the names in the training table to match them by name"
        )
    columns: Mapping[str, Column] = {column.name: column for column in table.columns}
    needed = [column.name for column in encoder.columns if column.kind != "dropped"]
    gone = [name for name in needed if name not in columns]
    if gone:
        names = ", ".join(map(shown, gone[:10])) + (f" and {len(gone) - 10} more" if len(gone) > 10 else "")
        there = ", ".join(shown(name) for name in list(columns)[:10]) + (", …" if len(columns) > 10 else "")
        raise ValueError(f"{table.source}: no column is named {names}, which the model needs; the columns are {there}")
    known = {column.name for column in encoder.columns}
    return [columns.get(column.name) for column in encoder.columns], [name for name in columns if name not in known]
