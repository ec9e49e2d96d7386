"""Tables from Python objects: mappings from names to columns, and data frames, whose libraries are not imported."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from numbers import Number
from typing import Any

import numpy as np
import numpy.typing as npt

from fnet.data.cells import MISSING, shown
from fnet.data.tables import Column, Table, check_names, column_named
from fnet.nn import Array
from fnet.tree import frozen

__all__ = ["from_columns"]


def from_columns(columns: Any, *, target: str | None = None, source: str | None = None) -> Table:
    """Make a table from a mapping of names to columns, or from a data frame of pandas or polars (neither is imported).

    A column is anything that `numpy.asarray` converts to shape `[rows]`. Numbers become float64. Text, booleans and
    categories become text, even if the text consists of digits. `datetime64` becomes ISO dates as text. None, NaN, NaT,
    `pandas.NA` and masked values are missing.

    >>> from_columns({"age": [31, None], "city": ["Bern", "Basel"]}).columns[0].values
    array([31., nan])

    Args:
        target: the name of the column to predict, for `split_target`.
        source: the name of the table in messages; by default the type of `columns`.

    Raises:
        TypeError: `columns` is not a mapping or a data frame, or a column has another type, such as complex numbers.
        ValueError: two columns have the same name or different lengths; a column has two axes, infinite numbers, or
            numbers mixed with text; no column has the name of the target.
    """
    source = source or type(columns).__name__
    if isinstance(columns, Mapping):
        labels: list[Any] = list(columns)  # pyright: ignore[reportUnknownArgumentType]
    elif hasattr(columns, "columns") and hasattr(columns, "__getitem__"):
        labels = list(columns.columns)
    else:
        raise TypeError(
            f"expected a mapping from names to columns or a data frame, but got {type(columns).__name__}; "
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


def _column(source: str, name: str, data: Any, *, as_text: bool) -> Column:
    """A column of a table. With `as_text`, for a target, integers are kept as text, which is exact."""
    array, missing = _array(source, data)
    if array.dtype.kind in "iuf" and not (as_text and array.dtype.kind in "iu"):
        values = array.astype(np.float64)
        values[missing] = np.nan
        if np.isinf(values).any():
            row = int(np.argmax(np.isinf(values)))
            raise ValueError(f"{source}, row {row}: expected a finite number or NaN, but got {values[row]}")
        return Column(name, frozen(values))
    levels: dict[str, int] = {}
    cells = [None if gone else str(value) for value, gone in zip(array.tolist(), missing, strict=True)]
    codes = [-1 if cell is None else levels.setdefault(cell, len(levels)) for cell in cells]
    return Column(name, frozen(np.array(codes, np.int32)), tuple(levels), typed=array.dtype.kind not in "iu")


def _array(source: str, data: Any) -> tuple[Array, npt.NDArray[np.bool]]:
    """A column as an array of numbers, booleans or text objects, and the mask of missing values."""
    mask: npt.NDArray[np.bool] | bool = False
    if isinstance(data, np.ma.MaskedArray):
        masked: Any = data  # pyright: ignore[reportUnknownVariableType]
        mask, data = np.ma.getmaskarray(masked), masked.data
    elif hasattr(data, "to_numpy"):
        data = data.to_numpy()
    elif isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise TypeError(f"{source}: expected one value per row, but got {type(data).__name__}")
    elif not isinstance(data, np.ndarray):
        items: list[Any] = list(data)  # pyright: ignore[reportUnknownArgumentType]
        data = np.empty(len(items), object)  # numpy.asarray would convert the numbers in [1, "a"] to text
        for i, item in enumerate(items):
            data[i] = item
    array: Array = np.asarray(data)  # pyright: ignore[reportUnknownArgumentType]
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


def _of_one_kind(source: str, values: list[Any], missing: npt.NDArray[np.bool]) -> tuple[Array, npt.NDArray[np.bool]]:
    missing = missing | np.fromiter(map(_is_missing, values), bool, len(values))
    present = np.flatnonzero(~missing).tolist()
    kinds = [_kind(values[row]) for row in present]
    for row, kind in zip(present, kinds, strict=True):
        if kind is None:
            raise TypeError(
                f"{source}, row {row}: expected a number, text, a boolean or a date, but got "
                f"{type(values[row]).__name__}"
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
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )
