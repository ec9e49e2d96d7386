"""A description of a table, its target and its encoding in one line."""

from __future__ import annotations

import numpy as np

from fnet.data.cells import counted, shown
from fnet.data.encoder import Encoder, column_features
from fnet.data.tables import Table
from fnet.data.targets import Target
from fnet.nn import Array

__all__ = ["describe", "describe_numbers"]

MAX_CLASSES = 6  # listed by name
MAX_DROPPED = 6


def describe(table: Table, target: Target, encoder: Encoder) -> str:
    """Describe in one line, before training, how a table is understood: rows, target, columns and missing cells.

    For example, "4,500 rows; target 'churn': 2 classes (no 81 %, yes 19 %); 12 numeric, 3 categorical (21 levels),
    2 dropped (customer_id: all distinct; country: constant); 214 missing cells in 2 columns".

    Args:
        table: the features, from `split_target`.
    """
    columns = {column.name: column for column in encoder.columns}
    kinds = [column.kind for column in encoder.columns]
    parts: list[str] = []
    for kind, plural in (("numeric", "numeric"), ("date", "dates (in days)"), ("categorical", "categorical")):
        if count := kinds.count(kind):
            parts.append(f"{count:,} {plural if count > 1 or kind != 'date' else 'date (in days)'}")
    if "categorical" in kinds:
        levels = sum(len(column_features(column)) for column in encoder.columns if column.kind == "categorical")
        parts[-1] += f" ({levels:,} levels)"
    if dropped := [column for column in encoder.columns if column.kind == "dropped"]:
        reasons = [f"{_plain(column.name)}: {column.reason}" for column in dropped[:MAX_DROPPED]]
        more = [f"and {len(dropped) - MAX_DROPPED:,} more"] if len(dropped) > MAX_DROPPED else []
        parts.append(f"{len(dropped):,} dropped ({'; '.join(reasons + more)})")
    missing = [
        int(np.isnan(column.values).sum() if column.levels is None else (column.values < 0).sum())
        for column in table.columns
        if column.name in columns and columns[column.name].kind != "dropped"
    ]
    cells, where = sum(missing), sum(count > 0 for count in missing)
    gone = f"; {counted(cells, 'missing cell')} in {counted(where, 'column')}" if cells else ""
    header = "" if table.named else "; no header"
    return f"{counted(len(table.lines), 'row')}; {_target(target)}; {', '.join(parts)}{gone}{header}"


def _target(target: Target) -> str:
    name = f"target {shown(target.name)}"
    if target.classes is None:
        return f"{name}: {describe_numbers(target.values)}"
    shares = np.bincount(target.values, minlength=len(target.classes)) / len(target.values)
    if len(shares) > MAX_CLASSES:
        return f"{name}: {len(shares):,} classes ({_percent(shares.min())} to {_percent(shares.max())} of the rows)"
    listed = ", ".join(
        f"{_plain(str(label))} {_percent(share)}" for label, share in zip(target.classes, shares.tolist(), strict=True)
    )
    return f"{name}: {len(shares)} classes ({listed})"


def describe_numbers(values: Array) -> str:
    """The range of regression targets.

    >>> describe_numbers(np.array([1.5, 2.0, 30.0]))
    'numbers from 1.5 to 30 (median 2)'
    """
    return f"numbers from {values.min():.6g} to {values.max():.6g} (median {np.median(values):.6g})"


def _percent(share: float) -> str:
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def _plain(name: str) -> str:
    """A name, in quotes only if it needs them."""
    return name if name.isprintable() and len(name) <= 40 else shown(name)
