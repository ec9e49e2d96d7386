"""Output of the commands: CSV, JSON, Markdown, and text that is safe for a terminal."""

import csv
import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fnet.checkpoint import write_atomically

__all__ = ["csv_text", "json_like", "markdown", "mean_and_deviation", "say", "visible", "write_csv", "write_json"]


def visible(text: object) -> str:
    r"""Text for a terminal, with unprintable characters escaped.

    >>> visible("a\x1b[31m\r")
    'a\\x1b[31m\\r'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def say(kind: str, message: object) -> None:
    """Write one line to standard error."""
    print(f"{kind}: {visible(message)}", file=sys.stderr)


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Format rows as CSV (RFC 4180), except that lines end with a line feed only."""
    lines: list[str] = []
    # With this line terminator, the writer quotes cells that contain either character.
    writer = csv.writer(_Appender(lines), lineterminator="\r\n")
    writer.writerows(rows)
    return "".join(line[:-2] + "\n" for line in lines)


class _Appender:
    def __init__(self, lines: list[str]) -> None:
        self.write = lines.append


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    write_atomically(path, csv_text([header, *rows]).encode())


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())


def json_like(value: Any) -> Any:
    """A value as JSON represents it, with lists in place of tuples."""
    return json.loads(json.dumps(value))


def markdown(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def mean_and_deviation(values: Sequence[float], places: int) -> str:
    """The mean and, for several values, the standard deviation.

    >>> mean_and_deviation([0.5, 0.6], 3)
    '0.550 ± 0.071'
    """
    deviation = f" ± {statistics.stdev(values):.{places}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{places}f}{deviation}"
