"""One column of a table while a file is read: numbers as long as its cells are, or text."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from fnet.data.cells import MISSING, is_number, looks_like_number, shown, to_numbers, why_not_number
from fnet.data.tables import Column
from fnet.tree import frozen

__all__ = ["Growing"]

MAX_SPELLINGS = 10_000  # different cells of a target as written, if they are numbers; more are no classes


class Growing:
    """The rows of a column so far. What it holds is decided by the first block in which it has a cell."""

    def __init__(self, name: str, *, as_written: bool, is_target: bool) -> None:
        self.name = name
        self.is_target = is_target
        self.is_text = as_written
        self._seen = as_written  # whether it is known what the column holds; until then its cells are all missing
        self._values = np.empty(0)  # of numbers, with room for more rows
        self._codes: list[npt.NDArray[np.int32]] = []  # of text
        self._levels: dict[str, int] = {}
        self._as_written = as_written

    def add(self, cells: Sequence[str], rows: int, room: int, decimal: str, where: Callable[[int], str]) -> None:
        """Cells after the first `rows`; `where` says where one of them is.

        Raises:
            ValueError: a cell that is not a number among numbers.
        """
        if not self.is_text:
            values, bad = to_numbers(cells, decimal)
            if bad < 0:
                self._seen = self._seen or not np.isnan(values).all()
                self.add_numbers(values, rows, room)
                return
            self._check(cells, bad, decimal, where)
            self.is_text, self._codes, self._values = True, [np.full(rows, -1, np.int32)], np.empty(0)
        levels = self._levels
        codes = [levels.setdefault(cell.strip(" \t"), len(levels)) for cell in cells]
        self._codes.append(np.array(codes, np.int32))
        if self.is_target and len(levels) > MAX_SPELLINGS:
            values, bad = to_numbers(list(levels), decimal)
            if bad < 0:
                numbers = values[np.concatenate(self._codes)]
                self.is_text, self._codes, self._levels = False, [], {}
                self.add_numbers(numbers, 0, room)

    def add_numbers(self, values: npt.NDArray[np.float64], rows: int, room: int) -> None:
        """Numbers after the first `rows`; memory is taken for `room` rows, or for as many as there are."""
        if rows + len(values) > len(self._values):
            larger = np.empty(max(room, rows + len(values)))
            larger[:rows] = self._values[:rows]
            self._values = larger
        self._values[rows : rows + len(values)] = values

    def column(self, rows: int, decimal: str) -> Column:
        """The column of the rows so far. Numbers that are kept as written get a point for a decimal comma."""
        if not self.is_text:
            return Column(self.name, frozen(self._values[:rows]))
        # Missing cells are levels until here.
        levels = [level for level in self._levels if level not in MISSING]
        positions = {level: i for i, level in enumerate(levels)}
        renumber = np.array([positions.get(level, -1) for level in self._levels] + [-1], np.int32)
        codes = renumber[np.concatenate(self._codes)]
        if decimal != "." and self._as_written and all(is_number(level, decimal) for level in levels):
            levels = [level.replace(decimal, ".") for level in levels]
        return Column(self.name, frozen(codes), tuple(levels), typed=not self._as_written)

    def _check(self, cells: Sequence[str], bad: int, decimal: str, where: Callable[[int], str]) -> None:
        """Whether the cells are text; an error at the bad one where they are numbers, or were before."""
        present = [cell for cell in cells if cell.strip() not in MISSING]
        alike = sum(looks_like_number(cell, decimal) for cell in present)
        if self._seen or 2 * alike >= len(present):
            raise ValueError(
                f"{where(bad)}: expected a number, but got {shown(cells[bad])}{why_not_number(cells[bad], decimal)}; "
                f"correct it, leave the cell empty if the value is missing, or read the column as text: "
                f"text=[{shown(self.name)}] (--categorical, --drop)"
            )
        self._seen = True
