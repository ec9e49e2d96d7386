"""Delimited text: `.csv` and `.tsv`, plain or compressed with gzip, read as untrusted input.

A block that clearly consists of plain numbers is read by `numpy.loadtxt`, which is fast. Every other block is read by
the module `csv`, and each of its columns is converted separately. Both give the same table.
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

SLOW = '"\r\x1c\x1d\x1e\x1f'  # quotes, and characters that NumPy treats as space
MAX_CELLS = 1 << 17  # cells held as Python strings
MAX_TEXT = 2  # columns of text in a block for numpy.loadtxt


def read_table(
    source: str | Path | IO[bytes],
    *,
    target: str | None = None,
    text: Collection[str] = (),
    header: bool | None = None,
) -> Table:
    """Read a table from a `.csv` or `.tsv` file, plain or compressed with gzip, or from an open binary file.

    Cells are separated by commas, semicolons or tabs, which is detected; with semicolons and tabs, the decimal mark may
    be a comma. Quotes, a byte order mark, CRLF and blank lines are accepted. The text must be UTF-8.

    A column of numbers is float64. An empty cell, `NA`, `N/A`, `NaN`, `null`, `None` and `?` are missing. A column is
    numeric if at least half of its first cells are numbers (among the first 131,072 cells of the table). Any other cell
    in it is then an error, as are infinite numbers, `1_000` and `1,000`. Every other column is text.

    The memory is about that of the result: 8 bytes for a number, 4 bytes for a text, and each distinct text once. A
    line has at most 16 MiB and 65,536 cells, and a cell at most 128 KiB. Compressed text has at most 2 MiB, or 100
    times the size of the file if that is more.

    Args:
        target: the column to predict, for `split_target`. Its cells are kept as written, so that "007" is not 7. None
            keeps those of the last column.
        text: further columns whose cells are kept as written, such as numbers that are categories; a column that does
            not exist is ignored.
        header: whether the first row is a header; None detects it by comparison with the rows below. Without a header,
            the columns are named "1", "2", ….

    Raises:
        FileNotFoundError, PermissionError, IsADirectoryError: the file cannot be opened.
        ValueError: the file is not regular, damaged, or not a table; a cell in a column of numbers is not a number; or
            no column has the name of the target. The message says where and what to do.
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
        raise ValueError(f"{name} has a header, but no rows; if row 1 is data, specify header=False (--header no)")
    table = builder.table(named, target)
    if target is not None:
        column_named(table, target)
    return table


def _names(source: str, cells: Sequence[str]) -> list[str]:
    names = [cell.strip() or f"column {i + 1}" for i, cell in enumerate(cells)]
    check_names(source, names)
    return names


def _rows(lines: Lines, delimiter: str, most: int) -> tuple[list[list[str]], Sequence[int]]:
    """At most `most` rows of the rest of a block, and the line on which each ends, without blank rows.

    A row that ends in the next block is the last one.
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
        hint = f" (the row begins on line {begin}; is a closing quote missing?)" if quotes and begin < line else ""
        what = f"not a table of delimited text: {error}{hint}"
        if "new-line character" in str(error):
            what = "a carriage return within a line; save the file with Unix or Windows line endings"
        raise ValueError(f"{lines.source}, line {line}: {what}") from None
    kept = [i for i, row in enumerate(rows) if len(row) > 1 or "".join(row).strip()]
    if len(kept) < len(rows):
        rows, numbers = [rows[i] for i in kept], [numbers[i] for i in kept]
    return rows, numbers


class _Builder:
    """A table that is being read."""

    def __init__(self, source: str, layout: Layout, names: list[str], kept: Collection[str], target: str) -> None:
        self.source, self.layout, self.rows, self.room = source, layout, 0, 0
        self.columns = [Growing(name, as_written=name in kept, is_target=name == target) for name in names]
        self.lines = Buffer(np.int64)

    def add(self, rows: list[list[str]], lines: Sequence[int]) -> None:
        """Add rows of cells; `lines` are the lines on which they end."""
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
        """Add the rest of a block if it consists of plain numbers and at most two text columns; False otherwise."""
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
        """Estimate the rows of `text` bytes after reading `read` bytes; without `text`, 1.5 times the rows so far."""
        if text is None:
            self.room = self.rows * 3 // 2
        else:  # a cell takes at least one byte, its delimiter
            self.room = min(self.rows * text * 51 // (50 * max(read, 1)), text // len(self.columns)) + 1

    def table(self, named: bool, target: str | None) -> Table:
        """The rows so far."""
        columns = tuple(column.column(self.layout.decimal) for column in self.columns)
        return Table(self.source, columns, frozen(self.lines.array()), "line", named, target)

    def _count(self, lines: Sequence[int] | Array) -> None:
        self.lines.extend(lines, self.room)
        self.rows += len(lines)


def _plain_numbers(rows: list[str], block: str, layout: Layout, columns: list[int] | None) -> Array | None:
    """The numbers in the rows of a block by `numpy.loadtxt`, or None if `to_numbers` might differ.

    Unlike `to_numbers`, it also accepts "inf" and "-nan", which are therefore searched for.
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
    """A block with nan in place of empty cells and NA; blank lines are kept."""
    block = f"\n{block}\n"
    for word in ("", "NA"):
        for before, after in ((delimiter, delimiter), ("\n", delimiter), (delimiter, "\n")):
            while f"{before}{word}{after}" in block:  # repeated, because adjacent cells share a delimiter
                block = block.replace(f"{before}{word}{after}", f"{before}nan{after}")
    return block[1:-1]


def _cells(rows: list[str], delimiter: str, column: int, width: int) -> list[str]:
    """One cell of each row, split from the nearer end."""
    if column < width / 2:
        return [row.split(delimiter, column + 1)[column] for row in rows]
    return [row.rsplit(delimiter, width - column)[column - width] for row in rows]
