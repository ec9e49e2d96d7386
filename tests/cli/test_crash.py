"""Training that is killed with SIGKILL at random moments ends with the same bytes as if it had not been."""

import importlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).parents[2] / "scripts" / "checks"
sys.path.insert(0, str(CHECKS))
kill_test = importlib.import_module("kill_test")


@pytest.mark.parametrize("engine", kill_test.ENGINES)
def test_kills_change_no_byte(engine: str, tmp_path: Path) -> None:
    if engine == "numba":
        pytest.importorskip("numba")
    subprocess.run(kill_test.command(tmp_path / "whole", engine), check=True)
    kills = 5 if engine == "numpy" else 3  # a process that imports Numba takes longer to start
    steps = kill_test.train_with_kills(tmp_path / "parts", engine, kills, seed=1)
    assert all(before <= after for before, after in itertools.pairwise(steps)), "work that was saved is lost"
    assert len(set(steps)) > kills // 2, f"the kills came before anything was done: {steps}"
    assert kill_test.differences(tmp_path / "whole", tmp_path / "parts") == []


def test_a_difference_is_noticed(tmp_path: Path) -> None:
    subprocess.run([*kill_test.command(tmp_path / "a", "numpy"), "--epochs", "1"], check=True)
    for name in (*kill_test.EXACT, "metrics.json"):
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / "b" / name).write_bytes((tmp_path / "a" / name).read_bytes())
    assert kill_test.differences(tmp_path / "a", tmp_path / "b") == []
    with (tmp_path / "b" / "history.csv").open("a") as file:
        file.write("\n")
    assert kill_test.differences(tmp_path / "a", tmp_path / "b") == ["history.csv"]
    with pytest.raises(FileNotFoundError):
        kill_test.differences(tmp_path / "a", tmp_path / "c")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_run_that_dies_at_any_change_of_a_file_leaves_the_old_run_or_goes_on() -> None:
    result = subprocess.run([sys.executable, CHECKS / "crash_points.py"], stdout=subprocess.PIPE, text=True)
    assert result.returncode == 0, result.stdout
