"""Search spaces: the values of each name, written as text, and their combinations.

A combination is a mapping from names to values.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from fnet import random
from fnet.random import Key
from fnet.tree import container

__all__ = ["Range", "Space", "grid", "parse_space", "parse_values", "random_search"]

GRID_VALUES = 5  # values of a range that does not give their number
_RANGE = re.compile(r"([^:]+?)\.\.([^:]+)(:log)?(?::(\d+))?")
DIGITS = 4  # significant digits of numbers drawn from a range, so that the number shown is the one used


@container
class Range(NamedTuple):
    """The numbers from low to high, inclusive; integers if both are integers."""

    low: float
    high: float
    log: bool = False  # evenly distributed on a logarithmic scale

    def at(self, share: float, *, digits: int) -> float | int:
        """The number at a fraction of the range, rounded within the range."""
        low, high = self.low, self.high
        number = low * (high / low) ** share if self.log else low + (high - low) * share
        return round(number) if self.integral else float(min(max(float(f"{number:.{digits}g}"), low), high))

    @property
    def integral(self) -> bool:
        """Whether both ends are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Values: TypeAlias = Range | tuple[Any, ...]
Space: TypeAlias = Mapping[str, Values]


def parse_space(specs: Sequence[str]) -> dict[str, Values]:
    """Parse a search space from texts `NAME=VALUES`.

    VALUES is a list, `64,128,256`, or a range. A range may give a number of values, `0.1..0.5:5`, or `1e-4..1e-2:log:5`
    for logarithmic spacing. From a range without it, `1e-4..1e-2:log`, `random_search` draws numbers and `grid` takes
    five. A value is an integer, a number, `true`, `false`, `none` or a word.

    >>> parse_space(["hidden=64,128", "learning_rate=1e-4..1e-2:log:3", "dropout=0..0.5"])
    {'hidden': (64, 128), 'learning_rate': (0.0001, 0.001, 0.01), 'dropout': Range(low=0, high=0.5, log=False)}

    Raises:
        ValueError: a text has another form, or a name occurs twice.
    """
    space: dict[str, Values] = {}
    for spec in specs:
        name, equals, text = spec.partition("=")
        if not (name.isidentifier() and equals and text):
            raise ValueError(f"expected NAME=VALUES such as hidden=64,128,256, but got {spec!r}")
        if name in space:
            raise ValueError(f"{name} occurs twice; list all its values once: {name}=VALUE,VALUE")
        space[name] = parse_values(name, text)
    return space


def parse_values(name: str, text: str) -> Values:
    """Parse the values of a name, see `parse_space`.

    Raises:
        ValueError: the text is not a list or a range.
    """
    if ".." not in text:
        values = tuple(_value(part.strip()) for part in text.split(","))
        if "" in values:
            raise ValueError(f"{name}={text} has an empty value")
        if len(set(map(repr, values))) < len(values):
            raise ValueError(f"{name}={text} has a value twice")
        return values
    match = _RANGE.fullmatch(text)
    ends, log, number = (match.groups()[:2], match[3] is not None, match[4]) if match else ((), False, None)
    low, high = map(_value, ends or ("", ""))
    finite = all(type(end) in (int, float) and math.isfinite(end) for end in (low, high))
    if not (finite and low < high and (low > 0 or not log) and int(number or 2) > 1):
        raise ValueError(
            f"expected {name}=LOW..HIGH[:log][:NUMBER], with numbers LOW < HIGH, above 0 for :log, and a NUMBER of at "
            f"least 2, but got {name}={text}"
        )
    return Range(low, high, log) if number is None else _spaced(Range(low, high, log), int(number))


def grid(space: Space) -> list[dict[str, Any]]:
    """All combinations of the values, the last name varying fastest. A range gives five evenly spaced values.

    >>> grid({"a": (1, 2), "b": ("x", "y")})[1]
    {'a': 1, 'b': 'y'}
    """
    lists = (_spaced(values, GRID_VALUES) if isinstance(values, Range) else values for values in space.values())
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*lists)]


def random_search(key: Key, space: Space, num: int) -> list[dict[str, Any]]:
    """`num` distinct combinations, each value drawn uniformly from its list or range: Bergstra & Bengio (2012).

    Numbers from a range are rounded to four significant digits, unless they are integers.

    Raises:
        ValueError: there are fewer combinations.
    """
    for name, values in space.items():
        if not isinstance(values, Range) and len(values) == 0:
            raise ValueError(f"{name} has no values to draw from")
    drawn: dict[str, dict[str, Any]] = {}
    for draw in range(100 * num):
        if len(drawn) == num:
            break
        units = random.uniform(random.fold_in(key, draw), (len(space),), "float64").tolist()
        combination = {name: _draw(values, unit) for (name, values), unit in zip(space.items(), units, strict=True)}
        drawn.setdefault(repr(combination), combination)
    if len(drawn) < num:
        raise ValueError(f"the search space has fewer than {num} distinct combinations; ask for fewer, or for all")
    return list(drawn.values())


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _draw(values: Values, unit: float) -> Any:
    if not isinstance(values, Range):
        return values[int(unit * len(values))]
    if values.integral and not values.log:
        return int(values.low) + int(unit * (values.high - values.low + 1))
    return values.at(unit, digits=DIGITS)


def _spaced(values: Range, number: int) -> tuple[float | int, ...]:
    """Evenly spaced numbers from low to high, without repeated integers."""
    return tuple(dict.fromkeys(values.at(i / (number - 1), digits=12) for i in range(number)))
