"""`fnet train --tensorboard`: TensorBoard's own reader finds each epoch, once."""

import contextlib
import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fnet.interop import tensorboard

metadata = pytest.importorskip("tensorboard.plugins.hparams.metadata", reason="tensorboard is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")
EventAccumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
EventMultiplexer = pytest.importorskip("tensorboard.backend.event_processing.event_multiplexer").EventMultiplexer

TAGS = {"loss/train", "loss/validation", "accuracy/train", "accuracy/validation", "learning_rate"}
COMMAND = [sys.executable, "-m", "fnet", "train", "--hidden", "8", "--no-pictures"]


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


def train(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "--quiet", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def test_a_run(tmp_path: Path) -> None:
    out, logs = tmp_path / "mine", tmp_path / "logs"
    for _ in range(2):
        result = train("--epochs", 2, "--seed", 3, "--out", out, "--overwrite", "--tensorboard", logs)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert [path.name for path in logs.iterdir()] == ["mine"]
    reader = read(logs / "mine")
    assert set(reader.Tags()["scalars"]) == TAGS
    assert valid_loss(reader) == history(out)[0]
    assert (hparams(reader)["sizes"], hparams(reader)["seed"], hparams(reader)["data"]) == ("64, 8, 10", 3, "digits")
    (event,) = reader.Images("confusion_matrix")
    assert event.step == 2


def test_an_ensemble(tmp_path: Path) -> None:
    out, logs = tmp_path / "mine", tmp_path / "logs"
    for networks in (3, 2):
        options = ["--epochs", 2, "--ensemble", networks, "--overwrite", "--tensorboard", logs]
        assert train(*options, "--out", out).returncode == 0
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(logs))
    multiplexer.Reload()
    runs = {name: multiplexer.GetAccumulator(name) for name in multiplexer.Runs()}
    assert runs.keys() == {"mine", "mine/network-1", "mine/network-2"}
    for i in range(2):
        assert valid_loss(runs[f"mine/network-{i + 1}"]) == history(out)[i]
    assert runs["mine"].Tags()["scalars"] == []
    assert len(runs["mine"].Images("confusion_matrix")) == 1


def test_interrupted_and_resumed(tmp_path: Path) -> None:
    out, logs = tmp_path / "mine", tmp_path / "logs"
    options = ["--epochs", "100", "--checkpoint-every", "epoch", "--out", str(out), "--tensorboard", str(logs)]
    process = subprocess.Popen([*COMMAND, *options], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not list(logs.glob("mine/*.fnet")) or len(read(logs / "mine").Tags()["scalars"]) < len(TAGS):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    before = len(valid_loss(read(logs / "mine")))
    assert 1 <= before < 100
    # Another job is refused before anything of the run is replaced.
    assert train(*options, "--seed", "1", "--resume").returncode == 2
    assert len(valid_loss(read(logs / "mine"))) == before
    assert train(*options, "--resume").returncode == 0
    assert [step for step, _ in valid_loss(read(logs / "mine"))] == list(range(1, 101))
    assert valid_loss(read(logs / "mine")) == history(out)[0]


def test_a_run_is_not_lost_when_the_epochs_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fnet.cli.main import main

    open_run = tensorboard.open_run

    @contextlib.contextmanager
    def failing(*arguments: Any, **options: Any) -> Any:
        with open_run(*arguments, **options) as add:

            def add_two(record: Any) -> None:
                if record.epoch > 2:
                    raise OSError("No space left on device")
                add(record)

            yield add_two

    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    logs = tmp_path / "logs"
    arguments = [*COMMAND[3:], "--quiet", "--epochs", "4", "--out", str(tmp_path / "mine"), "--tensorboard", str(logs)]
    with monkeypatch.context() as patch:
        patch.setattr(tensorboard, "open_run", failing)
        assert main(arguments) == 2
    assert "No space left" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    assert valid_loss(read(logs / "mine")) == history(tmp_path / "mine")[0]


@pytest.mark.parametrize("missing", ["tensorboard", "matplotlib"])
def test_without_a_package_nothing_begins(missing: str, tmp_path: Path) -> None:
    (tmp_path / f"{missing}.py").write_text("raise ImportError")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    out = tmp_path / "mine"
    result = train("--out", out, "--tensorboard", tmp_path / "logs", env={**os.environ, "PYTHONPATH": path})
    assert result.returncode == 2
    assert "python -m pip install tensorboard matplotlib" in result.stderr
    assert not out.exists()


def test_into_something_else_nothing_begins(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    out = tmp_path / "mine"
    result = train("--out", out, "--tensorboard", tmp_path / "logs")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert not out.exists()
