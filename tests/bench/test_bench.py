"""Whether `python scripts/bench` measures what it says; its numbers are for people."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench"
TINY = ("--examples", "2560", "--repeats", "2", "--turn", "0.02", "--network", "8-16-3:32")


def bench(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, str(BENCH), *options], env=env, capture_output=True, text=True, timeout=100)


def rows(text: str, name: str) -> list[list[str]]:
    """The cells of the rows of this name, in all printed tables."""
    found = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [cells for cells in found if cells[0].partition(":")[0] == name]


def median(cell: str) -> float:
    found = re.fullmatch(r"([\d.]+) \(([\d.]+)-([\d.]+)\)", cell)
    assert found is not None
    middle, least, most = map(float, found.groups())
    assert 0 < least <= middle <= most
    return middle


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("contenders")


def test_networks_compares_training_and_prediction_with_the_floor() -> None:
    result = bench("networks", *TINY, "--only", "fnet-numpy", "floor")
    assert result.returncode == 0, result.stderr
    training, prediction = rows(result.stdout, "floor")
    assert training[-1] == "-", "the floor predicts nothing"
    for cells in (training[1:3], prediction[1:3]):
        seconds, ratio = map(median, cells)
        assert seconds < 0.1
        assert ratio > 1
    for cells in rows(result.stdout, "fnet-numpy"):
        assert cells[2] == "1.00 (1.00-1.00)"
    assert "Left out" not in result.stdout


def test_the_others_train_and_learn() -> None:
    packages = {"jax-scan": "optax", "torch-fused": "torch", "sklearn": "sklearn"}
    names = [name for name, package in packages.items() if importlib.util.find_spec(package)]
    result = bench("networks", *TINY, "--examples", "6400", "--network", "32-32-3:32", "--only", "fnet-numpy", *names)
    assert "Left out" not in result.stdout, "where they would be, had they made another number of updates"
    for name in names:
        assert float(rows(result.stdout, name)[0][-1]) > 0.5, "of three classes, after one epoch"


def test_a_contender_that_is_not_installed_is_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('there is no torch')\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    result = bench("grid", *TINY, "--only", "fnet-numpy", "torch", PYTHONPATH=path)
    assert result.returncode == 0, result.stderr
    assert "Left out: torch (ImportError: there is no torch)." in result.stdout
    (cells,) = rows(result.stdout, "8-16-3, batches of 32")
    assert [cell == "-" for cell in cells[1:]] == [True, False, True, True, True, True]


def test_activations_are_compared_with_relu() -> None:
    result = bench("activations", *TINY, "--only", "fnet-numpy")
    table = rows(result.stdout, "8-16-3, batches of 32")
    assert [cells[1] for cells in table] == ["relu", "tanh", "gelu", "silu"]
    assert table[0][3] == "1.00 (1.00-1.00)"
    assert all(median(cells[3]) > 0.2 for cells in table)


def test_start_measures_the_imports_and_the_first_epoch() -> None:
    result = bench("start", "--repeats", "1", "--only", "fnet-numpy")
    (cells,) = rows(result.stdout, "fnet-numpy")
    *parts, total = map(median, cells[1:])
    assert len(parts) == 3
    assert sum(parts) == pytest.approx(total, rel=0.02)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say how much is anonymous")
def test_memory_trains_on_a_mapped_file() -> None:
    result = bench("memory", "--rows", "40000", "--examples", "2560", "--only", "fnet-numpy")
    (cells,) = rows(result.stdout, "fnet-numpy")
    before, most = map(float, cells[1:3])
    assert most - before < 15, "the file has 20 MB"
    assert 0.2 < median(cells[-1]) < 5


def test_accuracy_compares_with_sklearn() -> None:
    pytest.importorskip("sklearn")
    result = bench("accuracy", "--repeats", "1", "--data", "iris", "--raw")
    header, cells = rows(result.stdout, "data") + rows(result.stdout, "iris")
    assert header[:5] == ["data", "rows", "scikit-learn", "fnet", "fnet, standardize=True"]
    assert len(cells) == len(header)
    assert all(float(cell.partition(" ")[0]) > 85 for cell in cells[2:5])


def test_tables_compares_the_command_with_sklearn() -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    result = bench("tables", "--repeats", "1", "--data", "iris", "linnerud")
    assert "Left out" not in result.stdout
    header, numbers_header = rows(result.stdout, "table")
    assert header == ["table", "contender", "log loss", "difference", "error, %", "difference", "seconds"]
    assert numbers_header == ["table", "contender", "R²", "difference", "seconds"]
    (first,) = rows(result.stdout, "iris, 150 rows")
    assert first[1] == "MLPClassifier"
    assert len(rows(result.stdout, "linnerud, 20 rows")) == 1
    own = [line.strip("| ").split(" | ") for line in result.stdout.splitlines() if " | fnet train | " in line]
    assert 0 < float(own[0][1]) < 0.5, "the log loss of guessing is 1.1"
    assert 0 < float(own[0][3]) < 15
    assert 0 < float(own[0][5]) < 5
    assert float(own[1][1]) < 1
    for contender in ("classes, fnet train", "classes, fnet's MLPClassifier", "numbers, fnet's MLPRegressor"):
        assert f"{contender}: at worst, in standard errors" in result.stderr


def test_coverage_is_that_of_intervals_of_test_rows() -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    spec = importlib.util.spec_from_file_location("bench_tables", BENCH / "tables.py")  # scripts/reproduce has one too
    assert spec is not None and spec.loader is not None  # noqa: PT018
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    found = tables.coverage(tables.load("friedman"), 1)
    assert len(found) == 2
    assert all(0.7 < share < 0.9 for share in found)


def test_lbfgs_compares_what_is_minimized(module: ModuleType) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("numba")
    found = importlib.import_module("lbfgs").compare("iris", 1)
    assert [len(limits) for _, *limits in found] == [0, 2, 0, 0, 2, 0]
    rows = [row for row, *_ in found]
    names = ("scikit-learn", "fnet-numba", "fnet-numpy")
    assert [row[:2] for row in rows[:3]] == [("iris, float64", name) for name in names]
    for row in rows:
        assert 0 < float(row[2]) < 0.01
        assert 10 < float(row[3]) <= 200
        assert 0.01 < median(row[5]) < 100


def test_results_take_the_place_of_those_of_the_same_command(tmp_path: Path, module: ModuleType) -> None:
    report = importlib.import_module("report")
    path = tmp_path / "results.md"
    for title, text in (("A", "old"), ("B", "other"), ("A", "new")):
        section = report.Report(title)
        section.text("", text)
        section.write(path)
    assert path.read_text() == "# Measured speed\n\n## A\n\nnew\n\n## B\n\nother\n"


def test_unequal_work_is_an_error(module: ModuleType) -> None:
    task = module.make_task(sizes=[4, 4, 2], batch_size=8, examples=32)
    idle = module.Contender(lambda: None, lambda: task.test.x, lambda: 0)
    with pytest.raises(RuntimeError, match="made 0 updates instead of 4"):
        module.train(task, idle, at_least=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("networks", "--repeats", "0"), "expected a number of at least 1, but got '0'"),
        (("networks", "--network", "8-3:32"), "needs a hidden layer and batches of 2 or more, but got '8-3:32'"),
        (("networks", "--network", "8-16-3"), "expected a number of at least 1, but got ''"),
        (("networks", "--results", "no/such/folder/results.md"), "there is no folder no/such/folder"),
    ],
)
def test_bad_options_are_errors_before_anything_is_measured(options: tuple[str, ...], message: str) -> None:
    result = bench(*options)
    assert result.returncode == 2
    assert message in result.stderr
