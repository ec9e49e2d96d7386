"""The soak of `scripts/checks`, for a few seconds, and that it notices what is lost or mixed."""

import importlib
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "checks"))
soak = importlib.import_module("soak")


def test_runs_side_by_side_that_are_killed_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "JOBS", {name: soak.JOBS[name] for name in ("one", "ensemble")})
    ends = soak.soak(tmp_path, runs=4, seconds=2, seed=5)
    assert [end for end in ends if "WRONG" in end] == []
    assert {end[:6] for end in ends} > {"resume", "folder"}
    assert any("ended by SIG" in end for end in ends)


def test_what_is_lost_or_mixed_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "JOBS", {"one": ["--epochs", "1"], "seed": ["--epochs", "1", "--seed", "1"]})
    ends = soak.soak(tmp_path, runs=0, seconds=0, seed=0)
    out, one, seed = tmp_path / "out", tmp_path / "whole" / "one", tmp_path / "whole" / "seed"
    assert ends == []
    shutil.copytree(one, out)
    assert soak.settle(tmp_path, out) == "finished"
    for name in ("predictions.csv", "metrics.json"):
        shutil.copy(seed / name, out / name)
    assert soak.settle(tmp_path, out).endswith("has other bytes in ['predictions.csv', 'metrics.json']")
    (out / "report.txt").unlink()
    assert "has the files ['checkpoints', 'config.json', 'history.csv'" in soak.settle(tmp_path, out)
    (out / "metrics.json").unlink()
    assert soak.settle(tmp_path, out) == "finished by --resume"
    (out / "metrics.json").unlink()
    (checkpoint,) = out.glob("checkpoints/*/*")
    checkpoint.write_bytes(b"half")
    assert "cannot be resumed: 'warning: skipping a damaged checkpoint" in soak.settle(tmp_path, out)
    (out / "config.json").unlink()
    assert "has no job, but has ['" in soak.settle(tmp_path, out)
