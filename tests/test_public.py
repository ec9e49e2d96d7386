"""The public face: names, signatures and representations, as `dir`, `help` and the prompt show them."""

import contextlib
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import fnet
from fnet import data, model, optim, random, training, tree


def modules() -> list[ModuleType]:
    """The modules that a script may import: not those of the command and the engine, and not templates of files."""
    found: list[ModuleType] = []
    for module in pkgutil.walk_packages(fnet.__path__, "fnet."):
        if not module.name.startswith(("fnet.__main__", "fnet.cli", "fnet.engine")) and "_template" not in module.name:
            with contextlib.suppress(ImportError):  # of a library that is not installed
                found.append(importlib.import_module(module.name))
    return found


@pytest.mark.parametrize("module", [fnet, *modules()], ids=lambda module: module.__name__)
def test_every_module_names_what_is_public_and_shows_it_readably(module: ModuleType) -> None:
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isfunction(value) or (inspect.isclass(value) and issubclass(value, tuple)):
            signature = str(inspect.signature(value))
            for noise in ("numpy.ndarray[", "typing.", "ForwardRef", " at 0x", "<class"):
                assert noise not in signature, f"{module.__name__}.{name}{signature}"


def test_the_public_face_is_small_and_without_internals() -> None:
    assert len(fnet.__all__) <= 46
    assert not [name for name in fnet.__all__ if name.startswith(("check_", "_"))]


@pytest.mark.parametrize("module", [fnet, fnet.random, fnet.nn, optim, fnet.data, training])
def test_dir_shows_the_public_names_alone(module: ModuleType) -> None:
    assert dir(module) == sorted(module.__all__)


def test_help_names_the_types_of_arguments() -> None:
    assert "params: 'Params', state: 'State', x: 'npt.ArrayLike'" in str(inspect.signature(fnet.forward))
    assert str(inspect.signature(fnet.Dataset)).startswith("(x: 'Array', y: 'Array', classes: ")


def test_containers_are_shown_by_their_shapes() -> None:
    config = fnet.MLPConfig(sizes=(64, 128, 10))
    train_state = fnet.init_train_state(random.key(0), config)
    norm = "norm=BatchNorm(scale=float32[128], bias=float32[128])"
    assert repr(train_state.params[0]).splitlines() == [
        "Layer(",
        "  linear=Linear(w=float32[64, 128], b=None),",
        f"  {norm}",
        ")",
    ]
    for text in (repr(train_state), repr(train_state.opt_state)):
        assert norm in text
        assert "array(" not in text
    network = (train_state.params, train_state.state)
    trained = fnet.Model(config, (network,), data.fit_standardizer(np.eye(64)), tuple(range(10)))
    assert "standardizer=Standardizer(mean=float64[64], std=float64[64])" in repr(trained)
    assert len(repr(trained).splitlines()) < 50
    assert repr(trained) == tree.summary(trained)
    assert isinstance(trained, tuple)
    assert model.Model(*trained) == trained


def test_every_file_names_what_other_files_may_use() -> None:
    without = {"__main__.py", "c_template.py", "python_template.py"}
    files = [path for path in Path(fnet.__path__[0]).rglob("*.py") if path.name not in without]
    assert [path.name for path in files if "\n__all__ = [" not in path.read_text()] == ["__init__.py"]  # that of cli
