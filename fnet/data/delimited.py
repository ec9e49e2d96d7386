"""Delimited text: `.csv` and `.tsv`, also compressed with gzip, read as if an enemy had written it.

Most blocks of a large file are numbers and nothing else, and go to `numpy.loadtxt`. Whatever it does not read for
certain as the exact way would, a block at a time, goes through the exact way: `csv`, and each column by itself.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from fnet.data.cells import counted, shown
from fnet.data.growing import Buffer, Growing
from fnet.data.header import Layout, find_layout, has_header
from fnet.data.lines import Lines, opened
from fnet.data.tables import Table, check_names, column_named
from fnet.nn import Array
from fnet.tree import frozen

__all__ = ["read_table"]

SLOW = '"\r\x1c\x1d\x1e\x1f'  # quotes, and what NumPy takes for space
MAX_CELLS = 1 << 17  # that are held as Python strings
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
    numbers if at least half of its first cells are (those among the first 131,072 of the table); then any other cell is
    an error, and so is an infinite number, `1_000` or `1,000`. Every other column is text.

    Takes about the memory of the result: float64 for a number, four bytes for a text, and each different text once. A
    line has at most 16 MiB and 65,536 cells, a cell 128 KiB. Compressed text has at most 2 MiB, or 100 times the size
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
        if not lines.skip_blank():
            raise ValueError(f"{name} is empty")
        layout = find_layout(name, lines.lines[lines.at : lines.at + MAX_CELLS])
        most = max(MAX_CELLS // layout.width, 2)
        rows, numbers = _rows(lines, layout.delimiter, most)
        while not rows and lines.skip_blank():
            rows, numbers = _rows(lines, layout.delimiter, most)
        if not rows:
            raise ValueError(f"{name} has no rows")
        named = has_header(name, rows, layout.decimal) if header is None else header
        names = _names(name, rows.pop(0)) if named else [str(i + 1) for i in range(len(rows[0]))]
        kept = {*text, names[-1] if target is None else target}
        builder = _Builder(name, layout, names, kept, names[-1] if target is None else target)
        builder.add(rows, numbers[named:])
        while lines.skip_blank():
            builder.expect(size, lines.bytes_taken())
            if not builder.add_fast(lines):
                builder.add(*_rows(lines, layout.delimiter, most))
    if not builder.rows:
        raise ValueError(f"{name} has a header, but no rows; if the first row is data, say header=False (--header no)")
    table = builder.table(named, target)
    if target is not None:
        column_named(table, target)
    return table


def _names(source: str, cells: Sequence[str]) -> list[str]:
    names = [cell.strip() or f"column {i + 1}" for i, cell in enumerate(cells)]
    check_names(source, names)
    return names


def _rows(lines: Lines, delimiter: str, most: int) -> tuple[list[list[str]], Sequence[int]]:
    """At most as many rows of the rest of a block, and the line on which each ends; blank ones are left out.

    A row that ends in the next block is the last.
    """
    first, before, rows = lines.number, lines.before, list[list[str]]()
    numbers: list[int] = []
    quotes = '"' in lines.text
    reader = csv.reader(lines if quotes else lines.lines[lines.at : lines.at + most], delimiter=delimiter, strict=True)
    try:
        if quotes:
            for row in reader:
                rows.append(row)
                numbers.append(lines.number)
                if len(rows) == most or lines.at == len(lines.lines) or lines.before != before:
                    break
        else:
            rows = list(reader)
            numbers = list(range(first + 1, first + 1 + len(rows)))
            lines.at += len(rows)
    except csv.Error as error:
        line = lines.number if quotes else first + reader.line_num
        begin = (numbers[-1] if numbers else first) + 1
        hint = f" (the row begins on line {begin}; is a quote left open?)" if quotes and begin < line else ""
        what = f"not a table of delimited text: {error}{hint}"
        if "new-line character" in str(error):
            what = "a carriage return within a line; if it ends one, save the file with line ends of Unix or Windows"
        raise ValueError(f"{lines.source}, line {line}: {what}") from None
    kept = [i for i, row in enumerate(rows) if len(row) > 1 or "".join(row).strip()]
    if len(kept) < len(rows):
        rows, numbers = [rows[i] for i in kept], [numbers[i] for i in kept]
    return rows, numbers


class _Builder:
    """A table while it is read."""

    def __init__(self, source: str, layout: Layout, names: list[str], kept: Collection[str], target: str) -> None:
        self.source, self.layout, self.rows, self.room = source, layout, 0, 0
        self.columns = [Growing(name, as_written=name in kept, is_target=name == target) for name in names]
        self.lines = Buffer(np.int64)

    def add(self, rows: list[list[str]], lines: Sequence[int]) -> None:
        """Rows of cells, and the line on which each ends."""
        for row, line in zip(rows, lines, strict=True):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"{self.source}, line {line}: expected {counted(len(self.columns), 'column')}, but got {len(row)}"
                )
        for i, cells in enumerate(zip(*rows, strict=True)):
            column = self.columns[i]

            def where(bad: int, i: int = i, name: str = column.name) -> str:
                called = "" if name == str(i + 1) else f" ({shown(name)})"
                return f"{self.source}, line {lines[bad]}, column {i + 1}{called}"

            column.add(cells, self.room, self.layout.decimal, where)
        self._count(lines)

    def add_fast(self, lines: Lines) -> bool:
        """The rest of a block, if it is for certain rows of plain numbers, but for a text column or two."""
        delimiter = self.layout.delimiter
        text = [i for i, column in enumerate(self.columns) if column.is_text]
        numbers = [i for i, column in enumerate(self.columns) if not column.is_text]
        if not numbers or len(text) > MAX_TEXT:
            return False
        rows = lines.lines[lines.at :]
        if "\r" in lines.text:
            rows = [row.removesuffix("\r") for row in rows]
        block = "\n".join(rows)
        if not block.isascii() or any(mark in block for mark in SLOW):
            return False
        if text and {row.count(delimiter) for row in rows} != {len(self.columns) - 1}:
            return False
        x = _plain_numbers(rows, block, self.layout, numbers if text else None)
        if x is None or x.shape != (len(rows), len(numbers)):
            return False
        for j, i in enumerate(numbers):
            self.columns[i].add_numbers(x[:, j], self.room)
        for i in text:
            self.columns[i].add(_cells(rows, delimiter, i, len(self.columns)), self.room, self.layout.decimal, str)
        self._count(np.arange(lines.number + 1, lines.number + 1 + len(rows)))
        lines.at = len(lines.lines)
        return True

    def expect(self, text: int | None, read: int) -> None:
        """Make room for the rows of `text` bytes after `read` of them, or for half as many again as there are."""
        if text is None:
            self.room = self.rows * 3 // 2
        else:  # a cell takes a byte at least, with its delimiter
            self.room = min(self.rows * text * 51 // (50 * max(read, 1)), text // len(self.columns)) + 1

    def table(self, named: bool, target: str | None) -> Table:
        """The rows so far."""
        columns = tuple(column.column(self.layout.decimal) for column in self.columns)
        return Table(self.source, columns, frozen(self.lines.array()), "line", named, target)

    def _count(self, lines: Sequence[int] | Array) -> None:
        self.lines.extend(lines, self.room)
        self.rows += len(lines)


def _plain_numbers(rows: list[str], block: str, layout: Layout, columns: list[int] | None) -> Array | None:
    """Rows of numbers, which are those of a block, as `numpy.loadtxt` reads them; None where that is not certain.

    It reads what `to_numbers` reads, and names such as "inf" and "-nan" besides, which are looked for.
    """
    delimiter, decimal, _ = layout
    if decimal != ".":
        if "." in block:
            return None
        block = block.replace(decimal, ".")
        rows = block.split("\n")
    for filled in (False, True):
        if filled:
            block = _filled(block, delimiter)
            rows = block.split("\n")
        try:
            x = np.loadtxt(rows, delimiter=delimiter, comments=None, usecols=columns, ndmin=2)
        except ValueError:
            continue
        if not np.isfinite(x).all():
            names = block.count("nan") + block.count("NaN")
            signed = any(sign + name in block for sign in "+-" for name in ("nan", "NaN"))
            if signed or np.isinf(x).any() or int(np.isnan(x).sum()) != names:
                return None
        return x
    return None


def _filled(block: str, delimiter: str) -> str:
    """A block with nan in cells that are empty or NA; blank lines stay so."""
    block = f"\n{block}\n"
    for word in ("", "NA"):
        for before, after in ((delimiter, delimiter), ("\n", delimiter), (delimiter, "\n")):
            while f"{before}{word}{after}" in block:  # twice, where two have a delimiter in common
                block = block.replace(f"{before}{word}{after}", f"{before}nan{after}")
    return block[1:-1]


def _cells(rows: list[str], delimiter: str, column: int, width: int) -> list[str]:
    """One cell of each row; from whichever end is nearer."""
    if column < width / 2:
        return [row.split(delimiter, column + 1)[column] for row in rows]
    return [row.rsplit(delimiter, width - column)[column - width] for row in rows]
