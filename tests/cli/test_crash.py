"""Training that is killed with SIGKILL at random moments ends with the same bytes as if it had not been."""

import itertools
import subprocess
from pathlib import Path

import kill_test
import pytest


def test_twenty_kills_change_no_byte(tmp_path: Path) -> None:
    subprocess.run(kill_test.command(tmp_path / "whole"), check=True)
    steps = kill_test.train_with_kills(tmp_path / "parts", 20, seed=1)
    assert all(before <= after for before, after in itertools.pairwise(steps)), "work that was saved is lost"
    assert len(set(steps)) > 10, f"the kills came before anything was done: {steps}"
    assert kill_test.differences(tmp_path / "whole", tmp_path / "parts") == []


def test_a_difference_is_noticed(tmp_path: Path) -> None:
    subprocess.run([*kill_test.command(tmp_path / "a"), "--epochs", "1"], check=True)
    for name in (*kill_test.EXACT, "metrics.json"):
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / "b" / name).write_bytes((tmp_path / "a" / name).read_bytes())
    assert kill_test.differences(tmp_path / "a", tmp_path / "b") == []
    with (tmp_path / "b" / "history.csv").open("a") as file:
        file.write("\n")
    assert kill_test.differences(tmp_path / "a", tmp_path / "b") == ["history.csv"]
    with pytest.raises(FileNotFoundError):
        kill_test.differences(tmp_path / "a", tmp_path / "c")
