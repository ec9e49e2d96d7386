"""scripts/ablate_recipe.py: every recipe is trained, and the table says what each ingredient adds."""

import csv
import re
import sys
from pathlib import Path
from unittest.mock import Mock

import _options
import ablate_recipe
import pytest
from ablate_recipe import Outcome

import fnet


def test_the_table_is_of_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert ablate_recipe.main(["--epochs", "1", "--seeds", "2", "--batch-size", "256", "--out", str(tmp_path)]) == 0
    with (tmp_path / "results.csv").open(newline="") as file:
        results = list(csv.DictReader(file))
    recipes = ablate_recipe.recipes()
    assert [(r["ingredient"], r["seed"]) for r in results] == [(r.name, str(s)) for r in recipes for s in range(2)]
    mean = {
        recipe.name: sum(float(r["accuracy"]) for r in results if r["ingredient"] == recipe.name) / 2
        for recipe in recipes
    }
    text = (tmp_path / "table.md").read_text()
    assert text.rstrip() in capsys.readouterr().out
    for recipe in recipes:
        (row,) = re.findall(rf"^\| {re.escape(recipe.name)} \| (\S+) ± \S+ \| (\S*) ?\|", text, re.M)
        assert float(row[0]) == pytest.approx(mean[recipe.name], abs=6e-5)
        assert (row[1] == "") == (recipe.before is None)
        if recipe.before is not None:
            assert float(row[1]) == pytest.approx(mean[recipe.name] - mean[recipe.before], abs=6e-5)
    assert (tmp_path / "digits.png").stat().st_size > 10_000


def test_the_ladder_ends_at_the_preset() -> None:
    top = ablate_recipe.recipes()[len(ablate_recipe.LADDER) - 1]
    assert {**top.options, "calibrate": "if possible"} == _options.BEST  # which is no part of the training


def test_bad_input_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate_recipe.main(["--data", "nowhere", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    for options, message in (
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--valid-size", "0"], "must not be 0"),
    ):
        with pytest.raises(SystemExit, match="2"):
            ablate_recipe.main([*options, "--out", str(tmp_path)])
        assert message in capsys.readouterr().err


def test_without_matplotlib_there_is_the_table_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(
        ablate_recipe, "train", lambda data, recipe, seed, _: Outcome(data, recipe.name, seed, *[0.5] * 4)
    )
    assert ablate_recipe.main(["--seeds", "1", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "No pictures: " in text
    assert f"Results are in {tmp_path}" in text


def test_ctrl_c_and_a_loss_that_is_not_finite_are_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = fnet.init_train_state(fnet.random.key(0), fnet.MLPConfig(sizes=(2, 2)), fnet.TrainConfig())
    for error, code in ((KeyboardInterrupt(), 130), (fnet.NonFiniteLossError(float("inf"), 3, 1, state), 2)):
        monkeypatch.setattr(ablate_recipe, "train", Mock(side_effect=error))
        assert ablate_recipe.main(["--out", str(tmp_path)]) == code
        assert len(capsys.readouterr().err.splitlines()) == 1
