"""The layout of delimited text: delimiter, decimal mark, and whether the first row is a header."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import NamedTuple

from fnet.data.cells import MISSING, THOUSANDS, days, is_number, looks_like_number, shown
from fnet.tree import container

__all__ = ["Layout", "find_layout", "has_header"]

DELIMITERS = ",;\t"
MAX_COLUMNS = 1 << 16
MAX_CELLS = 20_000  # examined to find the layout
MAX_ROWS = 1000


@container
class Layout(NamedTuple):
    """How cells are separated and numbers are written."""

    delimiter: str
    decimal: str
    width: int  # cells of the first row


def find_layout(source: str, lines: Sequence[str]) -> Layout:
    """Find the delimiter and the decimal mark from the first lines.

    The delimiter is the one with which most rows have the width of the first row. Ties are resolved by the number of
    numeric cells, of columns, then in the order comma, semicolon, tab. The decimal mark is a comma if the delimiter is
    not and if more numbers have a comma than a point.

    >>> find_layout("a.csv", ["a;b", "1,5;2", "2,25;3"])
    Layout(delimiter=';', decimal=',', width=2)

    Raises:
        ValueError: there are too many columns.
    """
    best, layout = (0.0, 0.0, 0), Layout(",", ".", 1)
    for delimiter in DELIMITERS:
        rows = _sample(lines, delimiter)
        if not rows or len(rows[0]) == 1:
            continue
        if len(rows[0]) > MAX_COLUMNS:
            raise ValueError(f"{source}: {len(rows[0])} columns exceed the limit of {MAX_COLUMNS}")
        cells = [cell.strip() for row in rows for cell in row]
        decimal = "." if delimiter == "," else _decimal(cells, delimiter)
        width = len(rows[0])
        share = sum(len(row) == width for row in rows) / len(rows)
        score = (share, sum(is_number(cell, decimal) for cell in cells) / len(cells), width)
        if score > best:
            best, layout = score, Layout(delimiter, decimal, width)
    return layout


def has_header(source: str, rows: Sequence[Sequence[str]], decimal: str = ".") -> bool:
    """Whether the first row is a header.

    It is if it has text above numbers, or only text that does not recur in its column. Numbers are names if they are
    the positions of the columns, as in a data frame made from an array, or if they are whole numbers above fractions.

    >>> has_header("a.csv", [["0", "1", "label"], ["1.5", "2.5", "x"], ["3.5", "4.5", "x"]])
    True
    >>> has_header("a.csv", [["0.5", "1", "x"], ["1.5", "2", "y"], ["3.5", "4", "x"]])
    False

    Raises:
        ValueError: it may be either; the message says how to decide.
    """
    first = [cell.strip() for cell in rows[0]]
    below = [row for row in rows[1:MAX_ROWS] if len(row) == len(first)]
    below = below[: max(MAX_CELLS // len(first), 2)]
    is_name = [not looks_like_number(cell, decimal) and cell not in MISSING for cell in first]
    numbers = [i for i, cell in enumerate(first) if is_number(cell, decimal)]
    columns = [[cell.strip() for cell in column] for column in zip(*below, strict=True)]
    present = [[cell for cell in column if cell not in MISSING] for column in columns]
    if not below:
        return not numbers and any(is_name)
    numeric = [
        bool(column) and 2 * sum(looks_like_number(cell, decimal) for cell in column) >= len(column)
        for column in present
    ]
    above_numbers = sum(name and kind for name, kind in zip(is_name, numeric, strict=True))
    again = [name and first[i] in present[i] for i, name in enumerate(is_name)]
    if any(name and days([first[i]]) is not None and days(present[i]) is not None for i, name in enumerate(is_name)):
        return False
    if not numbers:
        return above_numbers > 0 or (any(is_name) and not any(again))
    different = {first[i] for i in numbers}
    if len(different) < len(numbers) or any(not cell.isdecimal() or len(cell) > 9 for cell in different):
        return False  # negative numbers, fractions or repeated numbers are not names
    if any(again) and not above_numbers:
        return False
    offset = int(first[numbers[0]]) - numbers[0]  # -1 after the unnamed index of a data frame
    positions = offset in (-1, 0, 1) and all(int(first[i]) - i == offset for i in numbers)
    above_fractions = all(numeric[i] and not any(cell.isdecimal() for cell in present[i]) for i in numbers)
    above_classes = any(
        name and not numeric[i] and 0 < len(set(present[i])) <= len(present[i]) / 2 for i, name in enumerate(is_name)
    )
    if positions and len(numbers) > 1 and (above_numbers or above_classes or above_fractions):
        return True
    if above_numbers > len(numbers) or (above_fractions and (len(below) >= 10 or len(numbers) > 2)):
        return True
    # As in the rows of numpy.arange(…).reshape(…).
    go_on = [str(int(first[i]) + len(first)) == below[0][i].strip() for i in numbers]
    counted = positions and offset < 1 and not all(go_on)
    if counted and len(numbers) >= 8:
        return True
    if (
        above_numbers
        or (above_fractions and any(is_name))
        or (above_classes and len(numbers) > 1 and len(below) >= 4)
        or (counted and len(numbers) >= 4)
    ):
        raise ValueError(
            f"{source}, line 1: {', '.join(map(shown, first[:6]))}{', …' if len(first) > 6 else ''} may be "
            "column names or a row of data; specify header=True or header=False (--header yes or --header no)"
        )
    return False


def _sample(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    rows: list[list[str]] = []
    cells = 0
    reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter)
    try:
        for row in reader:
            if len(row) > 1 or "".join(row).strip():
                rows.append(row)
                cells += len(row)
            if len(rows) >= MAX_ROWS or (cells >= MAX_CELLS and len(rows) > 1):
                break
    except csv.Error:
        pass  # raised again when the table is read
    return rows


def _decimal(cells: Sequence[str], delimiter: str) -> str:
    commas = sum(
        "," in cell and is_number(cell, ",") and (delimiter == ";" or not THOUSANDS.fullmatch(cell)) for cell in cells
    )
    points = sum("." in cell and is_number(cell) for cell in cells)
    return "," if commas > points else "."
