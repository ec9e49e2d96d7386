"""Sweeps on real executors: a pool of processes, Dask clusters, MPI ranks; the same bytes from each and from a restart.

Processes are killed here, as they are in real life.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fnet import sweep

SWEEP = [sys.executable, "-m", "fnet", "sweep", "--quiet", "--engine", "numpy", "--hidden", "8", "8", "--grid"]
TINY = [*SWEEP, "dropout=0,0.3", "--epochs", "1", "--retrain-seeds", "2"]
LONGER = [*SWEEP, "dropout=0,0.1,0.2,0.3", "--epochs", "60", "--retrain-seeds", "0"]
LIMIT = 60  # seconds
TABLES = ("results.csv", "history.csv", "table.md")

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc")


def run(command: list[str], out: Path) -> list[bytes]:
    """The tables that a command writes."""
    result = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert result.returncode == 0, result.stderr
    assert (result.stdout, result.stderr) == ("", "")
    return tables(out)


def tables(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in TABLES]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The tables of TINY, made in one process."""
    return run([*TINY, "--executor", "serial"], tmp_path_factory.mktemp("serial"))


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return run([*LONGER, "--executor", "serial"], tmp_path_factory.mktemp("serial"))


def test_there_is_no_other_executor() -> None:
    with pytest.raises(ValueError, match="expected one of the executors process, serial, dask, mpi, but got 'ray'"):
        sweep.open_pool("ray").__enter__()


# The same outcome -----------------------------------------------------------------------------------------------------


def test_processes(tiny: list[bytes], tmp_path: Path) -> None:
    assert run([*TINY, "--jobs", "2"], tmp_path) == tiny


def test_a_local_dask_cluster(tiny: list[bytes], tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="distributed is not installed")
    assert run([*TINY, "--executor", "dask", "--jobs", "1"], tmp_path) == tiny


def test_a_dask_scheduler_and_two_workers_over_tcp(tiny: list[bytes], tmp_path: Path) -> None:
    """The workers are started elsewhere and know nothing of this code."""
    pytest.importorskip("distributed", reason="distributed is not installed")
    elsewhere = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    note = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "distributed.cli"]
    commands = [
        ["dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(note)],
        *[["dask_worker", "--scheduler-file", str(note), "--nthreads", "1", "--no-nanny", "--no-dashboard"]] * 2,
    ]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name, *options in commands:
            command = [*dask[:2], f"{dask[2]}.{name}", *options]
            processes.append(subprocess.Popen(command, cwd=tmp_path, env=elsewhere, stderr=subprocess.DEVNULL))
        wait_for(note.exists)
        address = json.loads(note.read_text())["address"]
        assert address.startswith("tcp://127.0.0.1:")
        assert run([*TINY, "--executor", "dask", "--scheduler", address], tmp_path / "out") == tiny
        assert [process.poll() for process in processes] == [None] * 3
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def test_mpi_ranks(tiny: list[bytes], tmp_path: Path) -> None:
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if mpiexec is None:
        pytest.skip("no mpiexec on this machine")
    assert run([mpiexec, "-n", "2", *TINY, "--executor", "mpi"], tmp_path) == tiny


# Killed ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """LONGER on two processes, when it has finished its first run."""
    command = [*LONGER, "--jobs", "2", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: process.poll() is not None or bool(finished(tmp_path)))
        assert process.poll() is None, "it came to its end too soon"
        yield process
    finally:
        process.kill()
        process.communicate()


def finished(out: Path) -> dict[str, int]:
    """The files of finished runs, and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "runs").glob("*.json")}


def wait_for(condition: Callable[[], bool]) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < LIMIT
        time.sleep(0.005)


def workers(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@needs_proc
def test_a_worker_that_is_killed_costs_no_run(
    driver: subprocess.Popen[str], longer: list[bytes], tmp_path: Path
) -> None:
    pids = workers(driver)
    assert len(pids) == 2
    os.kill(pids[0], signal.SIGKILL)
    assert driver.communicate(timeout=LIMIT) == ("", "")
    assert driver.returncode == 0
    assert tables(tmp_path) == longer


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_sweep_that_is_stopped_goes_on_with_what_is_left(
    driver: subprocess.Popen[str], longer: list[bytes], tmp_path: Path, number: signal.Signals
) -> None:
    pids = workers(driver)
    driver.send_signal(number)
    _, errors = driver.communicate(timeout=LIMIT)
    if number == signal.SIGINT:
        assert driver.returncode == 130
        assert errors == "interrupted; the same command continues\n"
    wait_for(lambda: all(map(gone, pids)))
    before = finished(tmp_path)
    assert 1 <= len(before) < 4
    assert not (tmp_path / "results.csv").exists()
    assert run([*LONGER, "--executor", "serial"], tmp_path) == longer
    after = finished(tmp_path)
    assert len(after) == 4
    assert {name: after[name] for name in before} == before
