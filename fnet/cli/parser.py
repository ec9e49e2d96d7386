"""The command-line parser: suggests the nearest option for an unknown one, and prints compact help."""

import argparse
import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from fnet.cli.presets import Decided

__all__ = ["Group", "Parser", "add_help", "one_of", "unknown"]

WIDTH = 100  # columns of the help
_NAMES = 20  # columns for the name of an option


Group: TypeAlias = argparse._ArgumentGroup  # pyright: ignore[reportPrivateUsage]


class Parser(argparse.ArgumentParser):
    """The parser of one command."""

    def __init__(self, command: str, arguments: str, description: str) -> None:
        usage = f"fnet {command} {arguments}"
        super().__init__(usage=usage, description=description, allow_abbrev=False, add_help=False)

    def parse(self, argv: list[str]) -> argparse.Namespace:
        """Parse arguments.

        Raises:
            ValueError: an argument is invalid, or an option is unknown; the message suggests the nearest option.
        """
        for argument in argv:
            if argument == "--":
                break
            name = argument.partition("=")[0]
            if re.match("-[-A-Za-z]", name) and name not in self._option_string_actions:
                raise ValueError(unknown("option", name, self._option_string_actions))
        return self.parse_args(argv)

    def arguments(self, options: argparse.Namespace) -> list[str]:
        """The inverse of `parse`, without options that have their default."""
        words: list[str] = []
        for action in self._actions:
            value: Any = getattr(options, action.dest, action.default)
            if value != action.default:
                words.append(action.option_strings[0])
                if action.nargs != 0:
                    words += _words(value)
        return words

    def error(self, message: str) -> Any:
        """Raise the message as a ValueError."""
        raise ValueError(message)

    def format_help(self) -> str:
        """The help text, with two short options per line."""
        lines = [f"usage: {self.usage}", *textwrap.wrap(self.description or "", WIDTH)]
        for group in self._action_groups:
            entries = [_entry(action) for action in group._group_actions]
            lines += [f"\n{group.title}", *_columns(entries)] if entries else []
        return "\n".join(lines) + "\n"


def _words(value: Any) -> list[str]:
    if isinstance(value, tuple):
        return [",".join(map(str, value))]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return [*map(str, value)] if isinstance(value, list) else [str(value)]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def add_help(group: Group) -> None:
    group.add_argument("--help", "-h", action="help", help="show this and exit")


def one_of(*choices: str) -> dict[str, Any]:
    """The keyword arguments of an option with a fixed set of names."""
    return {"choices": choices, "metavar": "NAME", "help": ", ".join(choices)}


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """A message about an unknown name, with the nearest known name."""
    near = difflib.get_close_matches(name.replace("_", "-"), known, n=1)
    return f"unknown {kind} {name}" + (f": did you mean {near[0]}?" if near else "; see --help")


def _entry(action: argparse.Action) -> tuple[str, str]:
    """The name and the description of an option."""
    metavar = action.metavar or "|".join(map(str, action.choices or ()))
    name, text = f"{' '.join(action.option_strings[:1])} {metavar}".strip(), action.help or ""
    default: Any = action.default.text if isinstance(action.default, Decided) else action.default
    values: list[Any] = [] if action.nargs == 0 else [*default] if isinstance(default, list) else [default]
    if values and all(isinstance(value, str | int | float) and not isinstance(value, bool) for value in values):
        shown = " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
        text = f"{text} ({shown})".lstrip() if default != argparse.SUPPRESS else text
    return name, text


def _columns(entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Lines of entries, in order, with two entries per line if both are short."""
    half, left = WIDTH // 2, ""
    for name, text in entries:
        cell = f"  {name:<{_NAMES}} {text}"
        if left and len(cell) < half:
            yield f"{left:<{half}}{cell}".rstrip()
            left = ""
            continue
        if left:
            yield left.rstrip()
        left = cell if len(cell) < half else ""
        if not left:
            yield from textwrap.wrap(cell, WIDTH, subsequent_indent=" " * (_NAMES + 3))
    if left:
        yield left.rstrip()
