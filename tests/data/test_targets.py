"""The column to predict: classes or numbers, and which one it is where nobody says."""

from typing import Any

import numpy as np
import pytest
from helpers import names_of, read_text

from fnet.data import Target, from_columns, labels_of, split_target


def target_of(labels: list[str], **options: Any) -> Target:
    return split_target(read_text("a,label\n" + "".join(f"1.5,{label}\n" for label in labels)), **options)[1]


@pytest.mark.parametrize(
    ("labels", "classes", "values"),
    [
        (["b", "a", "b"], ("a", "b"), [1, 0, 1]),
        (["7", "-1", "7"], (-1, 7), [1, 0, 1]),
        (["10", "9", "10"], (9, 10), [1, 0, 1]),
        (["007", "7", "007"], ("007", "7"), [0, 1, 0]),
        (["1.0", "0.0", "1.0"], ("0.0", "1.0"), [1, 0, 1]),
        (["1", "x", "1"], ("1", "x"), [0, 1, 0]),
        (["True", "False", "True"], ("False", "True"), [1, 0, 1]),
        (["=1+1", "\x1b[31m", "=1+1"], ("=1+1", "\x1b[31m")[::-1], [1, 0, 1]),
        (["99999999999999999999", "1", "1"], ("1", "99999999999999999999"), [1, 0, 0]),
    ],
)  # fmt: skip
def test_labels_are_kept_exactly(labels: list[str], classes: tuple[Any, ...], values: list[int]) -> None:
    target = target_of(labels)
    assert (target.name, target.kind, target.classes, target.values.tolist()) == (
        "label",
        "classification",
        classes,
        values,
    )
    assert all(type(got) is type(expected) for got, expected in zip(target.classes or (), classes, strict=True))


def test_text_that_is_digits_stays_text_in_python() -> None:
    _, target = split_target(from_columns({"a": [1, 2, 3], "y": ["1", "2", "1"]}, target="y"))
    assert target.classes == ("1", "2")


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([str(i / 8) for i in range(40)], "regression"),
        (["0.5", "1.5"] * 20, "regression"),
        ([str(i) for i in range(40)], "regression"),
        ([str(i % 10) for i in range(40)], "classification"),
        ([str(i % 26) for i in range(2600)], "classification"),
        ([str(i % 101) for i in range(5000)], "regression"),
        (["1e3", "2e3"] * 5, "classification"),
    ],
    ids=range(7),
)
def test_many_numbers_are_a_regression_and_a_few_whole_ones_classes(labels: list[str], kind: str) -> None:
    target = target_of(labels)
    assert target.kind == kind
    if kind == "regression":
        assert target.classes is None
        np.testing.assert_array_equal(target.values, np.array(labels, float))
    forced = target_of(labels, kind="regression")
    np.testing.assert_array_equal(forced.values, np.array(labels, float))


def test_a_kind_that_is_asked_for() -> None:
    assert target_of(["0.5", "1.5"] * 2, kind="classification").classes == ("0.5", "1.5")
    with pytest.raises(ValueError, match=r"d\.csv: .*'label' is text, such as 'x'; .*\(--target\), .*--task classify"):
        target_of(["x", "y"], kind="regression")
    with pytest.raises(ValueError, match=r"d\.csv, line 4, column 'label': expected a number, but got 'x'"):
        target_of(["1.5", "2", "x", "3"], kind="regression")
    with pytest.raises(ValueError, match='kind must be "classification", "regression" or None'):
        target_of(["x", "y"], kind="clustering")


MNIST = "\n".join(
    ",".join(map(str, [i % 10, *(0 if j < 2 or j > 8 else (37 * i * j) % 256 for j in range(12))])) for i in range(60)
)
BORDERED = "\n".join(",".join(map(str, [i % 10, *((7 * i * j) % 17 for j in range(12))])) for i in range(400))
FLOATS = "\n".join(f"{i % 3},{i / 7},{i / 9}" for i in range(60))
TEXT = "\n".join(f"{'ab'[i % 2]},{i / 7},{i / 9}" for i in range(60))


@pytest.mark.parametrize(
    ("content", "guess", "last"),
    [
        (MNIST, "1", "13"), (BORDERED, "1", "13"), (FLOATS, "1", "3"), (TEXT, "1", "3"),
        ("label,p,q\n3,1,2\n4,1,2\n", "label", "q"), ("a,Class,q\n3,x,2\n4,y,2\n", "Class", "q"),
        ("y,p,q\n3,1,2\n4,1,2\n", "y", "q"), ("a,species,sex\n1,x,m\n2,y,f\n", "species", "sex"),
        ("species,a,sex\nx,1,m\ny,2,f\n", "species", "sex"),
        ("id,Survived,fare,port\n4,1,2.5,S\n7,0,3.5,C\n2,0,4.5,S\n", "Survived", "port"),
        ("id,diagnosis,radius,area\n4,M,2.5,3.5\n7,B,3.5,5.5\n2,B,4.5,6.5\n", "diagnosis", "area"),
    ],
    ids=range(11),
)  # fmt: skip
def test_a_better_guess_than_the_last_column_is_asked_about(content: str, guess: str, last: str) -> None:
    with pytest.raises(
        ValueError, match=rf"which column is the target\?.*target='{guess}' \(--target\).*target='{last}'"
    ):
        split_target(read_text(content))
    features, target = split_target(read_text(content, target=guess))
    assert target.name == guess
    assert [column.name for column in features.columns] == [
        name for name in names_of(read_text(content)) if name != guess
    ]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("species,bill,year\nx,1.5,2007\ny,2.5,2008\nx,1.5,2008\n", "species"),  # said in the note
        ("class,a,label\nx,1.5,0\ny,2.5,1\n", "label"),
        ("pclass,sex,age,survived\n" + "1,m,3.5,0\n2,f,7.5,1\n3,f,8.5,1\n" * 9, "survived"),
        ("rooms,kind,price\n" + "".join(f"{i % 4},{'ab'[i % 2]},{i / 7}\n" for i in range(60)), "price"),
        ("\n".join(f"{row[2:]},{row[0]}" for row in BORDERED.split("\n")), "13"),
        ("1.5,a\n2.5,b\n1,a\n", "2"),
    ],
    ids=range(6),
)  # fmt: skip
def test_the_usual_target_is_taken_without_a_question(content: str, name: str) -> None:
    _, target = split_target(read_text(content))
    assert target.name == name
    assert bool(target.note) == (name == "species")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a,label\n1,x\n2,\n3,y\n4,NA\n",
            r"d\.csv, line 3, column 'label': the target is missing \(in 2 of 4 rows\)",
        ),
        ("a,label\n1,x\n2,x\n", "expected at least 2 classes, but the target 'label' is 'x' in all 2 rows"),
        ("label\nx\ny\n", "expected features and a target, but there is one column, 'label'"),
        (
            "a,label\n" + "".join(f"1,x{i}\n" for i in range(10)),
            "'label' has 10 distinct values in 10 rows, too many for classes",
        ),
    ],
)
def test_what_is_no_target_is_an_error(content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_target(read_text(content, header=True))


def test_labels_of_a_table_to_score() -> None:
    table = read_text("label,a\n7,1\n9,2\n7,3\n")
    assert labels_of(table, "label", (7, 8, 9)).tolist() == [0, 2, 0]
    assert labels_of(read_text("a,label\n1,007\n2,7\n"), "label", ("007", "7")).tolist() == [0, 1]
    assert labels_of(read_text("a,label\n1,8.0\n2,7\n3,9\n"), "label", (7, 8, 9)).tolist() == [1, 0, 2]
    with pytest.raises(ValueError, match=r"line 2, column 'label': .* but got '7.5'"):
        labels_of(read_text("a,label\n1,7.5\n2,7\n"), "label", (7, 8))
    with pytest.raises(
        ValueError, match=r"line 3, column 'label': expected one of the classes '7', '8', but got '9' .* 1 of 3"
    ):
        labels_of(table, "label", (7, 8))
    with pytest.raises(ValueError, match=r"line 2, column 'label': .* but got a missing label"):
        labels_of(read_text("a,label\n1,\n2,7\n"), "label", (7, 8))
