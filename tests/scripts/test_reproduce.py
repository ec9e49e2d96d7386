"""scripts/reproduce: what it writes, and when a finding of Chen & Wu counts as confirmed."""

import csv
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fnet.cli.main import run
from fnet.sweep import Failure, Outcome, Run, runs

from .conftest import SCRIPTS, Main, load_script

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the modules of the script import each other, as they do where it is run."""
    monkeypatch.syspath_prepend(SCRIPTS / "reproduce")


@pytest.fixture
def findings() -> ModuleType:
    return importlib.import_module("findings")


@pytest.fixture
def later() -> ModuleType:
    return importlib.import_module("later")


@pytest.fixture
def reproduce(tmp_path: Path, later: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Main:
    """Run the studies for one epoch, and a part of the last chapter for a moment, in this process, to tmp_path."""
    script = load_script("reproduce/__main__.py")
    monkeypatch.setattr(later, "ACTIVATIONS", {name: later.ACTIVATIONS[name] for name in ("ReLU", "tanh")})
    monkeypatch.setattr(later, "NAMED", ("tanh",))
    monkeypatch.setattr(later, "RATES", (1e-3, 1e-2))
    small = ["--epochs", "1", "--seconds", "1e-3", "--executor", "serial", "--engine", "numpy", "--out", str(tmp_path)]
    return lambda words: run(script.main, [*small, *words])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_writes_everything(reproduce: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert reproduce(["--seeds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(list((tmp_path / "runs").iterdir())) == 34 + 10 + 12, "the best model of each study is trained once"
    assert [line for line in lines if line.startswith("[34/34] ablations: neither, seed 1: accuracy ")]
    assert lines[-2].startswith("[12/12] tanh, L-BFGS, seed 2: accuracy ")
    text = (tmp_path / "studies.md").read_text()
    assert str(tmp_path) not in text
    assert "\n    python scripts/reproduce --seeds 2 --epochs 1 --seconds 0.001 --engine numpy\n" in text
    pictures = list(tmp_path.glob("*.png"))
    assert len(pictures) == 12
    for picture in pictures:
        assert f"({picture.name})" in text
        assert picture.stat().st_size < 100_000
    for name in ("table_1", "table_2", "table_3", "later"):
        (header, *cells) = csv.reader((tmp_path / f"{name}.csv").read_text().splitlines())
        assert cells
        assert all(f"| {' | '.join(row)} |\n" in text for row in (header, *cells))
    judged = rows(tmp_path / "findings.csv")
    assert len(judged) == 16
    assert all(f"| {f['claim']} | {f['here']} | **{f['verdict']}** |" in text for f in judged)
    judged = rows(tmp_path / "later_findings.csv")
    assert len(judged) == 12
    assert all(f"| {f['claim']} | {f['here']} | **{f['verdict']}** |" in text for f in judged)
    for name in ("results", "timings"):
        assert len(rows(tmp_path / f"{name}.csv")) == 2 * 24 + 10 + 12


def test_it_goes_on_without_a_failed_run(
    reproduce: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = runs.train

    def fail(run: Run) -> Outcome:
        if run.train_config.batch_size == 16 or not run.config.batch_norm or run.config.activation == "tanh":
            raise ValueError("too bad")
        return train(run)

    monkeypatch.setattr(runs, "train", fail)
    assert reproduce(["--seeds", "1", "--quiet"]) == 1
    assert "failed: batch size: 16, seed 0: ValueError: too bad\n" in capsys.readouterr().err
    judged = {f["claim"]: f for f in rows(tmp_path / "findings.csv")}
    assert judged["batch size 64 is best"]["here"] == "a run failed"
    assert judged["hidden size 256 is best"]["here"].endswith("one seed")
    assert {f["here"] for f in rows(tmp_path / "later_findings.csv")} == {"a run failed", "it is that pair"}
    assert "| failed: ValueError: too bad |" in (tmp_path / "studies.md").read_text()


@pytest.mark.parametrize(
    "words", [["--seeds", "0"], ["--epochs", "0"], ["--data", "nowhere"], ["--test", "x"], ["--valid-size", "0"]]
)
def test_bad_input_is_one_line(words: list[str], reproduce: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


# The findings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ([[0.5, 0.51], [0.6, 0.61]], "confirmed"),
        ([[0.6, 0.61], [0.5, 0.51]], "not confirmed"),
        ([[0.5, 0.6], [0.6, 0.51]], "undecided"),
        ([[0.5, 0.5], [0.5, 0.5]], "undecided"),
        ([[0.1], [0.9]], "undecided"),
    ],
)
def test_is_best(scores: list[list[float]], verdict: str, findings: ModuleType) -> None:
    curves = {label: np.array(values)[:, None] for label, values in zip("ab", scores, strict=True)}
    assert findings.is_best(curves, "b", "a")[1] == verdict
    assert findings.is_best(curves, "b", "a", "c")[0] == "a run failed"


def test_the_lower_loss_is_better(findings: ModuleType) -> None:
    losses = {"a": np.array([0.5, 0.51]), "b": np.array([0.6, 0.611])}
    assert findings.compare("a - b:", losses, "a", "b", loss=True) == ("a - b: -0.1005 ± 0.0005", "confirmed")
    assert findings.compare("b - a:", losses, "b", "a", loss=True) == ("b - a: +0.1005 ± 0.0005", "not confirmed")


def test_the_standard_error_is_that_of_paired_differences(findings: ModuleType) -> None:
    scores = np.array([[0.1, 0.5, 0.3], [0.3, 0.6, 0.35]])
    differences = scores[1] - scores[0]
    assert findings.standard_error(scores) == pytest.approx(differences.std(ddof=1) / np.sqrt(3))


@pytest.mark.parametrize(
    ("curve", "no", "after", "verdict"),
    [
        ([2.0, 1.0, 0.5, 1.0], False, None, "confirmed"),
        ([2.0, 1.0, 0.5, 1.0], False, 4, "confirmed"),
        ([2.0, 1.0, 0.5, 1.0], False, 8, "confirmed in part: it overfits, but not after that epoch"),
        ([2.0, 1.0, 0.5, 1.0], True, None, "not confirmed"),
        ([2.0, 1.0, 0.5, 0.505], True, None, "confirmed"),
        ([2.0, 1.0, 0.5, 0.5], False, None, "not confirmed"),
    ],
)
def test_overfits(curve: list[float], no: bool, after: int | None, verdict: str, findings: ModuleType) -> None:
    curves = {"a": np.array([curve, [value + 0.01 for value in curve]])}
    assert findings.overfits(curves, "a", no=no, after=after)[1] == verdict
    assert findings.overfits(curves, "b")[0] == "a run failed"


def test_a_rise_within_the_noise_is_undecided(findings: ModuleType) -> None:
    curves = {"a": np.array([[1.0, 0.5, 1.0], [1.0, 0.5, 0.51]])}
    assert findings.overfits(curves, "a")[1] == "undecided"


def test_slower(findings: ModuleType) -> None:
    fast, slow = np.linspace(0.5, 0.9, 8), np.linspace(0.1, 0.9, 8)
    curves = {"best": np.array([fast, fast + 0.01]), "a": np.array([slow, slow + 0.01])}
    assert findings.slower(curves, "a") == ("best - a, epochs 1 to 2: +37.14 ± 0.00 %", "confirmed")


def test_numbers_are_compared_on_the_data_of_chen_and_wu_alone(findings: ModuleType) -> None:
    assert findings.number(np.array([0.58, 0.59]), 0.5862, 0.02) == ("0.5850", "confirmed")
    assert findings.number(np.array([0.48, 0.49]), 0.5862, 0.02)[1] == "not confirmed"
    names = ("layers", "hidden", "learning_rate", "batch_size", "dropout", "optimizer", "ablations")
    curves = {"best": {"best": np.full((2, 4), 0.58)}, **{name: {} for name in names}}
    for comparable, verdict in ((True, "confirmed"), (False, "other data")):
        assert findings.find(curves, curves, [0.58], comparable=comparable)[0].verdict == verdict


# What they left for later ---------------------------------------------------------------------------------------------


def outcome(loss: float, accuracy: float) -> Outcome:
    return Outcome(loss, accuracy, None, 0, [], [])


def trials(later: ModuleType, accuracy: Callable[[str, str, int], float]) -> dict[Any, Outcome]:
    """Trials of which the second learning rate has the lowest loss."""

    def result(trial: Any) -> Outcome:
        activation, optimizer = trial.pair
        return outcome(abs((trial.rate or 0) - later.RATES[1]), accuracy(activation, optimizer, trial.seed))

    first = {trial: result(trial) for trial in later.first_trials()}
    return first | {trial: result(trial) for trial in later.judging_trials(first, 3)}


def test_a_seed_that_does_not_judge_chooses_the_learning_rate_by_the_loss(later: ModuleType) -> None:
    them = trials(later, lambda activation, optimizer, seed: 0.5)
    judging = [trial for trial in them if trial.seed != later.FIRST]
    assert len(judging) == len(later.judging_trials(them, 3)) == 3 * len(later.pairs())
    assert {trial.rate for trial in judging} == {later.RATES[1], None}
    assert {trial.seed for trial in judging} == {1, 2, 3}
    assert all((trial.rate is None) == (trial.pair[1] == "L-BFGS") for trial in them)
    bad = {trial: Failure("", lost=False) if trial.rate == later.RATES[1] else o for trial, o in them.items()}
    assert {trial.rate for trial in later.choose(bad).values()} == {later.RATES[0], None}


def test_the_best_pair_is_judged_against_a_rival_that_other_seeds_chose(later: ModuleType) -> None:
    noise = dict(enumerate([0.0, 0.001, -0.001, 0.0005]))

    def accuracy(activation: str, optimizer: str, seed: int) -> float:
        value = {"Adam": 0.6, "SGD": 0.5, "L-BFGS": 0.4}[optimizer] + noise[seed]
        if (activation, optimizer) == ("GELU", "Adam"):  # the luck of the first seed
            return value + (0.1 if seed == later.FIRST else -0.05)
        return value + 0.02 * (activation == "tanh") - 0.02 * (activation == "leaky ReLU")

    found = {claim: (here, verdict) for claim, here, verdict in later.find(later.chapter(trials(later, accuracy)))}
    here, verdict = found["With Adam, ReLU is the best activation"]
    assert here.startswith("ReLU with Adam - GELU with Adam: +5.00 ± ")
    assert verdict == "confirmed"
    assert found["With ReLU, Adam is the best optimizer"][1] == "confirmed"
    assert found["With SGD, tanh is better than ReLU"][1] == "confirmed"
    assert found["With L-BFGS, leaky ReLU is better than ReLU"][1] == "not confirmed"
    assert found["SGD is better than L-BFGS, mean over the activations"][1] == "confirmed"
    here, verdict = found["The best pair at seed 0, GELU with Adam, is better than ReLU with Adam"]
    assert verdict == "not confirmed"


def test_a_pair_of_which_a_run_failed_is_in_no_finding(later: ModuleType) -> None:
    them: dict[Any, Any] = trials(later, lambda activation, optimizer, seed: 0.5)
    them[next(trial for trial in them if trial.pair == ("tanh", "SGD") and trial.seed == 2)] = Failure("", lost=False)
    results = later.chapter(them)
    found = {claim: here for claim, here, _ in later.find(results)}
    assert found["With SGD, tanh is better than ReLU"] == "a run failed"
    assert found["Adam is better than SGD, mean over the activations"] == "a run failed"
    assert found["With Adam, tanh is better than ReLU"] != "a run failed"
    assert ["tanh", "SGD", "0.002", "a run failed", "", ""] in later.table(results)[1]
