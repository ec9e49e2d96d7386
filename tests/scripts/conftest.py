"""The scripts as modules."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def load_script(name: str) -> ModuleType:
    """A script, imported from its file; it is not run."""
    path = SCRIPTS / name
    spec = importlib.util.spec_from_file_location(f"scripts.{name.removesuffix('.py').replace('/', '.')}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that are called in this process leave its environment as it is."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        monkeypatch.setenv(name, "1")


Main = Callable[[list[str]], int]
