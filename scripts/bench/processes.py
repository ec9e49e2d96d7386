"""The processes of the contenders: one each, under equal conditions, in turns."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

FOLDER = Path(__file__).parent
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
KERNELS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # if set, they can halve the speed of products
SETTLE = 0.05  # seconds until the threads of the previous contender sleep

Turns: TypeAlias = dict[str, list[float]]  # the seconds of each contender


class Workers(NamedTuple):
    running: dict[str, "subprocess.Popen[str]"]
    left_out: dict[str, str]  # why


def environment(*, all_cores: bool = False) -> dict[str, str]:
    """The environment: one thread, or the default of each library."""
    env = {name: value for name, value in os.environ.items() if name not in {*THREADS, *KERNELS}}
    env |= {"JAX_PLATFORMS": "cpu", "TORCHINDUCTOR_COMPILE_THREADS": "1"}  # otherwise helper processes remain
    return env if all_cores else env | dict.fromkeys(THREADS, "1") | {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}


def pin() -> None:
    """Keep this process and its children on one core, if the system supports it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def call(program: str, name: str, left_out: dict[str, str], *, env: Mapping[str, str] = {}, **request: Any) -> Any:
    """The answer of another program to one request; None if it has no answer, and `name` is then left out."""
    command = [sys.executable, str(FOLDER / program), json.dumps(request)]
    result = subprocess.run(command, env={**environment(), **env}, capture_output=True, text=True)
    if result.returncode:
        said = result.stderr.strip().rpartition("\n")[2]
        left_out[name] = said or f"its process ended with code {result.returncode}"
        return None
    return json.loads(result.stdout)


@contextlib.contextmanager
def contenders(names: Sequence[str], left_out: dict[str, str], *, all_cores: bool = False) -> Iterator[Workers]:
    """Start the contenders; those that cannot answer are left out."""
    started = [
        subprocess.Popen(
            [sys.executable, str(FOLDER / "contenders.py"), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(all_cores=all_cores),
        )
        for name in names
    ]
    try:
        yield Workers(dict(zip(names, started, strict=True)), left_out)
    finally:
        for process in started:
            process.kill()
            process.communicate()


def ask(workers: Workers, name: str, **request: Any) -> Any:
    """The answer of a contender; None if it has no answer, and it is then left out."""
    process = workers.running[name]
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        print(json.dumps(request), file=process.stdin, flush=True)
        reply = json.loads(process.stdout.readline())
    except (OSError, ValueError):
        reply = f"its process ended with code {process.wait()}"
    if isinstance(reply, str):
        workers.left_out[name] = reply
        del workers.running[name]
        return None
    return reply


def take_turns(workers: Workers, names: Iterable[str], repeats: int, **request: Any) -> Turns:
    """The seconds of each contender, in an order that changes with each repetition."""
    names = [name for name in names if name in workers.running]
    turns: Turns = {name: [] for name in names}
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            if name in workers.running:
                time.sleep(SETTLE)
                turns[name].append(ask(workers, name, **request))
    return {name: turns[name] for name in names if name in workers.running}
