"""Where the scripts are, and that arithmetic which goes wrong is an error in every test."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))


@pytest.fixture(autouse=True)
def arithmetic_errors() -> Iterator[None]:
    """Overflow, invalid operations and divisions by zero raise, unless the code under test expects them."""
    with np.errstate(all="raise", under="ignore"):
        yield
