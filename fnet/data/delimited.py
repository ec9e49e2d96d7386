"""Delimited text: `.csv` and `.tsv`, also compressed with gzip, read as if an enemy had written it.

Most blocks of a large file are numbers and nothing else, and go to `numpy.loadtxt`. Whatever it does not read for
certain as the exact way would, a block at a time, goes through the exact way: `csv`, and each column by itself.
"""

import csv
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from fnet.data.cells import shown
from fnet.data.growing import Growing
from fnet.data.header import Layout, find_layout, has_header
from fnet.data.lines import Lines, opened
from fnet.data.tables import Table, check_names, column_named
from fnet.tree import frozen

__all__ = ["read_table"]

MAX_COLUMNS = 1 << 16
MAX_TEXT = 2  # columns of text that a fast block may have


def read_table(
    source: str | Path | IO[bytes],
    *,
    target: str | None = None,
    text: Collection[str] = (),
    header: bool | None = None,
) -> Table:
    """The table in a `.csv` or `.tsv`, which may be compressed with gzip, or in an open binary file.

    Cells are separated by commas, semicolons or tabs, whichever fits; with semicolons and tabs the decimal mark may be
    a comma. Quotes, a byte order mark, CRLF and blank lines are understood. The text is UTF-8.

    A column of numbers is float64. An empty cell, `NA`, `N/A`, `NaN`, `null`, `None` and `?` are missing. A column is
    numbers if at least half of its first cells (those in 1 MiB of text, or in 100 lines) are; then any other cell is an
    error, and so is an infinite number, `1_000` or `1,000`. Every other column is text.

    Takes about the memory of the result: float64 for a number, four bytes for a text, and each different text once. A
    line has at most 16 MiB and 65,536 cells, a cell 128 KiB. Compressed text has at most 4 MiB, or 100 times the size
    of the file where that is more.

    Args:
        target: the column to predict, for `split_target`; its cells are kept as they are written, so that "007" is not
            7. None: those of the last column are.
        text: further columns whose cells are kept so, where they are there: categories that are numbers.
        header: whether the first row is names. None: found out by comparing it with the rows below. Without a header
            the columns are named "1", "2", ….

    Raises:
        FileNotFoundError, PermissionError, IsADirectoryError: the file cannot be opened.
        ValueError: it is not a regular file, damaged, or not a table; a cell that is not a number among numbers; no
            column is named as the target. Says where, and what to do.
    """
    with opened(source) as (name, size, blocks):
        lines = Lines(name, blocks)
        if not lines.fill():
            raise ValueError(f"{name} is empty")
        layout = find_layout(lines.lines)
        rows, numbers = _rows(lines, layout.delimiter)
        if not rows:
            raise ValueError(f"{name} has no rows")
        named = has_header(name, rows, layout.decimal) if header is None else header
        names = _names(name, rows.pop(0)) if named else [str(i + 1) for i in range(len(rows[0]))]
        if named:
            del numbers[0]
        kept = {*text, names[-1] if target is None else target}
        builder = _Builder(name, layout, names, kept, names[-1] if target is None else target)
        builder.add(rows, numbers)
        while lines.fill():
            builder.expect(size, lines.taken)
            if lines.at or not builder.add_fast(lines):
                builder.add(*_rows(lines, layout.delimiter))
    if not builder.rows:
        raise ValueError(f"{name} has a header, but no rows")
    table = builder.table(named, target)
    if target is not None:
        column_named(table, target)
    return table


def _names(source: str, cells: Sequence[str]) -> list[str]:
    names = [cell.strip() or f"column {i + 1}" for i, cell in enumerate(cells)]
    check_names(source, names)
    return names


def _rows(lines: Lines, delimiter: str) -> tuple[list[list[str]], list[int]]:
    """The rows in the rest of a block that are not blank, and the line on which each ends.

    A row that ends in the next block is the last.
    """
    rows: list[list[str]] = []
    numbers: list[int] = []
    before, first = lines.before, lines.number
    try:
        for row in csv.reader(lines, delimiter=delimiter, strict=True):
            rows.append(row)
            numbers.append(lines.number)
            if lines.at == len(lines.lines) or lines.before != before:
                break
    except csv.Error as error:
        begin = (numbers[-1] if numbers else first) + 1
        hint = f" (the row begins on line {begin}; is a quote left open?)" if begin < lines.number else ""
        raise ValueError(f"{lines.source}, line {lines.number}: not a table of delimited text: {error}{hint}") from None
    kept = [i for i, row in enumerate(rows) if len(row) > 1 or "".join(row).strip()]
    if len(kept) < len(rows):
        rows, numbers = [rows[i] for i in kept], [numbers[i] for i in kept]
    return rows, numbers


class _Builder:
    """A table while it is read."""

    def __init__(self, source: str, layout: Layout, names: list[str], kept: Collection[str], target: str) -> None:
        if len(names) > MAX_COLUMNS:
            raise ValueError(f"{source}: {len(names)} columns are more than the {MAX_COLUMNS} that are read")
        self.source, self.layout, self.rows, self.room = source, layout, 0, 0
        self.columns = [Growing(name, as_written=name in kept, is_target=name == target) for name in names]
        self.lines: list[npt.NDArray[np.int64]] = []

    def add(self, rows: list[list[str]], lines: list[int]) -> None:
        """Rows of cells, and the line on which each ends."""
        for row, line in zip(rows, lines, strict=True):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"{self.source}, line {line}: expected {len(self.columns)} columns, but got {len(row)}"
                )
        for i, cells in enumerate(zip(*rows, strict=True)):
            column = self.columns[i]

            def where(bad: int, i: int = i, name: str = column.name) -> str:
                called = "" if name == str(i + 1) else f" ({shown(name)})"
                return f"{self.source}, line {lines[bad]}, column {i + 1}{called}"

            column.add(cells, self.rows, self.room, self.layout.decimal, where)
        self._count(np.array(lines, np.int64))

    def add_fast(self, lines: Lines) -> bool:
        """All lines of a block, if they are for certain rows of plain numbers, but for a text column or two.

        NumPy reads what `to_numbers` reads, and names such as "inf" and "-nan" besides, which are looked for.
        """
        delimiter, decimal = self.layout
        text = [i for i, column in enumerate(self.columns) if column.is_text]
        numbers = [i for i, column in enumerate(self.columns) if not column.is_text]
        block, rows = lines.text, lines.lines
        if "\r" in block:
            block = block.replace("\r\n", "\n")
            rows = block.removesuffix("\n").split("\n")
        if not numbers or len(text) > MAX_TEXT or not block.isascii() or any(mark in block for mark in '"\r'):
            return False
        if not any(rows) or (text and any(row.count(delimiter) != len(self.columns) - 1 for row in rows)):
            return False
        plain = rows
        if decimal != ".":
            if "." in block:
                return False
            plain = [row.replace(decimal, ".") for row in rows]
        try:
            x = np.loadtxt(plain, delimiter=delimiter, comments=None, usecols=numbers if text else None, ndmin=2)
        except ValueError:
            return False
        if x.shape != (len(rows), len(numbers)):
            return False
        if not np.isfinite(x).all():
            names = sum(block.count(name) for name in ("nan", "NaN"))
            signed = any(sign + name in block for sign in "+-" for name in ("nan", "NaN"))
            if signed or np.isinf(x).any() or int(np.isnan(x).sum()) != names:
                return False
        for j, i in enumerate(numbers):
            self.columns[i].add_numbers(x[:, j], self.rows, self.room)
        for i in text:
            self.columns[i].add(_cells(rows, delimiter, i, len(self.columns)), self.rows, self.room, decimal, str)
        self._count(np.arange(lines.number + 1, lines.number + 1 + len(rows)))
        lines.at = len(lines.lines)
        return True

    def expect(self, text: int | None, read: int) -> None:
        """Make room for the rows of `text` bytes after `read` of them, or for half as many again as there are."""
        self.room = self.rows * 3 // 2 if text is None else int(self.rows * text / max(read, 1) * 1.02) + 100

    def table(self, named: bool, target: str | None) -> Table:
        """The rows so far."""
        columns = tuple(column.column(self.rows, self.layout.decimal) for column in self.columns)
        return Table(self.source, columns, frozen(np.concatenate(self.lines)), "line", named, target)

    def _count(self, lines: npt.NDArray[np.int64]) -> None:
        self.lines.append(lines)
        self.rows += len(lines)


def _cells(rows: list[str], delimiter: str, column: int, width: int) -> list[str]:
    """One cell of each row; from whichever end is nearer."""
    if column < width / 2:
        return [row.split(delimiter, column + 1)[column] for row in rows]
    return [row.rsplit(delimiter, width - column)[column - width] for row in rows]
