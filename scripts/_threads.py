"""How many threads the BLAS of NumPy uses: the one place where the scripts decide it. Import it before NumPy.

`--threads N` on the command line, or else the variables below where they are set, or else 1: at the sizes of these
networks a second thread gains about a tenth on an idle machine and costs a multiple beside another process
(`python scripts/bench.py --threads 2`).
"""

import argparse
import os
import sys

VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def add_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--threads", type=number, metavar="N", help="BLAS threads (default 1)")


def number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, but got {text!r}")
    return int(text)


def _from_command_line(argv: list[str]) -> str | None:
    for i, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if len(name) > len("--t") and "--threads".startswith(name):  # argparse takes --thr, too
            return value if equals else "".join(argv[i + 1 : i + 2])
    return None


_number = _from_command_line(sys.argv[1:])
for _variable in VARIABLES:
    if _number is not None and _number.isdecimal():
        os.environ[_variable] = _number
    else:
        os.environ.setdefault(_variable, "1")
