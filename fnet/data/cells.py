"""The meaning of a cell of a table: a missing value, a number, a date or text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

__all__ = [
    "MISSING",
    "SPACE",
    "THOUSANDS",
    "counted",
    "days",
    "is_number",
    "looks_like_number",
    "shown",
    "to_numbers",
    "why_not_number",
]

MISSING = frozenset({"", "?", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "null", "NULL", "None"})
SPACE = " \t\r\n\v\f"  # allowed around a number; str.strip and float strip more, and not the same characters
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:[.,' ]\d{3})+(?:[.,]\d+)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1)


def to_numbers(cells: Sequence[str], decimal: str = ".") -> tuple[npt.NDArray[np.float64], int]:
    """The cells as float64, NaN where missing, and the index of the first cell that is neither, or -1.

    A number has an optional sign, digits with at most one decimal mark, and an optional exponent, all in ASCII, and is
    finite in float64. Space around it is ignored.

    >>> to_numbers(["1", " -2.5e1 ", "NA"])
    (array([  1., -25.,  nan]), -1)
    >>> to_numbers(["1", "1_000"])[1]
    1
    """
    joined = "\0".join(cells)
    if cells and joined.isascii() and "_" not in joined and (decimal == "." or "." not in joined):
        fast = cells if decimal == "." else joined.replace(decimal, ".").split("\0")
        filled = (math.nan if cell in MISSING else cell for cell in fast)
        for attempt in (fast, filled):
            try:
                values = np.fromiter(map(float, attempt), np.float64, len(cells))
            except ValueError:
                continue
            # float accepts "NAN", "-nan", "inf" and "1e400", which are neither numbers nor missing values here.
            others = np.flatnonzero(~np.isfinite(values)).tolist()
            if all(cells[i].strip(SPACE) in MISSING for i in others):
                return values, -1
            break
    values = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        if cell.strip(SPACE) not in MISSING:
            if not is_number(cell, decimal):
                return values, i
            values[i] = float(cell.replace(decimal, "."))
    return values, -1


def is_number(cell: str, decimal: str = ".") -> bool:
    """Whether a cell is a finite number.

    >>> is_number("1e3"), is_number("1,5", ","), is_number("1e400"), is_number("NA")
    (True, True, False, False)
    """
    cell = cell.strip(SPACE)
    if decimal != ".":
        if "." in cell:
            return False
        cell = cell.replace(decimal, ".")
    return _NUMBER.fullmatch(cell) is not None and math.isfinite(float(cell))


def looks_like_number(cell: str, decimal: str = ".") -> bool:
    """Whether a cell is a number or was meant as one: `1_000`, `1,000`, `inf` and `1e400` are not accepted.

    >>> looks_like_number("1_000"), looks_like_number("1,000"), looks_like_number("a")
    (True, True, False)
    """
    try:
        float(cell.replace(decimal, "."))
    except ValueError:
        return THOUSANDS.fullmatch(cell.strip(SPACE)) is not None
    return True


def why_not_number(cell: str, decimal: str = ".") -> str:
    """Why a cell is not a number, in parentheses; empty if that is obvious.

    >>> why_not_number("1e400")
    ' (infinite in float64)'
    """
    cell = cell.strip(SPACE)
    if THOUSANDS.fullmatch(cell):
        return " (a thousands separator, or a different decimal mark than in the rest of the file)"
    if decimal != "." and is_number(cell):
        return " (the decimal mark in the rest of the file is a comma)"
    try:
        value = float(cell.replace(decimal, "."))
    except ValueError:
        return ""
    if math.isinf(value):
        return " (infinite in float64)"
    if math.isnan(value):
        return ' (a missing value is written "", NA or NaN)'
    return " (an underscore)" if "_" in cell else " (digits that are not ASCII)"


def days(cells: Sequence[str]) -> npt.NDArray[np.float64] | None:
    """ISO dates as days since 1970-01-01; None if one is invalid.

    A date is `YYYY-MM-DD`, optionally with `hh:mm`, `hh:mm:ss` or fractions of a second, and then optionally with `Z`
    or an offset from UTC, which is subtracted.

    >>> days(["1970-01-02", "1970-01-01T12:00", "1970-01-02 03:00:00.000+03:00"])
    array([1. , 0.5, 1. ])
    """
    if not all(map(_DATE.fullmatch, cells)):
        return None
    try:
        return np.array([_days(datetime.fromisoformat(cell)) for cell in cells], np.float64)
    except (ValueError, OverflowError):  # February 30, or before year 1 in UTC
        return None


def _days(moment: datetime) -> float:
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment - _EPOCH).total_seconds() / 86400.0


def counted(number: int, noun: str) -> str:
    """A count with its noun.

    >>> counted(1, "cell"), counted(1234, "cell")
    ('1 cell', '1,234 cells')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shown(cell: str, limit: int = 40) -> str:
    """A cell in quotes for a message, with control characters escaped, shortened if it is long.

    >>> shown("a" * 50, 5)
    "'aaaaa'…"
    """
    return repr(cell[:limit]) + ("…" if len(cell) > limit else "")
