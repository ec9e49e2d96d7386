"""scripts/train.py and scripts/predict.py, as a user runs them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import train

import fnet
from fnet import checkpoint, model

SCRIPTS = Path(__file__).parents[2] / "scripts"
SMALL = ["--hidden", "16", "--epochs", "3", "--quiet", "--no-pictures"]
FILES = {"config.json", "history.csv", "metrics.json", "report.txt", "predictions.csv", "model.npz"}
# What must be the same bytes when a run is repeated or resumed; in metrics.json all but the times.
EXACT = ("model.npz", "history.csv", "predictions.csv", "report.txt")


def run(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def results(out: Path) -> dict[str, object]:
    metrics = json.loads((out / "metrics.json").read_text())
    del metrics["seconds_per_epoch"]
    return {"metrics": metrics, **{name: (out / name).read_bytes() for name in EXACT}}


def test_a_run_writes_what_it_should(tmp_path: Path) -> None:
    result = run("train.py", "--hidden", "16", "--epochs", "2", "--no-pictures", "--out", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} >= FILES
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["test"]) >= {"loss", "accuracy"}
    assert f"test   loss {metrics['test']['loss']:.4f}" in (tmp_path / "report.txt").read_text()
    history = read_csv(tmp_path / "history.csv")
    assert [row["epoch"] for row in history] == ["1", "2"]
    rows = read_csv(tmp_path / "predictions.csv")
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert right / len(rows) == pytest.approx(metrics["test"]["accuracy"])
    lines = result.stdout.splitlines()
    assert float(lines[1].split()[3]) == pytest.approx(float(history[0]["valid_loss"]), abs=1e-4)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["network"]["sizes"] == [64, 16, 10]
    assert config["versions"]["numpy"] == np.__version__


def test_pictures_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert run("train.py", "--hidden", "4", "--epochs", "1", "--quiet", "--out", tmp_path).returncode == 0
    for name in ("accuracy.png", "loss.png", "confusion_matrix.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert run("train.py", *SMALL, "--seed", seed, "--out", tmp_path / name).stdout == ""
    assert results(tmp_path / "a") == results(tmp_path / "b")
    assert results(tmp_path / "a")["model.npz"] != results(tmp_path / "c")["model.npz"]


@pytest.mark.parametrize(
    "options",
    [
        ["--checkpoint-every", "4", "--mixup", "0.2", "--input-noise", "0.1", "--ema-decay", "0.9"],
        ["--checkpoint-every", "epoch", "--optimizer", "sgd", "--learning-rate", "0.01", "--schedule", "onecycle"],
        ["--checkpoint-every", "7", "--patience", "2", "--keep", "best", "--ensemble", "2"],
    ],
)
def test_a_run_that_is_interrupted_goes_on_to_the_same_bytes(options: list[str], tmp_path: Path) -> None:
    common = ["--hidden", "16", "16", "--epochs", "8", "--no-pictures", *options]
    assert run("train.py", *common, "--quiet", "--out", tmp_path / "whole").returncode == 0
    command = [sys.executable, str(SCRIPTS / "train.py"), *common, "--out", str(tmp_path / "parts"), "--resume"]
    stops = 0
    while True:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()  # the head of the table: training begins
        if stops < 3:
            time.sleep(0.01 * stops)
            process.send_signal((signal.SIGINT, signal.SIGTERM)[stops % 2])
        _, errors = process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode == 130, errors
        assert "to go on: python" in errors
        assert "--resume" in errors
        stops += 1
    assert stops
    assert results(tmp_path / "parts") == results(tmp_path / "whole")


def test_ctrl_c_while_it_loads_is_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "make_job", Mock(side_effect=KeyboardInterrupt))
    assert train.main(["--out", str(tmp_path)]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def stopped_run(out: Path, *options: str) -> None:
    """A run with checkpoints that did not come to its end."""
    assert run("train.py", *SMALL, "--checkpoint-every", "3", *options, "--out", out).returncode == 0
    (out / "metrics.json").unlink()


def test_two_checkpoints_are_kept_and_a_damaged_one_is_skipped(tmp_path: Path) -> None:
    stopped_run(tmp_path)
    expected = (tmp_path / "model.npz").read_bytes()
    newest, before = checkpoint.steps(tmp_path / "checkpoints" / "member-0")
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    (tmp_path / "model.npz").unlink()
    result = run("train.py", *SMALL, "--checkpoint-every", "3", "--out", tmp_path, "--resume")
    assert result.returncode == 0
    assert newest.name in result.stderr
    assert before.name not in result.stderr
    assert (tmp_path / "model.npz").read_bytes() == expected


def test_another_job_is_not_resumed_and_an_unfinished_one_not_overwritten(tmp_path: Path) -> None:
    stopped_run(tmp_path)
    for options, difference in (
        (["--learning-rate", "0.002"], "training.learning_rate: 0.0005 in the checkpoint, 0.002 now"),
        (["--calibrate"], "calibrate: False in the checkpoint, True now"),
    ):
        result = run("train.py", *SMALL, *options, "--out", tmp_path, "--resume")
        assert result.returncode == 2
        assert difference in result.stderr
    result = run("train.py", *SMALL, "--out", tmp_path)
    assert result.returncode == 2
    assert "holds an unfinished run: add --resume" in result.stderr
    assert len(checkpoint.steps(tmp_path / "checkpoints" / "member-0")) == 2


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_new_run_in_an_old_folder_leaves_nothing_of_the_old_one(resume: list[str], tmp_path: Path) -> None:
    assert run("train.py", *SMALL, "--out", tmp_path).returncode == 0
    (tmp_path / "accuracy.png").write_bytes(b"of the old run")
    result = run("train.py", *SMALL, "--hidden", "8", "--seed", "3", *resume, "--out", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["network"]["sizes"], config["seed"]) == ([64, 8, 10], 3)
    assert model.load(tmp_path / "model.npz").config.sizes == (64, 8, 10)
    assert not (tmp_path / "accuracy.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "no such file or folder: nowhere"),
        (["--dropout", "1.5"], "dropout is the share that is dropped and must be in [0, 1); got 1.5"),
        (["--hidden", "0"], "sizes must be positive"),
        (["--learning-rate", "-1"], "learning_rate must be a finite number of at least 0"),
        (["--valid-size", "5000"], "leaves one side empty"),
        (["--label", "x"], "--label x names a column of a .csv, but --data is digits"),
        (["--patience", "2", "--valid-size", "0"], "need validation data"),
        (["--out", "/dev/null/here"], "Not a directory"),
    ],
)
def test_errors_are_one_line(options: list[str], message: str, tmp_path: Path) -> None:
    result = run("train.py", *SMALL, *(["--out", str(tmp_path)] if "--out" not in options else []), *options)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    result = run("train.py", *SMALL, "--no-batch-norm", "--learning-rate", "1e30", "--out", tmp_path)
    assert result.returncode == 3
    assert "the training loss is" in result.stderr
    assert "at epoch 1, step" in result.stderr
    assert "smaller learning rate" in result.stderr
    (kept,) = checkpoint.steps(tmp_path / "checkpoints" / "member-0")
    assert checkpoint.load_metadata(kept)["records"] == []


def write_csv(path: Path, rows: int = 60) -> Path:
    x = fnet.random.normal(fnet.random.key(0), (rows, 3))
    names = np.where(x[:, 0] > 0, "yes", "no")
    lines = [",".join([*map(str, row), name]) for row, name in zip(x, names, strict=True)]
    path.write_text("\n".join(["a,b,c,answer", *lines]) + "\n")
    return path


def test_a_csv_with_names_of_classes_comes_out_with_them(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "data.csv")
    options = ["--label", "answer", "--hidden", "8", "--epochs", "30", "--batch-size", "8", "--no-pictures"]
    assert run("train.py", "--data", data, *options, "--quiet", "--out", tmp_path / "run").returncode == 0
    assert "yes" in (tmp_path / "run" / "report.txt").read_text()
    (tmp_path / "new.csv").write_text("a,b,c\n9,0,0\n-9,0,0\n")
    result = run("predict.py", tmp_path / "run" / "model.npz", tmp_path / "new.csv", "--proba")
    assert result.returncode == 0
    table = list(csv.DictReader(result.stdout.splitlines()))
    assert [row["prediction"] for row in table] == ["yes", "no"]
    assert float(table[0]["p(no)"]) + float(table[0]["p(yes)"]) == pytest.approx(1, abs=1e-5)


def test_predictions_are_those_of_the_model(tmp_path: Path) -> None:
    assert run("train.py", *SMALL, "--ensemble", "2", "--calibrate", "--out", tmp_path).returncode == 0
    _, test = fnet.data.digits()
    np.save(tmp_path / "x.npy", test.x)
    out = tmp_path / "p.csv"
    assert run("predict.py", tmp_path / "model.npz", tmp_path / "x.npy", "--out", out).returncode == 0
    predicted = [int(row["prediction"]) for row in read_csv(out)]
    classifier = model.load(tmp_path / "model.npz")
    assert predicted == model.predict(classifier, test.x).tolist()
    assert len(classifier.members) == 2
    assert classifier.temperature != 1
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert np.mean(predicted == test.y) == pytest.approx(metrics["test"]["accuracy"])


def test_test_data_of_another_format_than_the_csv_with_a_label_column(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "data.csv")
    dataset, _ = fnet.data.load(data, label="answer")
    np.savez(tmp_path / "test.npz", x=dataset.x, y=np.array(dataset.classes)[dataset.y])
    options = ["--label", "answer", "--test", tmp_path / "test.npz", "--hidden", "8", "--epochs", "1", "--quiet"]
    result = run("train.py", "--data", data, *options, "--no-pictures", "--out", tmp_path / "run")
    assert (result.returncode, result.stderr) == (0, "")
    assert len(read_csv(tmp_path / "run" / "predictions.csv")) == len(dataset.y)


def test_test_data_of_other_classes_are_refused_by_name(tmp_path: Path) -> None:
    data, test = write_csv(tmp_path / "data.csv"), tmp_path / "test.csv"
    test.write_text("1,2,3,perhaps\n1,2,3,yes\n")
    result = run("train.py", *SMALL, "--data", data, "--test", test, "--out", tmp_path / "run")
    assert result.returncode == 2
    assert result.stderr == f"error: {test}: labels ['perhaps'] are none of the classes ['no', 'yes']\n"


def test_sorted_data_are_refused_by_the_names_of_the_classes(tmp_path: Path) -> None:
    (tmp_path / "sorted.csv").write_text("".join(f"{i},{'abc'[i // 20]}\n" for i in range(60)))
    result = run("train.py", *SMALL, "--data", tmp_path / "sorted.csv", "--valid-size", "20", "--out", tmp_path)
    assert result.returncode == 2
    assert "all examples of the classes ['c'] are among the last 20 rows" in result.stderr


@pytest.mark.parametrize("preset", ["report", "large"])
def test_calibration_without_validation_data_is_refused(preset: str, tmp_path: Path) -> None:
    result = run("train.py", *SMALL, "--preset", preset, "--calibrate", "--valid-size", "0", "--out", tmp_path / "run")
    assert result.returncode == 2
    assert "error: --calibrate needs validation data" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("valid_size", ["0", "0.1"])
def test_a_preset_that_calibrates_says_so_where_it_cannot(valid_size: str, tmp_path: Path) -> None:
    options = ["--hidden", "8", "--epochs", "2", "--no-pictures", "--valid-size", valid_size]
    result = run("train.py", "--preset", "large", *options, "--out", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    said = "no temperature is fitted, since there are no validation data" in result.stdout.splitlines()
    assert said == (valid_size == "0")
    assert (model.load(tmp_path / "model.npz").temperature == 1) == said


@pytest.mark.parametrize(
    ("content", "message"),
    [("1,2\n", "expected 64 features a row, but got [1, 2]"), ("", "is empty"), ("a,b\n1,x\n", "expected a number")],
)
def test_predict_errors_are_one_line(content: str, message: str, tmp_path: Path) -> None:
    assert run("train.py", *SMALL, "--out", tmp_path).returncode == 0
    (tmp_path / "new.csv").write_text(content)
    result = run("predict.py", tmp_path / "model.npz", tmp_path / "new.csv")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr


def test_threads_are_set_in_one_place() -> None:
    def threads(*arguments: str, **environment: str) -> str:
        code = (
            "import sys; sys.path.insert(0, sys.argv.pop(1)); import _threads, os; print(os.environ['OMP_NUM_THREADS'])"
        )
        env = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")} | environment
        command = [sys.executable, "-c", code, str(SCRIPTS), *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()

    assert threads() == "1"
    assert threads(OMP_NUM_THREADS="3") == "3"
    assert threads("--threads", "2", OMP_NUM_THREADS="3") == "2"
    assert threads("--thr=2", "--test", "x", OMP_NUM_THREADS="3") == "2", "argparse takes abbreviations"


@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_a_bad_number_of_threads_is_an_error(number: str, tmp_path: Path) -> None:
    result = run("train.py", *SMALL, "--threads", number, "--out", tmp_path)
    assert result.returncode == 2
    assert f"argument --threads: expected a number of at least 1, but got '{number}'" in result.stderr


PROGRAMS = {path.stem for path in SCRIPTS.glob("[a-z]*.py")} - {"export", "inspect_model"}  # which compute nothing


@pytest.mark.parametrize("script", sorted(PROGRAMS | {"_bench_workers"}))
def test_threads_are_set_before_numpy_is_imported(script: str) -> None:
    code = f"""
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            print("OPENBLAS_NUM_THREADS =", os.environ.get("OPENBLAS_NUM_THREADS"))

sys.meta_path.insert(0, Watch())
sys.path.insert(0, {str(SCRIPTS)!r})
sys.argv = ["{script}.py"]
try:
    import {script}
except ImportError:
    print("something is not installed")
"""
    env = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "OPENBLAS_NUM_THREADS = None" not in result.stdout
