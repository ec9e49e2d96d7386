"""The command `fnet`: it imports the subcommand that is asked for, and turns errors into one line and an exit code."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable

import fnet
from fnet.cli.output import say
from fnet.cli.parser import unknown

COMMANDS = {
    "train": "train a model and write everything about the run to a folder",
    "predict": "predict new rows with a trained model",
    "sweep": "search for good options",
    "export": "write a model for ONNX, safetensors or PyTorch",
    "inspect": "show what a model is and how it was trained",
}
HELP = """\
usage: fnet COMMAND …
Multi-layer perceptrons in NumPy alone.

{commands}

fnet COMMAND --help shows the options of a command, fnet --version the version."""

Command = Callable[[list[str]], int | None]


def main(argv: list[str] | None = None) -> int:
    """Run a command line, by default that of this process, and return its exit code."""
    return run(_dispatch, argv)


def run(command: Command, argv: list[str] | None = None) -> int:
    """Call a program and return its exit code; an error becomes one line on standard error.

    Returns:
        What the program returns, or 0; 1 where nobody reads standard output any more; otherwise as `report`.
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
        except BrokenPipeError:  # such as by head; nothing more is to be flushed at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except SystemExit as stop:  # of --help
            return int(stop.code or 0)
        except BaseException as error:
            return report(error)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    say("warning", message)


def report(error: BaseException) -> int:
    """Write one line about an error to standard error.

    Returns:
        The exit code: 130 for an interruption, 3 for a loss that is not finite, 2 for all that a user can mend.

    Raises:
        BaseException: any other error, which is a fault of this program and needs its traceback.
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
