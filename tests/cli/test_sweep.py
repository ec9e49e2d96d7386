"""`fnet sweep`: what it writes, what it refuses, and that it uses no key twice."""

import argparse
import csv
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from fnet import testing
from fnet.cli import options, studies
from fnet.cli import sweep as command
from fnet.sweep import Outcome, Run, runs

from .conftest import Fnet, Result, refused, succeeds

SMALL = ["--executor", "serial", "--engine", "numpy", "--epochs", "1", "--hidden", 8, "--retrain-seeds", 0]


@pytest.fixture
def fnet_sweep(fnet_command: Fnet, tmp_path: Path) -> Fnet:
    """A small sweep in this process, to tmp_path."""

    def run(*arguments: object) -> Result:
        return fnet_command("sweep", *SMALL, "--out", tmp_path, *arguments)

    return run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def args(**changes: Any) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(options.defaults()), "preset": "chen-wu", "engine": "numpy", **changes})


def test_it_ranks_the_combinations_and_trains_the_best_again(fnet_sweep: Fnet, tmp_path: Path) -> None:
    grid = ["--grid", "learning_rate=1e-3,1e-2", "dropout=0,0.3", "--retrain-seeds", 2]
    assert succeeds(fnet_sweep("--quiet", *grid)).out == ""
    results = rows(tmp_path / "results.csv")
    assert [r["rank"] for r in results] == ["1", "2", "3", "4", "", ""]
    ranked = results[:4]
    assert sorted((r["learning_rate"], r["dropout"]) for r in ranked) == [
        ("0.001", "0"),
        ("0.001", "0.3"),
        ("0.01", "0"),
        ("0.01", "0.3"),
    ]
    assert [float(r["accuracy"]) for r in ranked] == sorted((float(r["accuracy"]) for r in ranked), reverse=True)
    best = ranked[0]
    assert best["learning_rate"] == "0.01"
    assert [(r["learning_rate"], r["dropout"], r["seed"]) for r in results[4:]] == [
        ("0.01", best["dropout"], seed) for seed in "01"
    ]
    text = (tmp_path / "table.md").read_text()
    assert f"| 1 | 0.01 | {best['dropout']} | {float(best['accuracy']):.4f} |" in text
    assert "Trained with the seeds 0, 1: accuracy" in text
    assert "Engine numpy; fnet " in text
    assert str(tmp_path) not in text
    assert len(list((tmp_path / "runs").glob("*.json"))) == 5
    assert len(rows(tmp_path / "history.csv")) == len(rows(tmp_path / "timings.csv")) == 6


def test_it_shows_the_plan_each_run_and_the_best(fnet_sweep: Fnet, tmp_path: Path) -> None:
    out = succeeds(fnet_sweep("--grid", "dropout=0,0.3", "--top", 1)).out
    assert out.startswith("2 runs, 2 to do: about ")
    assert re.search(
        r"^\[2/2\] dropout=0.3, seed 0: accuracy 0\.\d{4}, loss \d\.\d{4}, \d\.\d s; about 0:00:00 left$", out, re.M
    )
    assert out.count("\n| 1 | 0") == 1
    assert "\n| 2 | 0" not in out
    assert out.endswith(f"\nResults are in {tmp_path}\n")
    assert succeeds(fnet_sweep("--grid", "dropout=0,0.3")).out.startswith("2 runs, all finished\n")


@pytest.mark.parametrize(
    "extra",
    [
        ["--valid-size", "0.25", "--valid-split", "random", "--class-weight", ",".join(["1"] * 9 + ["2"]), "--seed", 3],
        ["--preset", "chen-wu-best", "--no-batch-norm", "--input-noise", "0", "--keep-best"],
    ],
)
def test_the_command_of_the_best_trains_the_same_network_on_the_same_rows(
    extra: list[Any], fnet_sweep: Fnet, fnet_command: Fnet, tmp_path: Path
) -> None:
    succeeds(fnet_sweep("--quiet", "--grid", "dropout=0.1", "nesterov=true", *extra))
    (line,) = re.findall(r"^    fnet train (.*)$", (tmp_path / "table.md").read_text(), re.M)
    out = tmp_path / "trained"
    succeeds(fnet_command("train", *shlex.split(line), "--out", out, "--quiet", "--no-pictures"))
    (path,) = (tmp_path / "runs").glob("*.json")
    stored = json.loads(path.read_text())
    repeated = json.loads((out / "config.json").read_text())
    for name in ("network", "training", "seed", "engine"):
        assert repeated[name] == stored["run"][name]
    (history,) = rows(out / "history.csv")
    (record,) = stored["outcome"]["records"]
    assert float(history["valid_loss"]) == record[6]


def test_a_table_is_swept_with_its_columns(fnet_sweep: Fnet, tmp_path: Path) -> None:
    table = tmp_path / "iris.csv"
    lines = [f"{i % 7},{'xyz'[i % 3]},{i * i % 11},{'ab'[i * i % 3 == 1]}" for i in range(60)]
    table.write_text("\n".join(["p,q,r,class", *lines]))
    columns = ["--data", table, "--target", "class", "--drop", "q"]
    succeeds(fnet_sweep("--quiet", *columns, "--grid", "activation=relu,silu"))
    text = (tmp_path / "table.md").read_text()
    assert "54 training rows, 6 validation rows, 2 features, 2 classes" in text
    assert "fnet train --preset chen-wu --seed 0 --engine numpy --data iris.csv --target class --drop q " in text
    assert "--whitening 0.5" in refused(fnet_sweep("--quiet", *columns, "--grid", "whitening=0.5"))


def test_of_a_preset_with_an_ensemble_single_networks_are_compared_and_it_says_so(
    fnet_command: Fnet, tmp_path: Path
) -> None:
    command = ["sweep", "--grid", "hidden=4", "--dry-run", "--engine", "numpy", "--out", tmp_path]
    note = "the preset chen-wu-large is an ensemble in fnet train; here each run is one of its networks\n"
    assert note in succeeds(fnet_command(*command, "--preset", "chen-wu-large")).out
    assert "ensemble" not in succeeds(fnet_command(*command, "--preset", "chen-wu-best")).out


def test_toml_and_random(fnet_sweep: Fnet, tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text('dropout = "0..0.5"\nhidden = [4, [8, 4]]\nbatch_norm = false\n')
    words = ["--toml", tmp_path / "space.toml", "--grid", "learning_rate=1e-3..1e-2:log", "--random", 3]
    succeeds(fnet_sweep("--quiet", *words))
    results = rows(tmp_path / "results.csv")
    assert len(results) == 3
    assert {r["hidden"] for r in results} <= {"4", "8x4"}
    assert {r["batch_norm"] for r in results} == {"false"}


@pytest.mark.parametrize("text", ["a = ", "[a]\nb = 1", "a = []", 'a = "2..1"'])
def test_bad_toml_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(text)
    with pytest.raises(ValueError, match=r"space\.toml|a=2\.\.1"):
        command.read_toml(tmp_path / "space.toml")


def test_a_run_that_fails_is_last_in_the_table(
    fnet_sweep: Fnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = runs.train

    def fail(run: Run) -> Outcome:
        if run.config.dropout == 0:
            raise ValueError("too bad")
        return train(run)

    monkeypatch.setattr(runs, "train", fail)
    succeeds(fnet_sweep("--quiet", "--grid", "dropout=0,0.3"))
    first, second = rows(tmp_path / "results.csv")
    assert (first["dropout"], first["error"]) == ("0.3", "")
    assert (second["dropout"], second["accuracy"], second["error"]) == ("0", "", "ValueError: too bad")
    assert fnet_sweep("--quiet", "--grid", "dropout=0").code == 3


def test_table_3_has_648_combinations_and_a_dry_run_trains_none(
    fnet_command: Fnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "SAMPLE", 3)
    out = tmp_path / "out"
    result = succeeds(fnet_command("sweep", "--table3", "--dry-run", "--jobs", 4, "--engine", "numpy", "--out", out))
    assert result.out.startswith("648 runs, 648 to do: about ")
    assert " h on 4 idle cores" in result.out
    assert not out.exists()
    combinations = command.list_combinations(command.parse_args(["--table3"]))
    sgd = [changes for changes in combinations if changes["optimizer"] == "sgd"]
    assert (len(combinations), len(sgd)) == (648, 324)
    assert all(changes["weight_decay"] == 1e-4 and changes["momentum"] == 0.9 for changes in sgd)
    assert all("weight_decay" not in changes for changes in combinations if changes["optimizer"] == "adam")


@pytest.mark.parametrize("extra", [["--random", 1], ["--valid-split", "random"]])
def test_no_key_is_used_twice(extra: list[Any], fnet_sweep: Fnet) -> None:
    """By the search, the plan, and a network with several seeds; different networks of one seed share its key."""
    with testing.check_key_reuse():
        grid = ["--grid", "dropout=0.1", "hidden=4", "input_noise=0.1", "recompute_statistics=true"]
        studies.OptionSource.load.cache_clear()
        succeeds(fnet_sweep(*grid, *extra, "--retrain-seeds", 3))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to try"),
        (["--grid", "droput=3"], "unknown option droput: did you mean dropout?"),
        (["--grid", "seed=3"], "unknown option seed"),
        (["--grid", "data=3"], "unknown option data"),
        (["--grid", "dropout=2"], "dropout=2: dropout is the fraction that is dropped"),
        (["--grid", "dropout=high"], "dropout=high: dropout is the fraction that is dropped"),
        (["--grid", "batch_norm=2"], "batch_norm=2: batch_norm must be one of True, False"),
        (["--grid", "optimizer=lamb"], "optimizer=lamb: optimizer must be one of adam, sgd"),
        (["--grid", "hidden=8x"], "hidden must be a width, or widths"),
        (["--grid", "hidden=2.5"], "hidden must be a width"),
        (["--grid", "hidden=8x4", "layers=2"], "layers=2 must be a number of layers of one width; hidden is 8x4"),
        (["--grid", "layers=-1"], "layers=-1 must be a number of layers"),
        (["--grid", "layers=true"], "layers=true must be a number of layers"),
        (["--grid", "whitening=2"], "whitening must be in [0, 1]"),
        (["--grid", "whitening=all"], "whitening must be a number"),
        (["--grid", "clip_norm=big"], "clip_norm=big: "),
        (["--grid", "dropout=0", "--random", "0"], "--random at least 1"),
        (["--grid", "dropout=0", "--random", "5"], "fewer than 5 distinct combinations"),
        (["--grid", "dropout=0", "--valid-size", "0"], "--valid-size must not be 0"),
        (["--grid", "dropout=0", "--jobs", "0"], "--jobs: expected a number of at least 1"),
        (["--grid", "dropout=0", "--scheduler", "tcp://a:1"], "--scheduler needs --executor dask"),
        (["--grid", "dropout=0", "--test", "x.csv"], "not on test data"),
        (["--grid", "dropout=0", "--threads", "2"], "each run uses one thread"),
        (["--grid", "dropout=0", "--data", "-"], "--data must be a path"),
        (["--grid", "dropout=0", "--data", "nowhere.csv"], "nowhere.csv"),
        (["--toml", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, fnet_sweep: Fnet, tmp_path: Path) -> None:
    assert message in refused(fnet_sweep("--quiet", *words))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("executor", "library"), [("dask", "distributed"), ("mpi", "mpi4py")])
def test_a_missing_library_is_named(
    executor: str, library: str, fnet_sweep: Fnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    error = refused(fnet_sweep("--quiet", "--grid", "dropout=0", "--executor", executor))
    assert f"python -m pip install {library}" in error


def test_hidden_and_layers() -> None:
    def hidden(**changes: Any) -> list[int]:
        return studies.changed(args(), changes).hidden

    assert hidden(hidden=64) == [64, 64, 64]
    assert hidden(hidden=64, layers=2) == [64, 64]
    assert hidden(layers=5) == [256] * 5
    assert hidden(layers=0) == []
    assert hidden(hidden="32x16") == hidden(hidden=(32, 16)) == [32, 16]


def test_options_that_say_the_same_are_the_same_run(tmp_path: Path) -> None:
    def path(**changes: Any) -> Path:
        return studies.make_run(args(), changes, 0).path(tmp_path)

    assert path() == path(hidden=256) == path(layers=3) == path(whitening=1)
    assert len({path(), path(layers=2), path(whitening=0.5), path(epochs=3)}) == 4


def test_another_engine_is_another_run(tmp_path: Path) -> None:
    pytest.importorskip("numba", reason="numba is not installed")
    paths = {studies.make_run(args(engine=engine), {}, 0).path(tmp_path) for engine in ("numpy", "numba")}
    assert len(paths) == 2
