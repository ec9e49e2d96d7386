"""fnet.interop.python_source: the module computes what fnet does, bit for bit, and names cannot leave their strings."""

import ast
import csv
import importlib.util
import io
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from exported import HOSTILE, REGRESSIONS, classifier, columns, digits, features, named, of_table

import fnet
from fnet import data, model, tree
from fnet.interop.python_source import python_arrays, save_python, to_python
from fnet.model import Model
from fnet.nn import ACTIVATIONS


def module(source: str, path: Path | None = None) -> ModuleType:
    """A module of that source."""
    spec = importlib.util.spec_from_loader("written", None)
    assert spec is not None
    made = importlib.util.module_from_spec(spec)
    made.__file__ = str(path)
    exec(compile(source, "written.py", "exec"), made.__dict__)
    return made


def check(some: Model) -> None:
    """The same bits as fnet, for whole chunks, a part of one, and one row."""
    written, x = module(to_python(some)), features(some)
    for part in (x, x[:1], x[:3].astype(np.float64), x[:100] > 0):
        expected = model.predict_proba(some, part)
        found = written.predict_proba(part)
        assert (found.dtype, found.tobytes()) == (expected.dtype, expected.tobytes())
    labels, expected = written.predict(x), model.predict(some, x)
    assert labels.dtype == expected.dtype
    assert labels.tolist() == expected.tolist()
    assert len(set(labels.tolist())) > 1


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation_gives_the_same_bits(activation: str, batch_norm: bool) -> None:
    check(classifier(activation=activation, batch_norm=batch_norm))


@pytest.mark.parametrize("hidden", [(), (6,), (6, 5, 7), (6, 5, 7, 4), (6, 5, 7, 4, 6)], ids=len)
def test_each_depth_gives_the_same_bits(hidden: tuple[int, ...]) -> None:
    check(classifier(sizes=(5, *hidden, 3)))


@pytest.mark.parametrize("number", [2, 10, 33])
def test_each_number_of_classes_gives_the_same_bits(number: int) -> None:
    check(classifier(classes=tuple(range(number))))


def test_a_trained_network_gives_the_same_bits() -> None:
    some, train, _ = digits()
    written = module(to_python(some))
    for rows in (1, 7, 513, len(train.x)):
        found, expected = written.predict_proba(train.x[:rows]), model.predict_proba(some, train.x[:rows])
        assert found.tobytes() == expected.tobytes()


def test_ensembles_temperatures_float64_and_other_classes_give_the_same_bits() -> None:
    check(classifier(members=3, temperature=1.7))
    check(classifier(temperature=0.3, dtype="float64"))
    check(classifier(classes=(-(2**63), 2**63 - 1, 0)))


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_numbers_have_the_same_bits(kind: str) -> None:
    some = REGRESSIONS[kind]
    written, x = module(to_python(some)), features(some)
    for part in (x, x[:1]):
        expected, found = model.predict(some, part), written.predict(part)
        assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
    assert not hasattr(written, "predict_proba")


def test_the_same_model_gives_the_same_source() -> None:
    some = classifier(members=2, temperature=2.0, provenance={"seed": 1})
    assert to_python(some) == to_python(some)


def test_large_weights_go_to_a_file_beside(tmp_path: Path) -> None:
    small, large, path = classifier(), classifier(sizes=(5, 600, 500, 3)), tmp_path / "some.py"
    assert save_python(path, small) is None
    assert path.read_text() == to_python(small)
    beside = save_python(path, large)
    assert beside is not None
    assert beside == tmp_path / "some_weights.npz"
    first = beside.read_bytes()
    save_python(path, large)
    assert beside.read_bytes() == first
    assert path.stat().st_size < 20_000 < 1 << 20 < len(first)
    assert "'some_weights.npz' in the same folder" in str(ast.get_docstring(ast.parse(path.read_text())))
    x = features(large, 100)
    assert module(path.read_text(), path).predict_proba(x).tobytes() == model.predict_proba(large, x).tobytes()
    arrays = python_arrays(large)
    np.savez(beside, mean=arrays["mean"], std=arrays["std"], weights=arrays["weights"] + 1)
    with pytest.raises(ValueError, match="not its own"):
        module(path.read_text(), path)


# Tables ---------------------------------------------------------------------------------------------------------------


def test_columns_by_name_are_encoded_as_in_training() -> None:
    table = columns()
    some, encoder, _ = of_table(data.from_columns(table, target="label"), categorical=("code",), keep=("yes", "age"))
    assert {column.kind for column in encoder.columns} == {"numeric", "date", "categorical", "dropped"}
    assert any(column.pooled for column in encoder.columns)
    written = module(to_python(some))
    table["city"][:3], table["many"][0] = ["unseen", " Bern", "NULL"], None
    table["since"][:4] = [
        "2024-01-31T12:00:00.123456789Z",
        "2024-01-31 12:00:00.5+05:30",
        "2024-01-31T12:00-0800",
        None,
    ]
    x, _ = data.encode(encoder, data.from_columns(table))
    shuffled = dict(reversed(table.items()))
    assert written.encode(shuffled).tobytes() == x.tobytes()
    rows = np.flatnonzero(np.abs(x).max(axis=1) < 1e6)
    taken = {name: [cells[i] for i in rows] for name, cells in shuffled.items()}
    assert written.predict_proba(taken).tobytes() == model.predict_proba(some, x[rows]).tobytes()
    assert written.predict(taken).tolist() == model.predict(some, x[rows]).tolist()


def test_columns_may_be_arrays_and_series() -> None:
    pandas = pytest.importorskip("pandas")
    dates = np.array(["2024-01-01", "NaT", "2024-01-03", "2024-01-02"] * 30, "datetime64[D]")
    table: dict[str, Any] = {
        "when": dates,
        "number": np.array([1, 2, 3, 4] * 30, np.int8),
        "float": np.array([0.1, 0.2, np.nan, 0.4] * 30, np.float32),
        "flag": np.array([True, False] * 60),
        "text": np.array(["a", "b", "c", "d"] * 30),
        "label": ["p", "q"] * 60,
    }
    some, encoder, _ = of_table(data.from_columns(table, target="label"), categorical=("number", "when"))
    written = module(to_python(some))
    frame = pandas.DataFrame(table)
    frame.loc[3, "text"] = None
    for given in (table, frame, frame.astype({"text": "category", "number": "Int64"})):
        x, _ = data.encode(encoder, data.from_columns(given))
        assert written.encode(given).tobytes() == x.tobytes()


def test_bad_cells_and_columns_are_refused_with_their_names() -> None:
    table = {name: cells for name, cells in columns().items() if name in ("since", "city", "label")}
    table = {"number": np.arange(len(table["label"])) / 8} | table
    some, _, _ = of_table(data.from_columns(table, target="label"))
    written = module(to_python(some))
    for name, cells, message in (
        ("number", ["1,5"], "column 'number': expected a number, but got '1,5'"),
        ("number", ["1_000"], "expected a number"),
        ("number", ["inf"], "expected a number"),
        ("number", ["1e400"], "expected a number"),
        ("number", [True], "expected a number"),
        ("since", ["2023-02-29"], "column 'since'"),
        ("since", ["31.12.2024"], "expected a date such as 2024-12-31, but got '31.12.2024'"),
        ("city", ["Bern"] * 2, "has 2 rows, but the columns before have 1"),
    ):
        with pytest.raises(ValueError, match=message):
            written.predict({key: values[:1] for key, values in table.items()} | {name: cells})
    with pytest.raises(ValueError, match="no column is named 'number'"):
        written.predict({"city": ["Bern"]})


def test_bad_arrays_are_refused() -> None:
    some = classifier()
    written = module(to_python(some))
    for x in (np.zeros((3, 4)), np.zeros(5), np.zeros((0, 5)), [[np.nan] * 5], [[1e300] * 5]):
        with pytest.raises(ValueError, match=r"shape|finite"):
            written.predict(x)
    for x in ([["a"] * 5], np.ma.zeros((1, 5)), np.zeros((1, 5), complex), {"a": [1]}):
        with pytest.raises(TypeError, match="expected numbers"):
            written.predict(x)
    large = some._replace(members=tree.map(lambda leaf: 100 * leaf, some.members))
    with pytest.raises(ValueError, match="overflows"):
        module(to_python(large)).predict([[1e38] * 5])


# The command ----------------------------------------------------------------------------------------------------------


def run(path: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(path), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


def printed(some: Model, x: Any) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    probabilities = model.predict_proba(some, x)
    writer.writerow(["prediction", *(f"p({name})" for name in some.classes)])
    writer.writerows([some.classes[row.argmax()], *(f"{p:.6f}" for p in row)] for row in probabilities)
    return out.getvalue()


def test_the_command_predicts_a_table_by_the_names_in_its_header(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    rows = [f"{i % 7}.5;{'abc'[i % 3]};;x" if i % 2 else f';"a";2024-01-0{i % 9 + 1};y' for i in range(200)]
    path.write_text("\n".join(["\ufeffnumber;some text;when;label", *rows]))
    some, encoder, _ = of_table(data.read_table(path))
    save_python(tmp_path / "written.py", some)
    (tmp_path / "new.csv").write_text("when\tmore\tsome text\t number\n\n\t1\t a \t 3.5\n2024-01-01\t\tnew\tNA\n")
    new, _ = data.encode(encoder, data.read_table(tmp_path / "new.csv", text=data.text_columns(encoder)))
    done = run(tmp_path / "written.py", tmp_path / "new.csv", "--proba")
    assert (done.stdout, done.stderr, done.returncode) == (printed(some, new), "", 0)
    for content, message in (
        ("when;number\n;1\n", "no column is named 'some text'"),
        ("number;number\n1;2\n", "two columns have the same name"),
        ("number;some text;when\n", "has no rows"),
        ("number;some text;when\n1;a\n", "row 2 has 2 cells, but the first has 3"),
    ):
        (tmp_path / "bad.csv").write_text(content)
        done = run(tmp_path / "written.py", tmp_path / "bad.csv")
        assert (done.stdout, done.returncode) == ("", 1)
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
    assert "usage: " in run(tmp_path / "written.py").stderr


def test_the_command_predicts_a_table_without_a_header_by_position(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    rows = [f"{i % 7}.5,{'xyz'[i % 3]},{i * 3 % 11}.25" for i in range(100)]
    path.write_text("\n".join(rows))
    some, _, features = of_table(data.read_table(path, header=False, target="2"))
    written = module(to_python(some))
    expected = model.predict_proba(some, features)
    assert written.predict_proba(written.read(str(path))).tobytes() == expected.tobytes()
    path.write_text("\n".join(",".join(row.split(",")[::2]) for row in rows))  # without the label
    assert written.predict_proba(written.read(str(path))).tobytes() == expected.tobytes()
    path.write_text("1\n2\n")
    with pytest.raises(ValueError, match="expected 2 columns, but got 1"):
        written.read(str(path))


def test_the_command_prints_numbers(tmp_path: Path) -> None:
    some, path = REGRESSIONS["quantiles"], tmp_path / "numbers.csv"
    x = features(some, 3)
    path.write_text("\n".join(",".join(map(str, row)) for row in x.tolist()))
    save_python(tmp_path / "written.py", some)
    done = run(tmp_path / "written.py", path)
    rows = [",".join(f"{value:.10g}" for value in row) for row in model.predict(some, x)]
    expected = "\n".join(["quantile_0.1,quantile_0.25,quantile_0.5,quantile_0.9", *rows, ""])
    assert (done.stdout, done.stderr, done.returncode) == (expected, "", 0)
    assert "usage: " in run(tmp_path / "written.py", path, "--proba").stderr


@pytest.mark.parametrize("header", ["", "a,b,c,d,e\n", "0,1,2,3,4\n"])
def test_the_command_predicts_a_table_of_numbers(tmp_path: Path, header: str) -> None:
    some, path = classifier(), tmp_path / "numbers.csv"
    x = features(some, 5)
    path.write_text(header + "\n".join(",".join(map(str, row)) for row in x.tolist()))
    written = module(to_python(some))
    assert written.predict_proba(written.read(str(path))).tobytes() == model.predict_proba(some, x).tobytes()


# Strangers' names -----------------------------------------------------------------------------------------------------


def skeleton(source: str) -> str:
    """The syntax tree of a source with every string in it the same."""
    parsed = ast.parse(source)
    for node in ast.walk(parsed):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(parsed)


def test_names_cannot_leave_their_strings() -> None:
    plain = named(tuple(f"name {i}" for i in range(len(HOSTILE))))
    for names in (HOSTILE, HOSTILE[::-1], HOSTILE[3:] + HOSTILE[:3]):
        some = named(names)
        source = to_python(some)
        assert skeleton(source) == skeleton(to_python(plain))
        assert {c for c in source if not c.isprintable()} == {"\n"}
        written = module(source)
        assert written.CLASSES.tolist() == list(names)
        assert [column[0] for column in written.COLUMNS] == list(names)
        assert set(written.COLUMNS[2][2]) == set(names)
    beside = skeleton(to_python(some, weights_file="plain.npz"))
    for name in HOSTILE:
        assert skeleton(to_python(some, weights_file=name)) == beside


def test_a_model_that_is_not_sound_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot write Python source: the model has 3 classes, but 2 names"):
        to_python(classifier()._replace(classes=("a", "b")))


def test_the_module_imports_numpy_and_the_standard_library_alone() -> None:
    some, _, _ = of_table(data.from_columns(columns(), target="label"))
    found = [node for node in ast.walk(ast.parse(to_python(some))) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in found for alias in node.names}
    assert names - set(sys.stdlib_module_names) == {"numpy"}
    assert fnet.__version__ in to_python(some)
