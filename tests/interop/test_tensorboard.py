"""fnet.interop.tensorboard: TensorBoard's own reader finds what was written, once."""

import dataclasses
import io
import math
import sys

import numpy as np
import pytest

from fnet import MLPConfig, TrainConfig, plots
from fnet.interop.tensorboard import add_confusion_matrix, check_installed, open_run, write_run
from fnet.training import EpochRecord

metadata = pytest.importorskip("tensorboard.plugins.hparams.metadata", reason="tensorboard is not installed")
image = pytest.importorskip("matplotlib.image", reason="matplotlib is not installed")
EventAccumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
EventMultiplexer = pytest.importorskip("tensorboard.backend.event_processing.event_multiplexer").EventMultiplexer

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


def test_hparams_tab_has_a_row_per_run_with_its_metrics(tmp_path):
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
    with pytest.raises(ValueError, match=r"matrix for 3 classes, but got shape \(2, 2\)"):
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
def test_names_that_are_not_a_subfolder(name, tmp_path):
    write_run(tmp_path, "a", records(), hparams={})
    with pytest.raises(ValueError, match="must be a path below"):
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
        with pytest.raises(
            ImportError,
            match=r"TensorBoard needs .*: python -m pip install tensorboard matplotlib",
        ):
            call()
    assert scalars(read(tmp_path / "a")) == expected(records())
