"""Execution of tasks: a loop over any executor; executors for one process, a pool of processes, Dask and MPI."""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import fnet
from fnet.interop import missing
from fnet.tree import container

__all__ = ["EXECUTORS", "Failure", "Pool", "cores", "map_runs", "open_pool"]

T = TypeVar("T")
R = TypeVar("R")

EXECUTORS = ("process", "serial", "dask", "mpi")
POLL = 0.02  # seconds to wait for one future before checking the others
DASK_IN_FLIGHT = 256  # tasks, since the number of workers may change


@container
class Failure(NamedTuple):
    """The outcome of a task without a result."""

    error: str
    lost: bool  # whether its worker died or could not be reached; False: the function raised an exception


def map_runs(
    make_executor: Callable[[], Executor],
    function: Callable[[T], R],
    tasks: Sequence[T],
    *,
    in_flight: int,
    retries: int = 2,
) -> Generator[tuple[int, R | Failure]]:
    """Run tasks, and yield the index and the result of each in the order in which they finish.

    Any executor with the interface of `concurrent.futures` works: only `submit`, the `result` of futures and `shutdown`
    are used. An exception of the function becomes a `Failure`, and the other tasks continue.

    A worker that dies may take other tasks with it, as in a `ProcessPoolExecutor`. Lost tasks are retried one at a
    time, which identifies a task that kills its worker; it becomes a `Failure` after `retries` further attempts. An
    executor that accepts no more tasks is replaced.

    Args:
        make_executor: called once, and again to replace a broken executor.
        function: a function of one task. Workers must be able to import it, and its argument and result to be pickled.
        in_flight: the number of tasks submitted at a time; slightly more than workers keeps all of them busy.

    Raises:
        ValueError: `in_flight` is not positive, or `retries` is negative.
        Exception: `make_executor`, or `submit` of a new executor, raises an exception.
    """
    if in_flight < 1 or retries < 0:
        raise ValueError(f"in_flight must be at least 1 and retries at least 0, but got {in_flight} and {retries}")
    guarded = partial(_guarded, function)
    waiting, suspects = deque(range(len(tasks))), deque[int]()
    alone = set[int](range(len(tasks)) if in_flight == 1 else ())  # tasks that ran alone
    losses = [0] * len(tasks)  # losses of tasks that ran alone
    running: dict[int, Future[Any]] = {}
    executor: Executor | None = None

    def submit(index: int) -> None:
        nonlocal executor
        if executor is not None:
            try:
                running[index] = executor.submit(guarded, tasks[index])
                return
            except Exception:  # it is broken
                executor.shutdown(wait=False)
        executor = make_executor()
        running[index] = executor.submit(guarded, tasks[index])

    try:
        while running or waiting or suspects:
            if suspects and not running:
                alone.add(suspects[0])
                submit(suspects.popleft())
            while waiting and not suspects and len(running) < in_flight:
                submit(waiting.popleft())
            for index, outcome in _finished(running):
                del running[index]
                lost = isinstance(outcome, Failure) and outcome.lost
                losses[index] += lost and index in alone
                if lost and losses[index] <= retries:
                    suspects.append(index)
                else:
                    yield index, outcome
    finally:
        if executor is not None:
            executor.shutdown(wait=not running)


def _guarded(function: Callable[[T], R], task: T) -> R | Failure:
    """Turn an exception of the function into a result, so that exceptions of a future come from the executor."""
    try:
        return function(task)
    except Exception as error:
        return Failure(f"{type(error).__name__}: {error}", lost=False)


def _finished(running: Mapping[int, Future[Any]]) -> list[tuple[int, Any]]:
    """The tasks that have finished, after a short wait for the first."""
    finished: list[tuple[int, Any]] = []
    for index, future in running.items():
        try:
            finished.append((index, future.result(timeout=0 if finished else POLL / len(running))))
        except TimeoutError:
            continue
        except Exception as error:
            finished.append((index, Failure(f"{type(error).__name__}: {error}".rstrip(": "), lost=True)))
    return finished


# Executors ------------------------------------------------------------------------------------------------------------


@container
class Pool(NamedTuple):
    """An executor for `map_runs`, and the number of tasks in flight."""

    make_executor: Callable[[], Executor]
    in_flight: int


@contextlib.contextmanager
def open_pool(name: str, *, jobs: int | None = None, scheduler: str | None = None) -> Generator[Pool | None]:
    """Open a named executor, and close it at the end; yields None in an MPI rank that has worked for it.

    Args:
        name: "serial" for this process, "process" for a pool of processes, "dask" for a Dask cluster, or "mpi" for the
            ranks of MPI.
        jobs: the number of processes of a pool or a local Dask cluster; None means one per core.
        scheduler: the address of a Dask cluster; None starts a local one.

    Raises:
        ValueError, ImportError, OSError: there is no such executor, library or scheduler.
    """
    jobs = jobs or cores()
    match name:
        case "serial":
            yield Pool(_SerialExecutor, 1)
        case "process":
            context = multiprocessing.get_context("spawn")
            try:
                yield Pool(partial(ProcessPoolExecutor, jobs, context, _start_worker), jobs + 1)
            finally:
                for child in multiprocessing.active_children():  # only after an interruption
                    child.terminate()
        case "dask":
            with contextlib.ExitStack() as stack:
                client: Any = None

                def make() -> Executor:
                    nonlocal client
                    if client is None or client.status != "running":
                        client = _dask_client(scheduler, jobs, stack)
                    # With pure=True, Dask would run equal tasks only once.
                    return _Borrowed(client.get_executor(pure=False), lambda: client.status == "running")

                yield Pool(make, DASK_IN_FLIGHT)
        case "mpi":
            with _mpi_pool() as pool:
                yield pool
        case _:
            raise ValueError(f"expected one of the executors {', '.join(EXECUTORS)}, but got {name!r}")


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _SerialExecutor(Executor):
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))  # map_runs turns exceptions into results
        return future


def _start_worker() -> None:
    """Leave Ctrl-C to the parent process, and end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _dask_client(scheduler: str | None, jobs: int, stack: contextlib.ExitStack) -> Any:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise missing("the executor dask", "distributed", "dask") from None
    if scheduler is None:
        cluster: Any = LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            processes=True,
            protocol="tcp://",
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        )
        return stack.enter_context(Client(stack.enter_context(cluster)))
    client: Any = stack.enter_context(Client(scheduler, timeout=10))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fnet-package.zip")
        path.write_bytes(_package())
        client.upload_file(str(path))  # also for workers that join later
    return client


def _package() -> bytes:
    """This package as an importable .zip, so that workers run the code of this process."""
    package, buffer = Path(fnet.__file__).parent, io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*")):
            if path.suffix in (".py", ".npz"):
                archive.write(path, path.relative_to(package.parent))
    return buffer.getvalue()


@contextlib.contextmanager
def _mpi_pool() -> Generator[Pool | None]:
    try:
        from mpi4py import MPI
        from mpi4py.futures import MPICommExecutor
    except ImportError:
        raise missing("the executor mpi", "mpi4py", "mpi") from None
    ranks = MPI.COMM_WORLD.size
    if ranks < 2:
        raise ValueError(
            "the executor mpi needs at least 2 ranks, one of which drives the others: "
            "mpiexec -n 3 fnet sweep --executor mpi …"
        )
    with MPICommExecutor(MPI.COMM_WORLD, root=0) as executor:
        # A rank that dies ends the whole job, so the executor is never replaced.
        yield None if executor is None else Pool(lambda: _Borrowed(executor, lambda: True), ranks)


class _Borrowed(Executor):
    """An executor that map_runs does not shut down; its futures fail if it is lost, while those of Dask would wait."""

    def __init__(self, executor: Any, is_alive: Callable[[], bool]) -> None:
        self.executor, self.is_alive = executor, is_alive

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not self.is_alive():
            raise ConnectionError("the scheduler is gone")
        future, is_alive = self.executor.submit(fn, *args, **kwargs), self.is_alive

        class Watched(Future[Any]):
            def result(self, timeout: float | None = None) -> Any:
                if not future.done() and not is_alive():
                    raise ConnectionError("the scheduler is gone")
                return future.result(timeout)

        return Watched()
