"""`fnet train`, and `fnet predict` of what it writes."""

import contextlib
import csv
import errno
import json
import random
import signal
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

import fnet
from fnet import calibration, checkpoint, losses, model, plots, testing
from fnet.cli import job, options, results, train
from fnet.cli.data import load_data

from .conftest import Fnet, interrupting, refused, succeeds

SMALL = ["--hidden", "16", "--epochs", "3", "--quiet", "--no-pictures"]
FILES = {"config.json", "history.csv", "metrics.json", "report.txt", "predictions.csv", "model.npz"}
# What must be the same bytes when a run is repeated or resumed; in metrics.json all but the times.
EXACT = ("model.npz", "history.csv", "predictions.csv", "report.txt")


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def exact(out: Path) -> dict[str, object]:
    metrics = json.loads((out / "metrics.json").read_text())
    del metrics["seconds_per_epoch"]
    return {"metrics": metrics, **{name: (out / name).read_bytes() for name in EXACT}}


def test_a_run_writes_what_it_should(tmp_path: Path, fnet_command: Fnet) -> None:
    options = ["--hidden", "16", "--epochs", "2", "--no-pictures", "--out", tmp_path]
    lines = succeeds(fnet_command("train", *options)).out.splitlines()
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"checkpoints"}
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["test"]) == {
        "loss",
        "accuracy",
        "calibration_error",
        "loss_standard_error",
        "accuracy_standard_error",
    }
    assert f"test   loss {metrics['test']['loss']:.4f}" in (tmp_path / "report.txt").read_text()
    history = read_csv(tmp_path / "history.csv")
    assert [row["epoch"] for row in history] == ["1", "2"]
    rows = read_csv(tmp_path / "predictions.csv")
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert right / len(rows) == pytest.approx(metrics["test"]["accuracy"])
    assert lines[0].startswith("digits: 1,293 training, 144 validation, 360 test rows; 64 features, 10 classes; ")
    assert float(lines[2].split()[3]) == pytest.approx(float(history[0]["valid_loss"]), abs=1e-4)
    assert lines[-1] == f"Results are in {tmp_path}"
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["network"]["sizes"] == [64, 16, 10]
    assert config["versions"]["numpy"] == np.__version__
    assert config["command"] == f"fnet train --hidden 16 --epochs 2 --no-pictures --out {tmp_path}"


def test_a_quiet_run_prints_nothing_and_uses_each_key_once(tmp_path: Path, fnet_command: Fnet) -> None:
    with testing.check_key_reuse():
        options = ["--ensemble", "2", "--valid-split", "random", "--input-noise", "0.1", "--out", tmp_path]
        assert succeeds(fnet_command("train", *SMALL, *options)).out == ""


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, fnet_command: Fnet) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        succeeds(fnet_command("train", *SMALL, "--seed", seed, "--out", tmp_path / name))
    assert exact(tmp_path / "a") == exact(tmp_path / "b")
    assert exact(tmp_path / "a")["model.npz"] != exact(tmp_path / "c")["model.npz"]


# Going on -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ["--checkpoint-every", "4", "--input-noise", "0.1"],
        ["--checkpoint-every", "epoch", "--optimizer", "sgd", "--learning-rate", "0.01", "--schedule", "onecycle"],
        ["--checkpoint-every", "7", "--patience", "2", "--keep-best", "--ensemble", "2"],
    ],
)
def test_a_run_that_is_interrupted_goes_on_to_the_same_bytes(
    options: list[str], tmp_path: Path, fnet_command: Fnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["train", "--hidden", "16", "16", "--epochs", "8", "--no-pictures", "--quiet", *options]
    succeeds(fnet_command(*common, "--out", tmp_path / "whole"))
    moments = random.Random(1)
    monkeypatch.setattr(train, "interruptible", interrupting(lambda: moments.randrange(60)))
    stops = 0
    while (result := fnet_command(*common, "--out", tmp_path / "parts", "--resume")).code:
        assert result.code == 130
        assert "; to continue: fnet train --hidden 16 16" in result.err
        assert result.err.endswith("--resume\n")
        stops += 1
    assert stops > 2
    assert exact(tmp_path / "parts") == exact(tmp_path / "whole")


def test_ctrl_c_finishes_the_step_and_saves(
    tmp_path: Path, fnet_command: Fnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "display", lambda *_: lambda record: signal.raise_signal(signal.SIGINT))  # type: ignore[misc]
    result = fnet_command("train", *SMALL, "--out", tmp_path)
    assert result.code == 130
    assert result.err.startswith("interrupted at step ")
    (kept,) = checkpoint.steps(tmp_path / "checkpoints" / "member-0")
    assert len(checkpoint.load_metadata(kept)["records"]) == 1


def test_ctrl_c_while_it_loads_is_no_traceback(
    tmp_path: Path, fnet_command: Fnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "make_job", Mock(side_effect=KeyboardInterrupt))
    assert fnet_command("train", "--out", tmp_path) == (130, "", "interrupted\n")


def stopped_run(fnet_command: Fnet, out: Path, *options: str) -> None:
    """A run with checkpoints that did not come to its end."""
    succeeds(fnet_command("train", *SMALL, "--checkpoint-every", "3", *options, "--out", out))
    (out / "metrics.json").unlink()


def test_two_checkpoints_are_kept_and_a_damaged_one_is_skipped(tmp_path: Path, fnet_command: Fnet) -> None:
    stopped_run(fnet_command, tmp_path)
    expected = (tmp_path / "model.npz").read_bytes()
    newest, before = checkpoint.steps(tmp_path / "checkpoints" / "member-0")
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    (tmp_path / "model.npz").unlink()
    result = fnet_command("train", *SMALL, "--checkpoint-every", "3", "--out", tmp_path, "--resume")
    assert result.code == 0
    assert result.err.startswith("warning: skipping a damaged checkpoint: ")
    assert newest.name in result.err
    assert before.name not in result.err
    assert (tmp_path / "model.npz").read_bytes() == expected


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (["--learning-rate", "0.002"], "training.learning_rate 0.0005 in the checkpoint, 0.002 now"),
        (["--calibrate"], "calibrate False in the checkpoint, True now"),
        (
            ["--epochs", "5", "--seed", "1"],
            "seed 0 in the checkpoint, 1 now; training.epochs 3 in the checkpoint, 5 now",
        ),
    ],
)
def test_another_run_is_not_resumed_and_loses_nothing(
    options: list[str], difference: str, tmp_path: Path, fnet_command: Fnet
) -> None:
    succeeds(fnet_command("train", *SMALL, "--out", tmp_path))
    before = exact(tmp_path)
    assert difference in refused(fnet_command("train", *SMALL, *options, "--out", tmp_path, "--resume"))
    assert exact(tmp_path) == before


def test_a_finished_run_goes_on_to_the_bytes_of_a_longer_one(tmp_path: Path, fnet_command: Fnet) -> None:
    succeeds(fnet_command("train", *SMALL, "--epochs", "5", "--out", tmp_path / "whole"))
    succeeds(fnet_command("train", *SMALL, "--epochs", "2", "--out", tmp_path / "parts"))
    succeeds(fnet_command("train", *SMALL, "--epochs", "5", "--resume", "--out", tmp_path / "parts"))
    assert exact(tmp_path / "parts") == exact(tmp_path / "whole")
    assert json.loads((tmp_path / "parts" / "config.json").read_text())["training"]["epochs"] == 5
    error = refused(fnet_command("train", *SMALL, "--epochs", "4", "--resume", "--out", tmp_path / "parts"))
    assert "has 5 epochs; --epochs must be at least 5" in error
    assert exact(tmp_path / "parts") == exact(tmp_path / "whole")


def test_a_finished_run_with_a_schedule_says_why_it_cannot_go_on(tmp_path: Path, fnet_command: Fnet) -> None:
    options = [*SMALL, "--schedule", "cosine", "--out", tmp_path]
    succeeds(fnet_command("train", *options))
    error = refused(fnet_command("train", *options, "--resume", "--epochs", "5"))
    assert "cannot continue to 5 epochs: the schedule cosine of this run ends after 3; only" in error


def test_a_run_that_has_stopped_early_says_that_more_epochs_change_nothing(tmp_path: Path, fnet_command: Fnet) -> None:
    options = [*SMALL, "--epochs", "30", "--learning-rate", "0.5", "--patience", "1", "--out", tmp_path]
    succeeds(fnet_command("train", *options))
    before = (tmp_path / "history.csv").read_bytes()
    result = fnet_command("train", *options, "--resume", "--epochs", "40")
    assert result.code == 0
    assert "stopped early" in result.err
    assert (tmp_path / "history.csv").read_bytes() == before


# What is refused ------------------------------------------------------------------------------------------------------


def test_a_folder_with_a_run_is_not_overwritten_by_accident(tmp_path: Path, fnet_command: Fnet) -> None:
    stopped_run(fnet_command, tmp_path)
    assert "holds an unfinished run: add --resume" in refused(fnet_command("train", *SMALL, "--out", tmp_path))
    assert len(checkpoint.steps(tmp_path / "checkpoints" / "member-0")) == 2
    succeeds(fnet_command("train", *SMALL, "--checkpoint-every", "3", "--resume", "--out", tmp_path))
    assert "holds a finished run: choose another folder" in refused(fnet_command("train", *SMALL, "--out", tmp_path))
    (tmp_path / "accuracy.png").write_bytes(b"of the old run")
    succeeds(fnet_command("train", *SMALL, "--hidden", "8", "--seed", "3", "--overwrite", "--out", tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["network"]["sizes"], config["seed"]) == ([64, 8, 10], 3)
    assert model.load_model(tmp_path / "model.npz").config.sizes == (64, 8, 10)
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"checkpoints"}


def test_a_new_run_that_is_killed_leaves_nothing_of_the_old_one(
    tmp_path: Path, fnet_command: Fnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeeds(fnet_command("train", *SMALL, "--out", tmp_path))
    monkeypatch.setattr(train, "train_member", Mock(side_effect=KeyboardInterrupt))
    assert fnet_command("train", *SMALL, "--seed", "3", "--overwrite", "--out", tmp_path).code == 130
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["config.json"]
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 3
    assert list(tmp_path.glob("checkpoints/*/*")) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "no such file or folder: nowhere"),
        (["--dropout", "1.5"], "dropout is the fraction that is dropped and must be in [0, 1); got 1.5"),
        (["--hidden", "0"], "sizes must be positive"),
        (["--learning-rate", "-1"], "learning_rate must be a finite number of at least 0"),
        (["--valid-size", "5000"], "leaves one side empty"),
        (["--label", "x"], "--target is for the columns of a table, but --data digits is not a .csv or .tsv"),
        (["--patience", "2", "--valid-size", "0"], "need validation data"),
        (["--out", "/dev/null/here"], "Not a directory"),
    ],
)
def test_errors_are_one_line(options: list[str], message: str, tmp_path: Path, fnet_command: Fnet) -> None:
    assert message in refused(fnet_command("train", *SMALL, "--out", tmp_path / "run", *options))


def test_of_many_classes_that_only_the_last_rows_have_a_few_are_named(tmp_path: Path, fnet_command: Fnet) -> None:
    labels = np.arange(5000).repeat(2)
    np.savez(tmp_path / "sorted.npz", x=labels[:, None], y=labels)
    options = ["--task", "classify", "--data", tmp_path / "sorted.npz", "--out", tmp_path / "run"]
    error = refused(fnet_command("train", *SMALL, *options))
    few = "the classes [4500, 4501, 4502, 4503, 4504] and 495 more are in the last 1000 rows, as in sorted data"
    assert few in error


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(
    tmp_path: Path, fnet_command: Fnet
) -> None:
    result = fnet_command("train", *SMALL, "--no-batch-norm", "--learning-rate", "1e30", "--out", tmp_path)
    assert result.code == 3
    assert result.err.startswith("error: the training loss is")
    assert "at epoch 1, step" in result.err
    assert "smaller learning rate" in result.err
    (kept,) = checkpoint.steps(tmp_path / "checkpoints" / "member-0")
    assert checkpoint.load_metadata(kept)["records"] == []


# Pictures and names ---------------------------------------------------------------------------------------------------


def write_csv(path: Path, names: tuple[str, str]) -> Path:
    x = fnet.random.normal(fnet.random.key(0), (60, 3))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b", "c", "answer"], *([*row, names[int(row[0] > 0)]] for row in x)])
    return path


def test_pictures_are_drawn(tmp_path: Path, fnet_command: Fnet) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    succeeds(fnet_command("train", "--hidden", "4", "--epochs", "1", "--quiet", "--out", tmp_path))
    for name in ("accuracy.png", "loss.png", "confusion_matrix.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("the font is gone"), "warning: a picture could not be drawn: RuntimeError: the font is gone\n"),
        (ImportError("pictures need matplotlib: …"), "note: no pictures: pictures need matplotlib: …\n"),
    ],
)
def test_a_picture_that_fails_costs_nothing_else(
    error: Exception, message: str, tmp_path: Path, fnet_command: Fnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("history", "confusion_matrix"):
        monkeypatch.setattr(plots, name, Mock(side_effect=error))
    result = fnet_command("train", *SMALL[:-1], "--out", tmp_path)
    assert result == (0, "", message)
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"checkpoints"}


def test_an_interruption_while_pictures_are_drawn_costs_no_result(
    tmp_path: Path, fnet_command: Fnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "history", Mock(side_effect=KeyboardInterrupt))
    assert fnet_command("train", *SMALL[:-1], "--out", tmp_path).code == 130
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"checkpoints"}


def test_a_picture_on_a_full_disk_is_not_left_half_written(
    tmp_path: Path, fnet_command: Fnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = pytest.importorskip("matplotlib.figure", reason="matplotlib is not installed")

    def half(self: object, to: Any, **options: object) -> None:
        with to.open("wb") if isinstance(to, Path) else contextlib.nullcontext(to) as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(figure.Figure, "savefig", half)
    result = fnet_command("train", *SMALL[:-1], "--out", tmp_path)
    assert result.code == 0
    assert "warning: a picture could not be drawn: OSError: " in result.err
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"checkpoints"}


def test_hostile_names_of_classes_harm_neither_pictures_nor_files_nor_the_terminal(
    tmp_path: Path, fnet_command: Fnet
) -> None:
    names = ("$^$\x1b[31m", "\r=cmd()\rx")
    data = write_csv(tmp_path / "$_$.csv", names)
    options = ["--hidden", "4", "--epochs", "2", "--batch-size", "8", "--out", tmp_path / "run"]
    code, out, err = fnet_command("train", "--data", data, *options)
    assert code == 0
    assert err.startswith("warning: a spreadsheet evaluates cells such as '\\r=cmd()")
    assert err.count("\n") == 1
    report = (tmp_path / "run" / "report.txt").read_text()
    assert "\x1b" not in out + err + report
    assert "$^$\\x1b[31m" in report
    assert {row["label"] for row in read_csv(tmp_path / "run" / "predictions.csv")} <= set(names)
    assert len(list((tmp_path / "run").glob("*.png"))) == 3


def test_many_classes_have_no_line_each_in_the_terminal(
    tmp_path: Path, fnet_command: Fnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MAX_SHOWN", 9)
    out = succeeds(fnet_command("train", *SMALL[:3], "1", "--no-pictures", "--out", tmp_path)).out
    assert "report.txt lists all 10 classes" in out
    assert "\n3  " not in out
    assert "\nmacro avg" in out
    assert "\n3  " in (tmp_path / "report.txt").read_text()


# Data and predictions -------------------------------------------------------------------------------------------------


def test_the_last_rows_of_a_mapped_file_are_split_off_without_reading_it(tmp_path: Path) -> None:
    train, _ = fnet.data.digits()
    np.save(tmp_path / "train_data.npy", train.x)
    np.save(tmp_path / "train_label.npy", train.y)
    loaded = load_data(options.defaults(data=str(tmp_path), test=None))
    assert loaded.valid is not None
    for dataset in (loaded.train, loaded.valid):
        base: Any = dataset.x
        while isinstance(base.base, np.ndarray):
            base = base.base
        assert isinstance(base, np.memmap)


def test_predictions_are_those_of_the_model(tmp_path: Path, fnet_command: Fnet) -> None:
    succeeds(fnet_command("train", *SMALL, "--ensemble", "2", "--calibrate", "--out", tmp_path))
    _, test = fnet.data.digits()
    np.save(tmp_path / "x.npy", test.x)
    out = tmp_path / "p.csv"
    printed = succeeds(fnet_command("predict", tmp_path / "model.npz", tmp_path / "x.npy", "--out", out)).out
    assert printed == f"360 predictions are in {out}\n"
    predicted = [int(row["prediction"]) for row in read_csv(out)]
    classifier = model.load_model(tmp_path / "model.npz")
    assert predicted == model.predict(classifier, test.x).tolist()
    assert len(classifier.members) == 2
    assert classifier.temperature != 1
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert np.mean(predicted == test.y) == pytest.approx(metrics["test"]["accuracy"])


@pytest.mark.parametrize("networks", ["--ensemble", "--folds"])
def test_rows_that_the_temperature_is_fitted_on_are_judged_by_those_of_other_rows(
    networks: str, tmp_path: Path, fnet_command: Fnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = Mock(side_effect=lambda logits, y: np.linspace(0.5, 3, len(y)))
    monkeypatch.setattr(calibration, "cross_fitted_temperatures", fit)
    succeeds(fnet_command("train", *SMALL, networks, "2", "--calibrate", "--out", tmp_path))
    classifier = model.load_model(tmp_path / "model.npz")
    args = options.defaults(test=None, **({"valid_size": 0} if networks == "--folds" else {}))
    loaded = load_data(args)
    held_out = loaded.valid or loaded.train
    x = fnet.standardize(loaded.standardizer, held_out.x)
    logits = np.stack([fnet.predict_logits(classifier.config, *member, x) for member in classifier.members])
    if networks == "--folds":
        logits = logits[job.assign_folds(held_out.y, 2), np.arange(len(x))][None]
    p = losses.softmax(logits / np.linspace(0.5, 3, len(x))[:, None]).mean(axis=0)
    expected = -np.log(p[np.arange(len(x)), held_out.y]).mean()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["valid"]["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("valid_size", ["0", "0.1"])
def test_a_preset_that_calibrates_says_so_where_it_cannot(valid_size: str, tmp_path: Path, fnet_command: Fnet) -> None:
    options = ["--hidden", "16", "--epochs", "12", "--no-pictures", "--valid-size", valid_size, "--out", tmp_path]
    result = succeeds(fnet_command("train", "--preset", "chen-wu-large", *options))
    said = "the temperature is not calibrated: there are no validation data" in result.out.splitlines()
    assert said == (valid_size == "0")
    assert (model.load_model(tmp_path / "model.npz").temperature == 1) == said


def test_no_calibrate_overrules_a_preset(tmp_path: Path, fnet_command: Fnet) -> None:
    succeeds(fnet_command("train", "--preset", "chen-wu-best", "--no-calibrate", *SMALL, "--out", tmp_path))
    assert model.load_model(tmp_path / "model.npz").temperature == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [("1,2\n", "expected 64 features per row, but got [1, 2]"), ("", "is empty"), ("a,b\n1,x\n", "expected a number")],
)
def test_predict_errors_are_one_line(content: str, message: str, tmp_path: Path, fnet_command: Fnet) -> None:
    succeeds(fnet_command("train", *SMALL, "--out", tmp_path))
    (tmp_path / "new.csv").write_text(content)
    assert message in refused(fnet_command("predict", tmp_path, tmp_path / "new.csv"))


def test_a_folder_without_a_model_is_refused(tmp_path: Path, fnet_command: Fnet) -> None:
    error = refused(fnet_command("predict", tmp_path, "x.csv"))
    assert error == f"error: {tmp_path} has no model.npz: it is not the folder of a finished run\n"
