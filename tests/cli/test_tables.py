"""`fnet train` and `fnet predict` on tables as people have them: a right answer, or one line that says what to do."""

import csv
import importlib.util
import io
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from fnet import MLPConfig, calibration, model, testing
from fnet.cli import scores as cli_scores
from fnet.cli import train

from .conftest import Fnet, interrupting, refused, succeeds

FAST = ["--hidden", "16", "--epochs", "15", "--no-pictures"]
Rows = list[list[Any]]


def write(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def customers(count: int = 300, seed: int = 0) -> Rows:
    """Customers of a shop: those who are old or from the north stay away."""
    chance = random.Random(seed)
    rows: Rows = [["id", "age", "region", "income", "country", "churn"]]
    for i in range(count):
        age, region = chance.randint(18, 80), chance.choice(["north", "south", "east"])
        income = "" if chance.random() < 0.1 else round(chance.gauss(40_000, 9_000), 2)
        rows.append([1000 + i, age, region, income, "NL", "yes" if age > 60 or region == "north" else "no"])
    return rows


def columns(rows: Rows, *names: str) -> Rows:
    """Some columns, in another order."""
    return [[row[rows[0].index(name)] for name in names] for row in rows]


@pytest.fixture
def trained(tmp_path: Path, fnet_command: Fnet) -> Path:
    """The folder of a run on a table of customers."""
    out = tmp_path / "run"
    data = write(tmp_path / "customers.csv", customers())
    succeeds(fnet_command("train", "--data", data, *FAST, "--quiet", "--out", out))
    return out


def scores(out: Path, split: str = "test") -> dict[str, float]:
    return json.loads((out / "metrics.json").read_text())[split]


def predictions(text: str) -> list[str]:
    return [row["prediction"] for row in csv.DictReader(io.StringIO(text, newline=""))]


TRUTH = (
    "300 rows; target 'churn': 2 classes (no 46 %, yes 54 %); 2 numeric, 1 categorical (3 levels), "
    "2 dropped (id: an ID: whole numbers, all distinct; country: constant); 36 missing cells in 1 column"
)


def test_what_the_table_is_taken_for_is_said_and_kept(tmp_path: Path, fnet_command: Fnet) -> None:
    data = write(tmp_path / "customers.csv", customers())
    lines = succeeds(fnet_command("train", "--data", data, *FAST, "--out", tmp_path / "run")).out.splitlines()
    assert lines[0].startswith("customers: 270 training, 30 validation rows; 6 features, 2 classes; ")
    assert lines[1] == TRUTH
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data_summary"] == [TRUTH]
    assert scores(tmp_path / "run", "valid")["accuracy"] > 0.9


def test_columns_are_matched_by_name_in_prediction_and_test(trained: Path, tmp_path: Path, fnet_command: Fnet) -> None:
    rows = customers(200, seed=1)
    new = write(tmp_path / "new.csv", rows)
    other = write(tmp_path / "other.csv", columns(rows, "income", "churn", "region", "id", "age"))
    expected = succeeds_with(fnet_command("predict", trained, new), r"column 'churn' is present: accuracy 0.9")
    assert succeeds_with(fnet_command("predict", trained, other), "'churn' is present") == expected
    assert np.mean([a == row[-1] for a, row in zip(predictions(expected), rows[1:], strict=True)]) > 0.9
    out = tmp_path / "again"
    data = tmp_path / "customers.csv"
    succeeds(fnet_command("train", "--data", data, "--test", other, *FAST, "--quiet", "--out", out))
    assert scores(out)["accuracy"] > 0.9


def succeeds_with(result: Any, *notes: str) -> str:
    assert result.code == 0, result.err
    lines = result.err.splitlines()
    assert len(lines) == len(notes)
    assert all(line.startswith("note: ") and note in line for line, note in zip(lines, notes, strict=True))
    return result.out


def test_prediction_says_what_it_ignores_and_what_is_missing(trained: Path, tmp_path: Path, fnet_command: Fnet) -> None:
    rows = columns(customers(20, seed=2), "region", "age", "income")
    more = [[*row, "x", i] for i, row in enumerate(rows)]
    more[0][3:] = ["note", "number"]
    more[1][0], more[2][1] = "west", ""
    succeeds_with(
        fnet_command("predict", trained, write(tmp_path / "more.csv", more)),
        "ignored: 'note', 'number'",
        "column 'region': 1 cell with a category that the training rows do not have",
        "column 'age': 1 missing cell filled with the median",
    )
    fewer = write(tmp_path / "fewer.csv", columns(rows, "region", "income"))
    assert "no column is named 'age', which the model needs" in refused(fnet_command("predict", trained, fewer))
    np.save(tmp_path / "x.npy", np.ones((2, 6)))
    assert "expected a .csv or .tsv with the columns of the training data" in refused(
        fnet_command("predict", trained, tmp_path / "x.npy")
    )


def test_a_target_that_cannot_be_scored_costs_no_prediction(trained: Path, tmp_path: Path, fnet_command: Fnet) -> None:
    rows = customers(3, seed=2)
    rows[2][-1] = "perhaps"
    out = succeeds_with(
        fnet_command("predict", trained, write(tmp_path / "new.csv", rows)),
        "not scored: " + str(tmp_path / "new.csv") + ", line 3, column 'churn': expected one of the classes",
    )
    assert len(predictions(out)) == 3


def test_an_id_is_kept_as_it_is_written(trained: Path, tmp_path: Path, fnet_command: Fnet) -> None:
    rows = columns(customers(3, seed=2), "region", "age", "income", "id")
    rows[0][3], rows[1][3], rows[2][3] = "code", "007", ""
    new = write(tmp_path / "new.csv", rows)
    out = succeeds(fnet_command("predict", trained, new, "--id", "code", "--proba")).out
    table = list(csv.DictReader(io.StringIO(out)))
    assert list(table[0]) == ["code", "prediction", "p(no)", "p(yes)"]
    assert [row["code"] for row in table] == ["007", "", "1002"]
    assert "no column is named 'nr'" in refused(fnet_command("predict", trained, new, "--id", "nr"))


@pytest.mark.parametrize("command", ["predict", "train"])
def test_a_hyphen_is_standard_input(
    command: str, trained: Path, tmp_path: Path, fnet_command: Fnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (tmp_path / "customers.csv").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    if command == "predict":
        out = succeeds_with(fnet_command("predict", trained, "-"), "'churn' is present")
        assert len(predictions(out)) == 300
    else:
        succeeds(fnet_command("train", "--data", "-", *FAST, "--quiet", "--out", tmp_path / "again"))
        assert (tmp_path / "again" / "history.csv").read_bytes() == (trained / "history.csv").read_bytes()


def test_the_model_file_keeps_the_columns(trained: Path, tmp_path: Path, fnet_command: Fnet) -> None:
    classifier = model.load_model(trained / "model.npz")
    assert classifier.target == "churn"
    assert classifier.encoder is not None
    assert [(column.name, column.kind) for column in classifier.encoder.columns] == [
        ("id", "dropped"),
        ("age", "numeric"),
        ("region", "categorical"),
        ("income", "numeric"),
        ("country", "dropped"),
    ]
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    succeeds(fnet_command("export", trained, "--to", "safetensors"))
    new = write(tmp_path / "new.csv", columns(customers(20, seed=1), "region", "income", "age"))
    expected = succeeds(fnet_command("predict", trained, new, "--proba"))
    assert fnet_command("predict", trained / "model.safetensors", new, "--proba") == expected


# What is found out, and what is asked ---------------------------------------------------------------------------------


def numbers(rows: int, label: Callable[[np.ndarray[Any, Any]], Any], width: int = 4) -> Rows:
    x = np.random.default_rng(0).normal(size=(rows, width)).round(4)
    return [[*row.tolist(), label(row)] for row in x]


def units(rows: int) -> Rows:
    """Features of units so different that the small ones count for nothing unless each is scaled."""
    chance = random.Random(0)
    people = [(chance.randint(18, 80), chance.gauss(4e4, 9e3), chance.randint(0, 30)) for _ in range(rows)]
    return [["abc"[i % 3], *person, person[0] + person[2] > 64] for i, person in enumerate(people)]


def sign(row: np.ndarray[Any, Any]) -> str:
    return "up" if row[0] > 0 else "down"


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([[int(row[0] > 0), *range(20, 40)] for row in numbers(60, sign)], [], "specify target="),
        ([["a", "b", "y"], *numbers(40, sign, 2)], ["--target", "z"], "no column is named 'z'"),
        ([["a", "b", "y"], *numbers(40, sign, 2)], ["--drop", "z"], "no column is named 'z'"),
        ([["a", "b", "y"], *numbers(40, sign, 2)], ["--whitening", "0.5"], "use --whitening 1, or --preset tabular"),
        (
            [["a", "b", "y"], *numbers(40, sign, 2)],
            ["--preset", "chen-wu-best"],
            "0.5 (from --preset chen-wu-best) keeps",
        ),
        (
            [["a", "b", "y"], *numbers(40, sign, 2)],
            ["--test", "x.npz"],
            "x.npz is not a .csv or .tsv like the training",
        ),
        (
            [["a", "b", "y"], *numbers(40, sign, 2)],
            ["--folds", "41"],
            "--folds must be from 2 to the number of rows, 40",
        ),
        ([["a", "b", "y"], *numbers(40, lambda _: "same", 2)], [], "expected at least 2 classes"),
        ([["a", "b", "y"], *numbers(40, lambda row: "x" * 1001 + sign(row), 2)], [], "more than 1000 characters"),
    ],
)
def test_what_cannot_be_right_is_one_line(
    rows: Rows, options: list[str], message: str, tmp_path: Path, fnet_command: Fnet
) -> None:
    data = write(tmp_path / "data.csv", rows)
    error = refused(fnet_command("train", "--data", data, *FAST, *options, "--out", tmp_path / "run"))
    assert message in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        pytest.param([[0, 1, 2, 3, "label"], *numbers(200, sign)], [], id="a header of numbers"),
        pytest.param(numbers(200, sign), [], id="no header"),
        pytest.param(sorted(numbers(200, sign), key=lambda row: row[-1]), [], id="sorted by class"),
        pytest.param(
            [[row[-1], *(1_700_000_000_000 + round(100_000 * x) for x in row[:-1])] for row in numbers(200, sign)],
            ["--target", "1"],
            id="milliseconds, and the label first",
        ),
        pytest.param([[i, *row] for i, row in enumerate(numbers(200, sign))], [], id="an index"),
        pytest.param(
            [["name", "age", "income", "years", "stays"], *units(300)],
            ["--drop", "name"],
            id="different units, and --drop",
        ),
        pytest.param(
            [["code", "y"], *([i % 7, "ab"[i % 7 in (1, 4, 6)]] for i in range(200))],
            ["--categorical", "code"],
            id="codes",
        ),
        pytest.param(
            [["id", "y"], *([i, "ab"[i > 100]] for i in range(200))], ["--keep", "id"], id="an ID that is none"
        ),
    ],
)
def test_what_can_be_right_is(rows: Rows, options: list[str], tmp_path: Path, fnet_command: Fnet) -> None:
    data = write(tmp_path / "data.csv", rows)
    command = ["train", "--data", data, *FAST, "--epochs", "40", "--valid-size", "0.25", "--batch-size", "16"]
    succeeds(fnet_command(*command, *options, "--quiet", "--out", tmp_path / "run"))
    assert scores(tmp_path / "run", "valid")["accuracy"] > 0.9


@pytest.mark.skipif(not importlib.util.find_spec("palmerpenguins"), reason="palmerpenguins is not installed")
def test_penguins_need_no_option(tmp_path: Path, fnet_command: Fnet) -> None:
    spec = importlib.util.find_spec("palmerpenguins")
    assert spec is not None and spec.origin is not None  # noqa: PT018
    data = Path(spec.origin).parent / "data" / "penguins.csv"
    out = succeeds(fnet_command("train", "--data", data, "--no-pictures", "--out", tmp_path / "run")).out
    assert "column 'species' is named like a target and is used as the target" in out.splitlines()
    assert "19 missing cells in 5 columns" in out
    assert scores(tmp_path / "run", "valid")["accuracy"] > 0.95


def test_a_column_named_best_is_kept_and_so_is_the_best_epoch(tmp_path: Path, fnet_command: Fnet) -> None:
    header, *rows = customers(60)
    data = write(tmp_path / "data.csv", [["best", *header[1:]], *rows])
    options = ["--keep", "best", "--keep", "country", "--keep-best", "--quiet", "--out", tmp_path / "run"]
    succeeds(fnet_command("train", "--data", data, *FAST, *options))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["training"]["keep"] == "best"
    assert "dropped" not in config["data_summary"][0]


def test_a_class_that_is_too_rare_is_named(tmp_path: Path, fnet_command: Fnet) -> None:
    rows = numbers(60, sign)
    rows[7][-1] = "rare"
    data = write(tmp_path / "data.csv", rows)
    out = succeeds(fnet_command("train", "--data", data, *FAST, "--out", tmp_path / "run")).out
    assert out.splitlines()[2] == "classes too rare for a validation row (--valid-size): 'rare'"


def test_few_rows_are_trained_on(tmp_path: Path, fnet_command: Fnet) -> None:
    data = write(tmp_path / "data.csv", numbers(4, lambda row: "ab"[int(row[1] > 0)]))
    succeeds(fnet_command("train", "--data", data, *FAST, "--quiet", "--out", tmp_path / "run"))
    options = ["--valid-size", "3", "--overwrite", "--out", tmp_path / "run"]
    error = refused(fnet_command("train", "--data", data, *FAST, *options))
    assert "leaves fewer than 2 for training; try --valid-size 0" in error


def test_a_loss_of_nothing_has_no_sign() -> None:
    """As "valid loss -0.0000" had."""
    certain = cli_scores.score(MLPConfig((2, 2)), np.eye(2, dtype=np.float32), np.array([0, 1]))
    assert cli_scores.said(MLPConfig((2, 2)), certain, "") == ["loss 0.0000", "accuracy 1.0000"]


# Folds ----------------------------------------------------------------------------------------------------------------


def test_folds_judge_each_row_by_a_network_that_has_not_seen_it(
    tmp_path: Path, fnet_command: Fnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = Mock(return_value=1.5)
    monkeypatch.setattr(calibration, "safe_temperature", fit)
    rows = numbers(90, sign)
    for row in rows[::6]:
        row[-1] = "up" if row[-1] == "down" else "down"  # which only a network that has seen the row can know
    data, out = write(tmp_path / "data.csv", rows), tmp_path / "run"
    options = ["--folds", "3", "--hidden", "64", "--dropout", "0", "--epochs", "100", "--no-pictures"]
    with testing.check_key_reuse():
        printed = succeeds(fnet_command("train", "--data", data, *options, "--out", out)).out
    valid = scores(out, "valid")
    p = valid["accuracy"]
    assert valid["accuracy_standard_error"] == pytest.approx(np.sqrt(p * (1 - p) / 89))
    error = f"accuracy {p:.4f} ± {valid['accuracy_standard_error']:.4f}\n"
    assert error in printed
    assert "valid data, rows predicted by the network that did not see them" in printed
    with (out / "predictions.csv").open() as file:
        table = list(csv.DictReader(file))
    right = [row["label"] == row["prediction"] for row in table]
    assert np.mean(right) == pytest.approx(p)
    assert np.mean(right[::6]) < 0.4, "the network that judges a row has not seen it"
    classifier = model.load_model(out / "model.npz")
    assert len(classifier.members) == 3
    assert classifier.temperature == 1.5
    logits, labels = fit.call_args_list[0].args
    assert np.mean(logits.argmax(axis=1) == labels) == pytest.approx(p), "fitted on the same predictions"


def test_folds_go_on_where_they_were_interrupted(
    tmp_path: Path, fnet_command: Fnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from .test_train import exact

    command = ["train", "--folds", "2", "--hidden", "8", "--epochs", "4", "--no-pictures", "--quiet"]
    succeeds(fnet_command(*command, "--out", tmp_path / "whole"))
    moments = random.Random(1)
    monkeypatch.setattr(train, "interruptible", interrupting(lambda: moments.randrange(60)))
    stops = 0
    while fnet_command(*command, "--out", tmp_path / "parts", "--resume").code == 130:
        stops += 1
    assert stops > 1
    assert exact(tmp_path / "parts") == exact(tmp_path / "whole")


def test_folds_and_ensembles_are_one_or_the_other(tmp_path: Path, fnet_command: Fnet) -> None:
    for words in (["--ensemble", "2"], ["--preset", "chen-wu-large", "--ensemble=3"]):
        assert "omit --ensemble" in refused(fnet_command("train", "--folds", "2", *words, "--out", tmp_path / "run"))


@pytest.mark.parametrize(
    ("words", "networks"), [([], (3, None)), (["--ensemble", "1"], (1, None)), (["--folds", "5"], (1, 5))]
)
def test_the_ensemble_of_a_preset_can_be_overruled(words: list[str], networks: tuple[int, int | None]) -> None:
    args = train.parse_args(["--preset", "chen-wu-large", *words])
    assert (args.ensemble, args.folds) == networks
