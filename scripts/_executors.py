"""Where the runs of a sweep are trained: in this process, in a pool of processes, on a Dask cluster, or on MPI ranks.

Each run computes on one thread whichever it is, so import this before NumPy: outcomes are the same bits everywhere.
"""

import argparse
import contextlib
import io
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import _threads

for _variable in _threads.VARIABLES:
    os.environ[_variable] = "1"

from _runs import Engine  # noqa: E402

EXECUTORS = ("process", "serial", "dask", "mpi")
MODULES = ("_options.py", "_runs.py", "_threads.py")  # what a worker imports, beside fnet
MOST = 256  # runs on their way at a time, where the number of workers may change


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where the runs are trained, with the same outcome")
    group.add_argument(
        "--executor",
        choices=EXECUTORS,
        default="process",
        help="a pool of processes (default), this process, a Dask cluster, or the ranks of\n"
        "mpiexec -n N python SCRIPT --executor mpi: one to drive and N - 1 to train",
    )
    group.add_argument("--jobs", type=int, metavar="N", help="processes, of process and a local dask (default: cores)")
    group.add_argument(
        "--scheduler",
        metavar="tcp://HOST:PORT",
        help="of the Dask cluster (default: a local one is started). It gets the code from here, and\n"
        "needs NumPy and, at the same path, the file of --data; best with dask worker tcp://HOST:PORT --nthreads 1",
    )


@contextlib.contextmanager
def opened(args: argparse.Namespace) -> Iterator[Engine | None]:
    """The engine that the options name; None in an MPI rank that has served it, and is done.

    Raises:
        ValueError, ImportError, OSError: options that do not fit, a missing library, or no scheduler there.
    """
    if args.jobs is not None and args.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, but got {args.jobs}")
    if args.scheduler is not None and args.executor != "dask":
        raise ValueError(f"--scheduler is for --executor dask, but got --executor {args.executor}")
    jobs = args.jobs or cores()
    match args.executor:
        case "serial":
            yield Engine(SerialExecutor, 1)
        case "process":
            with process_engine(jobs) as engine:
                yield engine
        case "dask":
            with dask_engine(args.scheduler, jobs) as engine:
                yield engine
        case _:
            with mpi_engine() as engine:
                yield engine


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class SerialExecutor(Executor):
    """Does each task at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))  # map_runs turns exceptions into results
        return future


# Processes ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def process_engine(jobs: int) -> Iterator[Engine]:
    context = multiprocessing.get_context("spawn")
    make = partial(ProcessPoolExecutor, jobs, mp_context=context, initializer=start_worker)
    try:
        yield Engine(make, jobs + 1)
    finally:
        for child in multiprocessing.active_children():  # none, unless it is interrupted
            child.terminate()


def start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it does, however that happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


# Dask -----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def dask_engine(scheduler: str | None, jobs: int) -> Iterator[Engine]:
    """An engine that connects to its cluster, or starts it, when there is something to do."""
    with contextlib.ExitStack() as stack:
        client: Any = None

        def make() -> Executor:
            nonlocal client
            if client is None or client.status != "running":
                client = dask_client(scheduler, jobs, stack)
            return DaskExecutor(client)

        yield Engine(make, MOST)


def dask_client(scheduler: str | None, jobs: int, stack: contextlib.ExitStack) -> Any:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ImportError('--executor dask needs distributed: python -m pip install "fnet[dask]"') from None
    if scheduler is None:
        cluster = LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            processes=True,
            protocol="tcp://",
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        )
        return stack.enter_context(Client(stack.enter_context(cluster)))
    client = stack.enter_context(Client(scheduler, timeout=10))
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "fnet-sweep.zip")
        archive.write_bytes(code())
        client.upload_file(str(archive))  # to workers that come later as well
    return client


class DaskExecutor(Executor):
    """Dask's own executor, but that its futures fail when the scheduler is lost, where Dask's wait on."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.executor = client.get_executor(pure=False)  # to Dask, the same run of two sweeps would be one

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.client.status != "running":
            raise ConnectionError("the Dask scheduler is gone")
        client, future = self.client, self.executor.submit(fn, *args, **kwargs)

        class Watched(Future[Any]):
            def result(self, timeout: float | None = None) -> Any:
                if not future.done() and client.status == "closed":
                    raise ConnectionError("the Dask scheduler is gone")
                return future.result(timeout)

        return Watched()


def code() -> bytes:
    """A .zip of what the workers import, so that they have the same code as this process."""
    import fnet

    here, package = Path(__file__).parent, Path(fnet.__file__).parent
    files = [(path, f"fnet/{path.relative_to(package).as_posix()}") for path in sorted(package.rglob("*"))]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, name in [*files, *((here / module, module) for module in MODULES)]:
            if path.suffix in (".py", ".npz"):
                archive.write(path, name)
    return buffer.getvalue()


# MPI ------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mpi_engine() -> Iterator[Engine | None]:
    try:
        from mpi4py import MPI
        from mpi4py.futures import MPICommExecutor
    except ImportError:
        raise ImportError('--executor mpi needs mpi4py: python -m pip install "fnet[mpi]"') from None
    workers = MPI.COMM_WORLD.size - 1
    if workers < 1:
        raise ValueError(
            "--executor mpi needs 2 ranks or more, one of which drives the others: "
            f"mpiexec -n 3 python {Path(sys.argv[0]).name} --executor mpi …"
        )
    with MPICommExecutor(MPI.COMM_WORLD, root=0) as executor:
        # A rank that dies ends the whole job, so there is never a second executor to make.
        kept = Kept(executor)
        yield None if executor is None else Engine(lambda: kept, workers + 1)


class Kept(Executor):
    """An executor that is not shut down by its user, but with the ranks that it stands for."""

    def __init__(self, executor: Any) -> None:
        self.executor = executor

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self.executor.submit(fn, *args, **kwargs)
