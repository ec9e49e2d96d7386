"""C as text: literals that names cannot leave, comments that they cannot end, tables, and templates with parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fnet.interop.source_text import in_lines
from fnet.nn import Array

__all__ = ["comment", "comment_block", "filled", "string", "strings", "table"]

_SHIELD = "\x01"  # stands for < where no part is meant; no printable text has it


def filled(text: str, parts: Mapping[str, str]) -> str:
    """The text with its parts in the place of `<name>`, and with the parts of these."""
    while (more := re.sub("<([A-Za-z0-9_]+)>", lambda match: parts[match[1]], text)) != text:
        text = more
    return text.replace(_SHIELD, "<")


def string(text: str) -> str:
    r"""A string literal, in UTF-8; all but plain ASCII is octal, and so is `?`, since there are trigraphs.

    >>> print(string('6" ?'))
    "6\042 \077"
    """
    plain = (
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in text.encode("utf-8", "surrogatepass")
    )
    return f'"{"".join(plain)}"'.replace("<", _SHIELD)


def strings(name: str, size: str, texts: Iterable[str]) -> str:
    """A table of strings, one on a line."""
    lines = "".join(f"    {string(text)},\n" for text in texts)
    return f"static const char *const {name}[{size}] = {{\n{lines}}};\n"


def comment(text: str) -> str:
    """A printable line for a comment, which does not end there, and in which no comment, trigraph or new line begins.

    >>> comment("a */ b /* c ??/")
    'a * / b / * c ? ?/'
    """
    return re.sub(r"\*(?=/)|/(?=\*)|\?(?=\?)", r"\g<0> ", text).rstrip("\\").replace("<", _SHIELD)


def comment_block(lines: Iterable[str]) -> str:
    """Lines as one comment; those of strangers have gone through `comment`."""
    return (
        "/* "
        + "".join(f"{line}\n" if i == 0 else f" * {line}".rstrip() + "\n" for i, line in enumerate(lines))
        + " */\n"
    )


def table(kind: str, name: str, arrays: Sequence[Array]) -> str:
    """A constant with the array of each network, or with that of the only one; a matrix with its rows in braces.

    Raises:
        ValueError: a number is infinite in float32, and the kind is float.
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
