"""A table as a value: named columns of numbers or text, and the origin of each row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fnet.data.cells import shown, to_numbers
from fnet.nn import Array
from fnet.tree import container, frozen

__all__ = [
    "Column",
    "Table",
    "check_names",
    "column_named",
    "drop_columns",
    "numbers",
    "take_rows",
    "texts",
    "where",
]


@container
class Column(NamedTuple):
    """One column of a table."""

    name: str
    values: Array  # [rows] float64, NaN where missing; or int32 indices into levels, -1 where missing
    levels: tuple[str, ...] | None = None  # the distinct texts, in order of first appearance; None: numbers
    typed: bool = True  # False: the levels are cells as written in a file, which may be numbers


@container
class Table(NamedTuple):
    """Named columns with the same number of rows."""

    source: str  # its name in messages, such as the path
    columns: tuple[Column, ...]
    lines: Array  # [rows] int64; the line of the file on which a row ends, or the row number, from 0
    unit: str = "line"  # the unit of lines: "line" or "row"
    named: bool = True  # False: the file has no header, and the columns are named "1", "2", …
    target: str | None = None  # the column to predict, if the caller named it


def column_named(table: Table, name: str) -> Column:
    """The column with the given name.

    Raises:
        ValueError: there is none; the message lists the columns.
    """
    for column in table.columns:
        if column.name == name:
            return column
    names = [shown(column.name) for column in table.columns[:20]]
    more = f" and {len(table.columns) - 20} more" if len(table.columns) > 20 else ""
    header = "" if table.named else "; there is no header, so the names are the positions, from 1"
    raise ValueError(f"{table.source}: no column is named {name!r}; the columns are {', '.join(names)}{more}{header}")


def drop_columns(table: Table, names: Iterable[str]) -> Table:
    """The table without the named columns.

    Raises:
        ValueError: no column has one of the names.
    """
    gone = {column_named(table, name).name for name in names}
    return table._replace(columns=tuple(column for column in table.columns if column.name not in gone))


def take_rows(table: Table, rows: npt.NDArray[np.integer[Any]] | slice) -> Table:
    """Some rows of a table; the levels of its columns are kept."""
    columns = tuple(column._replace(values=frozen(column.values[rows])) for column in table.columns)
    return table._replace(columns=columns, lines=frozen(table.lines[rows]))


def where(table: Table, row: int, column: str | None = None) -> str:
    """The place of a row or a cell, for messages: `data.csv, line 7, column 'age'`."""
    cell = "" if column is None else f", column {shown(column)}"
    return f"{table.source}, {table.unit} {int(table.lines[row])}{cell}"


def numbers(table: Table, column: Column) -> npt.NDArray[np.float64]:
    """The values of a column as float64 `[rows]`, NaN where missing.

    Raises:
        ValueError: a text is not a number; the message says where.
    """
    if column.levels is None:
        return column.values
    values, bad = to_numbers(column.levels)
    if bad >= 0:
        row = int(np.argmax(column.values == bad))
        raise ValueError(
            f"{where(table, row, column.name)}: expected a number, but got {shown(column.levels[bad])}; "
            "leave the cell empty if the value is missing"
        )
    return np.append(values, np.nan)[column.values]  # index -1, a missing value, is the last element


def texts(column: Column) -> tuple[Array, tuple[str, ...]]:
    """A column as indices `[rows]` into levels, -1 where missing, and the levels.

    Numbers are spelled as by `str`, whole numbers without a decimal point.

    >>> texts(Column("a", np.array([2.0, 0.5, np.nan])))
    (array([ 1,  0, -1], dtype=int32), ('0.5', '2'))
    """
    if column.levels is not None:
        return column.values, column.levels
    distinct, codes = np.unique(column.values, return_inverse=True)
    levels = [
        str(int(value)) if value == np.rint(value) else str(value) for value in distinct[~np.isnan(distinct)].tolist()
    ]
    codes = codes.astype(np.int32)
    codes[codes >= len(levels)] = -1
    return codes, tuple(levels)


def check_names(source: str, names: Sequence[str]) -> None:
    """Check that column names are distinct.

    Raises:
        ValueError: they are not.
    """
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if first.setdefault(name, i) != i:
            raise ValueError(
                f"{source}: columns {first[name] + 1} and {i + 1} are both named {shown(name)}; "
                "give each column its own name"
            )
