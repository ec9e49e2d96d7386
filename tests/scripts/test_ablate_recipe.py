"""scripts/ablate_recipe.py: every recipe is trained, and the table says what each ingredient adds."""

import csv
import re
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from fnet.cli.main import run
from fnet.cli.presets import PRESETS
from fnet.sweep import Failure, Outcome, runs

from .conftest import load_script

script = load_script("ablate_recipe.py")
pytestmark = pytest.mark.usefixtures("one_thread")


def ablate(out: Path, *words: str) -> int:
    return run(script.main, ["--engine", "numpy", "--out", str(out), *words])


def test_the_table_is_of_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.setitem(script.LARGER[0][1], "epochs", 1)
    options = ["--data", "wine", "iris", "--epochs", "1", "--seeds", "2", "--batch-size", "256"]
    assert ablate(tmp_path, *options) == 0
    with (tmp_path / "results.csv").open(newline="") as file:
        results = list(csv.DictReader(file))
    recipes = script.recipes()
    assert [(r["recipe"], r["seed"]) for r in results] == [(r.name, str(s)) for r in recipes for s in range(2)] * 2
    text = (tmp_path / "table.md").read_text()
    assert text.rstrip() in capsys.readouterr().out
    for data, part in zip(("wine", "iris"), re.split(r"^\*\*iris", text, flags=re.M), strict=True):
        mean = {
            recipe.name: fmean(float(r["accuracy"]) for r in results if (r["data"], r["recipe"]) == (data, recipe.name))
            for recipe in recipes
        }
        for recipe in recipes:
            (row,) = re.findall(rf"^\| {re.escape(recipe.name)} \| (\S+) ± \S+ \| (\S*) ?\|", part, re.M)
            assert float(row[0]) == pytest.approx(mean[recipe.name], abs=6e-5)
            assert (row[1] == "") == (recipe.before is None)
            if recipe.before is not None:
                assert float(row[1]) == pytest.approx(mean[recipe.name] - mean[recipe.before], abs=6e-5)
        assert (tmp_path / f"{data}.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("name", "preset", "also"),
    [
        (script.LADDER[-1][0], PRESETS["chen-wu-best"], {"calibrate": "if possible"}),
        (script.LARGER[-1][0], PRESETS["chen-wu-large"], {"calibrate": "if possible", "ensemble": 3}),
    ],
)
def test_the_last_line_is_the_preset(name: str, preset: dict[str, Any], also: dict[str, Any]) -> None:
    (changes,) = (recipe.changes for recipe in script.recipes() if recipe.name == name)
    assert {**changes, **also} == preset, "except for what is no part of the training of a network"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--seeds", "0"], "--seeds: expected a number of at least 1"),
        (["--valid-size", "0"], "--valid-size must not be 0"),
        (["--epoch", "3"], "did you mean --epochs?"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate(tmp_path, *words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def half(run: Any) -> Outcome:
    return Outcome(0.5, 0.5, 0.5, 1, [[1]], [])


def test_without_matplotlib_there_is_the_table_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(runs, "train", half)
    monkeypatch.setattr(script, "estimate", lambda run, key, limit: 0.0)
    assert ablate(tmp_path, "--seeds", "1") == 0
    out, err = capsys.readouterr()
    assert err.startswith("note: no pictures: ")
    assert f"Results are in {tmp_path}" in out


def test_a_run_that_fails_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "estimate", lambda run, key, limit: 0.0)
    monkeypatch.setattr(runs, "train", lambda run: half(run) if run.seed == 0 else Failure("too bad", lost=False))
    assert ablate(tmp_path, "--seeds", "2") == 2
    assert capsys.readouterr().err == "error: digits: Chen & Wu, seed 1: too bad\n"
