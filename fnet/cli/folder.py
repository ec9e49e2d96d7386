"""The folder of a run, which one run owns at a time and in which a new run leaves nothing of an old one."""

import contextlib
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any

from fnet import model
from fnet.checkpoint import remove_temporaries
from fnet.cli.output import say, write_json
from fnet.cli.parser import Group

__all__ = ["add_model_argument", "begin", "check_free", "checkpoints", "load_model", "locked", "model_file", "owned"]

PICTURES = tuple(
    f"{name}.png"
    for name in (
        *("accuracy", "coverage", "rmse", "rmse_log", "rmse_standardized", "loss"),
        *("confusion_matrix", "predicted_against_true", "residuals"),
    )
)
# A run with metrics.json is finished, so this file is written last and removed first.
RESULTS = ("metrics.json", "model.npz", "predictions.csv", "report.txt", "history.csv", *PICTURES)


@contextlib.contextmanager
def owned(out: Path | None, name: str) -> Generator[Path]:
    """Own a folder, so that no other run writes to it: the given folder, or a new one in `runs`.

    Raises:
        ValueError: another run owns it.
        OSError: it cannot be created.
    """
    if out is None:
        out = _new(Path("runs"), f"{time.strftime('%Y%m%d-%H%M%S')}-{name}")
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        yield out


def _new(parent: Path, name: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


@contextlib.contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold the lock of a folder, which the system releases when the process ends.

    Raises:
        ValueError: another process holds it.
    """
    path = folder / ".lock"
    while True:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(path.open("a"))
            if not _lock(file):
                raise ValueError(f"another run is writing to {folder}; choose another folder with --out")
            # The previous owner may have removed the file after it was opened here.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    stack.pop_all()
                    break
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not remove an open file
            path.unlink()
        file.close()


def _lock(file: IO[Any]) -> bool:
    """Lock an open file; False if another process holds the lock."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # pyright: ignore
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:  # some network file systems have no locks
        say(
            "warning",
            f"{file.name} cannot be locked ({error.strerror}): no other run may write to the folder",
        )
    return True


def checkpoints(out: Path, member: int) -> Path:
    """The folder of the checkpoints of a network."""
    return out / "checkpoints" / f"member-{member}"


def check_free(out: Path, *, resume: bool) -> None:
    """Check that a run would not destroy another run, unless it resumes that run.

    Raises:
        ValueError: the folder holds a finished or unfinished run, or files with the names of results.
    """
    started = any((out / "checkpoints").glob("member-*/step-*.npz"))
    if resume and started:
        return
    if (out / "metrics.json").exists():
        if resume:
            raise ValueError(f"{out} holds a finished run without checkpoints to resume; --overwrite replaces it")
        raise ValueError(
            f"{out} holds a finished run: choose another folder with --out, replace it with --overwrite, or train it "
            "for more epochs with --resume --epochs N"
        )
    others = [name for name in RESULTS if (out / name).exists()]
    if others and not (out / "config.json").exists():
        raise ValueError(f"{out} holds {', '.join(others)}, but no run: choose another folder, or add --overwrite")
    if started:
        raise ValueError(f"{out} holds an unfinished run: add --resume to continue it, or --overwrite to replace it")


def begin(out: Path, config: dict[str, Any], *, resume: bool) -> None:
    """Remove the files of an old run, except checkpoints to resume, and write config.json."""
    remove_temporaries(out)
    for name in RESULTS:
        (out / name).unlink(missing_ok=True)
    if not resume:
        # The first network goes last: while it exists, --resume refuses the rest of the old run.
        for path in sorted((out / "checkpoints").glob("member-*/*step-*"), reverse=True):
            path.unlink(missing_ok=True)
    write_json(out / "config.json", config)


def add_model_argument(group: Group) -> None:
    group.add_argument("model", type=Path, metavar="MODEL", help="folder of a run, or .npz or .safetensors file")


def model_file(path: Path) -> Path:
    """The file of a model, given its path or the folder of its run.

    Raises:
        FileNotFoundError: the folder has no model.
    """
    if path.is_dir() and not (path / "model.npz").exists():
        raise FileNotFoundError(f"{path} has no model.npz: it is not the folder of a finished run")
    return path / "model.npz" if path.is_dir() else path


def load_model(path: Path) -> model.Model:
    """Load the model in a file or in the folder of a run."""
    path = model_file(path)
    if path.suffix == ".safetensors":
        from fnet.interop.safetensors import load_safetensors

        return load_safetensors(path)
    return model.load_model(path)
