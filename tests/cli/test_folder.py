"""The folder of a run belongs to one run at a time."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from fnet.cli import folder

from .conftest import Fnet, refused, succeeds


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "now")
    with folder.owned(None, "digits") as first, folder.owned(None, "digits") as second:
        assert [str(first), str(second)] == ["runs/now-digits", "runs/now-digits-2"]
    assert sorted(path.name for path in (tmp_path / "runs").rglob("*")) == ["now-digits", "now-digits-2"]


def test_a_folder_in_use_is_refused_and_left_as_it_is(tmp_path: Path, fnet_command: Fnet) -> None:
    with folder.locked(tmp_path):
        result = fnet_command("train", "--epochs", "1", "--quiet", "--overwrite", "--out", tmp_path)
        assert result == (2, "", f"error: another run is writing to {tmp_path}; choose another folder with --out\n")
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    with folder.locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_death_frees_the_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from fnet.cli.folder import locked\n"
        "with locked(Path(sys.argv[1])): print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(ValueError, match="another run is writing"), folder.locked(tmp_path):
            pass
        process.kill()
        process.wait()
    with folder.locked(tmp_path):
        pass


@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_files_of_somebody_else_are_not_replaced(options: list[str], tmp_path: Path, fnet_command: Fnet) -> None:
    (tmp_path / "report.txt").write_text("mine")
    error = refused(fnet_command("train", "--epochs", "1", "--quiet", "--out", tmp_path, *options))
    assert "holds report.txt, but no run: choose another folder, or add --overwrite" in error
    assert (tmp_path / "report.txt").read_text() == "mine"


def test_a_finished_run_without_checkpoints_is_not_replaced_by_resume(tmp_path: Path, fnet_command: Fnet) -> None:
    options = ["--hidden", "4", "--epochs", "1", "--quiet", "--no-pictures", "--engine", "numpy", "--out", tmp_path]
    succeeds(fnet_command("train", *options))
    shutil.rmtree(tmp_path / "checkpoints")
    before = (tmp_path / "model.npz").read_bytes()
    error = refused(fnet_command("train", *options, "--resume", "--seed", "1"))
    assert "holds a finished run without checkpoints to resume; --overwrite replaces it" in error
    assert (tmp_path / "model.npz").read_bytes() == before


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="only Windows has no fcntl")
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(errno.ENOLCK, "No locks available")))
    with folder.locked(tmp_path):
        pass
    assert "cannot be locked (No locks available)" in capsys.readouterr().err


def test_a_lock_file_that_is_removed_while_it_is_opened_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, calls = folder._lock, []

    def remove_first(file: object) -> bool:
        if not calls:
            (tmp_path / ".lock").unlink()
        calls.append(file)
        return lock(file)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(folder, "_lock", remove_first)
    with folder.locked(tmp_path):
        assert len(calls) == 2
        assert (tmp_path / ".lock").exists()


def test_what_a_killed_run_was_writing_is_removed_by_the_next(tmp_path: Path, fnet_command: Fnet) -> None:
    for name in (".model.npz.0f.fnet-tmp", ".model.npz.x.tmp"):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (0, 0))  # long ago
    options = ["--hidden", "4", "--epochs", "1", "--quiet", "--no-pictures", "--engine", "numpy", "--out", tmp_path]
    succeeds(fnet_command("train", *options))
    assert [path.name for path in tmp_path.glob(".*")] == [".model.npz.x.tmp"]  # of another program
