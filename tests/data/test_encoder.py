"""What columns become, learned from the training rows, and kept with a model."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import read_text

from fnet.data import (
    EncodedColumn,
    describe,
    encode,
    encoder_from_json,
    encoder_to_json,
    feature_names,
    fit_encoder,
    from_columns,
    numeric_features,
    read_table,
    split_target,
    text_columns,
)

TRAIN = read_text(
    "age,city,when,flag,y\n"
    "31,Bern,2024-01-01,True,no\n,Basel,2024-01-03 12:00,False,yes\n40,Bern,,True,no\n35,,2024-01-02,False,no\n"
    "36,Chur,2024-01-02T00:00:00,False,no\n37,Basel,2024-01-02,False,no\n"
)
FEATURES, TARGET = split_target(TRAIN)
ENCODER = fit_encoder(FEATURES)


def test_each_kind_of_column_becomes_its_features() -> None:
    x, notes = encode(ENCODER, FEATURES)
    assert feature_names(ENCODER) == (
        "age", "age (missing)", "city=Basel", "city=Bern", "city=Chur", "city (missing)", "when", "when (missing)",
        "flag=False", "flag=True",
    )  # fmt: skip
    day = 19723.0  # 2024-01-01
    np.testing.assert_array_equal(x, np.array([
        [31, 0, 0, 1, 0, 0, day, 0, 0, 1], [36, 1, 1, 0, 0, 0, day + 2.5, 0, 1, 0],
        [40, 0, 0, 1, 0, 0, day + 1, 1, 0, 1], [35, 0, 0, 0, 0, 1, day + 1, 0, 1, 0],
        [36, 0, 0, 0, 1, 0, day + 1, 0, 1, 0], [37, 0, 1, 0, 0, 0, day + 1, 0, 1, 0],
    ]))  # fmt: skip
    assert x.dtype == np.float64
    assert not x.flags.writeable
    assert notes == ((), (), ())
    assert np.flatnonzero(numeric_features(ENCODER)).tolist() == [0, 6]


def test_moments_are_days_in_utc_to_the_microsecond() -> None:
    when = ["1970-01-01T06:00Z", "1970-01-02 00:00:00.250000+06:00", "1970-01-01T10:30:00.123456789-0130", "NA"]
    features, _ = split_target(read_text("when,label\n" + "".join(f"{cell},{i % 2}\n" for i, cell in enumerate(when))))
    x, _ = encode(fit_encoder(features), features)
    np.testing.assert_array_equal(x[:3, 0], [0.25, 0.75 + 0.25 / 86400, 0.5 + 0.123456 / 86400])
    for cell in ("1970-01-01T25:00Z", "1970-01-01T06:00+25:00", "0001-01-01T00:00+01:00", "1970-01-01T06:00 UTC"):
        with pytest.raises(ValueError, match="line 2, column 'when': expected a date such as 2024-12-31, but got"):
            encode(fit_encoder(features), read_text(f"when,label\n{cell},1\n"))


def test_medians_and_levels_come_from_the_training_rows_alone() -> None:
    encoder = fit_encoder(FEATURES, np.array([0, 2, 4, 5]))
    age, city, when, _ = encoder.columns
    assert (age.median, age.indicator) == (36.5, False)
    assert (city.levels, city.pooled, city.missing) == (("Bern",), ("Basel", "Chur"), False)
    assert (when.median, when.indicator) == (19724, True)
    x, notes = encode(encoder, FEATURES)
    assert x[1, 0] == 36.5
    assert x[:, 1:3].tolist() == [[1, 0], [0, 1], [1, 0], [0, 0], [0, 1], [0, 1]]
    assert notes.unseen == (("city", 1),)
    assert notes.filled == (("age", 1),)
    assert notes.lines() == [
        "column 'city': 1 cell with a category that the training rows do not have",
        "column 'age': 1 missing cell filled with the median",
    ]


def test_columns_are_matched_by_name_in_any_order_and_further_ones_ignored() -> None:
    table = read_text("extra,flag,city,y,age,when\n1,True,Oslo,no,50,2024-01-01\n2,False,Bern,no,,2024-01-02\n",
                 text=text_columns(ENCODER))  # fmt: skip
    x, notes = encode(ENCODER, table)
    assert x[:, [0, 1, 6, 8]].tolist() == [[50, 0, 19723, 0], [36, 1, 19724, 1]]
    assert x[0, 2:6].tolist() == [0, 0, 0, 0]
    assert notes.ignored == ("extra", "y")
    assert notes.unseen == (("city", 1),)
    columns = {name: table.columns[i] for i, name in enumerate(["extra", "flag", "city", "y", "age", "when"])}
    with pytest.raises(
        ValueError, match=r"d\.csv: no column is named 'age', which the model needs; the columns are 'extra'"
    ):
        encode(ENCODER, table._replace(columns=tuple(c for name, c in columns.items() if name != "age")))


def test_without_a_header_columns_are_matched_by_position_and_number() -> None:
    features, _ = split_target(read_text("1,2.5,x\n3,4.5,y\n5,6.5,x\n"))
    encoder = fit_encoder(features)
    assert not encoder.named
    expected = encode(encoder, features)[0]
    for text in ("1,2.5,x\n3,4.5,y\n5,6.5,x\n", "1,2.5\n3,4.5\n5,6.5\n", "a,b\n1,2.5\n3,4.5\n5,6.5\n"):
        np.testing.assert_array_equal(encode(encoder, read_text(text))[0], expected)
    with pytest.raises(
        ValueError, match="expected 2 columns, but got 4; without a header, columns are matched by position"
    ):
        encode(encoder, read_text("1,2.5,3,x\n3,4.5,4,y\n"))
    first, _ = split_target(read_text("x,1,2.5\ny,3,4.5\nx,5,6.5\n", target="1"))
    np.testing.assert_array_equal(encode(fit_encoder(first), read_text("x,1,2.5\ny,3,4.5\nx,5,6.5\n"))[0], expected)
    named = fit_encoder(split_target(read_text("a,b,y\n1,2.5,x\n3,4.5,y\n5,6.5,x\n"))[0])
    np.testing.assert_array_equal(encode(named, read_text("1,2.5\n3,4.5\n5,6.5\n"))[0], expected)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("a,Bern,2024-01-01,True", "line 2, column 'age': expected a number, but got 'a'; leave the cell empty"),
        ("1,Bern,yesterday,True", "line 2, column 'when': expected a date such as 2024-12-31, but got 'yesterday'"),
        ("1,Bern,2024-02-30,True", "expected a date such as 2024-12-31, but got '2024-02-30'"),
        ("1,Bern,7,True", "expected a date such as 2024-12-31, but got '7"),
    ],
)
def test_a_cell_of_another_kind_than_in_training_is_named(cell: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(ENCODER, read_text(f"age,city,when,flag\n{cell}\n", header=True))


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["7"] * 12, "constant"), (["x"] * 12, "constant"), ([""] * 12, "no values"),
        ([f"n{i}" for i in range(12)], "all distinct"), (["", *[f"n{i}" for i in range(11)]], "all distinct"),
        ([str(i) for i in range(5, 17)], "an ID: whole numbers, all distinct"),
        ([str((5 * i) % 12 + 1) for i in range(12)], "an ID: whole numbers, all distinct"),
        ([str(i + i // 4) for i in range(12)], "an ID: whole numbers, all distinct"),
        (["a", "a", *[f"n{i}" for i in range(10)]], "text, 11 distinct, mostly rare"),
    ],
)  # fmt: skip
def test_columns_that_say_nothing_are_dropped_with_the_reason_and_kept_if_asked(cells: list[str], reason: str) -> None:
    table = from_columns({"b": np.arange(12) / 7})
    column = read_text("a,z\n" + "".join(f"{cell},0\n" for cell in cells)).columns[0]
    table = table._replace(columns=(*table.columns, column))
    encoder = fit_encoder(table)
    assert encoder.columns[1] == EncodedColumn("a", "dropped", reason)
    assert encode(encoder, table)[0].shape == (12, 1)
    if reason != "no values" or column.levels is None:
        kept = fit_encoder(table, keep=["a"])
        assert kept.columns[1].kind != "dropped"
        assert np.isfinite(encode(kept, table)[0]).all()


@pytest.mark.parametrize(
    ("name", "dropped"), [("customer_id", True), ("PassengerId", True), ("ID", True), ("paid", False)]
)
def test_whole_numbers_that_are_all_distinct_are_an_id_if_named_so(name: str, dropped: bool) -> None:
    numbers = [7 * i * i + 3 for i in range(12)][::-1]
    encoder = fit_encoder(from_columns({name: numbers, "b": np.arange(12) / 7}))
    assert (encoder.columns[0].kind == "dropped") == dropped


def test_timestamps_are_no_ids() -> None:
    stamps = 1_700_000_000_000 + np.arange(50) * 1000
    encoder = fit_encoder(from_columns({"t": stamps, "b": np.arange(50) / 7}))
    assert encoder.columns[0].kind == "numeric"


def test_columns_that_are_dropped_or_categorical_on_request() -> None:
    table = from_columns({"a": [1, 2, 1, 2], "b": [0.5, 1.5, 2.5, 3.5], "c": ["x", "y", "x", "y"]})
    encoder = fit_encoder(table, categorical=["a"], drop=["c"])
    assert feature_names(encoder) == ("a=1", "a=2", "b")
    assert encoder.columns[2].reason == "as asked"
    assert text_columns(encoder) == ("a",)
    x, _ = encode(encoder, read_text("a,b\n2,1\n1,1\n3,1\n", text=["a"]))
    assert x[:, :2].tolist() == [[0, 1], [1, 0], [0, 0]]
    for options in ({"drop": ["z"]}, {"keep": ["z"]}, {"categorical": ["z"]}):
        with pytest.raises(ValueError, match="no column is named 'z'"):
            fit_encoder(table, None, **options)
    with pytest.raises(ValueError, match="column 'a' cannot be dropped and also kept or categorical"):
        fit_encoder(table, drop=["a"], keep=["a"])
    with pytest.raises(ValueError, match=r"no column remains \('a': as asked; .*; name those to keep: keep="):
        fit_encoder(table, drop=["a", "b", "c"])


def test_rare_levels_share_a_feature_and_unseen_ones_have_none() -> None:
    texts = ["a"] * 500 + ["b"] * 490 + ["r"] * 5 + ["s"] * 4 + ["t"]
    table = from_columns({"a": texts})
    encoder = fit_encoder(table)
    assert (encoder.columns[0].levels, encoder.columns[0].pooled) == (("a", "b"), ("r", "s", "t"))
    x, notes = encode(encoder, from_columns({"a": ["a", "s", "never", None]}))
    assert x.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert notes.unseen == (("a", 2),)
    one = fit_encoder(from_columns({"a": texts[:-5] + ["a"] * 5}))
    assert (one.columns[0].levels, one.columns[0].pooled) == (("a", "b", "r"), ())
    many = fit_encoder(from_columns({"a": [f"{i % 150:03}" for i in range(30_000)]}))
    assert (len(many.columns[0].levels), len(many.columns[0].pooled)) == (100, 50)
    more = fit_encoder(from_columns({"a": [f"{i % 300:03}" for i in range(30_000)]}))
    assert (len(more.columns[0].levels), len(more.columns[0].pooled)) == (100, 200)


def test_the_median_of_huge_numbers_is_finite() -> None:
    assert fit_encoder(from_columns({"a": [1.7e308, 1.6e308]})).columns[0].median == pytest.approx(1.65e308)


def test_an_encoder_survives_json_to_the_bit() -> None:
    encoder = fit_encoder(from_columns({"a": [0.1, None, 1 / 3], "b": ["x", "y", "x"], "c": [1, 1, 1]}))
    data = json.loads(json.dumps(encoder_to_json(encoder)))
    assert encoder_from_json(data) == encoder
    assert encoder_from_json(encoder_to_json(ENCODER)) == ENCODER


GOOD: dict[str, Any] = encoder_to_json(ENCODER)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "the encoder: expected an object of named, columns, but got None"), ([], "expected an object"),
        ({**GOOD, "more": 1}, "expected an object of"), ({**GOOD, "named": 1}, "expected named of type bool"),
        ({**GOOD, "columns": {}}, "expected columns of type list"), ({**GOOD, "columns": []}, "has no features"),
        ({**GOOD, "columns": [3]}, "column 0 of the encoder: expected a kind"),
        ({**GOOD, "columns": [GOOD["columns"][0]] * 2}, "the same name"), ({**GOOD, "named": False}, "not named by"),
        ({**GOOD, "columns": [{**GOOD["columns"][0], "kind": "other"}]}, "expected a kind of numeric, date"),
        ({**GOOD, "columns": [{**GOOD["columns"][0], "kind": ["numeric"]}]}, "expected a kind"),
        ({**GOOD, "columns": [{**GOOD["columns"][0], "median": float("nan")}]}, "expected a finite median"),
        ({**GOOD, "columns": [{**GOOD["columns"][0], "median": True}]}, "expected median of type float"),
        ({**GOOD, "columns": [{**GOOD["columns"][0], "name": 3}]}, "expected name of type str"),
        ({**GOOD, "columns": [{**GOOD["columns"][1], "levels": ["a", 3]}]}, "distinct texts"),
        ({**GOOD, "columns": [{**GOOD["columns"][1], "levels": ["a"], "pooled": ["a"]}]}, "distinct texts"),
        ({**GOOD, "columns": [{**GOOD["columns"][1], "levels": []}]}, "distinct texts"),
        ({**GOOD, "columns": [{"name": "a", "kind": "dropped", "reason": "x"}]}, "has no features"),
    ],
    ids=range(18),
)  # fmt: skip
def test_what_is_no_encoder_is_an_error(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder_from_json(data)


def test_the_line_of_truth() -> None:
    rows = 4500
    numbers = np.arange(rows) / 7
    table = from_columns(
        {
            "customer_id": np.arange(rows) + 1000,
            "country": ["CH"] * rows,
            **{f"n{i}": np.where(numbers < 20 * (i < 2), np.nan, numbers) for i in range(12)},
            "kind": [f"k{i % 7}" for i in range(rows)],
            "churn": ["yes" if i % 100 < 19 else "no" for i in range(rows)],
        },
        target="churn",
    )
    features, target = split_target(table)
    assert describe(features, target, fit_encoder(features)) == (
        "4,500 rows; target 'churn': 2 classes (no 81 %, yes 19 %); 12 numeric, 1 categorical (7 levels), 2 dropped "
        "(customer_id: an ID: whole numbers, all distinct; country: constant); 280 missing cells in 2 columns"
    )
    assert describe(FEATURES, TARGET, ENCODER) == (
        "6 rows; target 'y': 2 classes (no 83 %, yes 17 %); 1 numeric, 1 date (in days), 2 categorical (6 levels); "
        "3 missing cells in 3 columns"
    )


def test_the_line_of_truth_of_many_classes_many_drops_and_of_numbers() -> None:
    columns = {f"c{i}": [1] * 40 for i in range(9)} | {"a": [i / 7 for i in range(40)]}
    features, target = split_target(from_columns(columns | {"y": [i % 10 for i in range(40)]}, target="y"))
    line = describe(features, target, fit_encoder(features))
    assert "target 'y': 10 classes (10 % to 10 % of the rows); 1 numeric, 9 dropped (c0: constant; " in line
    assert line.endswith("c5: constant; and 3 more)")
    features, target = split_target(from_columns(columns | {"\x1b": [i / 2 for i in range(40)]}, target="\x1b"))
    assert "target '\\x1b': numbers from 0 to 19.5 (median 9.75); " in describe(features, target, fit_encoder(features))


def test_a_column_of_numbers_kept_as_written_is_numeric_where_it_is_no_target() -> None:
    table = read_text("label,a,b\nx,1,2.5\ny,2,1\nx,3,0.5\n", target=None)
    features, _ = split_target(table._replace(target="label"))
    assert features.columns[1].levels is not None
    assert [column.kind for column in fit_encoder(features).columns] == ["numeric", "numeric"]
    bad = read_text("label,a,b\nx,1,2.5\ny,2,1_0\nx,3,0.5\n")._replace(target="label")
    with pytest.raises(ValueError, match=r"line 3, column 'b': expected a number, but got '1_0'"):
        fit_encoder(split_target(bad)[0])


@pytest.mark.skipif(not importlib.util.find_spec("palmerpenguins"), reason="palmerpenguins is not installed")
def test_penguins_need_no_option() -> None:
    spec = importlib.util.find_spec("palmerpenguins")
    assert spec is not None and spec.origin is not None  # noqa: PT018
    features, target = split_target(read_table(Path(spec.origin).parent / "data" / "penguins.csv"))
    encoder = fit_encoder(features)
    x, notes = encode(encoder, features)
    assert notes == ((), (), ())
    assert np.isfinite(x).all()
    assert target.note == "column 'species' is named like a target and is used as the target"
    assert describe(features, target, encoder) == (
        "344 rows; target 'species': 3 classes (Adelie 44 %, Chinstrap 20 %, Gentoo 36 %); 5 numeric, 2 categorical "
        "(6 levels); 19 missing cells in 5 columns"
    )
