"""The command `fnet` in this process."""

import contextlib
from collections.abc import Callable, Generator
from typing import NamedTuple

import pytest

from fnet.cli.main import main


class Result(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


Fnet = Callable[..., Result]


@pytest.fixture
def fnet_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Fnet:
    """Call `fnet` with arguments; the number of threads stays as it is."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run


def succeeds(result: Result) -> Result:
    assert (result.code, result.err) == (0, "")
    return result


def refused(result: Result) -> str:
    """The one line that says why."""
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    return result.err


def interrupting(after: Callable[[], int]) -> Callable[[], contextlib.AbstractContextManager[Callable[[], bool]]]:
    """As `train.interruptible`, but that the interruption comes after some steps."""

    @contextlib.contextmanager
    def interruptible() -> Generator[Callable[[], bool]]:
        left = iter(range(after()))
        yield lambda: next(left, None) is None

    return interruptible
