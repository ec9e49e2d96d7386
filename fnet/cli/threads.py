"""How many threads the BLAS of NumPy uses.

`--threads N` on the command line, or else the variables below where they are set, or else 1: at the sizes of these
networks a second thread gains about a tenth on an idle machine and costs a multiple beside another process.
"""

import argparse
import ctypes
import glob
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# The function that sets the number, by the names that OpenBLAS has in NumPy's wheels and elsewhere, and that of MKL.
FUNCTIONS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
    "MKL_Set_Num_Threads",
)


def add_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--threads", type=number, metavar="N", help="BLAS threads (default 1)")


def number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, but got {text!r}")
    return int(text)


def limit(count: int | None = None) -> None:
    """Set the number of threads of the BLAS that NumPy has loaded, and of processes started from here.

    Args:
        count: the number; None for 1, unless one of the variables is set, which the BLAS has read itself.
    """
    if count is None and any(name in os.environ for name in VARIABLES):
        return
    for name in VARIABLES:
        os.environ[name] = str(count or 1)
    for library in _libraries():
        for name in FUNCTIONS:
            if hasattr(library, name):
                getattr(library, name)(count or 1)
                return


def _libraries() -> Iterator[ctypes.CDLL]:
    """NumPy's extension module, in which its libraries' functions are found as well, and, on Windows, its libraries."""
    paths = [np._core._multiarray_umath.__file__]  # pyright: ignore
    paths += glob.glob(str(Path(np.__file__).parents[1] / "numpy.libs" / "*openblas*.dll"))
    for path in paths:
        try:
            yield ctypes.CDLL(path)
        except OSError:
            continue
