"""The command `fnet`: it finds the subcommand and imports it only then."""

import importlib
import sys

COMMANDS = ("train", "predict", "sweep", "export", "inspect")


def main(argv: list[str] | None = None) -> int:
    """Run a command line, by default that of this process, and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] not in COMMANDS:
        print(f"error: expected a command: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return importlib.import_module(f"fnet.cli.{argv[0]}").main(argv[1:])
