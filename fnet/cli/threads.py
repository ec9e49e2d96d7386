"""The number of threads of NumPy's BLAS.

`--threads N` on the command line decides it, then the environment variables below, and otherwise it is 1. For networks
of this size, a second thread gains about 10 % on an idle machine and multiplies the time beside another process.

A BLAS reads the variables when NumPy is imported, which is before fnet can set them, so its function is called instead.
"""

import argparse
import ctypes
import importlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fnet.cli.parser import Group

__all__ = ["VARIABLES", "add_option", "count", "limit", "number"]

VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# OpenBLAS in NumPy's wheels and elsewhere; MKL.
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
    """Set the number of threads of NumPy's BLAS in this process and its child processes.

    Args:
        threads: None means as the variables say, or 1 if none is set.
    """
    if threads is None and any(name in os.environ for name in VARIABLES):
        return
    os.environ.update(dict.fromkeys(VARIABLES, str(threads or 1)))
    if (set_threads := _function("set", "Set_Num")) is not None:
        set_threads(threads or 1)


def count() -> int | None:
    """The number of threads of NumPy's BLAS; None if it is neither OpenBLAS nor MKL."""
    get_threads = _function("get", "Get_Max")
    return None if get_threads is None else get_threads()


def _function(openblas: str, mkl: str) -> Callable[..., int] | None:
    # A name is looked up in NumPy's extension module and the libraries that it loads. Windows searches only the module,
    # so the libraries of the wheel are searched too.
    module = importlib.import_module("numpy._core._multiarray_umath")
    for path in (str(module.__file__), *map(str, Path(np.__file__).parents[1].glob("numpy.libs/*.dll"))):
        library = ctypes.CDLL(path)
        for name in _FUNCTIONS:
            function = getattr(library, name.format(mkl if name.startswith("MKL") else openblas), None)
            if function is not None:
                return function
    return None
