"""The encoding of the columns of a table, as a value that a model keeps and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fnet.tree import container

__all__ = [
    "EncodedColumn",
    "Encoder",
    "column_features",
    "encoder_from_json",
    "encoder_to_json",
    "feature_names",
    "numeric_features",
    "text_columns",
]


@container
class EncodedColumn(NamedTuple):
    """The encoding of one column."""

    name: str
    kind: str  # "numeric", "date", "categorical" or "dropped"
    reason: str = ""  # why it is dropped
    median: float = 0.0  # numeric and date: replaces missing cells; days since 1970 for a date
    indicator: bool = False  # numeric and date: whether a feature indicates missing cells
    levels: tuple[str, ...] = ()  # categorical: the texts that have a feature each
    pooled: tuple[str, ...] = ()  # categorical: the rare texts, which share a feature
    missing: bool = False  # categorical: whether missing cells have a feature


@container
class Encoder(NamedTuple):
    """The encoding of the columns of a table, in order."""

    columns: tuple[EncodedColumn, ...]
    named: bool = True  # False: the table had no header, and columns are matched by position


def feature_names(encoder: Encoder) -> tuple[str, ...]:
    """The name of each feature, in the order of `encode`.

    >>> feature_names(Encoder((EncodedColumn("age", "numeric", indicator=True), EncodedColumn("sex", "categorical",
    ...     levels=("f", "m")))))
    ('age', 'age (missing)', 'sex=f', 'sex=m')
    """
    return tuple(name for column in encoder.columns for name in column_features(column))


def column_features(column: EncodedColumn) -> tuple[str, ...]:
    """The names of the features of a column."""
    match column.kind:
        case "dropped":
            return ()
        case "categorical":
            levels = tuple(f"{column.name}={level}" for level in column.levels)
            rare = (f"{column.name} (rare)",) if column.pooled else ()
            return (*levels, *rare, *((f"{column.name} (missing)",) if column.missing else ()))
        case _:
            return (column.name, f"{column.name} (missing)") if column.indicator else (column.name,)


def numeric_features(encoder: Encoder) -> npt.NDArray[np.bool]:
    """The mask `[features]` of numbers and dates, which are scaled: `fit_standardizer(x, only=…)`."""
    found = [
        column.kind in ("numeric", "date") and i == 0
        for column in encoder.columns
        for i in range(len(column_features(column)))
    ]
    return np.array(found, bool)


def text_columns(encoder: Encoder) -> tuple[str, ...]:
    """The names of the columns that `read_table` must keep as written: `text=text_columns(encoder)`."""
    return tuple(column.name for column in encoder.columns if column.kind in ("categorical", "date"))


def encoder_to_json(encoder: Encoder) -> dict[str, Any]:
    """An encoder as a JSON object; `encoder_from_json` restores it bit for bit."""
    columns = [
        {"name": column.name, "kind": column.kind} | {field: getattr(column, field) for field in _FIELDS[column.kind]}
        for column in encoder.columns
    ]
    return {"named": encoder.named, "columns": [_with_lists(column) for column in columns]}


def encoder_from_json(data: Any) -> Encoder:
    """The inverse of `encoder_to_json`, for untrusted data.

    Raises:
        ValueError: data are not an encoder; the message says why.
    """
    fields = _checked("the encoder", data, {"named": bool, "columns": list})
    columns = tuple(
        _column_from_json(f"column {i} of the encoder", column) for i, column in enumerate(fields["columns"])
    )
    encoder = Encoder(columns, fields["named"])
    names = [column.name for column in columns]
    if len(set(names)) < len(names):
        raise ValueError("two columns of the encoder have the same name")
    if all(column.kind == "dropped" for column in columns):
        raise ValueError("the encoder has no features")
    positions = {str(i + 1) for i in range(len(names) + 1)}
    if not encoder.named and not positions.issuperset(names):
        raise ValueError("the columns of an encoder without a header are not named by their positions")
    return encoder


_FIELDS: dict[str, dict[str, type]] = {
    "numeric": {"median": float, "indicator": bool},
    "date": {"median": float, "indicator": bool},
    "categorical": {"levels": list, "pooled": list, "missing": bool},
    "dropped": {"reason": str},
}


def _column_from_json(source: str, data: Any) -> EncodedColumn:
    kind: Any = data.get("kind") if isinstance(data, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise ValueError(f"{source}: expected a kind of {', '.join(_FIELDS)}, but got {kind!r:.100}")
    fields = _checked(source, data, {"name": str, "kind": str} | _FIELDS[kind])
    if kind == "categorical":
        texts = [*fields["levels"], *fields["pooled"]]
        if not texts or not all(isinstance(text, str) for text in texts) or len(set(texts)) < len(texts):
            raise ValueError(f"{source}: expected levels that are distinct texts")
        fields |= {"levels": tuple(fields["levels"]), "pooled": tuple(fields["pooled"])}
    elif "median" in fields and not math.isfinite(fields["median"]):
        raise ValueError(f"{source}: expected a finite median, but got {fields['median']}")
    return EncodedColumn(**fields)


def _checked(source: str, data: Any, types: Mapping[str, type]) -> dict[str, Any]:
    """Check that data are a dict with exactly these keys and with values of these types."""
    if not isinstance(data, dict) or set(data) != set(types):  # pyright: ignore[reportUnknownArgumentType]
        raise ValueError(f"{source}: expected an object of {', '.join(types)}, but got {data!r:.100}")
    fields: dict[str, Any] = dict(data)  # pyright: ignore[reportUnknownArgumentType]
    for name, expected in types.items():
        if type(fields[name]) is not expected:
            raise ValueError(f"{source}: expected {name} of type {expected.__name__}, but got {fields[name]!r:.100}")
    return fields


def _with_lists(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
