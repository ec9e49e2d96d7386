"""TensorBoard: a run as a folder of event files, with curves, hyperparameters and pictures.

Each run is a subfolder of one directory, so that `tensorboard --logdir DIRECTORY` shows them together::

    loss/train, loss/validation, accuracy/train, accuracy/validation, learning_rate    scalars; the step is the epoch
    gradient, in place of the learning rate for L-BFGS
    rmse/train, …, or coverage/train, …, in place of the accuracy for regression
    confusion_matrix, or predicted_against_true and residuals                          images
    the HPARAMS tab                                                                    a row per run, with its metrics

The package tensorboard writes them, without TensorFlow.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import struct
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from fnet import plots
from fnet.interop import missing
from fnet.training import EpochRecord

__all__ = ["add_confusion_matrix", "add_figure", "check_installed", "open_run", "write_run"]

# These are the usual names in PyTorch, with one folder per run. Keras writes `epoch_loss` to two folders, train and
# validation, which doubles the list of runs and leaves no row of HPARAMS with both.
_TAGS = {
    "loss/train": "train_loss",
    "loss/validation": "valid_loss",
    "{score}/train": "train_score",
    "{score}/validation": "valid_score",
    "learning_rate": "learning_rate",
    "gradient": "gradient",
}
_SUFFIX = ".fnet"  # of the event files written here; other files are never removed


def check_installed() -> None:
    """Check before training that the packages are installed.

    Raises:
        ImportError: tensorboard, or matplotlib for the pictures, is not installed.
    """
    _library()


def write_run(
    directory: str | Path,
    name: str,
    records: Sequence[EpochRecord],
    *,
    hparams: Mapping[str, Any],
    score: str = "accuracy",
    matrix: npt.ArrayLike | None = None,
    classes: Sequence[int | str] = (),
    title: str = "",
) -> None:
    """Write a finished run; see `open_run`, and `add_confusion_matrix` for matrix, classes and title.

    Raises:
        ImportError: tensorboard or matplotlib is not installed.
        ValueError: the name is not a path below the directory, or the classes do not match the matrix.
        OSError: the files cannot be written.
    """
    with open_run(directory, name, records, hparams=hparams, score=score):
        pass
    if matrix is not None:
        step = records[-1].epoch if records else 0
        add_confusion_matrix(directory, name, matrix, classes, step=step, title=title)


@contextlib.contextmanager
def open_run(
    directory: str | Path,
    name: str,
    records: Sequence[EpochRecord] = (),
    *,
    hparams: Mapping[str, Any],
    score: str = "accuracy",
) -> Generator[Callable[[EpochRecord], None]]:
    """Open a run; yields a function that adds an epoch, which an open TensorBoard shows soon after.

    Event files that were written here under that name, or below it, are replaced. A resumed run passes the records of
    its first part again, so that no point occurs twice.

    Args:
        name: the subfolder, which is the name of the run in TensorBoard; `a/b` is a run in the folder of another run.
        records: the first finished epochs. On the time axes of TensorBoard, they are placed before now by their
            training seconds, and later epochs at the time when they are added.
        hparams: the columns of HPARAMS, such as `dataclasses.asdict` of a config. Numbers, bools and strings are kept,
            None is left blank, and other values are converted to strings. If empty, the run has no row.
        score: the name of the scores in the records.

    Raises:
        ImportError: tensorboard or matplotlib is not installed.
        ValueError: the name is not a path below the directory.
        OSError: the file cannot be written.
    """
    folder = _folder(directory, name)
    library = _library()
    Summary = library.summaries.Summary  # noqa: N806
    for old in folder.rglob(f"events.out.tfevents.*{_SUFFIX}"):
        old.unlink()
    with _event_file(folder) as write:

        def add(record: EpochRecord, wall_time: float) -> None:
            values = {tag.format(score=score): getattr(record, field) for tag, field in _TAGS.items()}
            summary = [Summary.Value(tag=tag, simple_value=v) for tag, v in values.items() if v is not None]
            write(wall_time, step=record.epoch, summary=Summary(value=summary))

        now = time.time()
        left = sum(record.seconds for record in records)  # training seconds up to now
        if hparams:
            # The list of parameters and metrics of the experiment is omitted: TensorBoard would use the first list for
            # all runs of the directory, whereas without a list it collects them from the runs.
            values = {key: _hparam(value) for key, value in hparams.items() if value is not None}
            write(now - left, summary=library.hparams.hparams_pb(values, trial_id=name, start_time_secs=now - left))
        for record in records:
            left -= record.seconds
            add(record, now - left)
        yield lambda record: add(record, time.time())


def add_confusion_matrix(
    directory: str | Path,
    name: str,
    matrix: npt.ArrayLike,
    classes: Sequence[int | str],
    *,
    step: int,
    title: str = "",
) -> None:
    """Add the picture of `fnet.plots.confusion_matrix` to a run that `write_run` or `open_run` wrote.

    Args:
        matrix: `[classes, classes]`, true classes in rows, from `fnet.metrics.confusion_matrix`.
        classes: the names of the classes.
        step: the number of epochs after which it was measured.

    Raises:
        ImportError, ValueError, OSError: as for `write_run`.
    """
    _library()
    if np.shape(matrix) != (len(classes), len(classes)):
        raise ValueError(f"expected a matrix for {len(classes)} classes, but got shape {np.shape(matrix)}")
    figure = plots.confusion_matrix(matrix, classes, title=title)
    add_figure(directory, name, "confusion_matrix", figure, step=step)


def add_figure(directory: str | Path, name: str, tag: str, figure: Any, *, step: int) -> None:
    """Add a figure of `fnet.plots` to a run that `write_run` or `open_run` wrote.

    Args:
        tag: the name of the picture.
        step: the number of epochs after which it was drawn.

    Raises:
        ImportError, ValueError, OSError: as for `write_run`.
    """
    folder = _folder(directory, name)
    Summary = _library().summaries.Summary  # noqa: N806
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    png = buffer.getvalue()
    width, height = struct.unpack_from(">II", png, 16)  # after the signature and the length and name of the header
    image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)  # 4: RGBA
    with _event_file(folder) as write:
        write(time.time(), step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)]))


class _Library(NamedTuple):
    """The modules of tensorboard that are used here, without types; none needs TensorFlow."""

    events: Any
    summaries: Any
    records: Any
    hparams: Any


def _library() -> _Library:
    try:
        importlib.import_module("matplotlib.figure")
        return _Library(
            importlib.import_module("tensorboard.compat.proto.event_pb2"),
            importlib.import_module("tensorboard.compat.proto.summary_pb2"),
            importlib.import_module("tensorboard.summary.writer.record_writer"),
            importlib.import_module("tensorboard.plugins.hparams.summary_v2"),
        )
    except ImportError:
        raise missing("TensorBoard", "tensorboard and matplotlib", "tensorboard") from None


@contextlib.contextmanager
def _event_file(folder: Path) -> Generator[Callable[..., None]]:
    """Open a new event file; yields a function that appends an event and flushes it.

    The `EventFileWriter` of tensorboard is not used: it imports TensorFlow if that is installed, which takes seconds,
    and writes in a thread, which reports errors late.
    """
    library = _library()
    folder.mkdir(parents=True, exist_ok=True)
    # Readers look for "tfevents" in file names, and read the files of a folder in the order of their names.
    with (folder / f"events.out.tfevents.{time.time_ns()}{_SUFFIX}").open("xb") as file:
        writer = library.records.RecordWriter(file)

        def write(wall_time: float, **content: Any) -> None:
            writer.write(library.events.Event(wall_time=wall_time, **content).SerializeToString())
            writer.flush()

        write(time.time(), file_version="brain.Event:2")
        yield write


def _folder(directory: str | Path, name: str) -> Path:
    path = Path(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"the name of a run must be a path below {directory}, but got {name!r}")
    return Path(directory) / path


def _hparam(value: Any) -> bool | float | str:
    if isinstance(value, (bool, np.bool_)):
        return bool(cast(Any, value))
    if isinstance(value, Real) and math.isfinite(value):  # TensorBoard shows numbers as JSON, which has no others
        return float(value)
    if isinstance(value, (list, tuple)):  # the same text for both, since JSON converts tuples to lists
        return ", ".join(map(str, cast(Sequence[Any], value)))
    return str(value)
