"""How many threads the BLAS of NumPy uses.

`--threads N` on the command line, or else the variables below where one is set, or else 1: at the sizes of these
networks a second thread gains about a tenth on an idle machine and costs a multiple beside another process.

A BLAS reads the variables when it is loaded, with NumPy and thus before any line of fnet, so its function is called.
"""

import argparse
import ctypes
import importlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fnet.cli.parser import Group

VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# OpenBLAS in NumPy's wheels, and elsewhere; MKL.
_FUNCTIONS = (
    "scipy_openblas_{}_num_threads64_",
    "scipy_openblas_{}_num_threads",
    "openblas_{}_num_threads64_",
    "openblas_{}_num_threads",
    "MKL_{}_Threads",
)


def add_option(group: Group) -> None:
    group.add_argument("--threads", type=number, metavar="N", help="of the BLAS (1)")


def number(text: str) -> int:
    """A positive integer on a command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, but got {text!r}")
    return int(text)


def limit(threads: int | None = None) -> None:
    """Set the number of threads of the BLAS that NumPy has loaded, and of the processes that are started from here.

    Args:
        threads: None leaves what the variables say, and is 1 where none is set.
    """
    if threads is None and any(name in os.environ for name in VARIABLES):
        return
    os.environ.update(dict.fromkeys(VARIABLES, str(threads or 1)))
    if (set_threads := _function("set", "Set_Num")) is not None:
        set_threads(threads or 1)


def count() -> int | None:
    """The number of threads of NumPy's BLAS; None where it is neither OpenBLAS nor MKL."""
    get_threads = _function("get", "Get_Max")
    return None if get_threads is None else get_threads()


def _function(openblas: str, mkl: str) -> Callable[..., int] | None:
    # A name is looked up in NumPy's extension module and in the libraries that it has loaded, on Windows in the first
    # alone, so that the libraries of the wheel are looked up as well.
    module = importlib.import_module("numpy._core._multiarray_umath")
    for path in (str(module.__file__), *map(str, Path(np.__file__).parents[1].glob("numpy.libs/*.dll"))):
        library = ctypes.CDLL(path)
        for name in _FUNCTIONS:
            function = getattr(library, name.format(mkl if name.startswith("MKL") else openblas), None)
            if function is not None:
                return function
    return None
