"""A table as a value: named columns of numbers or of text, and where each row came from."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fnet.data.cells import MISSING, shown, to_numbers
from fnet.nn import Array
from fnet.tree import frozen

__all__ = [
    "Column",
    "Table",
    "column_named",
    "drop_columns",
    "from_columns",
    "numbers",
    "take_rows",
    "texts",
    "where",
]


class Column(NamedTuple):
    """One column of a table."""

    name: str
    values: Array  # [rows] float64, NaN where missing; with levels int32 positions in them, -1 where missing
    levels: tuple[str, ...] | None = None  # the different texts, in the order of their first rows; None: numbers
    typed: bool = True  # False: the levels are cells as a file has them, so that they may be numbers


class Table(NamedTuple):
    """Named columns of as many rows each."""

    source: str  # what messages call it, such as the path
    columns: tuple[Column, ...]
    lines: Array  # [rows] int64; the line of the file on which a row ends, or the number of the row, from 0
    unit: str = "line"  # what lines counts: "line" or "row"
    named: bool = True  # False: the file has no header, and the columns are named "1", "2", …
    target: str | None = None  # the column to predict, where the caller has named it


def column_named(table: Table, name: str) -> Column:
    """The column of that name.

    Raises:
        ValueError: there is none; says which there are.
    """
    for column in table.columns:
        if column.name == name:
            return column
    names = [shown(column.name) for column in table.columns[:20]]
    more = f" and {len(table.columns) - 20} more" if len(table.columns) > 20 else ""
    header = "" if table.named else "; there is no header, so the names are the positions, from 1"
    raise ValueError(
        f"{table.source}: no column is named {name!r}; the columns are {', '.join(names)}{more}{header}"
    )


def drop_columns(table: Table, names: Iterable[str]) -> Table:
    """The table without the columns of these names.

    Raises:
        ValueError: a name that no column has.
    """
    gone = {column_named(table, name).name for name in names}
    return table._replace(columns=tuple(column for column in table.columns if column.name not in gone))


def take_rows(table: Table, rows: npt.NDArray[np.integer[Any]] | slice) -> Table:
    """Some rows of a table, with the levels of all."""
    columns = tuple(column._replace(values=frozen(column.values[rows])) for column in table.columns)
    return table._replace(columns=columns, lines=frozen(table.lines[rows]))


def where(table: Table, row: int, column: str | None = None) -> str:
    """How a message begins that is about a row, or a cell of it: `data.csv, line 7, column 'age'`."""
    cell = "" if column is None else f", column {shown(column)}"
    return f"{table.source}, {table.unit} {int(table.lines[row])}{cell}"


def numbers(table: Table, column: Column) -> npt.NDArray[np.float64]:
    """The values of a column as float64 `[rows]`, NaN where missing.

    Raises:
        ValueError: a text that is not a number; says where.
    """
    if column.levels is None:
        return column.values
    values, bad = to_numbers(column.levels)
    if bad >= 0:
        row = int(np.argmax(column.values == bad))
        raise ValueError(
            f"{where(table, row, column.name)}: expected a number, but got {shown(column.levels[bad])}; "
            "a missing value is an empty cell, or NA"
        )
    return np.append(values, np.nan)[column.values]  # -1, missing, is the last


def texts(column: Column) -> tuple[Array, tuple[str, ...]]:
    """A column as positions `[rows]` in levels, -1 where missing, and the levels; numbers are written as `str` does,
    whole ones without a point.

    >>> texts(Column("a", np.array([2.0, 0.5, np.nan])))
    (array([ 1,  0, -1], dtype=int32), ('0.5', '2'))
    """
    if column.levels is not None:
        return column.values, column.levels
    distinct, codes = np.unique(column.values, return_inverse=True)
    levels = [str(int(value)) if value == np.rint(value) else str(value) for value in distinct[~np.isnan(distinct)].tolist()]
    codes = codes.astype(np.int32)
    codes[codes >= len(levels)] = -1
    return codes, tuple(levels)


def from_columns(columns: Any, *, target: str | None = None, source: str | None = None) -> Table:
    """The table of a mapping of names to columns, or of a data frame of pandas or polars; neither is imported.

    A column is anything that `numpy.asarray` makes `[rows]` of. Numbers become float64; text, booleans and categories
    are text, also where the text is digits; `datetime64` becomes text of ISO dates. None, NaN, NaT, `pandas.NA`, and
    what is masked are missing.

    >>> from_columns({"age": [31, None], "city": ["Bern", "Basel"]}).columns[0]
    Column(name='age', values=array([31., nan]), levels=None, typed=True)

    Args:
        target: the name of the column to predict, for `split_target`.
        source: what messages call the table; otherwise the type of `columns`.

    Raises:
        TypeError: not a mapping or a data frame; a column of anything else, such as complex numbers.
        ValueError: two columns of one name, of different lengths, or of two axes; an infinite number; numbers mixed with
            text; no column is named as the target.
    """
    source = source or type(columns).__name__
    if isinstance(columns, Mapping):
        labels: list[Any] = list(columns)  # pyright: ignore[reportUnknownArgumentType]
    elif hasattr(columns, "columns") and hasattr(columns, "__getitem__"):
        labels = list(columns.columns)
    else:
        raise TypeError(
            f"expected a mapping of names to columns, or a data frame, but got {type(columns).__name__}; "
            "for an array: {str(i): x[:, i] for i in range(x.shape[1])}"
        )
    names = [str(label) for label in labels]
    check_names(source, names)
    found: list[Column] = []
    for name, label in zip(names, labels, strict=True):
        column = _column(f"{source}, column {shown(name)}", name, columns[label], as_text=name == target)
        if found and len(column.values) != len(found[0].values):
            raise ValueError(
                f"{source}: column {shown(name)} has {len(column.values)} rows, but {shown(found[0].name)} has "
                f"{len(found[0].values)}"
            )
        found.append(column)
    if not found or not len(found[0].values):
        raise ValueError(f"{source}: there are no {'rows' if found else 'columns'}")
    table = Table(source, tuple(found), frozen(np.arange(len(found[0].values))), "row", True, target)
    if target is not None:
        column_named(table, target)
    return table


def check_names(source: str, names: Sequence[str]) -> None:
    """Refuse a name that two columns have.

    Raises:
        ValueError: says which name, and where.
    """
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if first.setdefault(name, i) != i:
            raise ValueError(
                f"{source}: columns {first[name] + 1} and {i + 1} are both named {shown(name)}; "
                "give each column a name of its own"
            )


def _column(source: str, name: str, data: Any, *, as_text: bool) -> Column:
    """`as_text`: integers are kept as text, which is exact, for a target."""
    array, missing = _array(source, data)
    if array.dtype.kind in "iuf" and not (as_text and array.dtype.kind in "iu"):
        values = array.astype(np.float64)
        values[missing] = np.nan
        if np.isinf(values).any():
            row = int(np.argmax(np.isinf(values)))
            raise ValueError(f"{source}, row {row}: expected a finite number, or NaN where missing, but got {values[row]}")
        return Column(name, frozen(values))
    levels: dict[str, int] = {}
    cells = [None if gone else str(value) for value, gone in zip(array.tolist(), missing, strict=True)]
    codes = [-1 if cell is None else levels.setdefault(cell, len(levels)) for cell in cells]
    return Column(name, frozen(np.array(codes, np.int32)), tuple(levels), typed=array.dtype.kind not in "iu")


def _array(source: str, data: Any) -> tuple[Array, npt.NDArray[np.bool]]:
    """A column as numbers, booleans or (an array of objects) text, and where values are missing."""
    mask: Any = False
    if isinstance(data, np.ma.MaskedArray):
        mask, data = np.ma.getmaskarray(data), np.ma.getdata(data)  # pyright: ignore[reportUnknownMemberType]
    elif hasattr(data, "to_numpy"):
        data = data.to_numpy()
    elif not isinstance(data, np.ndarray):
        items = list(data)
        data = np.empty(len(items), object)  # numpy.asarray would make text of the numbers in [1, "a"]
        data[:] = items
    array: Array = np.asarray(data)
    if array.ndim != 1:
        raise ValueError(f"{source}: expected one value per row, but got shape {list(array.shape)}")
    missing = np.zeros(len(array), bool) | mask
    match array.dtype.kind:
        case "b" | "i" | "u" | "f":
            return array, missing
        case "M":
            return np.datetime_as_string(array.astype("datetime64[s]")).astype(object), missing | np.isnat(array)
        case "O" | "T" | "U":
            return _of_one_kind(source, array.tolist(), missing)
        case _:
            raise TypeError(f"{source}: expected numbers, text, booleans or dates, but got dtype {array.dtype}")


def _of_one_kind(
    source: str, values: list[Any], missing: npt.NDArray[np.bool]
) -> tuple[Array, npt.NDArray[np.bool]]:
    missing = missing | np.fromiter(map(_is_missing, values), bool, len(values))
    present = np.flatnonzero(~missing).tolist()
    kinds = [_kind(values[row]) for row in present]
    for row, kind in zip(present, kinds, strict=True):
        if kind is None:
            raise TypeError(
                f"{source}, row {row}: expected a number, text, a boolean or a date, but got {type(values[row]).__name__}"
            )
        if kind != kinds[0]:
            raise ValueError(
                f"{source}, row {row}: expected {kinds[0]} as in the rows before, but got {values[row]!r:.40}; "
                "make the column of one type"
            )
    if kinds and kinds[0] == "text":
        return np.array(values, object), missing
    whole = bool(kinds) and all(isinstance(values[row], int | np.integer) for row in present)
    array = np.zeros(len(values), object if whole else np.float64)
    array[present] = [values[row] if whole else float(values[row]) for row in present]
    try:
        return array.astype(np.int64) if whole else array, missing
    except OverflowError:
        return array.astype(np.float64), missing


def _kind(value: Any) -> str | None:
    if isinstance(value, str | bool | np.bool | datetime.date):
        return "text"
    return "numbers" if isinstance(value, Number) and not isinstance(value, complex | np.complexfloating) else None


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return value in MISSING
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
