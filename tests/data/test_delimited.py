"""Reading .csv and .tsv as they come: right, or an error that says where and what to do."""

import gzip
import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import cells_of, names_of, read_text

from fnet.data import delimited as _delimited
from fnet.data import lines as _lines
from fnet.data import read_table

NAN = float("nan")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 16 KiB, so that a small file has many."""
    monkeypatch.setattr(_lines, "BLOCK", 1 << 14)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a,b\n1,x\n2,y\n", [[1, 2], ["x", "y"]]),
        ("a;b\n1;x\n2;y\n", [[1, 2], ["x", "y"]]),
        ("a\tb\n1\tx\n2\ty\n", [[1, 2], ["x", "y"]]),
        ("a;b\n1,5;x\n-2,25e1;y\n", [[1.5, -22.5], ["x", "y"]]),
        ("a\tb\n1,5\tx\n2,25\ty\n", [[1.5, 2.25], ["x", "y"]]),
        ("1,5;2;x\n2,5;3;y\n", [[1.5, 2.5], [2, 3], ["x", "y"]]),
        ("text;b\na,b;x\nc,d;y\n", [["a,b", "c,d"], ["x", "y"]]),
        ('a,b\n"1","x, y"\n2,"z ""q"""\n', [[1, 2], ["x, y", 'z "q"']]),
        ('a,b\n1,"x\ny"\n2,z\n', [[1, 2], ["x\ny", "z"]]),
        ("\ufeffa,b\r\n1,x\r\n\r\n2,y", [[1, 2], ["x", "y"]]),
        ("\n\na,b\n\n1,x\n  \n\n2,y\n\n", [[1, 2], ["x", "y"]]),
        ("a , b\n 1, x \n2 ,y\n", [[1, 2], ["x", "y"]]),
        ("a,b\n\"1\x1b[0m\",x\n2,\"y\rz\"\n", [["1\x1b[0m", "2"], ["x", "y\rz"]]),
        ("größe,b\n1,ä\n2,ö\n", [[1, 2], ["ä", "ö"]]),
    ],
)  # fmt: skip
def test_cells_are_read_whatever_separates_and_quotes_them(text: str, columns: list[Any]) -> None:
    for end in ("", "\n"):
        table = read_text(text.removesuffix("\n") + end, text=["a"] if "\x1b" in text else ())
        assert cells_of(table) == columns
        assert all(
            column.values.dtype == (np.float64 if column.levels is None else np.int32) for column in table.columns
        )


@pytest.mark.parametrize("word", ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?", " NA "])
def test_missing_cells_of_numbers_and_of_text(word: str) -> None:
    table = read_text(f"n,t,y\n1,a,0\n{word},{word},1\n3,b,0\n")
    assert cells_of(table)[:2] == [[1, None, 3], ["a", None, "b"]]


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("1_000", r"'1_000' \(an underscore\)"), ("\uff11\uff12", "'\uff11\uff12' \\(digits that are not ASCII\\)"),
        ("1e400", r"'1e400' \(infinite in float64\)"), ("inf", r"'inf' \(infinite"),
        ("-Infinity", r"'-Infinity' \(infinite"),
        ('"1,000"', r"'1,000' \(a thousands separator"), ("-nan", r"'-nan' \(a missing value is written"),
        ("x", "'x';"), ("0x10", "'0x10';"), ("1 2", "'1 2';"), ("1e", "'1e';"), ("--1", "'--1';"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("many", [False, True])
@pytest.mark.usefixtures("small_blocks")
def test_what_is_not_a_number_among_numbers_is_named_with_line_and_column(cell: str, why: str, many: bool) -> None:
    rows = 3000 if many else 3  # beyond the first block, where NumPy reads
    text = "a,b,y\n" + "1.25,2.5,0\n" * rows
    bad = f"1,{cell},1\n"
    with pytest.raises(
        ValueError, match=rf"d\.csv, line {rows + 2}, column 2 \('b'\): expected a number, but got {why}"
    ):
        read_text(text + bad + "1.5,2.5,0\n" * rows)
    if not many:
        with pytest.raises(ValueError, match=r"leave the cell empty if the value is missing, or .* text=\['b'\]"):
            read_text(text + bad)
        assert cells_of(read_text(text + bad, text=["b"]))[1][-1] == cell.strip('"')


def test_a_decimal_point_among_decimal_commas_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"line 4, column 1 \('a'\): .* '1.5' \(the decimal mark in the rest of the file"
    ):
        read_text("a;y\n1,5;x\n2,5;y\n1.5;y\n")


@pytest.mark.parametrize("column", [["7", "x", "y"], ["x", "y", "1"]])
def test_a_column_that_is_mostly_text_is_text(column: list[str]) -> None:
    assert cells_of(read_text("a,y\n" + "".join(f"{cell},0\n" for cell in column)))[0] == column


def test_cells_of_the_target_are_kept_as_written() -> None:
    text = "a,b\n007,1.50\n7,1e3\n"
    assert cells_of(read_text(text)) == [[7, 7], ["1.50", "1e3"]]
    assert cells_of(read_text(text, target="a")) == [["007", "7"], [1.5, 1000]]
    assert cells_of(read_text(text, target="a", text=["b", "not there"])) == [["007", "7"], ["1.50", "1e3"]]
    assert not read_text(text).columns[1].typed
    assert cells_of(read_text("a;b\n1;1,5\n2;2,25\n"))[1] == ["1.5", "2.25"]


def test_a_target_of_many_numbers_is_not_kept_as_text() -> None:
    values = np.arange(12_000) / 8
    table = read_text("a,b\n" + "".join(f"0,{value}\n" for value in values))
    assert table.columns[1].levels is None
    np.testing.assert_array_equal(table.columns[1].values, values)


def test_integers_beyond_float32_are_exact() -> None:
    stamps = [1_700_000_000_001 + i for i in range(4)]
    table = read_text("t,y\n" + "".join(f"{stamp},0\n" for stamp in stamps))
    assert table.columns[0].values.tolist() == stamps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "d.csv is empty"), ("\n \n", "is empty"),
        ("a,b\n", "has a header, but no rows; if row 1 is data, specify header=False"),
        ("a,b,a\n1,2,3\n", "columns 1 and 3 are both named 'a'"),
        ("a,b\n1,2\n1\n", "line 3: expected 2 columns, but got 1"),
        ("a,b\n1,2\n\n1,2,3\n", "line 4: expected 2 columns, but got 3"), ('a,b\n1,"x\n', "line 2: not a table"),
        ('a,b\n1,"x"y\n', "line 2: not a table"), (b"a,b\n1,\xe9\n", "line 2: byte 0xe9 is not UTF-8; save"),
        (b"a,b\n1,\0\n", "line 2: a NUL byte"), (b"PK\x03\x04abc", "a zip or Excel file; save the sheet as CSV"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16; save it as UTF-8"), (b"PAR1xx", "Parquet"),
        ("a,b\n1," + "x" * 200_000 + "\n", "line 2: not a table .*field larger than"),
        (gzip.compress(b"a,b\n1,2\n")[:-9], "truncated: its gzip data has no end"),
        (gzip.compress(b"a,b\n1,2\n")[:12] + b"xxxxxxxxxxxxx", "damaged or not a gzip file"),
        (",".join(f"c{i}" for i in range(70_000)) + "\n" + "1," * 69_999 + "1\n", "70000 columns exceed the limit"),
        ("a,b\r1,x\r2,y\r", "line 1: a carriage return within a line; save the file with Unix or Windows line endings"),
        ('a,b\n1,"x\n2,y\n3,z\n', r"line 4: .* \(the row begins on line 2; is a closing quote missing\?\)"),
    ],
    ids=range(19),
)  # fmt: skip
def test_what_is_not_a_table_is_an_error_that_says_why(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_text(text)


def test_a_target_that_is_not_there_is_named_with_the_columns() -> None:
    with pytest.raises(ValueError, match=r"d\.csv: no column is named 'w'; the columns are 'u', 'v'"):
        read_text("u,v\n1,2\n", target="w")
    with pytest.raises(ValueError, match=r"no column is named 'w'; .*'1', '2'; there is no header"):
        read_text("1,2\n3,4\n", target="w")
    assert read_text("3,2\n3,4\n", target="1").target == "1"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("kind", ["numbers", "label", "quotes", "missing", "comma"])
@pytest.mark.usefixtures("small_blocks")
def test_blocks_are_joined_whichever_way_each_is_read_text(kind: str, end: str, tmp_path: Path) -> None:
    count = 2000
    x = np.round(np.random.default_rng(0).normal(size=(count, 5)), 6)
    labels = np.where(x[:, 0] > 0, "yes", "no")
    rows = [",".join(map(str, row)) for row in x.tolist()]
    if kind == "label":
        rows = [f"{row},{label}" for row, label in zip(rows, labels, strict=True)]
    elif kind == "quotes":
        rows = [f'"{label}",{row},"a{end}b"' for row, label in zip(rows, labels, strict=True)]
    elif kind == "missing":
        rows[count // 2] = ",,NA,nan,NaN"
        rows[count - 1] = "nan,NaN,nan,1,2"
        x[count // 2] = NAN
        x[-1] = [NAN, NAN, NAN, 1, 2]
    elif kind == "comma":
        rows = [row.replace(",", ";").replace(".", ",") for row in rows]
    path = tmp_path / "d.csv"
    path.write_text(end.join(["", *rows, ""]), newline="")
    assert path.stat().st_size > 4 * _lines.BLOCK
    table = read_table(path, header=False)
    numeric = [column.values for column in table.columns if column.levels is None]
    last = table.columns[-1]
    if len(numeric) == 4:  # the last is kept as written while it has few different cells
        numeric.append(np.array([*map(float, last.levels or ()), NAN])[last.values])
    np.testing.assert_array_equal(np.stack(numeric, axis=1), x)
    lines = np.arange(count) * 2 + 3 if kind == "quotes" else np.arange(count) + 2
    np.testing.assert_array_equal(table.lines, lines)
    if kind == "label":
        assert cells_of(table)[-1] == labels.tolist()
    if kind == "quotes":
        assert cells_of(table)[0] == labels.tolist()
        assert set(cells_of(table)[-1]) == {f"a{end}b"}
    packed = tmp_path / "d.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()[:50_001], 1) + gzip.compress(path.read_bytes()[50_001:], 1))
    for got, expected in zip(read_table(packed, header=False).columns, table.columns, strict=True):
        assert got.levels == expected.levels
        np.testing.assert_array_equal(got.values, expected.values)


@pytest.mark.usefixtures("small_blocks")
def test_the_fast_way_reads_what_the_exact_way_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [
        "1",
        "-2.5",
        "+3e-5",
        ".5",
        "5.",
        " 7 ",
        "1E3",
        "0.1",
        "123456789012345678",
        "4.9e-324",
        "1e-400",
        "nan",
        "NaN",
    ]
    generator = np.random.default_rng(1)
    rows = [",".join(row) for row in generator.choice(numbers, (3000, 10)).tolist()]
    text = "\n".join(rows)
    fast = read_text(text, header=False)
    calls: list[bool] = []

    def slow(self: Any, lines: Any) -> bool:
        calls.append(True)
        return False

    monkeypatch.setattr(_delimited._Builder, "add_fast", slow)
    exact = read_text(text, header=False)
    assert calls
    for got, expected in zip(fast.columns, exact.columns, strict=True):
        assert got.values.tobytes() == expected.values.tobytes()


def test_a_pipe_or_a_device_is_refused_and_a_folder_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", Path("/dev/zero")):
        with pytest.raises(ValueError, match=r"is not a regular file, but a pipe or a device; copy its content"):
            read_table(path)
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        read_table(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "none.csv")


def test_an_open_file_is_read_as_standard_input_is(tmp_path: Path) -> None:
    code = (
        "import sys; from fnet.data import read_table; t = read_table(sys.stdin.buffer); "
        "print(t.source, [c.name for c in t.columns], t.columns[0].values.tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], input=b"a,b\n1,x\n2,y\n", capture_output=True, check=True)
    assert done.stdout.decode().strip() == "<stdin> ['a', 'b'] [1.0, 2.0]"
    with pytest.raises(TypeError, match=r"binary mode, such as sys\.stdin\.buffer"):
        read_table(io.StringIO("a,b\n1,2\n"))  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="expected a path or an open file, but got int"):
        read_table(3)  # pyright: ignore[reportArgumentType]


def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "d.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 2_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"look like a gzip bomb; if it is not, unpack the file with gunzip"):
        read_table(path)


def test_a_line_without_an_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    with path.open("wb") as file:
        file.truncate(0)
        file.write(b"a,b\n1,2\n")
        for _ in range(18):
            file.write(b"1" * (1 << 20))
    with pytest.raises(ValueError, match="a line is longer than 16 MiB"):
        read_table(path)


@pytest.mark.skipif(not importlib.util.find_spec("plotnine"), reason="plotnine is not installed")
def test_diamonds_are_read_as_pandas_reads_them() -> None:
    pd = pytest.importorskip("pandas")
    spec = importlib.util.find_spec("plotnine")
    assert spec is not None and spec.origin is not None  # noqa: PT018
    path = Path(spec.origin).parent / "data" / "diamonds.csv"
    table, frame = read_table(path, target="cut"), pd.read_csv(path)
    assert names_of(table) == list(frame.columns)
    for got, column in zip(table.columns, frame.columns, strict=True):
        if got.levels is None:
            np.testing.assert_allclose(got.values, frame[column].to_numpy(), rtol=1e-15)
        else:
            assert [got.levels[i] for i in got.values.tolist()] == frame[column].tolist()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("empty", [3, 3000])
def test_a_column_that_begins_with_missing_cells_is_decided_by_its_first_others(empty: int) -> None:
    filler = "1.25,0\n" * 3000
    text = "a,y\n" + ",0\n" * empty
    assert cells_of(read_text(text + filler + ",1\n"))[0] == [None] * empty + [1.25] * 3000 + [None]
    with pytest.raises(ValueError, match=rf"line {empty + 3002}, column 1 \('a'\): expected a number, but got 'x'"):
        read_text(text + filler + "x,1\n")
    assert cells_of(read_text(text + "x,0\n,1\ny,1\n"))[0] == [None] * empty + ["x", None, "y"]
