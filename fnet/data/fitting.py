"""Tables as features: what each column becomes, learned from the training rows."""

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
MAX_POOLED = 10_000  # rare levels that are remembered; further ones are unseen
MIN_ROWS = 2, 10  # a level in less than 1 % of the rows is rare, but not in 10 rows, and always in 1
ID_ROWS = 10  # so many rows make whole numbers in a row an ID
ID_NAME = re.compile(r"(?:^|[^a-zA-Z])(?i:id|idx|index|key)$|[a-z](?:Id|ID)$")


def fit_encoder(
    table: Table,
    rows: npt.NDArray[np.integer[Any]] | None = None,
    *,
    categorical: Collection[str] = (),
    drop: Collection[str] = (),
    keep: Collection[str] = (),
) -> Encoder:
    """What each column of a table of features becomes.

    - numeric: one feature, the number; a missing one is the median of the training rows, and where one was missing a
      second feature is 1 there and 0 elsewhere;
    - date: text that is ISO dates, `YYYY-MM-DD` and perhaps a time, becomes days since 1970, in UTC where an offset is
      given, and is then numeric;
    - categorical: other text becomes one feature per level, 1 where the cell is the level and 0 elsewhere. At most 100
      levels have one; the others, and those in fewer than 1 % of the training rows (at least 2 rows, at most 10), share
      one if there are two or more. Missing cells are a level of their own. A level that the training rows do not have
      is 0 in all;
    - dropped: no feature. So are columns that are constant or empty, text that is nowhere the same or mostly rare, and
      whole numbers that are an ID: each once and in a row (1, 2, 3, … in any order), or each once in a column named so.

    `fit_standardizer` leaves one-hot features and indicators as they are if it is given `only=numeric_features(...)`.

    Args:
        table: the features, from `split_target`. Kinds and IDs are decided on all of its rows.
        rows: the training rows, from which medians, levels and constants are learned; None: all.
        categorical: names of columns that are categories although they are numbers or dates.
        drop: names of columns to drop.
        keep: names of columns not to drop.

    Raises:
        ValueError: a name that no column has, or that is to be dropped and kept; a text among numbers; no column is
            left.
    """
    for name in (*categorical, *drop, *keep):
        column_named(table, name)
    if both := sorted(set(drop) & {*keep, *categorical}):
        raise ValueError(f"{table.source}: column {shown(both[0])} is to be dropped, and to be kept or categorical")
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
        raise ValueError(f"{table.source}: no column is left ({reasons}); name those that are features: keep= (--keep)")
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
    median = 2 * float(np.median(present / 2)) if len(present) else 0.0  # halved: the mean of two is finite
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
    alike = sum(map(looks_like_number, column.levels))  # the last column, kept as written, is not the target
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
