"""safetensors: a whole classifier in one file that other tools can read, and back.

The arrays are those of `fnet.interop.torch`, a set for each member of an ensemble, with the prefixes `members.0.`,
`members.1.`, …, and `standardizer.mean` and `standardizer.std`. All else is JSON, under "fnet" in the metadata: the
architecture, class names, temperature, provenance, and a SHA-256 of the whole, since the format has no checksum.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fnet import checkpoint, model
from fnet.data import Standardizer
from fnet.interop.torch import from_torch_state_dict, to_torch_state_dict
from fnet.model import Model
from fnet.nn import Array
from fnet.tree import freeze

_KEY = "fnet"  # one entry for all: safetensors writes several in random order, and the same model gives the same bytes
_MISSING = 'safetensors files need the package safetensors: python -m pip install "fnet[safetensors]"'


def save_safetensors(path: str | Path, model_: Model) -> None:
    """Write a classifier to a file that `load_safetensors` reads; the same model gives the same bytes.

    Raises:
        ImportError: the package safetensors is not installed.
        ValueError: the model is not as `fnet.model.checked` wants it, or its parameters do not fit its config.
        OSError: the file cannot be written; an old one is still there.
    """
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(_MISSING) from None
    tensors = _tensors(model.checked(str(path), model_))
    note = json.loads(json.dumps(model.to_metadata(model_)))
    note["sha256"] = _digest(tensors, note)
    checkpoint.write_atomically(path, safetensors.numpy.save(tensors, {_KEY: json.dumps(note, sort_keys=True)}))


def load_safetensors(path: str | Path) -> Model:
    """The classifier in a file that `save_safetensors` wrote, bit for bit.

    Raises:
        ImportError: the package safetensors is not installed.
        OSError: the file cannot be read.
        ValueError: it is damaged, or holds something else.
    """
    tensors, metadata = _read(path)
    try:
        note = dict(json.loads(metadata[_KEY]))
        stored = note.pop("sha256")
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ValueError(f"{path} is no model: it has no metadata of fnet, as save_safetensors writes them") from None
    if _digest(tensors, note) != stored:
        raise ValueError(f"{path} is damaged: its SHA-256 is not the one that was stored")
    like = model.from_metadata(path, note)
    expected = _tensors(like)
    for name in sorted({*expected, *tensors}):
        want, got = _describe(expected.get(name)), _describe(tensors.get(name))
        if want != got:
            raise ValueError(f"{path} is no model: {name} is {got}, but {want} is expected")
    standardizer = Standardizer(tensors["standardizer.mean"], tensors["standardizer.std"])
    try:
        members = [from_torch_state_dict(like.config, _take(tensors, _prefix(i))) for i in range(len(like.members))]
    except ValueError as error:
        raise ValueError(f"{path} is no model: {error}") from None
    return model.checked(str(path), like._replace(members=tuple(members), standardizer=freeze(standardizer)))


def _tensors(model_: Model) -> dict[str, Array]:
    """The arrays of the file. safetensors 0.8 writes an array as it lies in memory, so they are C-contiguous copies."""
    mean, std = (np.array(array, order="C") for array in model_.standardizer)
    tensors = {"standardizer.mean": mean, "standardizer.std": std}
    for i, member in enumerate(model_.members):
        for name, array in to_torch_state_dict(model_.config, *member).items():
            tensors[_prefix(i) + name] = array
    return tensors


def _read(path: str | Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays and the metadata of any safetensors file."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise ImportError(_MISSING) from None
    try:
        opened: Any = safe_open(path, framework="numpy")
        with opened as file:
            names: list[str] = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, or no safetensors file: {error}") from None


def _prefix(member: int) -> str:
    return f"members.{member}."


def _take(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def _describe(array: Array | None) -> str:
    return "missing" if array is None else f"{array.dtype}{list(array.shape)}"


def _digest(tensors: Mapping[str, Array], note: Mapping[str, Any]) -> str:
    arrays = {name: tensors[name] for name in sorted(tensors)}
    return checkpoint.digest(arrays, json.dumps(note, sort_keys=True).encode()).hex()
