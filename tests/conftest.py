"""Where scripts and helpers are; floating-point errors raise in every test; one BLAS thread, unless set otherwise."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is imported; a second one gains nothing here

import numpy as np
import pytest

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS.parent / "scripts")]


@pytest.fixture(autouse=True)
def floating_point_errors() -> Iterator[None]:
    """Overflow, invalid operations and divisions by zero raise, unless the code under test expects them."""
    with np.errstate(all="raise", under="ignore"):
        yield
