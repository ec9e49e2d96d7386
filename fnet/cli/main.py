"""The command `fnet`: runs a subcommand, and turns errors into a line of text and an exit code.

To add a subcommand, write a module of this package with a function `main(argv)`, and enter its name in `COMMANDS`.
"""

import importlib
import os
import sys
import warnings
from collections.abc import Callable

import fnet
from fnet.cli.output import say
from fnet.cli.parser import unknown

__all__ = ["COMMANDS", "main", "report", "run"]

COMMANDS = {
    "train": "train a model and write the results to a folder",
    "predict": "predict new rows with a trained model",
    "sweep": "search for good hyperparameters",
    "export": "write a model as ONNX, safetensors, PyTorch, Python or C",
    "inspect": "show the architecture of a model and how it was trained",
}
HELP = """\
usage: fnet COMMAND …
Multi-layer perceptrons in NumPy alone.

{commands}

fnet COMMAND --help shows the options of a command, and fnet --version the version."""

Command = Callable[[list[str]], int | None]


def main(argv: list[str] | None = None) -> int:
    """Run a command line, by default that of this process, and return the exit code."""
    return run(_dispatch, argv)


def run(command: Command, argv: list[str] | None = None) -> int:
    """Call a program and return its exit code; an error becomes one line on standard error.

    Returns:
        The result of the program, or 0; 1 if standard output was closed; for an error, the code of `report`.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _show_warning
        try:
            code = command(sys.argv[1:] if argv is None else argv) or 0
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # caused by head, for example; prevents another flush at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except SystemExit as stop:  # raised by --help
            return int(stop.code or 0)
        except BaseException as error:
            return report(error)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    say("warning", message)


def report(error: BaseException) -> int:
    """Write one line about an error to standard error.

    Returns:
        The exit code: 130 for an interruption, 3 for a loss that is not finite, 2 for an error that the user can fix.

    Raises:
        BaseException: any other error, which is a bug and needs its traceback.
    """
    match error:
        case KeyboardInterrupt():
            print(str(error) or "interrupted", file=sys.stderr)
            return 130
        case fnet.NonFiniteLossError():
            say("error", error)
            return 3
        case OSError() | ValueError() | TypeError() | ImportError() | MemoryError():
            say("error", error)
            return 2
        case _:
            raise error


def _dispatch(argv: list[str]) -> int | None:
    name = argv[0] if argv else "--help"
    if name in ("-h", "--help", "help"):
        print(HELP.format(commands="\n".join(f"  {name:<9} {text}" for name, text in COMMANDS.items())))
        return 0 if argv else 2
    if name in ("-V", "--version"):
        print(f"fnet {fnet.__version__}")
        return 0
    if name not in COMMANDS:
        raise ValueError(unknown("command", name, COMMANDS))
    return importlib.import_module(f"fnet.cli.{name}").main(argv[1:])
