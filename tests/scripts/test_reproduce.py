"""scripts/reproduce: what it writes, and when a finding of Chen & Wu counts as confirmed."""

import csv
import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fnet.cli.main import run
from fnet.sweep import Outcome, Run, runs

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
def reproduce(tmp_path: Path) -> Main:
    """Run the studies for one epoch in this process, to tmp_path."""
    script = load_script("reproduce/__main__.py")
    small = ["--epochs", "1", "--executor", "serial", "--engine", "numpy", "--out", str(tmp_path)]
    return lambda words: run(script.main, [*small, *words])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_writes_everything(reproduce: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert reproduce(["--seeds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(list((tmp_path / "runs").iterdir())) == 34, "the best model is in each study, and is trained once"
    assert lines[-2].startswith("[34/34] ablations: neither, seed 1: accuracy ")
    text = (tmp_path / "studies.md").read_text()
    assert str(tmp_path) not in text
    assert "\n    python scripts/reproduce --seeds 2 --epochs 1 --engine numpy\n" in text
    pictures = list(tmp_path.glob("*.png"))
    assert len(pictures) == 9
    for picture in pictures:
        assert f"({picture.name})" in text
        assert picture.stat().st_size < 100_000
    for name in ("table_1", "table_2", "table_3"):
        (header, *cells) = csv.reader((tmp_path / f"{name}.csv").read_text().splitlines())
        assert cells
        assert all(f"| {' | '.join(row)} |\n" in text for row in (header, *cells))
    judged = rows(tmp_path / "findings.csv")
    assert len(judged) == 16
    assert all(f"| {f['claim']} | {f['here']} | **{f['verdict']}** |" in text for f in judged)
    for name in ("results", "history", "timings"):
        assert len(rows(tmp_path / f"{name}.csv")) == 2 * 24


def test_it_goes_on_without_a_failed_run(
    reproduce: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = runs.train

    def fail(run: Run) -> Outcome:
        if run.train_config.batch_size == 16 or not run.config.batch_norm:
            raise ValueError("too bad")
        return train(run)

    monkeypatch.setattr(runs, "train", fail)
    assert reproduce(["--seeds", "1", "--quiet"]) == 1
    assert "failed: batch size: 16, seed 0: ValueError: too bad\n" in capsys.readouterr().err
    judged = {f["claim"]: f for f in rows(tmp_path / "findings.csv")}
    assert judged["batch size 64 is best"]["here"] == "a run failed"
    assert judged["hidden size 256 is best"]["here"].endswith("one seed")
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
