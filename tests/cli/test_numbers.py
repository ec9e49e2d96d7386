"""The command on numbers as targets: training, prediction, export and sweep, all in the user's unit."""

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import library

from fnet import metrics, model, testing
from fnet.cli import train

from .conftest import Fnet, interrupting, refused, succeeds
from .test_train import exact

FAST = ["--hidden", "16", "--epochs", "30", "--learning-rate", "0.02", "--no-pictures"]
TARGET = "price [EUR]"


def houses(path: Path, rows: int = 300, seed: int = 0, *, target: bool = True) -> Path:
    """Houses whose price depends on their area and town, with noise."""
    chance = random.Random(seed)
    with path.open("w", newline="") as file:
        write = csv.writer(file).writerow
        write(["area (m2)", "town", *([TARGET] if target else []), "note"])
        for _ in range(rows):
            area, town = chance.uniform(50, 250), chance.choice(["A", "B"])
            price = 2000 * area * (1.5 if town == "A" else 1) * chance.uniform(0.8, 1.2)
            write([f"{area:.1f}", town, *([f"{price:.2f}"] if target else []), "x"])
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return houses(tmp_path / "houses.csv")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def column(rows: list[dict[str, str]], name: str) -> Any:
    return np.array([float(row[name]) for row in rows])


def results(out: Path) -> Any:
    return json.loads((out / "metrics.json").read_text())


# A run ----------------------------------------------------------------------------------------------------------------


def test_a_run_on_numbers_says_so_and_has_scores_in_their_unit(data: Path, tmp_path: Path, fnet_command: Fnet) -> None:
    out, test = tmp_path / "run", houses(tmp_path / "test.csv", 100, seed=1)
    with testing.check_key_reuse():
        options = ["--data", data, "--target", TARGET, "--test", test, "--out", out]
        lines = succeeds(fnet_command("train", *options, *FAST)).out.splitlines()
    assert lines[0].startswith(
        "houses: 270 training, 30 validation, 100 test rows; 3 features, regression of 1 target; "
    )
    assert lines[1].startswith("300 rows; target 'price [EUR]': numbers from 97530.1 to 850840 (median 340852); ")
    assert " ".join(lines[2].split()) == "epoch train loss rmse valid loss rmse learning rate seconds"
    rows, scores = read(out / "predictions.csv"), results(out)["test"]
    assert list(rows[0]) == ["row", "target", "prediction"]
    y, p = column(rows, "target"), column(rows, "prediction")
    np.testing.assert_array_equal(y, column(read(test), TARGET))
    assert scores["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, p))
    assert scores["mae"] == pytest.approx(metrics.mean_absolute_error(y, p))
    assert scores["r2"] == pytest.approx(metrics.r2_score(y, p))
    assert scores["r2"] > 0.7
    assert scores["mae_standard_error"] == pytest.approx(np.abs(y - p).std(ddof=1) / 10)
    means = [
        metrics.root_mean_squared_error(y[part], p[part])
        for part in np.random.default_rng(0).integers(100, size=(500, 100))
    ]
    assert scores["rmse_standard_error"] == pytest.approx(np.std(means), rel=0.2), "as the bootstrap says"
    report = (out / "report.txt").read_text()
    said = f"RMSE {scores['rmse']:.5g} EUR   MAE {scores['mae']:.5g} EUR   R² {scores['r2']:.4f}"
    assert f"test   {said}\n" in report
    assert f"{TARGET:<12}{scores['rmse']:>18.5g}{scores['mae']:>18.5g}{scores['r2']:>18.4f}" in report
    last = read(out / "history.csv")[-1]
    assert float(last["valid_rmse"]) == pytest.approx(results(out)["valid"]["rmse"], rel=1e-4)


def test_pictures_of_numbers(data: Path, tmp_path: Path, fnet_command: Fnet) -> None:
    library("matplotlib")
    options = ["--data", data, "--target", TARGET, *FAST[:-1], "--quiet"]
    succeeds(fnet_command("train", *options, "--out", tmp_path / "run"))
    pictures = {"rmse", "loss", "predicted_against_true", "residuals"}
    assert {path.stem for path in (tmp_path / "run").glob("*.png")} == pictures
    options += ["--quantiles", "0.1", "0.9", "--overwrite"]
    succeeds(fnet_command("train", *options, "--out", tmp_path / "run"))
    assert {path.stem for path in (tmp_path / "run").glob("*.png")} == pictures - {"rmse"} | {"coverage"}


def test_task_overrules_what_the_target_looks_like(tmp_path: Path, fnet_command: Fnet) -> None:
    rows = ["a,b,y", *(f"{i / 7},{i % 5},{i % 4}" for i in range(80))]
    (tmp_path / "few.csv").write_text("\n".join(rows))
    (tmp_path / "many.csv").write_text("\n".join(["a,y", *(f"{i / 7},{i % 30}" for i in range(80))]))
    for name, as_it_looks, other in (("few", "4 classes", "regress"), ("many", "regression of 1", "classify")):
        options = ["--data", tmp_path / f"{name}.csv", *FAST, "--epochs", "1", "--out", tmp_path / "run", "--overwrite"]
        assert as_it_looks in succeeds(fnet_command("train", *options)).out.splitlines()[0]
        overruled = succeeds(fnet_command("train", *options, "--task", other)).out.splitlines()[0]
        assert ("regression of 1" if other == "regress" else "30 classes") in overruled


def test_folds_judge_each_row_by_a_network_that_has_not_seen_it(data: Path, tmp_path: Path, fnet_command: Fnet) -> None:
    out = tmp_path / "run"
    options = ["--data", data, "--target", TARGET, "--folds", "3", "--hidden", "64", "--epochs", "60", "--out", out]
    printed = succeeds(fnet_command("train", *options, "--no-pictures")).out
    train_scores, valid = results(out)["train"], results(out)["valid"]
    assert f"RMSE {valid['rmse']:.5g} ± {valid['rmse_standard_error']:.5g} EUR" in printed
    assert valid["rmse"] > train_scores["rmse"]
    rows = read(out / "predictions.csv")
    assert metrics.r2_score(column(rows, "target"), column(rows, "prediction")) == pytest.approx(valid["r2"])
    assert len(model.load_model(out / "model.npz").members) == 3


# Quantiles and logarithms ---------------------------------------------------------------------------------------------


def test_quantiles_are_three_columns_that_do_not_cross_and_cover_new_rows(
    data: Path, tmp_path: Path, fnet_command: Fnet
) -> None:
    out, test = tmp_path / "run", houses(tmp_path / "test.csv", 500, seed=1)
    options = ["--data", data, "--target", TARGET, "--valid-size", "0.4", "--quantiles", "0.1", "0.5", "0.9", *FAST]
    printed = succeeds(fnet_command("train", *options, "--test", test, "--out", out)).out
    rows, scores = read(out / "predictions.csv"), results(out)["test"]
    q = np.column_stack([column(rows, f"quantile_{level}") for level in (0.1, 0.5, 0.9)])
    assert (np.diff(q, axis=1) >= 0).all()
    assert scores["coverage"] == pytest.approx(metrics.coverage(column(rows, "target"), q))
    assert scores["pinball_loss"] == pytest.approx(metrics.pinball_loss(column(rows, "target"), q, (0.1, 0.5, 0.9)))
    assert 0.73 < scores["coverage"] < 0.87
    assert f"test   pinball loss {scores['pinball_loss']:.5g} EUR   coverage {scores['coverage']:.4f}" in printed
    assert "quantile 0.5" in printed
    assert "fitted" not in printed
    assert "train_coverage" in read(out / "history.csv")[0]
    config = model.load_model(out / "model.npz").config
    assert (config.quantiles, config.batch_norm, config.dropout) == ((0.1, 0.5, 0.9), False, 0), (
        "noise widens quantiles"
    )
    assert results(out)["valid"]["coverage"] == pytest.approx(0.8, abs=0.02), "fitted on these rows"
    own = tmp_path / "own"
    said = ", on which the quantiles were calibrated: see --test\n"
    assert said in succeeds(fnet_command("train", *options, "--epochs", "1", "--out", own)).out
    assert said in (own / "report.txt").read_text()
    assert (
        f"did not see them{said}"
        in succeeds(fnet_command("train", *options, "--epochs", "1", "--folds", "2", "--overwrite", "--out", own)).out
    )
    assert said not in succeeds(fnet_command("train", *options, "--no-calibrate", "--overwrite", "--out", own)).out
    succeeds(fnet_command("train", *options, "--no-calibrate", "--quiet", "--overwrite", "--out", out))
    assert results(out)["valid"]["coverage"] != pytest.approx(0.8, abs=0.02)
    text = succeeds_with_note(fnet_command("predict", out, test), "coverage 0.")
    assert next(csv.DictReader(io.StringIO(text))).keys() == {"quantile_0.1", "quantile_0.5", "quantile_0.9"}


def succeeds_with_note(result: Any, note: str) -> str:
    assert (result.code, result.err.count("\n")) == (0, 1)
    assert note in result.err
    return result.out


def test_a_logarithm_is_learned_and_undone(data: Path, tmp_path: Path, fnet_command: Fnet) -> None:
    options = ["--data", data, "--target", TARGET, "--log-target", *FAST, "--quiet", "--out", tmp_path / "run"]
    succeeds(fnet_command("train", *options))
    rows = read(tmp_path / "run" / "predictions.csv")
    y, p = column(rows, "target"), column(rows, "prediction")
    assert metrics.r2_score(y, p) > 0.7
    last = read(tmp_path / "run" / "history.csv")[-1]
    assert float(last["valid_rmse_log"]) == pytest.approx(np.sqrt(np.mean(np.log(p / y) ** 2)), rel=1e-4)
    data.write_text(data.read_text().replace("A,", "A,-", 1))
    error = refused(fnet_command("train", *options, "--overwrite"))
    assert "houses.csv, line 5, column 'price [EUR]': --log-target needs positive targets, but got -" in error


# Going on -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ["--loss", "huber", "--huber-delta", "0.5", "--log-target", "--checkpoint-every", "2"],
        ["--quantiles", "0.1", "0.9", "--folds", "2", "--checkpoint-every", "epoch", "--engine", "numpy"],
    ],
)
def test_a_run_that_is_interrupted_goes_on_to_the_same_bytes(
    options: list[str], data: Path, tmp_path: Path, fnet_command: Fnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [
        "train",
        "--data",
        data,
        "--target",
        TARGET,
        "--hidden",
        "8",
        "--epochs",
        "5",
        "--no-pictures",
        "--quiet",
    ]
    succeeds(fnet_command(*command, *options, "--out", tmp_path / "whole"))
    moments = random.Random(1)
    monkeypatch.setattr(train, "interruptible", interrupting(lambda: moments.randrange(20)))
    stops = 0
    while (result := fnet_command(*command, *options, "--out", tmp_path / "parts", "--resume")).code == 130:
        stops += 1
    assert result.code == 0
    assert stops > 1
    assert exact(tmp_path / "parts") == exact(tmp_path / "whole")
    other = ["0.8" if word == "0.9" else word for word in options if word != "--log-target"]
    assert "checkpoint belongs to another run" in refused(
        fnet_command(*command, *other, "--out", tmp_path / "parts", "--resume")
    )


# Arrays ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    y = x @ rng.normal(size=(3, 2)) * [1, 1000] + [5, -3000]
    np.savez(tmp_path / "d.npz", x_train=x[:150], y_train=y[:150], x_test=x[150:], y_test=y[150:])
    np.save(tmp_path / "new.npy", x[150:])
    return tmp_path / "d.npz"


def test_several_targets_of_arrays(arrays: Path, tmp_path: Path, fnet_command: Fnet) -> None:
    out = tmp_path / "run"
    options = [
        "--data",
        arrays,
        "--hidden",
        "64",
        "--epochs",
        "40",
        "--learning-rate",
        "0.01",
        "--dropout",
        "0",
        "--out",
        out,
    ]
    lines = succeeds(fnet_command("train", *options, "--ensemble", "2", "--no-pictures")).out.splitlines()
    assert "regression of 2 targets; 2 networks of " in lines[0]
    assert lines[1].startswith("2 targets: numbers from -")
    rows, scores = read(out / "predictions.csv"), results(out)["test"]
    y, p = (np.column_stack([column(rows, f"{name}_{i}") for i in (1, 2)]) for name in ("target", "prediction"))
    assert scores["r2"] == pytest.approx(metrics.r2_score(y, p))
    assert scores["r2"] > 0.8
    report = (out / "report.txt").read_text().splitlines()
    assert [line.split()[:2] for line in report[3:6]] == [
        ["target", "1"],
        ["target", "2"],
        ["mean", report[5].split()[1]],
    ]
    assert "train_rmse_standardized" in read(out / "history.csv")[0]
    text = succeeds(fnet_command("predict", out, tmp_path / "new.npy")).out
    assert text.splitlines()[0] == "prediction_1,prediction_2"
    np.testing.assert_allclose(np.loadtxt(io.StringIO(text), delimiter=",", skiprows=1), p, rtol=1e-6)


def test_the_last_rows_of_sorted_targets_are_no_validation_data(tmp_path: Path, fnet_command: Fnet) -> None:
    np.savez(tmp_path / "d.npz", x=np.arange(50.0)[:, None], y=np.arange(50) / 7)
    options = ["--data", tmp_path / "d.npz", *FAST, "--quiet", "--out", tmp_path / "run"]
    assert "the rows are sorted by the target, so the last 5 are not typical" in refused(
        fnet_command("train", *options)
    )
    succeeds(fnet_command("train", *options, "--valid-split", "random"))


def test_test_data_have_the_targets_of_training(arrays: Path, tmp_path: Path, fnet_command: Fnet) -> None:
    np.savez(tmp_path / "train.npz", x=np.eye(50)[:, :3] + 0.5, y=np.arange(50) % 7 / 2)
    np.savez(tmp_path / "test.npz", x=np.ones((9, 3)), y=np.arange(9))
    options = ["--data", tmp_path / "train.npz", *FAST, "--quiet", "--out", tmp_path / "run", "--test"]
    succeeds(fnet_command("train", *options, tmp_path / "test.npz"))
    assert column(read(tmp_path / "run" / "predictions.csv"), "target").tolist() == list(range(9))
    np.savez(tmp_path / "test.npz", x=np.ones((9, 3)), y=np.ones((9, 2)) + np.arange(9)[:, None])
    error = refused(fnet_command("train", *options, tmp_path / "test.npz", "--overwrite"))
    assert "test.npz: expected targets [50] as in training, got [9, 2]" in error


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--label-smoothing", "0.1"], "label_smoothing=0.1 is for classification, but the loss is 'squared_error'"),
        (["--class-weight", "balanced"], "class_weight='balanced' is for classification"),
        (["--monitor", "accuracy"], "monitor='accuracy' is for classification"),
        (["--calibrate"], "--calibrate is for classification and quantiles, but the loss is"),
        (["--loss", "pinball"], "--loss pinball needs --quantiles, such as --quantiles 0.1 0.5 0.9"),
        (["--loss", "huber", "--quantiles", "0.5"], 'quantiles apply only to loss="pinball"'),
        (["--huber-delta", "2"], 'huber_delta applies only to loss="huber"'),
        (["--quantiles", "0.9", "0.1"], "quantiles must be 2 increasing numbers in (0, 1)"),
        (["--quantiles", "90"], "quantiles must be 1 increasing numbers in (0, 1)"),
        (["--loss", "cross_entropy"], "invalid choice: 'cross_entropy'"),
        (["--task", "classify"], "distinct values in 300 rows, too many for classes"),
        (["--target", "town", "--loss", "huber"], "--loss is for regression, but the target is classes"),
        (["--target", "town", "--quantiles", "0.5"], "--quantiles is for regression, but the target is classes"),
        (["--target", "town", "--huber-delta", "2"], "--huber-delta is for regression, but the target is classes"),
        (["--target", "town", "--log-target"], "--log-target is for regression, but the target is classes"),
        (["--target", "town", "--task", "regress"], "the target 'town' is text, such as"),
    ],
)
def test_what_has_no_meaning_is_one_line(
    options: list[str], message: str, data: Path, tmp_path: Path, fnet_command: Fnet
) -> None:
    command = ["train", "--data", data, "--target", TARGET, *FAST, "--out", tmp_path / "run"]
    assert message in refused(fnet_command(*command, *options))
    assert not (tmp_path / "run").exists()


def test_arrays_that_have_no_meaning_are_one_line(arrays: Path, tmp_path: Path, fnet_command: Fnet) -> None:
    command = ["train", *FAST, "--out", tmp_path / "run"]
    for options, message in (
        (["--data", arrays, "--quantiles", "0.5"], "--quantiles needs a single target, but there are 2"),
        (["--data", arrays, "--log-target"], "d.npz, row 79: --log-target needs positive targets, but got -"),
        (["--data", arrays, "--task", "classify"], "labels must be integers or strings [rows]"),
        (
            ["--data", "digits", "--task", "regress"],
            "--task regress needs numeric targets, but --data digits",
        ),
    ):
        assert message in refused(fnet_command(*command, *options))


# Other commands -------------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(data: Path, tmp_path: Path, fnet_command: Fnet) -> Path:
    out = tmp_path / "run"
    succeeds(fnet_command("train", "--data", data, "--target", TARGET, *FAST, "--quiet", "--out", out))
    return out


def test_predict_scores_where_the_target_is_known(trained: Path, tmp_path: Path, fnet_command: Fnet) -> None:
    known, unknown = houses(tmp_path / "a.csv", 50, 3), houses(tmp_path / "b.csv", 50, 3, target=False)
    text = succeeds_with_note(fnet_command("predict", trained, known), "column 'price [EUR]' is present: R² 0.")
    y, p = column(read(known), TARGET), column(list(csv.DictReader(io.StringIO(text))), "prediction")
    assert metrics.r2_score(y, p) > 0.7
    assert succeeds(fnet_command("predict", trained, unknown)).out == text
    with_id = succeeds(fnet_command("predict", trained, unknown, "--id", "note")).out
    assert with_id.splitlines()[:2] == ["note,prediction", f"x,{p[0]:.10g}"]
    for cell, note in (("", "it is missing (in 1 of 50 rows)"), ("cheap", "expected a number, but got 'cheap'")):
        lines = known.read_text().splitlines()
        broken = tmp_path / "broken.csv"
        broken.write_text("\n".join([*lines[:2], ",".join([*lines[2].split(",")[:2], cell, "x"]), *lines[3:]]))
        assert succeeds_with_note(fnet_command("predict", trained, broken), f"not scored: {broken}, line 3, ") == text
        assert note in fnet_command("predict", trained, broken).err
    assert "the model is a regression" in refused(fnet_command("predict", trained, known, "--proba"))


def test_inspect_says_what_is_predicted(trained: Path, fnet_command: Fnet) -> None:
    lines = succeeds(fnet_command("inspect", trained)).out.splitlines()
    scale = model.load_model(trained / "model.npz").scale
    assert scale is not None
    assert lines[1] == f"numbers     target 'price [EUR]', standardized by {scale.mean[0]:.6g} ± {scale.std[0]:.6g}"
    assert lines[2] == "loss        squared_error"
    assert not any(line.startswith(("classes", "temperature")) for line in lines)


def test_exports_give_the_numbers_of_predict(trained: Path, tmp_path: Path, fnet_command: Fnet) -> None:
    runtime, _ = library("onnxruntime"), library("onnx")
    x = np.column_stack([np.linspace(50, 250, 20), np.tile([0.0, 1.0], 10), np.tile([1.0, 0.0], 10)])
    expected = model.predict(model.load_model(trained / "model.npz"), x.astype(np.float32))
    succeeds(fnet_command("export", trained, "--to", "onnx"))
    session = runtime.InferenceSession(str(trained / "model.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"features": x.astype(np.float32)})[0], expected, rtol=1e-5)
    library("safetensors")
    succeeds(fnet_command("export", trained, "--to", "safetensors"))
    new = houses(tmp_path / "new.csv", 20, 5, target=False)
    assert fnet_command("predict", trained / "model.safetensors", new) == fnet_command("predict", trained, new)


def test_tensorboard_shows_the_rmse_and_pictures(data: Path, tmp_path: Path, fnet_command: Fnet) -> None:
    library("matplotlib")
    library("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = ["--data", data, "--target", TARGET, *FAST, "--quiet", "--tensorboard", tmp_path / "tb"]
    succeeds(fnet_command("train", *options, "--out", tmp_path / "run"))
    reader = EventAccumulator(str(tmp_path / "tb" / "run"))
    reader.Reload()
    curves = {"loss/train", "loss/validation", "rmse/train", "rmse/validation", "learning_rate"}
    assert set(reader.Tags()["scalars"]) == curves
    assert set(reader.Tags()["images"]) == {"predicted_against_true", "residuals"}
    assert reader.Scalars("rmse/validation")[-1].value == pytest.approx(
        results(tmp_path / "run")["valid"]["rmse"], rel=1e-4
    )


@pytest.mark.parametrize(
    ("options", "grid", "score"),
    [([], "loss=squared_error,huber", "rmse"), (["--quantiles", "0.1", "0.9"], "learning_rate=1e-5,1e-2", "coverage")],
)
def test_a_sweep_ranks_numbers(
    options: list[str], grid: str, score: str, data: Path, tmp_path: Path, fnet_command: Fnet
) -> None:
    command = ["sweep", "--data", data, "--target", TARGET, *FAST[:4], "--epochs", "3", *options, "--out", tmp_path]
    out = succeeds(fnet_command(*command, "--grid", grid, "hidden=4,16", "--executor", "serial")).out
    rows = read(tmp_path / "results.csv")[:4]
    by = "loss" if score == "coverage" else score
    assert column(rows, by).tolist() == sorted(column(rows, by))
    assert "calibration_error" not in rows[0]
    assert f"|  | {grid.partition('=')[0]} | hidden | {score} | loss | parameters |" in out
    if score == "rmse":
        assert 1000 < float(rows[0]["rmse"]) < 1_000_000, "in the unit of the target"
        best = (
            out[out.index("fnet train ") :]
            .splitlines()[0]
            .replace(data.name, str(data))
            .replace("'price [EUR]'", "PRICE")
        )
        words = [TARGET if word == "PRICE" else word for word in best.split()[2:]]
        succeeds(fnet_command("train", *words, "--no-pictures", "--quiet", "--out", tmp_path / "best"))
        assert results(tmp_path / "best")["valid"]["rmse"] == pytest.approx(float(rows[0]["rmse"]), rel=1e-4)
