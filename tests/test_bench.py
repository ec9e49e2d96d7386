"""Whether scripts/bench.py measures what it says; its numbers are for people."""

import importlib.util
import itertools
import json
import math
from pathlib import Path

import _bench_workers as workers
import bench
import pytest

TINY = ("--sizes", "8", "16", "3", "--examples", "256", "--batch-size", "32", "--repeats", "2")


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "MIN_TURN", 0.01)


def numbers(value: object) -> list[float]:
    """All numbers in a JSON value."""
    if isinstance(value, dict | list):
        return list(itertools.chain(*map(numbers, value.values() if isinstance(value, dict) else value)))
    return [value] if isinstance(value, int | float) else []


def rows(text: str, name: str) -> int:
    """How many rows of the printed tables are of this name."""
    return sum(line.startswith((f"| {name} ", f"| {name}: ")) for line in text.splitlines())


def test_prints_tables_and_writes_all_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.json"
    assert bench.main([*TINY, "--only", "floor", "--json", str(path)]) == 0
    result, text = json.loads(path.read_text()), capsys.readouterr().out
    run = result["run"]
    assert run["steps"] == 256 // 32
    for what in ("epoch", "predict"):
        assert run[what].keys() == {"fnet", "floor"}
        for turns in run[what].values():
            assert len(turns) == 2
            assert all(math.isfinite(number) and number > 0 for number in numbers(turns))
    assert rows(text, "fnet") == rows(text, "floor") == 2
    assert "fnet" in result["versions"]
    assert result["left_out"] == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--json", "no/such/folder/bench.json"], "there is no folder no/such/folder"),
        (["--batch-size", "0"], "batches of 2 or more"),
        (["--threads", "0"], "expected a number of at least 1"),
    ],
)
def test_bad_options_are_errors_before_anything_is_measured(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench.main([*TINY, *options])
    assert message in capsys.readouterr().err


def test_leaves_out_and_names_what_is_not_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("torch", "jax"):
        (tmp_path / f"{module}.py").write_text(f"raise ImportError('there is no {module}')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert bench.main([*TINY, "--only", "torch-fused", "jax"]) == 0
    text = capsys.readouterr().out
    assert "torch-fused (ImportError: there is no torch); jax (ImportError: there is no jax)" in text
    assert rows(text, "fnet") == 2
    assert rows(text, "jax") == 0


def test_the_others_train_as_much_and_learn(tmp_path: Path) -> None:
    packages = {"torch-fused": "torch", "jax-scan": "optax", "sklearn": "sklearn"}
    names = [name for name, package in packages.items() if importlib.util.find_spec(package)]
    path = tmp_path / "bench.json"
    bench.main([*TINY, "--json", str(path), "--only", "fnet", *names])
    result = json.loads(path.read_text())
    assert result["left_out"] == {}  # where they would be, had they made another number of updates
    assert all(score["loss"] < score["first loss"] for score in result["run"]["score"].values())


def test_unequal_work_is_an_error() -> None:
    task = workers.make_task([4, 4, 2], 8, 32)
    idle = workers.Contender(lambda: None, lambda: task.test.x, lambda: 0, {})
    with pytest.raises(RuntimeError, match="made 0 updates instead of 8"):
        workers.train(task, idle, 2)


def test_profile_parts_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "profile.json"
    assert bench.main([*TINY, "--profile", "--json", str(path)]) == 0
    parts = json.loads(path.read_text())["profile"]
    whole = parts.pop("whole with stopwatches")
    del parts["whole"], parts["floor"]
    assert min(numbers(parts)) > 0
    assert [sum(turn) for turn in zip(*parts.values(), strict=True)] == pytest.approx(whole)
    assert rows(capsys.readouterr().out, "optimizer") == 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say how much is anonymous")
def test_memory(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    assert bench.main([*TINY, "--memory", "--rows", "1000", "--json", str(path)]) == 0
    found = json.loads(path.read_text())["memory"]
    assert len(found["on disk"]) == len(found["in memory"]) == math.ceil(1000 / 256)
    assert min(numbers(found)) > 0
