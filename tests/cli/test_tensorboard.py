"""`fnet train --tensorboard`: TensorBoard's own reader finds each epoch, once."""

import contextlib
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fnet.cli import train
from fnet.interop import tensorboard

from .conftest import Fnet, interrupting, refused, succeeds

metadata = pytest.importorskip("tensorboard.plugins.hparams.metadata", reason="tensorboard is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")
EventAccumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
EventMultiplexer = pytest.importorskip("tensorboard.backend.event_processing.event_multiplexer").EventMultiplexer

TAGS = {"loss/train", "loss/validation", "accuracy/train", "accuracy/validation", "learning_rate"}
TRAIN = ["train", "--hidden", "8", "--no-pictures", "--quiet"]


def read(folder: Path) -> Any:
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return reader


def valid_loss(reader: Any) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in reader.Scalars("loss/validation")]


def hparams(reader: Any) -> dict[str, Any]:
    content = reader.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    values = metadata.parse_session_start_info_plugin_data(content).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}


def history(out: Path) -> dict[int, list[tuple[int, float]]]:
    """The losses on validation rows in history.csv, by network."""
    curves: dict[int, list[tuple[int, float]]] = {}
    for row in csv.DictReader((out / "history.csv").read_text().splitlines()):
        point = int(row["epoch"]), float(np.float32(row["valid_loss"]))
        curves.setdefault(int(row["network"]), []).append(point)
    return curves


def test_a_run(tmp_path: Path, fnet_command: Fnet) -> None:
    out, logs = tmp_path / "mine", tmp_path / "logs"
    for _ in range(2):
        options = ["--epochs", 2, "--seed", 3, "--out", out, "--overwrite", "--tensorboard", logs]
        assert succeeds(fnet_command(*TRAIN, *options)).out == ""
    assert [path.name for path in logs.iterdir()] == ["mine"]
    reader = read(logs / "mine")
    assert set(reader.Tags()["scalars"]) == TAGS
    assert valid_loss(reader) == history(out)[0]
    assert (hparams(reader)["sizes"], hparams(reader)["seed"], hparams(reader)["data"]) == ("64, 8, 10", 3, "digits")
    (event,) = reader.Images("confusion_matrix")
    assert event.step == 2


def test_an_ensemble(tmp_path: Path, fnet_command: Fnet) -> None:
    out, logs = tmp_path / "mine", tmp_path / "logs"
    for networks in (3, 2):
        options = ["--epochs", 2, "--ensemble", networks, "--overwrite", "--tensorboard", logs]
        succeeds(fnet_command(*TRAIN, *options, "--out", out))
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(logs))
    multiplexer.Reload()
    runs = {name: multiplexer.GetAccumulator(name) for name in multiplexer.Runs()}
    assert runs.keys() == {"mine", "mine/network-1", "mine/network-2"}
    for i in range(2):
        assert valid_loss(runs[f"mine/network-{i + 1}"]) == history(out)[i]
    assert runs["mine"].Tags()["scalars"] == []
    assert len(runs["mine"].Images("confusion_matrix")) == 1


def test_interrupted_and_resumed(tmp_path: Path, fnet_command: Fnet, monkeypatch: pytest.MonkeyPatch) -> None:
    out, logs = tmp_path / "mine", tmp_path / "logs"
    command = [*TRAIN, "--epochs", 8, "--out", out, "--tensorboard", logs]
    with monkeypatch.context() as patch:
        patch.setattr(train, "interruptible", interrupting(lambda: 70))  # steps, of 21 per epoch
        assert fnet_command(*command).code == 130
    assert [step for step, _ in valid_loss(read(logs / "mine"))] == [1, 2, 3]
    # Another job is refused before anything of the run is replaced.
    refused(fnet_command(*command, "--seed", 1, "--resume"))
    assert [step for step, _ in valid_loss(read(logs / "mine"))] == [1, 2, 3]
    succeeds(fnet_command(*command, "--resume"))
    assert [step for step, _ in valid_loss(read(logs / "mine"))] == list(range(1, 9))
    assert valid_loss(read(logs / "mine")) == history(out)[0]


def test_a_run_is_not_lost_when_the_epochs_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fnet_command: Fnet
) -> None:
    open_run = tensorboard.open_run

    @contextlib.contextmanager
    def failing(*arguments: Any, **options: Any) -> Any:
        with open_run(*arguments, **options) as add:

            def add_two(record: Any) -> None:
                if record.epoch > 2:
                    raise OSError("No space left on device")
                add(record)

            yield add_two

    logs = tmp_path / "logs"
    command = [*TRAIN, "--epochs", 4, "--out", tmp_path / "mine", "--tensorboard", logs]
    with monkeypatch.context() as patch:
        patch.setattr(tensorboard, "open_run", failing)
        assert "No space left" in refused(fnet_command(*command))
    succeeds(fnet_command(*command, "--resume"))
    assert valid_loss(read(logs / "mine")) == history(tmp_path / "mine")[0]


@pytest.mark.parametrize("missing", ["tensorboard", "matplotlib"])
def test_without_a_package_nothing_begins(
    missing: str, tmp_path: Path, fnet_command: Fnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.setitem(sys.modules, name, None)
    error = refused(fnet_command(*TRAIN, "--out", tmp_path / "mine", "--tensorboard", tmp_path / "logs"))
    assert "python -m pip install tensorboard matplotlib" in error
    assert not (tmp_path / "mine").exists()


def test_into_something_else_nothing_begins(tmp_path: Path, fnet_command: Fnet) -> None:
    (tmp_path / "logs").write_text("")
    refused(fnet_command(*TRAIN, "--out", tmp_path / "mine", "--tensorboard", tmp_path / "logs"))
    assert not (tmp_path / "mine").exists()
