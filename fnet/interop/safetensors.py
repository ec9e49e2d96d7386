"""safetensors: save and load a whole model in a file that other tools can read.

The arrays have the names of `fnet.interop.torch` with a prefix for each member of an ensemble, `members.0.`,
`members.1.`, …. There are also `standardizer.mean` and `standardizer.std` and, for a regression, `scale.mean`,
`scale.std` and `scale.log`. Everything else is JSON under "fnet" in the metadata: architecture, class names,
temperature, provenance, and a SHA-256 of the content, since the format has no checksum.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fnet import checkpoint, tree
from fnet.data import npy
from fnet.interop import missing
from fnet.interop.torch import counter_name, state_dict_names
from fnet.model import MAX_METADATA, Model, arrays, checked, from_metadata, to_metadata
from fnet.nn import Array

__all__ = ["load_safetensors", "save_safetensors"]

_KEY = "fnet"  # a single entry, because safetensors writes several in random order
_DTYPES = ("F32", "F64", "I64", "BOOL")  # the dtypes in a model
_MAX_HEADER = 4 * MAX_METADATA  # bytes; the metadata as a string in JSON, and the names of the tensors


def save_safetensors(path: str | Path, model: Model) -> None:
    """Save a model to a file that `load_safetensors` reads. The same model gives the same bytes.

    Raises:
        ImportError: the package safetensors is not installed.
        ValueError: the model does not pass `fnet.model.checked`.
        OSError: the file cannot be written; an old file is intact.
    """
    try:
        import safetensors.numpy
    except ImportError:
        raise missing("the safetensors format", "safetensors", "safetensors") from None
    # safetensors 0.8 writes the memory of an array, so the arrays are C-contiguous copies.
    tensors = {name: np.array(view, order="C") for name, view in _views(checked(str(path), model)).items()}
    note = json.loads(json.dumps(to_metadata(model)))
    note["sha256"] = _digest(tensors, note)
    checkpoint.write_atomically(path, safetensors.numpy.save(tensors, {_KEY: json.dumps(note, sort_keys=True)}))


def load_safetensors(path: str | Path) -> Model:
    """Load the model in a file that `save_safetensors` wrote, bit for bit.

    Raises:
        ImportError: the package safetensors is not installed.
        OSError: the file cannot be read.
        ValueError: the file is damaged, or is not a model file of fnet.
    """
    tensors, metadata = _read(path)
    try:
        if len(metadata[_KEY]) > MAX_METADATA:
            raise ValueError
        note: Any = json.loads(metadata[_KEY])
        stored = note.pop("sha256")
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise ValueError(
            f"{path} is not a model file of fnet: it lacks the metadata that save_safetensors writes"
        ) from None
    if _digest(tensors, note) != stored:
        raise ValueError(f"{path} is damaged: its SHA-256 differs from the one that was stored")
    like = from_metadata(path, note, len(tensors))
    expected = _views(like)
    for name in sorted({*expected, *tensors}):
        want, got = _describe(expected.get(name)), _describe(tensors.get(name))
        if want != got:
            raise ValueError(f"{path} is not a model file of fnet: {name} is {got}, but {want} is expected")

    def read(name: str) -> Array:
        return np.array(tensors[name].T, order="C")[()]  # a 0-d array becomes a NumPy scalar, as in the model

    return checked(str(path), like._replace(**tree.freeze(tree.map(read, _names(like)))))


def _names(model: Model) -> dict[str, Any]:
    """`fnet.model.arrays`, with each array replaced by its name in the file."""
    names = {field: _paths(field, value) for field, value in arrays(model).items()}
    names["members"] = tuple(
        tree.map(f"members.{i}.{{}}".format, state_dict_names(model.config)) for i in range(len(model.members))
    )
    return names


def _paths(field: str, value: Any) -> Any:
    pairs, treedef = tree.flatten_with_path(value)
    return tree.unflatten(treedef, [field + path for path, _ in pairs])


def _views(model: Model) -> dict[str, Array]:
    """The arrays in the file, by name."""
    views: dict[str, Array] = {}
    for name, array in tree.zip_leaves(_names(model), arrays(model)):
        views[name] = np.asarray(array).T
        if name.endswith("running_var"):
            views[counter_name(name)] = np.zeros((), np.int64)
    return views


def _read(path: str | Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays and the metadata of a safetensors file."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise missing("the safetensors format", "safetensors", "safetensors") from None
    with npy.open_regular(path) as file:
        header = int.from_bytes(file.read(8), "little")
    if header > _MAX_HEADER:
        raise ValueError(f"{path} is not a safetensors file of a model: its header takes {header} bytes")
    try:
        opened: Any = safe_open(path, framework="numpy")
        with opened as file:
            names: list[str] = file.keys()
            for name in names:
                if (dtype := file.get_slice(name).get_dtype()) not in _DTYPES:
                    raise ValueError(f"{path} is not a model file of fnet: {name} is of type {dtype}")
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from None


def _describe(array: Array | None) -> str:
    return "missing" if array is None else f"{array.dtype}{list(array.shape)}"


def _digest(tensors: Mapping[str, Array], note: Mapping[str, Any]) -> str:
    named = {name: tensors[name] for name in sorted(tensors)}
    return checkpoint.digest(named, json.dumps(note, sort_keys=True).encode()).hex()
