"""fnet.interop.tensorboard: TensorBoard's own reader finds what was written, once."""

import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import _runs
import numpy as np
import pytest
import reproduce

from fnet import EpochRecord, MLPConfig, TrainConfig, plots
from fnet.interop.tensorboard import add_confusion_matrix, check_installed, open_run, write_run

metadata = pytest.importorskip("tensorboard.plugins.hparams.metadata", reason="tensorboard is not installed")
image = pytest.importorskip("matplotlib.image", reason="matplotlib is not installed")
EventAccumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
EventMultiplexer = pytest.importorskip("tensorboard.backend.event_processing.event_multiplexer").EventMultiplexer

SCRIPTS = Path(__file__).parents[2] / "scripts"
SOURCE = _runs.Source("digits", None, 0.1, "last")
SMALL = ["--hidden", "8", "--quiet", "--no-pictures"]
TAGS = {"loss/train", "loss/validation", "accuracy/train", "accuracy/validation", "learning_rate"}


def records(epochs=3, valid=True, loss=1.0):
    return [
        EpochRecord(
            i, 7 * i, True, 1e-3 / i, loss / i, 1 - 0.5 / i, *((2 / i, 0.1 * i) if valid else (None, None)), 2.5
        )
        for i in range(1, epochs + 1)
    ]


def read(folder):
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return reader


def scalars(reader):
    return {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def expected(records):
    fields = ("train_loss", "valid_loss", "train_accuracy", "valid_accuracy", "learning_rate")
    tags = ("loss/train", "loss/validation", "accuracy/train", "accuracy/validation", "learning_rate")
    curves = {
        tag: [(r.epoch, float(np.float32(getattr(r, field)))) for r in records if getattr(r, field) is not None]
        for tag, field in zip(tags, fields, strict=True)
    }
    return {tag: curve for tag, curve in curves.items() if curve}


def start_info(reader):
    """What the HPARAMS tab reads of a run."""
    content = reader.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    return metadata.parse_session_start_info_plugin_data(content)


def hparams(reader):
    values = start_info(reader).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}


@pytest.mark.parametrize("valid", [True, False])
def test_scalars_are_the_records(valid, tmp_path):
    write_run(tmp_path, "a", records(valid=valid), hparams={})
    reader = read(tmp_path / "a")
    assert scalars(reader) == expected(records(valid=valid))
    assert set(reader.Tags()["scalars"]) == (TAGS if valid else {tag for tag in TAGS if "validation" not in tag})
    assert metadata.SESSION_START_INFO_TAG not in reader.Tags()["tensors"]
    times = [event.wall_time for event in reader.Scalars("loss/train")]
    np.testing.assert_allclose(np.diff(times), 2.5, atol=1e-4)


def test_a_loss_beyond_float32_is_written(tmp_path):
    for loss in (math.inf, 1e39):
        write_run(tmp_path, "a", records(loss=loss), hparams={})
        assert scalars(read(tmp_path / "a"))["loss/train"][0] == (1, math.inf)


def test_hyper_parameters_of_the_configs(tmp_path):
    config, train_config = MLPConfig(sizes=(64, 32, 10)), TrainConfig(epochs=3)
    values = {**dataclasses.asdict(config), **dataclasses.asdict(train_config), "seed": np.int64(4), "x": math.nan}
    write_run(tmp_path, "a", records(), hparams=values)
    reader = read(tmp_path / "a")
    found = hparams(reader)
    assert start_info(reader).group_name == "a"
    assert found.keys() == {name for name, value in values.items() if value is not None}
    assert (found["sizes"], found["activation"], found["learning_rate"]) == ("64, 32, 10", "relu", 5e-4)
    assert (found["seed"], found["epochs"], found["batch_norm"], found["x"]) == (4.0, 3.0, True, "nan")
    assert isinstance(found["batch_norm"], bool)


def test_hparams_tab_has_a_row_a_run_with_its_metrics(tmp_path):
    """As the plugin's backend sees a directory with two runs of different parameters."""
    from tensorboard.backend.event_processing import plugin_event_multiplexer
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import backend_context, list_session_groups

    api_pb2 = pytest.importorskip("tensorboard.plugins.hparams.api_pb2")  # it has no types
    for name, extra in (("a", {"width": 8}), ("b", {"depth": 2})):
        write_run(tmp_path, name, records(), hparams={"seed": 0, **extra})
    multiplexer = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(tmp_path))
    context, request = backend_context.Context(TBContext(data_provider=provider)), RequestContext()
    found = context.experiment_from_metadata(request, "", True, context.hparams_metadata(request, ""), None)
    assert {info.name for info in found.hparam_infos} == {"seed", "width", "depth"}
    assert {info.name.tag for info in found.metric_infos} == TAGS
    ask = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=9, allowed_statuses=[api_pb2.STATUS_UNKNOWN])
    groups = list_session_groups.Handler(request, context, "", ask).run().session_groups
    assert {group.name for group in groups} == {"a", "b"}
    for group in groups:
        values = {value.name.tag: value.value for value in group.metric_values}
        assert values["loss/validation"] == pytest.approx(2 / 3)


def test_the_confusion_matrix_is_a_picture(tmp_path):
    matrix = [[5, 1], [0, 6]]
    write_run(tmp_path, "a", records(), hparams={}, matrix=matrix, classes=("cat", "dog"), title="t")
    reader = read(tmp_path / "a")
    assert scalars(reader) == expected(records())
    (event,) = reader.Images("confusion_matrix")
    pixels = image.imread(io.BytesIO(event.encoded_image_string), format="png")
    assert pixels.shape == (event.height, event.width, 4)
    assert event.step == 3
    expected_pixels = io.BytesIO()
    plots.confusion_matrix(matrix, ("cat", "dog"), title="t").savefig(expected_pixels, format="png")
    np.testing.assert_array_equal(pixels, image.imread(io.BytesIO(expected_pixels.getvalue())))
    with pytest.raises(ValueError, match=r"matrix of the 3 classes, but got one of shape \(2, 2\)"):
        add_confusion_matrix(tmp_path, "a", matrix, (1, 2, 3), step=1)


def test_a_run_is_a_subfolder(tmp_path):
    for name, loss in (("a", 1.0), ("b", 2.0), ("c/network-1", 3.0)):
        write_run(tmp_path, name, records(loss=loss), hparams={})
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    assert set(multiplexer.Runs()) == {"a", "b", "c/network-1"}
    assert [event.value for event in multiplexer.Scalars("b", "loss/train")] == [2.0, 1.0, pytest.approx(2 / 3)]


def test_an_epoch_can_be_read_as_soon_as_it_is_added(tmp_path):
    first, second, third = records()
    with open_run(tmp_path, "a", [first], hparams={}) as add:
        reader = read(tmp_path / "a")
        assert scalars(reader) == expected([first])
        for record in (second, third):
            add(record)
            reader.Reload()
            assert scalars(reader)["loss/train"][-1][0] == record.epoch
    assert scalars(read(tmp_path / "a")) == expected(records())


def test_a_run_that_is_written_again_replaces_the_old_one(tmp_path):
    foreign = [tmp_path / "a" / "events.out.tfevents.1.host", tmp_path / "a" / "notes.fnet"]
    write_run(tmp_path, "a", records(5), hparams={}, matrix=np.eye(2, dtype=int), classes=("x", "y"))
    write_run(tmp_path, "a/network-1", records(5), hparams={})
    write_run(tmp_path, "ab", records(5), hparams={})
    for path in foreign:
        path.write_bytes(b"")
    with open_run(tmp_path, "a", records(2, loss=2.0), hparams={}) as add:
        add(records(3, loss=2.0)[-1])
    assert scalars(read(tmp_path / "a")) == expected(records(3, loss=2.0))
    assert read(tmp_path / "a").Tags()["images"] == []
    assert list((tmp_path / "a" / "network-1").iterdir()) == []
    assert scalars(read(tmp_path / "ab")) == expected(records(5))
    assert all(path.exists() for path in foreign)


@pytest.mark.parametrize("name", ["", ".", "..", "a/../..", "/a"])
def test_names_that_are_no_subfolder(name, tmp_path):
    write_run(tmp_path, "a", records(), hparams={})
    with pytest.raises(ValueError, match="must be that of a folder below"):
        write_run(tmp_path, name, records(), hparams={})
    assert scalars(read(tmp_path / "a")) == expected(records())


@pytest.mark.parametrize("missing", ["tensorboard.summary.writer.record_writer", "matplotlib.figure"])
def test_the_error_without_a_package(missing, tmp_path, monkeypatch):
    write_run(tmp_path, "a", records(), hparams={})
    monkeypatch.setitem(sys.modules, missing, None)
    for call in (
        check_installed,
        lambda: write_run(tmp_path, "a", [], hparams={}),
        lambda: add_confusion_matrix(tmp_path, "a", [[1]], (1,), step=1),
    ):
        with pytest.raises(ImportError, match=r'pip install "fnet\[tensorboard\]"'):
            call()
    assert scalars(read(tmp_path / "a")) == expected(records())


# scripts/train.py -----------------------------------------------------------------------------------------------------


def train(*arguments, env=None):
    return script("train.py", *arguments, env=env)


def script(name, *arguments, env=None):
    command = [sys.executable, str(SCRIPTS / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)


def history(out):
    """history.csv as curves of the networks."""
    curves = {}
    for row in csv.DictReader((out / "history.csv").read_text().splitlines()):
        curves.setdefault(int(row["network"]), []).append((int(row["epoch"]), float(np.float32(row["valid_loss"]))))
    return curves


def test_train(tmp_path):
    out, logs = tmp_path / "mine", tmp_path / "logs"
    for _ in range(2):
        result = train(*SMALL, "--epochs", "2", "--seed", "3", "--out", out, "--tensorboard", logs)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert [path.name for path in logs.iterdir()] == ["mine"]
    reader = read(logs / "mine")
    assert set(reader.Tags()["scalars"]) == TAGS
    assert scalars(reader)["loss/validation"] == history(out)[0]
    found = hparams(reader)
    assert (found["sizes"], found["seed"], found["preset"], found["data"]) == ("64, 8, 10", 3, "report", "digits")
    (event,) = reader.Images("confusion_matrix")
    assert event.step == 2
    assert image.imread(io.BytesIO(event.encoded_image_string), format="png").ndim == 3


def test_train_an_ensemble(tmp_path):
    out, logs = tmp_path / "mine", tmp_path / "logs"
    for networks in (3, 2):
        options = ["--epochs", "2", "--ensemble", networks, "--tensorboard", logs]
        assert train(*SMALL, *options, "--out", out).returncode == 0
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(logs))
    multiplexer.Reload()
    runs = {name: multiplexer.GetAccumulator(name) for name in multiplexer.Runs()}
    assert runs.keys() == {"mine", "mine/network-1", "mine/network-2"}
    for i in range(2):
        assert scalars(runs[f"mine/network-{i + 1}"])["loss/validation"] == history(out)[i]
    assert runs["mine"].Tags()["scalars"] == []
    assert len(runs["mine"].Images("confusion_matrix")) == 1


def test_train_interrupted_and_resumed(tmp_path):
    out, logs = tmp_path / "mine", tmp_path / "logs"
    options = ["--hidden", "8", "--no-pictures", "--epochs", "60", "--checkpoint-every", "epoch"]
    command = [sys.executable, str(SCRIPTS / "train.py"), *options, "--out", str(out), "--tensorboard", str(logs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(4):  # the head of the table, and three epochs
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert 3 <= len(read(logs / "mine").Scalars("loss/train")) < 60
    # Another job is refused before anything of the run is replaced.
    refused = train(*options, "--seed", "1", "--out", out, "--tensorboard", logs, "--resume")
    assert (refused.returncode, len(read(logs / "mine").Scalars("loss/train")) >= 3) == (2, True)
    assert train(*options, "--out", out, "--tensorboard", logs, "--resume", "--quiet").returncode == 0
    curve = scalars(read(logs / "mine"))["loss/validation"]
    assert [step for step, _ in curve] == list(range(1, 61))
    assert curve == history(out)[0]


def test_train_is_not_lost_when_the_epochs_cannot_be_written(tmp_path, monkeypatch, capsys):
    import train as script

    @contextlib.contextmanager
    def failing(*arguments, **options):
        with open_run(*arguments, **options) as add:

            def add_two(record):
                if record.epoch > 2:
                    raise OSError("No space left on device")
                add(record)

            yield add_two

    arguments = [*SMALL, "--epochs", "4", "--out", str(tmp_path / "mine"), "--tensorboard", str(tmp_path / "logs")]
    with monkeypatch.context() as patch:
        patch.setattr(script.tensorboard, "open_run", failing)
        assert script.main(arguments) == 2
    assert "No space left" in capsys.readouterr().err
    assert script.main([*arguments, "--resume"]) == 0
    curve = scalars(read(tmp_path / "logs" / "mine"))["loss/validation"]
    assert [step for step, _ in curve] == [1, 2, 3, 4]
    assert curve == history(tmp_path / "mine")[0]


@pytest.mark.parametrize("missing", ["tensorboard", "matplotlib"])
def test_train_without_a_package_ends_before_it_begins(missing, tmp_path):
    (tmp_path / f"{missing}.py").write_text("raise ImportError")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    out = tmp_path / "mine"
    result = train(*SMALL, "--out", out, "--tensorboard", tmp_path / "logs", env={**os.environ, "PYTHONPATH": path})
    assert result.returncode == 2
    assert 'python -m pip install "fnet[tensorboard]"' in result.stderr
    assert not out.exists()


def test_train_into_something_else_ends_before_it_begins(tmp_path):
    (tmp_path / "logs").write_text("")
    out = tmp_path / "mine"
    result = train(*SMALL, "--out", out, "--tensorboard", tmp_path / "logs")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert not out.exists()


def test_sweep(tmp_path):
    options = ["--grid", "learning_rate=1e-3,1e-2", "--hidden", "8", "--epochs", "2", "--retrain-seeds", "2"]
    result = script("sweep.py", *options, "--executor", "serial", "--out", tmp_path / "out", "--tensorboard", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    runs = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("events.*")}
    assert {"learning_rate=0.001/seed-0", "learning_rate=0.01/seed-0"} < runs
    assert len(runs) == 3  # the best has two seeds
    reader = read(tmp_path / "learning_rate=0.01" / "seed-0")
    (stored,) = [
        json.loads(path.read_bytes())
        for path in (tmp_path / "out" / "runs").glob("*.json")
        if (run := json.loads(path.read_bytes())["run"])["training"]["learning_rate"] == 0.01 and run["seed"] == 0
    ]
    assert scalars(reader) == expected([EpochRecord(*record) for record in stored["outcome"]["records"]])
    assert hparams(reader)["learning_rate"] == 0.01
    assert len(reader.Images("confusion_matrix")) == 1


def test_reproduce(tmp_path, monkeypatch):
    outcome = _runs.train(_runs.describe(SOURCE, _runs.default_options(), {"hidden": 8, "epochs": 2}, 0))
    monkeypatch.setattr(_runs, "run_all", lambda runs, *rest, **options: [outcome] * len(runs))
    monkeypatch.setattr(reproduce, "write_report", lambda *report: None)
    options = ["--seeds", "1", "--executor", "serial", "--quiet", "--out", str(tmp_path / "out")]
    assert reproduce.main([*options, "--tensorboard", str(tmp_path / "logs")]) == 0
    runs = {path.parent.relative_to(tmp_path / "logs").as_posix() for path in (tmp_path / "logs").rglob("events.*")}
    assert {"best/best/seed-0", "layers/5/seed-0", "ablations/no dropout/seed-0"} < runs
    assert len(runs) == 1 + 4 + 3 + 3 + 3 + 3 + 3 + 4
    assert scalars(read(tmp_path / "logs" / "layers/5/seed-0")) == expected(_runs.records(outcome))
