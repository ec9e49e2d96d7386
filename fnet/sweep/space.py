"""Many runs: the combinations of a search space, and a loop that has them done by any executor.

A run is plain data, a mapping of names to values, so that it can be sent to another process or machine, written to a
file, and named by its content.
"""

import hashlib
import itertools
import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from fnet import random as frandom
from fnet.random import Key

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

T = TypeVar("T")
R = TypeVar("R")

POLL = 0.02  # seconds for which one future is waited for before the others are looked at
GRID_VALUES = 5  # of a range of which no number of values is given
DIGITS = 4  # significant, of numbers drawn from a range: what is shown is what is run


# Search spaces --------------------------------------------------------------------------------------------------------


class Range(NamedTuple):
    """The numbers from low to high, both included; integers if both are."""

    low: float
    high: float
    log: bool = False  # evenly on a logarithmic scale


Space: TypeAlias = Mapping[str, Range | tuple[Any, ...]]  # names to the values that they can take


def parse_space(specs: Sequence[str]) -> dict[str, Range | tuple[Any, ...]]:
    """A search space from texts `NAME=VALUES`.

    VALUES is a list, `64,128,256`; a list made from a range by a number of values, `0.1..0.5:5`, or
    `1e-4..1e-2:log:5` for evenly spaced logarithms; or a range without such a number, `1e-4..1e-2:log`, from which
    `random_search` draws and `grid` takes five values. A value is an integer, a number, `true`, `false`, `none` or a
    word.

    >>> parse_space(["hidden=64,128", "learning_rate=1e-4..1e-2:log:3", "dropout=0..0.5"])
    {'hidden': (64, 128), 'learning_rate': (0.0001, 0.001, 0.01), 'dropout': Range(low=0, high=0.5, log=False)}

    Raises:
        ValueError: not such a text, or a name twice.
    """
    space: dict[str, Range | tuple[Any, ...]] = {}
    for spec in specs:
        name, equals, text = spec.partition("=")
        if not (name.isidentifier() and equals and text):
            raise ValueError(f"expected NAME=VALUES such as hidden=64,128,256, but got {spec!r}")
        if name in space:
            raise ValueError(f"{name} is given twice; list all its values once: {name}=VALUE,VALUE")
        space[name] = parse_values(name, text)
    return space


def parse_values(name: str, text: str) -> Range | tuple[Any, ...]:
    """The right side of a text of `parse_space`.

    Raises:
        ValueError: not values; says of which name.
    """
    if ".." not in text:
        values = tuple(_value(part.strip()) for part in text.split(","))
        if "" in values:
            raise ValueError(f"{name}={text} has an empty value")
        if len(set(map(repr, values))) < len(values):
            raise ValueError(f"{name}={text} has a value twice")
        return values
    ends, *options = text.split(":")
    low, high = (_value(end) for end in ends.split("..", 1))
    log = options[:1] == ["log"]
    number = _value(options[log]) if len(options) == log + 1 else None
    if len(options) > log + 1 or (len(options) == log + 1 and (not isinstance(number, int) or number < 2)):
        raise ValueError(f"expected {name}=LOW..HIGH[:log][:NUMBER], NUMBER of 2 or more, but got {name}={text}")
    for end in (low, high):
        if isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end):
            raise ValueError(f"the ends of the range {name}={text} must be numbers")
    if not low < high or (log and low <= 0):
        raise ValueError(f"the range {name}={text} must go from a smaller to a larger number{', above 0' * log}")
    whole = Range(low, high, log)
    if number is None:
        return whole
    return _spaced(whole, number)


def grid(space: Space) -> list[dict[str, Any]]:
    """All combinations of the values, the last name changing fastest; of a range, five values evenly spaced.

    >>> grid({"a": (1, 2), "b": ("x", "y")})[1]
    {'a': 1, 'b': 'y'}
    """
    lists = (_spaced(values, GRID_VALUES) if isinstance(values, Range) else values for values in space.values())
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*lists)]


def random_search(key: Key, space: Space, num: int) -> list[dict[str, Any]]:
    """`num` different combinations, each value drawn uniformly from its list or range: Bergstra & Bengio (2012).

    Numbers from a range of other than integers are rounded to four significant digits.

    Raises:
        ValueError: there are not so many combinations.
    """
    for name, values in space.items():
        if not isinstance(values, Range) and len(values) == 0:
            raise ValueError(f"there are no values to draw {name} from")
    found: dict[str, dict[str, Any]] = {}
    for draw in range(100 * num):
        if len(found) == num:
            break
        units = frandom.uniform(frandom.fold_in(key, draw), (len(space),), "float64").tolist()
        drawn = {name: _draw(values, unit) for (name, values), unit in zip(space.items(), units, strict=True)}
        found.setdefault(repr(drawn), drawn)
    if len(found) < num:
        raise ValueError(f"the search space has too few combinations for {num} different ones; ask for fewer, or all")
    return list(found.values())


def content_hash(description: Any) -> str:
    """16 hexadecimal digits that name plain data by what they are: two of the same content have the same name.

    >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    True
    """
    text = json.dumps(description, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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


def _draw(values: Range | tuple[Any, ...], unit: float) -> Any:
    if not isinstance(values, Range):
        return values[int(unit * len(values))]
    if not (_integral(values) and not values.log):
        return _at(values, unit, digits=DIGITS)
    return int(values.low) + int(unit * (values.high - values.low + 1))


def _spaced(values: Range, number: int) -> tuple[float | int, ...]:
    """Numbers from low to high; of integers, less where neighbours would be the same."""
    return tuple(dict.fromkeys(_at(values, i / (number - 1), digits=12) for i in range(number)))


def _at(values: Range, share: float, *, digits: int) -> float | int:
    """The number at a share of the way from low to high, which rounding does not leave."""
    low, high = values.low, values.high
    number = low * (high / low) ** share if values.log else low + (high - low) * share
    return round(number) if _integral(values) else float(min(max(float(f"{number:.{digits}g}"), low), high))


def _integral(values: Range) -> bool:
    return isinstance(values.low, int) and isinstance(values.high, int)


# Running --------------------------------------------------------------------------------------------------------------


class Failure(NamedTuple):
    """What became of a task that has no result."""

    error: str
    lost: bool  # its worker died or could not be reached, in contrast to an exception of the function


def map_runs(
    make_executor: Callable[[], "Executor"],
    function: Callable[[T], R],
    tasks: Sequence[T],
    *,
    in_flight: int,
    retries: int = 2,
) -> Iterator[tuple[int, R | Failure]]:
    """The index and the result of each task, in the order in which they are finished.

    Of an executor, `submit`, `result` of the futures and, in the end, `shutdown` are used, so any of
    `concurrent.futures`, or of a library with the same interface, will do. An exception of the function is a `Failure`
    and the rest goes on.

    A worker that dies may take the tasks of others with it, as the whole of a `ProcessPoolExecutor`. All that were lost
    are tried again one by one, so that one which kills its worker each time is known, and does no more harm than to be
    a `Failure` after `retries` more attempts. Where an executor takes no more tasks, a new one is made.

    Args:
        make_executor: called once, and again for each executor that broke.
        function: with an argument and a result that can be pickled, and importable in the workers.
        in_flight: how many tasks are submitted at a time; a few more than workers keep them all busy.

    Raises:
        ValueError: `in_flight` is not positive, or `retries` negative.
        Exception: from `make_executor`, or a new executor's `submit`.
    """
    if in_flight < 1 or retries < 0:
        raise ValueError(f"expected in_flight of 1 or more and retries of 0 or more, but got {in_flight} and {retries}")
    guarded = partial(_guarded, function)
    waiting, suspects = deque(range(len(tasks))), deque[int]()
    lost = [0] * len(tasks)  # how often, and with no other task about
    alone = set[int](range(len(tasks)) if in_flight == 1 else ())
    running: dict[int, Future[Any]] = {}
    executor: Executor | None = None

    def submit(index: int) -> None:
        nonlocal executor
        if executor is not None:
            try:
                running[index] = executor.submit(guarded, tasks[index])
                return
            except Exception:  # it is broken
                executor.shutdown(wait=False)
        executor = make_executor()
        running[index] = executor.submit(guarded, tasks[index])

    try:
        while running or waiting or suspects:
            if suspects:
                if not running:
                    alone.add(suspects[0])
                    submit(suspects.popleft())
            else:
                while waiting and len(running) < in_flight:
                    submit(waiting.popleft())
            for index, outcome in _finished(running):
                del running[index]
                if not (isinstance(outcome, Failure) and outcome.lost):
                    yield index, outcome
                    continue
                lost[index] += index in alone
                if lost[index] > retries:
                    yield index, outcome
                else:
                    suspects.append(index)
    finally:
        if executor is not None:
            executor.shutdown(wait=not running)


def _guarded(function: Callable[[T], R], task: T) -> R | Failure:
    """Of the function's own exceptions a result, so that those of a future are all the executor's."""
    try:
        return function(task)
    except Exception as error:
        return Failure(f"{type(error).__name__}: {error}", lost=False)


def _finished(running: Mapping[int, "Future[Any]"]) -> list[tuple[int, Any]]:
    """Those that have an outcome now, waiting a moment for the first."""
    found: list[tuple[int, Any]] = []
    for index, future in running.items():
        try:
            found.append((index, future.result(timeout=0 if found else POLL / len(running))))
        except TimeoutError:
            continue
        except Exception as error:
            found.append((index, Failure(f"{type(error).__name__}: {error}".rstrip(": "), lost=True)))
    return found
