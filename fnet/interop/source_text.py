"""Common parts of models as source code: networks, numbers in lines, and descriptions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import fnet
from fnet import mlp
from fnet.data import EncodedColumn
from fnet.model import Model
from fnet.nn import Array
from fnet.params import MLPConfig

__all__ = [
    "about",
    "columns_about",
    "in_lines",
    "networks",
    "output_names",
    "outputs_about",
    "printable",
    "provenance",
    "quoted",
]

WIDTH = 118
MAX_SHOWN = 8  # levels of a column that are listed for people
ACTIVATIONS = {"relu": "ReLU", "leaky_relu": "leaky ReLU", "gelu": "GELU", "silu": "SiLU", "elu": "ELU", "selu": "SELU"}


def networks(model: Model) -> list[list[tuple[Array, Array]]]:
    """The matrix `[in, out]` and the bias `[out]` of each layer of each network, with batch norm folded in."""
    folded = (mlp.fold_batch_norm(model.config, *member)[1] for member in model.members)
    return [[(w, b) for (w, b), _ in params if b is not None] for params in folded]


def in_lines(items: Iterable[str], indent: str = "    ") -> str:
    """Comma-terminated items in lines of at most 118 characters; the last line ends with a line feed."""
    lines: list[str] = []
    line = indent
    for item in items:
        if len(line) + len(item) + 2 > WIDTH and line != indent:
            lines.append(line.rstrip())
            line = indent
        line += item + ", "
    return "\n".join([*lines, line.rstrip()]) + "\n"


# For people -----------------------------------------------------------------------------------------------------------


def about(model: Model) -> str:
    """The model in one sentence."""
    config = model.config
    what = "a class" if model.target is None else quoted(model.target)
    between = (
        "" if config.activation == "identity" else f" with {ACTIVATIONS.get(config.activation, config.activation)}"
    )
    layers = " -> ".join(map(str, config.sizes)) + (between if config.hidden_sizes else "")
    networks = (
        f"a network {layers}" if len(model.members) == 1 else f"the mean of {len(model.members)} networks {layers}"
    )
    return f"Predicts {what}: {networks}. Written by fnet {fnet.__version__}."


def output_names(config: MLPConfig) -> list[str]:
    """The names of the outputs of a regression."""
    if config.loss == "pinball":
        return [f"quantile_{q:g}" for q in config.quantiles]
    return ["prediction"] if config.num_outputs == 1 else [f"prediction_{i + 1}" for i in range(config.num_outputs)]


def outputs_about(model: Model) -> str:
    """One sentence about the outputs of a model."""
    config = model.config
    if model.scale is None:
        return f"The probabilities of the classes, [rows, {config.num_outputs}]."
    if config.loss == "pinball":
        quantiles = ", ".join(f"{q:g}" for q in config.quantiles)
        return f"The quantiles {quantiles} in the unit of training, in increasing order, [rows, {config.num_outputs}]."
    shape = "[rows]" if config.num_outputs == 1 else f"[rows, {config.num_outputs}]"
    return f"The predicted numbers in the unit of training, {shape}."


def columns_about(model: Model) -> list[tuple[str, EncodedColumn, str]]:
    """The columns of a table that the model needs: quoted name, column, and description."""
    columns = () if model.encoder is None else model.encoder.columns
    return [(quoted(column.name), column, _about(column)) for column in columns if column.kind != "dropped"]


def _about(column: EncodedColumn) -> str:
    if column.kind == "categorical":
        texts = (*column.levels, *column.pooled)
        more = f" and {len(texts) - MAX_SHOWN} more" if len(texts) > MAX_SHOWN else ""
        return f"text: {', '.join(map(quoted, texts[:MAX_SHOWN]))}{more}"
    if column.kind == "date":
        return f"date; where missing the median, {column.median!r} days since 1970-01-01"
    return f"number; where missing the median, {column.median!r}"


def provenance(model: Model) -> list[str]:
    """Lines about the training of the model."""
    facts = list(_flat(model.provenance, ""))
    width = max((len(name) for name, _ in facts), default=0)
    return [f"{name:<{min(width, 40)}}  {value}" for name, value in facts]


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, child in cast(Mapping[str, Any], value).items():
            yield from _flat(child, f"{path}.{name}" if path else name)
    else:
        yield printable(path), printable(repr(value))


def printable(text: str) -> str:
    r"""Text with unprintable characters, such as line feeds, escaped.

    >>> printable("a\nb")
    'a\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def quoted(text: str, limit: int = 60) -> str:
    """A name in quotes, shortened if it is long."""
    return printable(repr(text[:limit])) + ("..." if len(text) > limit else "")
