"""A column of a table that is being read: numbers, as long as its cells are numbers, or text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from fnet.data.cells import MISSING, SPACE, is_number, looks_like_number, shown, to_numbers, why_not_number
from fnet.data.tables import Column
from fnet.nn import Array
from fnet.tree import frozen

__all__ = ["Buffer", "Growing"]

MAX_SPELLINGS = 10_000  # distinct numeric cells of a target kept as written; more cannot be classes


class Buffer:
    """An array that grows at its end. Memory that is reserved but never written costs nothing."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._memory: Array = np.empty(0, dtype)
        self._size = 0

    def extend(self, values: npt.ArrayLike, room: int) -> None:
        """Append values; if there is no space, reserve memory for `room` values, or for as many as needed."""
        values = np.asarray(values, self._memory.dtype)
        end = self._size + len(values)
        if end > len(self._memory):
            memory = np.empty(max(room, end), self._memory.dtype)
            memory[: self._size] = self.array()
            self._memory = memory
        self._memory[self._size : end] = values
        self._size = end

    def array(self) -> Array:
        """A view of the values so far."""
        return self._memory[: self._size]


class Growing:
    """The rows of a column so far. The first block in which it has a value decides whether it is text."""

    def __init__(self, name: str, *, as_written: bool, is_target: bool) -> None:
        self.name = name
        self.is_target = is_target
        self.is_text = as_written
        self._seen = as_written  # whether the type is known; until then, all cells are missing
        self._values = Buffer(np.int32 if as_written else np.float64)  # numbers, or indices into the levels
        self._levels: dict[str, int] = {}
        self._as_written = as_written

    def add(self, cells: Sequence[str], room: int, decimal: str, where: Callable[[int], str]) -> None:
        """Append cells; `where` gives the place of one of them for messages.

        Raises:
            ValueError: the column is numeric and a cell is not a number.
        """
        if not self.is_text:
            values, bad = to_numbers(cells, decimal)
            if bad < 0:
                self.add_numbers(values, room)
                return
            self._check(cells, bad, decimal, where)
            gone = len(self._values.array())  # all previous cells were missing
            self.is_text, self._values = True, Buffer(np.int32)
            self._values.extend(np.full(gone, -1), room)
        levels = self._levels
        codes = list(map(levels.get, cells))
        if None in codes:
            codes = [levels.setdefault(cell, len(levels)) for cell in cells]
        self._values.extend(np.array(codes, np.int32), room)
        if self.is_target and len(levels) > MAX_SPELLINGS:
            self.is_target = False  # this is decided once
            values, bad = to_numbers(list(levels), decimal)
            if bad < 0:
                codes, self._values = self._values.array(), Buffer(np.float64)
                self.is_text, self._levels = False, {}
                self.add_numbers(values[codes], room)

    def add_numbers(self, values: npt.NDArray[np.float64], room: int) -> None:
        """Append numbers, NaN where missing."""
        self._seen = self._seen or not np.isnan(values).all()
        self._values.extend(values, room)

    def column(self, decimal: str) -> Column:
        """The column so far. In numbers that are kept as written, a decimal comma becomes a point."""
        if not self.is_text:
            return Column(self.name, frozen(self._values.array()))
        # So far, missing cells are levels, and so are texts with surrounding space.
        stripped = [level.strip(" \t") for level in self._levels]
        levels = [level for level in dict.fromkeys(stripped) if level not in MISSING]
        positions = {level: i for i, level in enumerate(levels)}
        renumber = np.array([positions.get(level, -1) for level in stripped] + [-1], np.int32)
        codes = renumber[self._values.array()]
        if decimal != "." and self._as_written and all(is_number(level, decimal) for level in levels):
            levels = [level.replace(decimal, ".") for level in levels]
        return Column(self.name, frozen(codes), tuple(levels), typed=not self._as_written)

    def _check(self, cells: Sequence[str], bad: int, decimal: str, where: Callable[[int], str]) -> None:
        """Raise an error for a bad cell unless the cells are text and no numbers preceded them."""
        present = [cell for cell in cells if cell.strip(SPACE) not in MISSING]
        alike = sum(looks_like_number(cell, decimal) for cell in present)
        if self._seen or 2 * alike >= len(present):
            raise ValueError(
                f"{where(bad)}: expected a number, but got {shown(cells[bad])}{why_not_number(cells[bad], decimal)}; "
                f"correct it, leave the cell empty if the value is missing, or read the column as text: "
                f"text=[{shown(self.name)}] (--categorical, --drop)"
            )
        self._seen = True
