"""Fitting of an encoder: the encoding of each column, learned from the training rows."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from fnet.data.cells import days, looks_like_number, shown
from fnet.data.encoder import EncodedColumn, Encoder
from fnet.data.encoding import dates
from fnet.data.tables import Column, Table, column_named, numbers, texts

__all__ = ["fit_encoder"]

MAX_LEVELS = 100  # features of one column; further levels are rare
MAX_POOLED = 10_000  # rare levels that are remembered; further levels are unseen
MIN_ROWS = 2, 10  # a level in less than 1 % of the rows is rare; never with 10 rows, always with 1
ID_ROWS = 10  # rows from which consecutive whole numbers count as an ID
ID_NAME = re.compile(r"(?:^|[^a-zA-Z])(?i:id|idx|index|key)$|[a-z](?:Id|ID)$")


def fit_encoder(
    table: Table,
    rows: npt.NDArray[np.integer[Any]] | None = None,
    *,
    categorical: Collection[str] = (),
    drop: Collection[str] = (),
    keep: Collection[str] = (),
) -> Encoder:
    """Decide how each column of a table of features is encoded.

    - numeric: one feature, the number. A missing number is replaced by the median of the training rows. If the training
      rows have missing numbers, a second feature is 1 where the number is missing and 0 elsewhere.
    - date: text that consists of ISO dates, `YYYY-MM-DD` with an optional time, becomes days since 1970, in UTC
      if an offset is given.
    - categorical: other text becomes one feature per level, 1 if the cell is that level and 0 otherwise, for up to 100
      levels. Further levels, and levels in fewer than 1 % of the training rows (at least 2 and at most 10 rows), share
      one feature if there are two or more. Missing cells are a level of their own. For a level that the training rows
      do not have, all features are 0.
    - dropped: no feature. This applies to columns that are constant or empty, to text that is all distinct or mostly
      rare, and to IDs: distinct whole numbers that are consecutive (in any order) or whose column is named like an ID.

    To leave one-hot features and indicators unscaled, use `fit_standardizer(x, only=numeric_features(encoder))`.

    Args:
        table: the features, from `split_target`. All rows decide which columns are numbers, dates, text or IDs.
        rows: the training rows, from which medians, levels and constants are learned; None means all.
        categorical: names of columns of numbers or dates to treat as categories.
        drop: names of columns to drop.
        keep: names of columns not to drop.

    Raises:
        ValueError: no column has one of the names; a column is both dropped and kept; there is text among numbers; or
            no column remains.
    """
    for name in (*categorical, *drop, *keep):
        column_named(table, name)
    if both := sorted(set(drop) & {*keep, *categorical}):
        raise ValueError(f"{table.source}: column {shown(both[0])} cannot be dropped and also kept or categorical")
    if rows is None:
        rows = np.arange(len(table.lines))
    columns: list[EncodedColumn] = []
    for column in table.columns:
        if column.name in drop:
            columns.append(EncodedColumn(column.name, "dropped", "as asked"))
        else:
            columns.append(
                _fit_column(
                    table, column, rows, column.name in categorical, {*keep, *categorical}.__contains__(column.name)
                )
            )
    encoder = Encoder(tuple(columns), table.named)
    if all(column.kind == "dropped" for column in columns):
        reasons = "; ".join(f"{shown(column.name)}: {column.reason}" for column in columns[:5])
        raise ValueError(f"{table.source}: no column remains ({reasons}); name those to keep: keep= (--keep)")
    return encoder


def _fit_column(
    table: Table, column: Column, rows: npt.NDArray[np.integer[Any]], as_text: bool, keep: bool
) -> EncodedColumn:
    kind = "categorical" if as_text else _kind(table, column)
    if kind == "categorical":
        return _fit_levels(column, rows, keep)
    values = dates(table, column) if kind == "date" else numbers(table, column)
    part = values[rows]
    missing = np.isnan(part)
    present = part[~missing]
    reason = ""
    if not len(present):
        reason = "no values"
    elif len(present) == len(part) and present.min() == present.max():
        reason = "constant"
    elif kind == "numeric" and _is_id(column.name, values):
        reason = "an ID: whole numbers, all distinct"
    if reason and not keep:
        return EncodedColumn(column.name, "dropped", reason)
    median = 2 * float(np.median(present / 2)) if len(present) else 0.0  # the mean of two halves is finite
    return EncodedColumn(column.name, kind, "", median, bool(missing.any()))


def _fit_levels(column: Column, rows: npt.NDArray[np.integer[Any]], keep: bool) -> EncodedColumn:
    codes, levels = texts(column)
    part = codes[rows]
    count = np.bincount(part[part >= 0], minlength=len(levels))
    missing = len(part) - int(count.sum())
    distinct = int((count > 0).sum())
    whole = codes[codes >= 0]
    reason = ""
    if not distinct:
        reason = "no values"
    elif distinct == 1 and not missing:
        reason = "constant"
    elif len(whole) > 2 and np.bincount(whole).max() == 1:
        reason = "all distinct"
    order = sorted(np.flatnonzero(count).tolist(), key=lambda i: (-count[i], levels[i]))
    least = 1 if keep else min(max(0.01 * len(part), MIN_ROWS[0]), MIN_ROWS[1])
    often = [i for i in order if count[i] >= least]
    if not reason and 2 * count[often].sum() < count.sum():
        reason = f"text, {distinct:,} distinct, mostly rare"
    if len(order) - len(often) == 1:
        often = order
    common, rare = often[:MAX_LEVELS], order[len(often[:MAX_LEVELS]) :]
    if reason and (not keep or not distinct):
        return EncodedColumn(column.name, "dropped", reason)
    own, pooled = (tuple(sorted(levels[i] for i in chosen)) for chosen in (common, rare[:MAX_POOLED]))
    return EncodedColumn(column.name, "categorical", levels=own, pooled=pooled, missing=missing > 0)


def _kind(table: Table, column: Column) -> str:
    if column.levels is None:
        return "numeric"
    if column.levels and days(column.levels) is not None:
        return "date"
    if column.typed:
        return "categorical"
    alike = sum(map(looks_like_number, column.levels))  # a last column, kept as written, that is not the target
    return "numeric" if 2 * alike >= len(column.levels) else "categorical"


def _is_id(name: str, values: npt.NDArray[np.float64]) -> bool:
    if len(values) < ID_ROWS or not np.array_equal(values, np.rint(values)):
        return False  # NaN is not equal to itself
    ordered = np.sort(values)
    if (np.diff(ordered) == 0).any():
        return False
    span = ordered[-1] - ordered[0] + 1
    steps = np.diff(values)
    in_order = bool((steps > 0).all() or (steps < 0).all())
    return bool(span == len(values) or (in_order and span <= 1.5 * len(values)) or ID_NAME.search(name) is not None)
