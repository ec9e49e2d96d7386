"""The parser of the command line: an unknown option is answered with the nearest one, and help fits two screens."""

import argparse
import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

WIDTH = 100  # columns of the help
_NAMES = 22  # columns for the name of an option


Group: TypeAlias = argparse._ArgumentGroup  # pyright: ignore[reportPrivateUsage]


class Parser(argparse.ArgumentParser):
    """The parser of one command."""

    def __init__(self, command: str, arguments: str, description: str) -> None:
        usage = f"fnet {command} {arguments}"
        super().__init__(usage=usage, description=description, allow_abbrev=False, add_help=False)

    def parse(self, argv: list[str]) -> argparse.Namespace:
        """The options in the arguments.

        Raises:
            ValueError: arguments that do not fit, or an unknown option; says which one is near.
        """
        for argument in argv:
            if argument == "--":
                break
            name = argument.partition("=")[0]
            if re.match("-[-A-Za-z]", name) and name not in self._option_string_actions:
                raise ValueError(unknown("option", name, self._option_string_actions))
        return self.parse_args(argv)

    def error(self, message: str) -> Any:
        """Raise the message as a ValueError."""
        raise ValueError(message)

    def format_help(self) -> str:
        """The options of each group, two to a line where they are short."""
        lines = [f"usage: {self.usage}", *textwrap.wrap(self.description or "", WIDTH)]
        for group in self._action_groups:
            entries = [_entry(action) for action in group._group_actions]
            lines += [f"\n{group.title}", *_columns(entries)] if entries else []
        return "\n".join(lines) + "\n"


def add_help(group: Group) -> None:
    group.add_argument("--help", "-h", action="help", help="show this and exit")


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message on an unknown name, with the nearest known one."""
    near = difflib.get_close_matches(name.replace("_", "-"), known, n=1)
    return f"unknown {kind} {name}" + (f": did you mean {near[0]}?" if near else "; --help lists what there is")


def _entry(action: argparse.Action) -> tuple[str, str]:
    """An option with the names of its values, and what it does, with its default."""
    metavar = action.metavar or "|".join(map(str, action.choices or ()))
    name = " ".join(["/".join(action.option_strings), str(metavar)]).strip()
    text, default = action.help or "", action.default
    if isinstance(default, list):
        default = " ".join(map(str, default))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(default, str | int | float) and not isinstance(default, bool) and default != "==SUPPRESS==":
        text = f"{text} ({default})".lstrip()
    return name, text


def _columns(entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    left = ""
    for name, text in entries:
        cell = f"  {name:<{_NAMES}} {text}"
        if len(cell) < WIDTH // 2 and left:
            yield f"{left:<{WIDTH // 2}}{cell}".rstrip()
            left = ""
            continue
        if left:
            yield left.rstrip()
            left = ""
        if len(cell) < WIDTH // 2:
            left = cell
        else:
            yield from textwrap.wrap(cell, WIDTH, subsequent_indent=" " * (_NAMES + 3), drop_whitespace=True)
    if left:
        yield left.rstrip()
