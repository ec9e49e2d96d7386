"""Whether the first row of a table is a header."""

import pytest
from helpers import cells_of, names_of, read_text


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("0,1,2,3,label\n5,1,2,0,1\n7,6,1,2,0\n", True),  # a data frame of an array, without its index
        ("0,1,2,3,label\n.5,1,2,0,a\n7,6,.1,2,b\n.5,1,2,0,a\n7,6,.1,2,b\n", True),
        (",0,1,2,label\n0,5,1,2,0\n1,7,6,1,1\n", True),  # and with it
        ("0,1,2\n0.5,0.25,0.1\n0.1,0.75,0.2\n", True),
        ("0,1,2,3,4,5,6,7\n7,3,1,0,0,1,2,3\n4,3,2,1,0,1,2,9\n", True),
        ("2019,2020,label\n" + "0.5,0.25,a\n0.75,1.5,b\n" * 5, True),
        ("id,2019,label\n7,3,1\n8,5,0\n", True),
        ("color,size,kind\nred,S,yes\nblue,M,no\n", True),
        ("a,a.1\n,x\n", True),
        ("0,1,2,3\n4,5,6,7\n8,9,10,11\n", False),  # numpy.arange in rows
        ("0,1,1\n1,0,0\n1,1,1\n", False),
        ("5.1,3.5,setosa\n4.9,3,setosa\n7,3.2,other\n6,3,other\n", False),
        ("3,1,b\n3,4,a\n5,6,b\n", False),
        ("red,S,yes\nblue,M,no\nred,M,yes\n", False),
        ("2024-01-01,a\n2024-01-02,b\n", False),
        ("-1,0\n2,3\n", False),
        ("1\n2\n3\n", False),
    ],
)  # fmt: skip
def test_a_header_is_recognised_by_the_types_of_the_columns_below(text: str, header: bool) -> None:
    table = read_text(text)
    assert table.named == header
    rows = text.strip().split("\n")
    assert len(table.lines) == len(rows) - header
    if header:
        assert names_of(table)[1:] == rows[0].split(",")[1:]
    else:
        assert names_of(table) == [str(i + 1) for i in range(len(rows[0].split(",")))]


@pytest.mark.parametrize(
    "text",
    [
        "1,x,a\n2,3,b\n",
        "0,1,2,3\n3,1,2,0\n1,3,0,2\n",
        "2019,2020,label\n7,3,a\n4,5,b\n3,3,a\n4,1,b\n",
        "0,label\n.5,a\n.1,b\n",
    ],
)
def test_a_row_that_may_be_a_header_or_data_is_asked_about(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"d\.csv, line 1: .* header=True or header=False \(--header yes or --header no\)"
    ):
        read_text(text)
    assert read_text(text, header=True).named


def test_a_header_is_what_the_caller_says_it_is() -> None:
    text = "a,b\nc,d\n"
    assert cells_of(read_text(text, header=True)) == [["c"], ["d"]]
    assert cells_of(read_text(text, header=False)) == [["a", "c"], ["b", "d"]]
    assert names_of(read_text("1,2\n3,4\n", header=True)) == ["1", "2"]
