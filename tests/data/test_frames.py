"""Tables from mappings and data frames."""

import datetime
import subprocess
import sys
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from fnet.data import Column, from_columns, split_target

NAN = float("nan")


def values(column: Column) -> list[Any]:
    if column.levels is None:
        return [None if value != value else value for value in column.values.tolist()]
    return [None if code < 0 else column.levels[code] for code in column.values.tolist()]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([1, 2.5, None], [1, 2.5, None]),
        ((1, 2, 3), [1, 2, 3]),
        (np.array([1, 2], ">i4"), [1, 2]),
        (np.array([1.5, NAN], np.float16), [1.5, None]),
        (np.ma.MaskedArray([1, 2, 3], [False, True, False]), [1, None, 3]),
        (np.ma.MaskedArray([np.inf, 2.0], [True, False]), [None, 2]),
        (["a", None, "NA", ""], ["a", None, None, None]),
        (np.array(["7", "007"]), ["7", "007"]),
        ([True, False, None], ["True", "False", None]),
        (np.array([True, False]), ["True", "False"]),
        (np.array(["2024-01-31", "NaT"], "datetime64[D]"), ["2024-01-31T00:00:00", None]),
        ([datetime.date(2024, 1, 31), None], ["2024-01-31", None]),
        ([datetime.datetime(2024, 1, 31, 12, 0, 0, 5, datetime.UTC)], ["2024-01-31 12:00:00.000005+00:00"]),
        ([Decimal("1.5"), 2], [1.5, 2]),
        ([2**70, 1], [2.0**70, 1]),
        ([None, NAN], [None, None]),
        (np.array([np.float32(1), "x"], object)[:1], [1]),
    ],
    ids=range(17),
)
def test_columns_of_every_kind(data: Any, expected: list[Any]) -> None:
    (column,) = from_columns({"a": data}).columns
    assert values(column) == expected
    assert column.values.dtype == (np.float64 if column.levels is None else np.int32)
    assert not column.values.flags.writeable


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        (
            {"a": [1, "x"]},
            ValueError,
            r"dict, column 'a', row 1: expected numbers as in the rows before, but got 'x'; make",
        ),
        ({"a": ["x", 1]}, ValueError, r"row 1: expected text as in the rows before, but got 1; make the column of one"),
        (
            {"a": [1, np.inf]},
            ValueError,
            r"column 'a', row 1: expected a finite number or NaN, but got inf",
        ),
        ({"a": [1j]}, TypeError, "expected a number, text, a boolean or a date, but got complex"),
        ({"a": np.array([1j])}, TypeError, "dtype complex128"),
        ({"a": [[1], [2]]}, TypeError, "got list"),
        ({"a": np.zeros((2, 2))}, ValueError, r"expected one value per row, but got shape \[2, 2\]"),
        ({"a": 5}, TypeError, "expected one value per row, but got int"),
        ({"a": "xyz"}, TypeError, "expected one value per row, but got str"),
        ({"a": [1], "b": [1, 2]}, ValueError, "column 'b' has 2 rows, but 'a' has 1"),
        ({"a": [1], 1: [1], "1": [2]}, ValueError, "columns 2 and 3 are both named '1'"),
        ({}, ValueError, "there are no columns"),
        ({"a": []}, ValueError, "there are no rows"),
        (np.zeros((2, 2)), TypeError, "a mapping from names to columns or a data frame, but got ndarray"),
    ],
    ids=range(14),
)
def test_what_is_not_a_table_is_an_error(columns: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_columns(columns)


def test_a_target_that_no_column_has_is_named() -> None:
    with pytest.raises(ValueError, match="dict: no column is named 'b'; the columns are 'a'"):
        from_columns({"a": [1]}, target="b")


def test_integer_labels_beyond_float64_are_exact() -> None:
    labels = [2**53, 2**53 + 1, 2**53]
    _, target = split_target(from_columns({"a": [1, 2, 3], "y": np.array(labels)}, target="y"))
    assert target.classes == (2**53, 2**53 + 1)
    assert target.values.tolist() == [0, 1, 0]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames(library: str) -> None:
    module = pytest.importorskip(library)
    frame = module.DataFrame({
        "n": [1, None, 3], "f": [0.5, 1.5, None], "t": ["a", None, "b"], "b": [True, False, True], "i": [3, 1, 2],
        "d": [datetime.datetime(2024, 1, 31, 12), None, datetime.datetime(2024, 2, 1)],
    })  # fmt: skip
    if library == "pandas":
        frame["c"] = module.Categorical(["x", None, "y"])
        frame["m"] = module.array([1, None, 3], dtype="Int64")
    else:
        frame = frame.with_columns(
            module.Series("c", ["x", None, "y"], dtype=module.Categorical), module.Series("m", [1, None, 3])
        )
    table = from_columns(frame, target="i")
    assert table.source == "DataFrame"
    assert {column.name: values(column) for column in table.columns} == {
        "n": [1, None, 3], "f": [0.5, 1.5, None], "t": ["a", None, "b"], "b": ["True", "False", "True"],
        "i": ["3", "1", "2"], "d": ["2024-01-31T12:00:00", None, "2024-02-01T00:00:00"], "c": ["x", None, "y"],
        "m": [1, None, 3],
    }  # fmt: skip


def test_neither_pandas_nor_polars_is_imported() -> None:
    code = "import sys, fnet.data; assert not {'pandas', 'polars'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
