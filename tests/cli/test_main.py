"""The command line itself: subcommands, help, errors, threads."""

import os
import subprocess
import sys
import tomllib
import warnings
from importlib import import_module
from pathlib import Path

import pytest

import fnet
from fnet.cli import threads
from fnet.cli.main import COMMANDS, main, run
from fnet.cli.output import csv_text, visible

from .conftest import Fnet

ROOT = Path(__file__).parents[2]


def test_python_m_fnet_is_the_installed_command() -> None:
    command = [sys.executable, "-m", "fnet", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == f"fnet {fnet.__version__}\n"
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["fnet"]
    module, name = entry.split(":")
    assert getattr(import_module(module), name) is main


def test_a_subcommand_is_imported_only_when_it_is_used() -> None:
    code = "import sys, fnet.cli.main as m; m.main(['--version']); print(*[n for n in sys.modules if 'fnet.cli.' in n])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = result.stdout.splitlines()[1].split()
    assert not {f"fnet.cli.{name}" for name in COMMANDS} & set(loaded)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_two_screens(name: str, fnet_command: Fnet) -> None:
    result = fnet_command(name, "--help")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].startswith(f"usage: fnet {name} ")
    assert len(lines) <= 48
    assert max(map(len, lines)) <= 100
    assert name in fnet_command("--help").out


def test_help_shows_the_defaults_of_the_preset(fnet_command: Fnet) -> None:
    assert "of hidden units (0.3)" in fnet_command("train", "--help").out
    assert "of hidden units (0.2)" in fnet_command("train", "--preset", "chen-wu-best", "--help").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command trian: did you mean train?"),
        (["nonsense"], "unknown command nonsense; see --help"),
        (["train", "--learning_rat", "1"], "unknown option --learning_rat: did you mean --learning-rate?"),
        (["train", "--learning_rate=1"], "unknown option --learning_rate: did you mean --learning-rate?"),
        (["train", "--epoch", "1"], "unknown option --epoch: did you mean --epochs?"),
        (["train", "-e", "1"], "unknown option -e; see --help"),
        (["train", "digits"], "unrecognized arguments: digits"),
        (["train", "--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        (["train", "--preset", "report"], "argument --preset: invalid choice: 'report'"),
        (["train", "--threads", "0"], "argument --threads: expected a number of at least 1, but got '0'"),
        (["train", "--checkpoint-every", "0"], "expected a number of steps or \"epoch\", but got '0'"),
        (["train", "--class-weight", "1,x"], "expected balanced or a number per class"),
        (["train", "--resume"], "--resume needs --out DIR"),
        (["train", "--resume", "--overwrite", "--out", "x"], "use one of them"),
        (["train", "--calibrate", "--valid-size", "0"], "--calibrate needs validation data"),
        (["predict"], "the following arguments are required: MODEL, DATA"),
        (["export", "model.npz", "--to", "h5"], "argument --to: invalid choice: 'h5'"),
        (["inspect", "none.npz"], "none.npz"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], message: str, fnet_command: Fnet) -> None:
    code, out, err = fnet_command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_no_command_is_answered_with_the_commands(fnet_command: Fnet) -> None:
    code, out, _ = fnet_command()
    assert code == 2
    assert all(f"\n  {name}" in out for name in COMMANDS)


def raising(error: BaseException) -> int:
    def command(argv: list[str]) -> int:
        raise error

    return run(command, [])


def test_each_error_has_its_exit_code_and_nothing_of_the_terminal_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(ValueError("the name \x1b[31m\nis bad")) == 2
    assert capsys.readouterr() == ("", "error: the name \\x1b[31m\\nis bad\n")
    assert raising(MemoryError("cannot allocate 8 TiB")) == 2
    assert raising(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.endswith("\ninterrupted\n")
    with pytest.raises(KeyError):
        raising(KeyError("a fault of the program keeps its traceback"))


def test_a_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda argv: warnings.warn("look\nout", stacklevel=1), []) == 0
    assert capsys.readouterr().err == "warning: look\\nout\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m fnet --help | true; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert result.stderr == ""
    assert result.stdout in ("0\n", "1\n")


def test_names_are_shown_without_what_moves_the_cursor() -> None:
    assert visible("Ärger 日本 a\u202eb\x9b\ud800") == "Ärger 日本 a\\u202eb\\x9b\\ud800"


def test_a_carriage_return_in_a_cell_keeps_a_csv_whole() -> None:
    assert csv_text([["a", "b\rc"], [1, 'x"y'], [2, "d\ne"]]) == 'a,"b\rc"\n1,"x""y"\n2,"d\ne"\n'


# Threads --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the variables is set, and afterwards all is as it was."""
    for name in threads.VARIABLES:
        monkeypatch.setenv(name, "1")
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("variables")
def test_threads_are_those_that_the_blas_uses() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")

    def used() -> set[int]:
        return {info["num_threads"] for info in threadpoolctl.threadpool_info() if "numpy" in info["filepath"]}

    before = threads.count()
    try:
        threads.limit(2)
        assert used() == {2}
        assert threads.count() == 2
        assert os.environ["OMP_NUM_THREADS"] == "2", "for processes that are started from here"
        threads.limit()
        assert used() == {2}, "what the variables say stays"
        for name in threads.VARIABLES:
            del os.environ[name]
        threads.limit()
        assert used() == {1}
    finally:
        threads.limit(before)


@pytest.mark.usefixtures("variables")
def test_a_command_uses_one_thread_unless_it_is_told_otherwise(tmp_path: Path) -> None:
    before = threads.count()
    try:
        for options, expected in (([], 1), (["--threads", "2"], 2)):
            for name in threads.VARIABLES:
                os.environ.pop(name, None)
            assert main(["predict", str(tmp_path / "none.npz"), "-", *options]) == 2
            assert threads.count() in (expected, None)
    finally:
        threads.limit(before)
