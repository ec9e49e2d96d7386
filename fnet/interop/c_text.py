"""C as text: safely escaped literals and comments, tables, and templates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fnet.interop.source_text import in_lines
from fnet.nn import Array

__all__ = ["comment", "comment_block", "filled", "string", "strings", "table"]

_SHIELD = "\x01"  # replaces a literal <; it does not occur in printable text


def filled(text: str, parts: Mapping[str, str]) -> str:
    """Replace each `<name>` in a text by its part, recursively."""
    while (more := re.sub("<([A-Za-z0-9_]+)>", lambda match: parts[match[1]], text)) != text:
        text = more
    return text.replace(_SHIELD, "<")


def string(text: str) -> str:
    r"""A string literal in UTF-8. Characters other than plain ASCII are octal, as is `?` because of trigraphs.

    >>> print(string('6" ?'))
    "6\042 \077"
    """
    plain = (
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in text.encode("utf-8", "surrogatepass")
    )
    return f'"{"".join(plain)}"'.replace("<", _SHIELD)


def strings(name: str, size: str, texts: Iterable[str]) -> str:
    """A table of strings, one per line."""
    lines = "".join(f"    {string(text)},\n" for text in texts)
    return f"static const char *const {name}[{size}] = {{\n{lines}}};\n"


def comment(text: str) -> str:
    """A printable line for a comment that cannot end it or begin a comment, a trigraph or a new line.

    >>> comment("a */ b /* c ??/")
    'a * / b / * c ? ?/'
    """
    return re.sub(r"\*(?=/)|/(?=\*)|\?(?=\?)", r"\g<0> ", text).rstrip("\\").replace("<", _SHIELD)


def comment_block(lines: Iterable[str]) -> str:
    """Lines as one comment; untrusted text must have passed `comment`."""
    return (
        "/* "
        + "".join(f"{line}\n" if i == 0 else f" * {line}".rstrip() + "\n" for i, line in enumerate(lines))
        + " */\n"
    )


def table(kind: str, name: str, arrays: Sequence[Array]) -> str:
    """A constant with the arrays of all networks, or of a single network; the rows of a matrix are in braces.

    Raises:
        ValueError: the kind is float and a number is infinite in float32.
    """
    shape = "".join(f"[{size}]" for size in (*[len(arrays)] * (len(arrays) > 1), *arrays[0].shape))
    text = ", ".join(f"{{\n{_inside(kind, array)}}}" for array in arrays)
    return f"static const {kind} {name}{shape} = {f'{{{text}}}' if len(arrays) > 1 else text};\n"


def _inside(kind: str, array: Array) -> str:
    if array.ndim == 1:
        return in_lines(_numbers(kind, array))
    rows = (in_lines(_numbers(kind, row), indent="     ").strip().rstrip(",") for row in array)
    return "".join(f"    {{{row}}},\n" for row in rows)


def _numbers(kind: str, array: Array) -> Iterable[str]:
    if kind != "float":
        return map(repr, array.ravel().tolist())
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32).ravel()
    if not np.isfinite(narrow).all():
        raise ValueError("cannot write C source: a number in the networks is infinite in float32")
    return (f"{number!s}f" for number in narrow)
