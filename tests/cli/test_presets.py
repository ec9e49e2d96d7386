"""Presets: what they set, what they leave to the data, and that they say where they do not belong."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fnet
from fnet.cli import presets

from .conftest import Fnet, refused, succeeds

FAST = ["--hidden", "4", "--no-pictures"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """75 rows, of which 67 are trained on: a class and a number to predict."""
    path = tmp_path / "table.csv"
    rows = [f"{i % 7},{i * i % 11 / 7},{'ab'[i % 7 > 3]},{i % 7 + i * i % 11 / 3}" for i in range(75)]
    path.write_text("\n".join(["p,q,kind,size", *rows]))
    return path


def settings(out: Path) -> dict[str, Any]:
    config = json.loads((out / "config.json").read_text())
    return config["network"] | config["training"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("kind", {"batch_norm": True, "dropout": 0.6, "learning_rate": 4e-3, "epochs": 40, "label_smoothing": 0.01}),
        ("size", {"batch_norm": False, "dropout": 0.3, "learning_rate": 3e-3, "epochs": 30, "label_smoothing": 0.0}),
    ],
)
def test_classes_and_numbers_have_settings_of_their_own(
    target: str, expected: dict[str, Any], table: Path, tmp_path: Path, fnet_command: Fnet
) -> None:
    command = ["train", "--data", table, "--target", target, *FAST]
    succeeds(fnet_command(*command, "--out", tmp_path / "run"))
    found = settings(tmp_path / "run")
    assert {name: found[name] for name in expected} == expected
    assert (found["batch_size"], found["activation"], found["weight_decay"]) == (34, "silu", 0.1)
    own = ["--epochs", "2", "--batch-size", "32", "--dropout", "0", "--no-batch-norm"]
    succeeds(fnet_command(*command, *own, "--out", tmp_path / "own"))
    changed = {"epochs": 2, "batch_size": 32, "dropout": 0.0, "batch_norm": False}
    assert {name: settings(tmp_path / "own")[name] for name in expected} == expected | {
        name: value for name, value in changed.items() if name in expected
    }
    assert settings(tmp_path / "own")["batch_size"] == 32


def test_batches_are_even_in_the_rows_that_a_network_of_folds_sees(
    table: Path, tmp_path: Path, fnet_command: Fnet
) -> None:
    command = ["train", "--data", table, "--target", "kind", *FAST, "--epochs", "1", "--out", tmp_path]
    succeeds(fnet_command(*command, "--folds", "3"))
    assert settings(tmp_path)["batch_size"] == 25, "of 50 rows"


def test_no_last_batch_is_small() -> None:
    for rows in range(2, 3000):
        size = presets.even_batches(presets.DataFacts(rows, classes=True))
        *others, last = fnet.data.batch_slices(rows, size)
        assert not others or last.stop - last.start >= 17
        assert 24 <= size <= 40


def test_less_is_dropped_where_there_are_many_rows() -> None:
    for classes in (True, False):
        few, many = (presets.dropout(presets.DataFacts(rows, classes)) for rows in (299, 300))
        assert 0 < many < few < 1


def test_a_sweep_and_the_command_of_its_best_use_the_settings_for_the_data(
    table: Path, tmp_path: Path, fnet_command: Fnet
) -> None:
    out = ["--out", tmp_path / "sweep", "--executor", "serial", "--retrain-seeds", "0", "--quiet"]
    grid = ["--grid", "activation=relu", "--hidden", "4", "--epochs", "1"]
    succeeds(fnet_command("sweep", "--data", table, "--target", "size", "--preset", "tabular", *grid, *out))
    text = (tmp_path / "sweep" / "table.md").read_text()
    assert "--no-batch-norm" in text
    assert "--batch-size 34" in text


def test_the_help_of_a_preset_says_what_the_data_decide(fnet_command: Fnet) -> None:
    text = fnet_command("train", "--preset", "tabular", "--help").out
    assert "of hidden units (0.05 to 0.6)" in text
    assert "rows per step (about 32)" in text


@pytest.mark.parametrize("features", [128, 3])
def test_presets_for_the_data_of_chen_and_wu_say_so_on_others(
    features: int, tmp_path: Path, fnet_command: Fnet
) -> None:
    dataset = fnet.data.synthetic(fnet.random.key(0), 80, features, 10)
    np.savez(tmp_path / "data.npz", x=dataset.x, y=dataset.y)
    command = ["train", "--data", tmp_path / "data.npz", "--preset", "chen-wu-best", *FAST, "--epochs", "1"]
    lines = succeeds(fnet_command(*command, "--out", tmp_path / "run")).out.splitlines()
    note = "the preset chen-wu-best was tuned on Chen & Wu's data; it suits features that have the same unit"
    assert (note in lines) == (features != 128)


@pytest.mark.parametrize(
    ("unit", "constant", "refusal"),
    [
        ([1.0, 1.0, 1.0, 50.0], 0.0, None),
        ([1.0, 1.0, 0.1, 1e-9], 1.0, None),  # as the last principal components
        ([18.0, 9000.0, 34.0, 1.0], 0.0, r"from \S+ over 1\d\.\d+ \(median\) to 9\d+, as if in several units"),
        ([1e-3, 1e-3, 1.0, 1e-4], 1.0, "use --whitening 1, or --preset tabular, or scale the features to one unit"),
    ],
)
def test_partial_whitening_of_arrays_of_different_units_is_refused(
    unit: list[float], constant: float, refusal: str | None, tmp_path: Path, fnet_command: Fnet
) -> None:
    dataset = fnet.data.synthetic(fnet.random.key(0), 80, 4, 3)
    x = np.c_[dataset.x / dataset.x.std(axis=0) * unit, np.full(80, constant)]
    np.savez(tmp_path / "data.npz", x=x, y=dataset.y)
    command = ["train", "--data", tmp_path / "data.npz", *FAST, "--epochs", "1", "--out", tmp_path / "run"]
    result = fnet_command(*command, "--whitening", "0.5")
    if refusal is None:
        succeeds(result)
    else:
        message = refused(result)
        assert re.search(refusal, message)
        assert "--whitening 0.5 keeps" in message
        assert "0.5 (from --preset chen-wu-best) keeps" in refused(fnet_command(*command, "--preset", "chen-wu-best"))
        succeeds(fnet_command(*command, "--preset", "chen-wu-best", "--whitening", "1"))
