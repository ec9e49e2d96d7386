"""Training that is shared among MPI processes gives what one process gives."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fnet import model, testing

from .conftest import Fnet, succeeds


def find_mpiexec() -> str:
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    path = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if path is None:
        pytest.skip("no mpiexec on this machine")
    return path


@pytest.mark.parametrize("options", [["--input-noise", "0.4"], ["--no-batch-norm", "--clip-norm", "1"]])
def test_two_ranks_give_what_one_process_gives(tmp_path: Path, options: list[str], fnet_command: Fnet) -> None:
    mpiexec = find_mpiexec()
    common = [
        "train",
        "--quiet",
        "--no-pictures",
        "--epochs",
        "2",
        "--hidden",
        "32",
        "32",
        "--dtype",
        "float64",
        *options,
    ]
    succeeds(fnet_command(*common, "--out", tmp_path / "one"))
    two = [mpiexec, "-n", "2", sys.executable, "-m", "fnet", *common, "--mpi", "--out", str(tmp_path / "two")]
    result = subprocess.run(two, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    expected, got = (model.load_model(tmp_path / name / "model.npz") for name in ("one", "two"))
    testing.assert_trees_close(got.members, expected.members, rtol=1e-7, atol=1e-9)
    histories = [(tmp_path / name / "history.csv").read_text().splitlines() for name in ("one", "two")]
    assert len(histories[0]) == len(histories[1]) == 3


def test_an_error_of_one_rank_ends_the_others(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").touch()
    command = [
        find_mpiexec(),
        "-n",
        "2",
        sys.executable,
        "-m",
        "fnet",
        "train",
        "--mpi",
        "--quiet",
        "--out",
        str(tmp_path),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode != 0
    assert f"error: {tmp_path} holds a finished run" in result.stderr
