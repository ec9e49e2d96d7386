"""`fnet train` and `fnet sweep` with L-BFGS, which turns off what has no meaning there."""

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from fnet import testing
from fnet.cli import train

from .conftest import Fnet, interrupting, refused, succeeds

COMMON = ["train", "--optimizer", "lbfgs", "--hidden", "8", "--no-pictures"]
EXACT = ("model.npz", "history.csv", "predictions.csv", "report.txt")


def metrics(out: Path) -> dict[str, Any]:
    return json.loads((out / "metrics.json").read_text())


@pytest.mark.parametrize("preset", ["chen-wu", "chen-wu-best", "chen-wu-large", "tabular"])
def test_each_preset_trains_without_noise_and_says_so(preset: str, fnet_command: Fnet, tmp_path: Path) -> None:
    with testing.check_key_reuse():
        result = succeeds(fnet_command(*COMMON, "--preset", preset, "--ensemble", 1, "--epochs", 9, "--out", tmp_path))
    assert "L-BFGS sees all rows in each step: without batch norm, dropout, noise and a learning rate\n" in result.out
    assert " epoch  train loss  accuracy  valid loss  accuracy       gradient  seconds\n" in result.out
    assert "\nnot converged, the largest element of the gradient is " in result.out
    assert "; --epochs was 9\n" in result.out
    config = json.loads((tmp_path / "config.json").read_text())
    assert not any(config["network"][name] for name in ("batch_norm", "dropout", "input_dropout"))
    assert config["training"]["weight_decay"] == 4 / 1293
    assert metrics(tmp_path)["converged"] == [False]
    assert metrics(tmp_path)["train"]["accuracy"] > 0.7
    with (tmp_path / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert "learning_rate" not in history[0]
    assert float(history[-1]["gradient"]) > 0
    assert float(history[-1]["train_loss"]) == pytest.approx(metrics(tmp_path)["train"]["loss"], rel=0.3)


def test_by_default_there_are_enough_epochs_to_converge(fnet_command: Fnet, tmp_path: Path) -> None:
    rows = "\n".join(f"{i % 7 - 3},{i % 5 - 2},{'ab'[i % 7 > 2]}" for i in range(70))
    (tmp_path / "rows.csv").write_text(f"x,y,class\n{rows}\n")
    data = ["--data", tmp_path / "rows.csv", "--target", "class", "--tolerance", "1e-3"]
    result = succeeds(fnet_command(*COMMON, *data, "--out", tmp_path / "out"))
    assert "\nconverged: no element of the gradient is above --tolerance 0.001\n" in result.out
    (epochs,) = metrics(tmp_path / "out")["epochs"]
    assert 5 < epochs < 200
    assert metrics(tmp_path / "out")["converged"] == [True]
    again = fnet_command(*COMMON, *data, "--out", tmp_path / "out", "--resume", "--epochs", "300")
    assert f"training stopped early after {epochs} epochs (L-BFGS) and stops there again" in again.err
    assert metrics(tmp_path / "out")["epochs"] == [epochs]


def test_where_no_step_is_found_it_says_so(fnet_command: Fnet, tmp_path: Path) -> None:
    options = ["--activation", "tanh", "--weight-decay", "1", "--tolerance", "0", "--out", tmp_path]
    result = succeeds(fnet_command(*COMMON, *options))
    assert (
        "\nended: no step lowers the loss by more than rounding; the largest element of the gradient is" in result.out
    )
    assert metrics(tmp_path)["converged"] == [False]


def test_a_run_that_is_interrupted_goes_on_to_the_same_bytes(
    fnet_command: Fnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = [*COMMON, "--epochs", "8", "--quiet", "--keep-best", "--checkpoint-every", "epoch"]
    succeeds(fnet_command(*common, "--out", tmp_path / "whole"))
    monkeypatch.setattr(train, "interruptible", interrupting(lambda: 2))
    stops = 0
    while (result := fnet_command(*common, "--out", tmp_path / "parts", "--resume")).code:
        assert result.code == 130
        stops += 1
    assert stops > 2
    for name in EXACT:
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dropout", "0.2"], "batch_norm=False, dropout=0.0 and input_dropout=0.0; got dropout=0.2"),
        (["--learning-rate", "0.1"], 'learning_rate has no meaning with optimizer="lbfgs"; leave out'),
        (["--schedule", "cosine"], "schedule has no meaning"),
        (["--input-noise", "0.1"], "input_noise has no meaning"),
    ],
)
def test_what_has_no_meaning_is_refused(options: list[str], message: str, fnet_command: Fnet, tmp_path: Path) -> None:
    assert message in refused(fnet_command(*COMMON, *options, "--out", tmp_path))


def test_a_sweep_may_compare_it_with_others(fnet_command: Fnet, tmp_path: Path) -> None:
    grid = ["--grid", "optimizer=adam,lbfgs", "hidden=8", "--retrain-seeds", "0", "--batch-size", "300"]
    options = ["--executor", "serial", "--out", tmp_path / "sweep", "--quiet"]
    succeeds(fnet_command("sweep", *grid, *options))
    with (tmp_path / "sweep" / "results.csv").open() as file:
        found = {row["optimizer"]: row for row in csv.DictReader(file)}
    assert (found["adam"]["epochs"], found["lbfgs"]["epochs"]) == ("25", "200")
    assert float(found["lbfgs"]["accuracy"]) > 0.85
    table = (tmp_path / "sweep" / "table.md").read_text()
    (command,) = [line.strip() for line in table.splitlines() if line.startswith("    fnet train ")]
    assert "--batch-size 300 --optimizer lbfgs" in command
    succeeds(fnet_command(*shlex.split(command)[1:], "--quiet", "--no-pictures", "--out", tmp_path / "best"))
    assert metrics(tmp_path / "best")["valid"]["loss"] == pytest.approx(float(found["lbfgs"]["loss"]), rel=1e-6)
