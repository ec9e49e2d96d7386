"""scripts/sweep.py and scripts/reproduce.py: what they write, what they refuse, and what they do not do twice."""

import csv
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import _findings
import _runs
import numpy as np
import pytest
import reproduce
import sweep
import train

import fnet

SMALL = ["--executor", "serial", "--quiet", "--epochs", "1", "--hidden", "8", "--retrain-seeds", "2"]
SOURCE = _runs.Source("digits", None, 0.1, "last")


def run_sweep(out: Path, *options: str) -> int:
    return sweep.main([*SMALL, "--out", str(out), *options])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def options(**changes: Any) -> dict[str, Any]:
    return _runs.describe(SOURCE, _runs.default_options(), changes, 0).options


# scripts/sweep.py -----------------------------------------------------------------------------------------------------


def test_sweep_ranks_and_trains_the_best_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_sweep(tmp_path, "--grid", "learning_rate=1e-3,1e-2", "dropout=0,0.3") == 0
    assert capsys.readouterr() == ("", "")
    results = rows(tmp_path / "results.csv")
    assert [(r["learning_rate"], r["dropout"]) for r in results] == [
        ("0.001", "0"),
        ("0.001", "0.3"),
        ("0.01", "0"),
        ("0.01", "0.3"),
    ]
    best = max(results, key=lambda r: float(r["accuracy"]))
    assert best["rank"] == "1"
    assert best["learning_rate"] == "0.01"
    text = (tmp_path / "table.md").read_text()
    assert f"| 1 | 0.01 | {best['dropout']} | {float(best['accuracy']):.4f} |" in text
    assert "python scripts/train.py --seed 0 --hidden 8 " in text
    assert "Trained with the seeds 0, 1: accuracy" in text
    assert str(tmp_path) not in text
    assert len(list((tmp_path / "runs").glob("*.json"))) == 5
    assert len(rows(tmp_path / "timings.csv")) == 6


def test_the_command_of_the_best_trains_the_same_network_on_the_same_rows(tmp_path: Path) -> None:
    weights = ",".join(["1"] * 9 + ["2"])
    changes = [
        "--valid-size",
        "0.25",
        "--valid-split",
        "random",
        "--class-weight",
        weights,
        "--no-batch-norm",
        "--seed",
        "3",
    ]
    assert run_sweep(tmp_path, "--grid", "dropout=0.1", "--nesterov", "--retrain-seeds", "0", *changes) == 0
    (command,) = re.findall(r"^    python scripts/train\.py (.*)$", (tmp_path / "table.md").read_text(), re.M)
    out = tmp_path / "trained"
    assert train.main([*shlex.split(command), "--out", str(out), "--quiet", "--no-pictures"]) == 0
    (path,) = (tmp_path / "runs").glob("*.json")
    stored = json.loads(path.read_text())
    repeated = json.loads((out / "config.json").read_text())
    assert {name: repeated[name] for name in ("network", "training", "seed")} == {
        name: stored["run"][name] for name in ("network", "training", "seed")
    }
    (history,) = rows(out / "history.csv")
    assert float(history["valid_loss"]) == _runs.records(stored["outcome"])[0].valid_loss


def test_finished_runs_are_not_trained_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_sweep(tmp_path, "--grid", "dropout=0,0.3") == 0
    table = (tmp_path / "table.md").read_bytes()
    trained: list[str] = []
    train = _runs.train

    def count(run: _runs.Run) -> _runs.Outcome:
        trained.append(_runs.text(run.options["dropout"]))
        return train(run)

    monkeypatch.setattr(_runs, "train", count)
    assert run_sweep(tmp_path, "--grid", "dropout=0,0.3") == 0
    assert trained == []
    assert (tmp_path / "table.md").read_bytes() == table
    assert run_sweep(tmp_path, "--grid", "dropout=0,0.3,0.9") == 0
    assert trained == ["0.9"]
    assert run_sweep(tmp_path, "--grid", "dropout=0", "--valid-size", "0.2", "--retrain-seeds", "0") == 0
    assert trained == ["0.9", "0"], "other data are another run"
    damaged = sorted((tmp_path / "runs").glob("*.json"))[:2]
    damaged[0].write_bytes(damaged[0].read_bytes()[:-9])
    damaged[1].write_text(damaged[1].read_text().replace('"accuracy": 0.', '"accuracy": 0.9'))
    assert run_sweep(tmp_path, "--grid", "dropout=0,0.3,0.9") == 0
    assert run_sweep(tmp_path, "--grid", "dropout=0", "--valid-size", "0.2", "--retrain-seeds", "0") == 0
    assert len(trained) == 4
    errors = capsys.readouterr().err
    assert all(f"{path} is damaged" in errors for path in damaged)


def test_what_a_run_keeps_is_enough_to_show_it_later(tmp_path: Path) -> None:
    assert run_sweep(tmp_path, "--grid", "dropout=0", "--epochs", "2", "--retrain-seeds", "0") == 0
    (path,) = (tmp_path / "runs").glob("*.json")
    stored = json.loads(path.read_text())
    records = _runs.records(stored["outcome"])
    assert [record.epoch for record in records] == [1, 2]
    assert records[-1].valid_accuracy == stored["outcome"]["accuracy"]
    assert np.sum(stored["outcome"]["confusion_matrix"]) == 144
    assert stored["run"]["training"]["epochs"] == 2
    assert stored["run"]["seed"] == 0


def test_toml_and_random(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text('dropout = "0..0.5"\nhidden = [4, [8, 4]]\nbatch_norm = false\n')
    args = ["--toml", str(tmp_path / "space.toml"), "--grid", "learning_rate=1e-3..1e-2:log", "--random", "3"]
    assert run_sweep(tmp_path, *args, "--retrain-seeds", "0") == 0
    results = rows(tmp_path / "results.csv")
    assert len(results) == 3
    assert {r["hidden"] for r in results} <= {"4", "8x4"}
    assert {r["batch_norm"] for r in results} == {"false"}


def test_a_run_that_diverges_is_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, config = _runs.train, fnet.MLPConfig(sizes=(2, 2))
    train_state = fnet.init_train_state(fnet.random.key(0), config, fnet.TrainConfig())

    def diverge(run: _runs.Run) -> _runs.Outcome:
        if run.options["dropout"] == 0:
            raise fnet.NonFiniteLossError(float("inf"), 3, 1, train_state)
        return train(run)

    monkeypatch.setattr(_runs, "train", diverge)
    assert run_sweep(tmp_path, "--grid", "dropout=0,0.3") == 0
    first, second = rows(tmp_path / "results.csv")
    assert (first["rank"], first["accuracy"]) == ("2", "")
    assert first["error"].startswith("NonFiniteLossError: ")
    assert second["rank"] == "1"
    assert run_sweep(tmp_path / "all", "--grid", "dropout=0") == 3


def test_dry_run_says_how_long_and_stops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert sweep.main(["--table3", "--dry-run", "--jobs", "4", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("648 runs, 648 to do: about ")
    assert "on 4," in text
    assert "mpiexec" in text
    assert not out.exists()


def test_the_sgd_of_table_3_has_momentum_and_weight_decay() -> None:
    combinations = sweep.list_combinations(sweep.parse_args(["--table3"]))
    sgd = [changes for changes in combinations if changes["optimizer"] == "sgd"]
    assert (len(combinations), len(sgd)) == (648, 324)
    assert all(changes["weight_decay"] == 1e-4 and changes["momentum"] == 0.9 for changes in sgd)
    assert all("weight_decay" not in changes for changes in combinations if changes["optimizer"] == "adam")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to try"),
        (["--grid", "wdith=3"], "there is no option 'wdith'; there are layers, activation, batch_norm"),
        (["--grid", "seed=3"], "there is no option 'seed'"),
        (["--grid", "dropout=2"], "dropout=2: dropout is the share that is dropped"),
        (["--grid", "dropout=high"], "dropout=high: dropout must be a number"),
        (["--grid", "batch_norm=1"], "batch_norm=1: batch_norm must be true or false"),
        (["--grid", "optimizer=lamb"], "optimizer=lamb: optimizer must be one of adam, sgd"),
        (["--grid", "hidden=8x"], "hidden must be a width, or widths"),
        (["--grid", "hidden=2.5"], "sizes must be integers"),
        (["--grid", "hidden=8x4", "layers=2"], "layers=2 needs one width for all"),
        (["--grid", "layers=-1"], "layers must be an integer of at least 0"),
        (["--grid", "power=2"], r"power must be in \[0, 1\]"),
        (["--grid", "clip_norm=big"], "clip_norm=big: "),
        (["--grid", "dropout=0", "--random", "0"], "--random must be at least 1"),
        (["--grid", "dropout=0", "--random", "5"], "too few combinations for 5"),
        (["--grid", "dropout=0", "--valid-size", "0"], "--valid-size must not be 0"),
        (["--grid", "dropout=0", "--jobs", "0"], "--jobs must be at least 1"),
        (["--grid", "dropout=0", "--scheduler", "tcp://a:1"], "--scheduler is for --executor dask"),
        (["--grid", "dropout=0", "--test", "x.csv"], "a sweep looks at no test data"),
        (["--grid", "dropout=0", "--threads", "2"], "each run has one thread"),
        (["--grid", "dropout=0", "--data", "nowhere.csv"], "nowhere.csv"),
        (["--toml", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_bad_input_is_an_error(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sweep(tmp_path, *words) == 2
    error = capsys.readouterr().err
    assert re.match(f"error: .*{message}", error)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("text", ["a = ", "[a]\nb = 1", "a = []", 'a = "2..1"'])
def test_bad_toml_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(text)
    with pytest.raises(ValueError, match=r"space\.toml|a=2\.\.1"):
        sweep.read_toml(tmp_path / "space.toml")


@pytest.mark.parametrize("executor", ["dask", "mpi"])
def test_a_missing_library_names_its_extra(
    executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("distributed", "mpi4py"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run_sweep(tmp_path, "--grid", "dropout=0", "--executor", executor) == 2
    assert f'python -m pip install "fnet[{executor}]"' in capsys.readouterr().err


# What a run is --------------------------------------------------------------------------------------------------------


def test_hidden_and_layers() -> None:
    assert options(hidden=64)["hidden"] == [64, 64, 64]
    assert options(hidden=64, layers=2)["hidden"] == [64, 64]
    assert options(layers=5)["hidden"] == [256] * 5
    assert options(layers=0)["hidden"] == []
    assert options(hidden="32x16")["hidden"] == options(hidden=(32, 16))["hidden"] == [32, 16]


def test_the_name_of_a_run_is_of_all_that_decides_its_outcome() -> None:
    base = _runs.default_options()
    run = _runs.describe(SOURCE, base, {}, 0)
    others = [
        _runs.describe(SOURCE, base, {"layers": 2}, 0),
        _runs.describe(SOURCE, base, {"epochs": 3}, 0),
        _runs.describe(SOURCE, base, {"power": 0.5}, 0),
        _runs.describe(SOURCE, base, {}, 1),
        run._replace(fingerprint="other"),
        run._replace(versions={**run.versions, "fnet": "other"}),
    ]
    names = {_runs.content_hash(_runs.content(other)) for other in (run, *others)}
    assert len(names) == 7
    same = [_runs.describe(SOURCE, base, {"hidden": 256}, 0), _runs.describe(SOURCE, base, {"layers": 3}, 0)]
    assert all(_runs.content(other) == _runs.content(run) for other in same)


def test_a_worker_with_other_data_or_versions_refuses() -> None:
    run = _runs.describe(SOURCE, _runs.default_options(), {}, 0)
    with pytest.raises(RuntimeError, match="digits holds other data for this worker"):
        _runs.train(run._replace(fingerprint="0" * 16))
    with pytest.raises(RuntimeError, match="but the sweep was started with"):
        _runs.train(run._replace(versions={"fnet": "0", "numpy": "0"}))


def test_the_command_in_a_report_has_no_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/a/b/scripts/sweep.py"])
    words = ["--data", "/x/y.csv", "--out=/z", "--jobs", "3", "--data=/x/y", "--quiet", "--grid", "a=1"]
    assert _runs.command(words, ["--out", "--jobs"]) == ("python scripts/sweep.py --data y.csv --data=y --grid a=1")


# scripts/reproduce.py -------------------------------------------------------------------------------------------------


def test_reproduce_writes_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    command = ["--seeds", "2", "--epochs", "1", "--executor", "serial", "--out", str(tmp_path)]
    assert reproduce.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    runs = len(list((tmp_path / "runs").iterdir()))
    assert runs == 34, "the best model occurs in each study, and is trained once"
    assert lines[-2].startswith("[34/34] ablations: neither, seed 1: accuracy ")
    report = (tmp_path / "report.md").read_text()
    assert str(tmp_path) not in report
    assert "--seeds 2 --epochs 1\n" in report
    for picture in tmp_path.glob("*.png"):
        assert f"({picture.name})" in report
        assert picture.stat().st_size < 100_000
    assert len(list(tmp_path.glob("*.png"))) == 9
    for name in ("table_1", "table_2", "table_3"):
        assert (tmp_path / f"{name}.md").read_text() in report
        assert rows(tmp_path / f"{name}.csv")
    findings = rows(tmp_path / "findings.csv")
    assert len(findings) == 16
    assert all(f"| {f['report']} | {f['here']} | **{f['verdict']}** |" in report for f in findings)
    assert len(rows(tmp_path / "runs.csv")) == 2 * 24
    assert len(rows(tmp_path / "history.csv")) == 2 * 24


def test_reproduce_goes_on_without_a_failed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = _runs.train

    def fail(run: _runs.Run) -> _runs.Outcome:
        if run.options["batch_size"] == 16 or not run.options["batch_norm"]:
            raise ValueError("too bad")
        return train(run)

    monkeypatch.setattr(_runs, "train", fail)
    command = ["--seeds", "1", "--epochs", "1", "--executor", "serial", "--quiet", "--out", str(tmp_path)]
    assert reproduce.main(command) == 1
    assert "failed: batch size: 16, seed 0: ValueError: too bad" in capsys.readouterr().err
    findings = {f["report"]: f for f in rows(tmp_path / "findings.csv")}
    assert findings["batch size 64 is best"]["here"] == "a run failed"
    assert findings["hidden size 256 is best"]["here"].endswith("one seed")
    assert "| failed: ValueError: too bad |" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    "words", [["--seeds", "0"], ["--epochs", "0"], ["--data", "nowhere"], ["--test", "x"], ["--valid-size", "0"]]
)
def test_reproduce_refuses(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.main(["--executor", "serial", "--out", str(tmp_path), *words]) == 2
    assert capsys.readouterr().err.startswith("error: ")


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
def test_is_best(scores: list[list[float]], verdict: str) -> None:
    curves = {label: np.array(values)[:, None] for label, values in zip("ab", scores, strict=True)}
    assert _findings.is_best("", "", curves, "b", ("a",)).verdict == verdict
    assert _findings.is_best("", "", curves, "b", ("a", "c")).here == "a run failed"


def test_the_standard_error_is_that_of_paired_differences() -> None:
    scores = np.array([[0.1, 0.5, 0.3], [0.3, 0.6, 0.35]])
    differences = scores[1] - scores[0]
    assert _findings.standard_error(scores) == pytest.approx(differences.std(ddof=1) / np.sqrt(3))


@pytest.mark.parametrize(
    ("curve", "expected", "after", "verdict"),
    [
        ([2.0, 1.0, 0.5, 1.0], True, None, "confirmed"),
        ([2.0, 1.0, 0.5, 1.0], True, 4, "confirmed"),
        ([2.0, 1.0, 0.5, 1.0], True, 8, _findings.IN_PART),
        ([2.0, 1.0, 0.5, 1.0], False, None, "not confirmed"),
        ([2.0, 1.0, 0.5, 0.505], False, None, "confirmed"),
        ([2.0, 1.0, 0.5, 0.5], True, None, "not confirmed"),
    ],
)
def test_overfits(curve: list[float], expected: bool, after: int | None, verdict: str) -> None:
    curves = {"a": np.array([curve, [value + 0.01 for value in curve]])}
    assert _findings.overfits("", "", curves, "a", expected=expected, after=after).verdict == verdict


def test_a_rise_within_the_noise_is_undecided() -> None:
    curves = {"a": np.array([[1.0, 0.5, 1.0], [1.0, 0.5, 0.51]])}
    assert _findings.overfits("", "", curves, "a").verdict == "undecided"


def test_slower() -> None:
    fast, slow = np.linspace(0.5, 0.9, 8), np.linspace(0.1, 0.9, 8)
    curves = {"best": np.array([fast, fast + 0.01]), "a": np.array([slow, slow + 0.01])}
    finding = _findings.slower("", "", curves, "a")
    assert (finding.verdict, finding.here) == ("confirmed", "best - a, epochs 1 to 2: +37.14 ± 0.00 %")


@pytest.mark.parametrize(("comparable", "verdict"), [(True, "confirmed"), (False, "other data")])
def test_numbers_are_compared_on_the_report_s_data_alone(comparable: bool, verdict: str) -> None:
    assert _findings.number("", "", np.array([0.58, 0.59]), 0.5862, 0.02, comparable).verdict == verdict
    assert _findings.number("", "", np.array([0.48, 0.49]), 0.5862, 0.02, True).verdict == "not confirmed"
