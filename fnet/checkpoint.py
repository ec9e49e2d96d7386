"""Any pytree to a file and back: bit for bit, atomically, without pickle.

The file is an `.npz` that `numpy.load` reads: an entry for each leaf, named by its path, one with metadata as JSON, and
one with the SHA-256 of all that. The same tree always gives the same bytes.
"""

import contextlib
import hashlib
import io
import json
import os
import tempfile
import urllib.parse
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fnet import tree
from fnet.data import npy as _npy
from fnet.nn import Array
from fnet.tree import PyTree

T = TypeVar("T")

_METADATA, _SHA256 = "metadata.json", "sha256"
_SCALARS = (bool, int, float, complex, str)


def save(path: str | Path, tree_: PyTree, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a pytree of arrays, numbers and strings, so that `load` gives it back, bit for bit.

    The file is written under another name in the same folder, flushed to the disk and renamed, so that at any moment,
    and after a crash at any moment, `path` is the old file or the new one, whole.

    Args:
        metadata: anything that JSON holds, for `load_metadata`.

    Raises:
        TypeError: a leaf of another kind; names its path.
        OSError: the file cannot be written; the old one is still there.
    """
    leaves = tree.flatten_with_path(tree_)[0]
    arrays = {_entry_name(leaf_path): _to_array(leaf_path, leaf) for leaf_path, leaf in leaves}
    note = json.dumps(dict(metadata or {}), sort_keys=True).encode()
    write_atomically(path, _pack(arrays, note))


def load(path: str | Path, like: T) -> T:
    """The pytree in a file that `save` wrote.

    Args:
        like: a tree of the same structure, with leaves of the same shapes and dtypes, such as one from `fnet.init`.

    Raises:
        FileNotFoundError, PermissionError: the file cannot be opened.
        ValueError: it is damaged, or holds another tree; names the path and both shapes.
    """
    arrays, _ = _unpack(path)
    leaves, treedef = tree.flatten_with_path(like)
    names = [_entry_name(leaf_path) for leaf_path, _ in leaves]
    if set(names) != set(arrays):
        missing = sorted(set(names) - set(arrays)) or "none"
        extra = sorted(set(arrays) - set(names)) or "none"
        raise ValueError(f"{path} holds another tree: missing {missing}, not expected {extra}")
    loaded = [
        _like(str(path), leaf_path, leaf, arrays[name]) for name, (leaf_path, leaf) in zip(names, leaves, strict=True)
    ]
    return tree.unflatten(treedef, loaded)


def load_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata in a file that `save` wrote.

    Raises:
        FileNotFoundError, PermissionError, ValueError: as `load`.
    """
    return _unpack(path)[1]


def write_atomically(path: str | Path, data: bytes) -> None:
    """Replace a file by one with the given bytes: at any moment it is the old one or the new one, whole.

    Raises:
        OSError: the file cannot be written; the old one is still there.
    """
    path = Path(path)
    if not path.parent.is_dir():  # else the message would be of the temporary file
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system can (Windows cannot open a folder)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _pack(arrays: Mapping[str, Array], note: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, data: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)

        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)
            add(f"{name}.npy", entry.getvalue())
        for name, data in ((_METADATA, note), (_SHA256, digest(arrays, note))):
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.frombuffer(data, np.uint8), allow_pickle=False)
            add(f"{name}.npy", entry.getvalue())
    return buffer.getvalue()


def _unpack(path: str | Path) -> tuple[dict[str, Array], dict[str, Any]]:
    arrays = _npy.read_npz(path)
    try:
        note, stored = (arrays.pop(name).tobytes() for name in (_METADATA, _SHA256))
    except KeyError as error:
        raise ValueError(f"{path} is not a checkpoint of fnet: it has no entry {error}") from None
    if digest(arrays, note) != stored:
        raise ValueError(f"{path} is damaged: its SHA-256 is not the one that was stored")
    try:
        metadata = json.loads(note)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its metadata are not JSON ({error})") from None
    return arrays, metadata


def _entry_name(path: str) -> str:
    """A path as the name of an entry: with nothing in it that could be taken for a folder."""
    return "leaf" + urllib.parse.quote(path, safe="[]'. ")


def digest(arrays: Mapping[str, Array], note: bytes) -> bytes:
    """The SHA-256 of metadata and of named arrays, in their order."""
    sha256 = hashlib.sha256(note)
    for name, array in arrays.items():
        sha256.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        sha256.update(array.tobytes())
    return sha256.digest()


def _to_array(path: str, leaf: Any) -> Array:
    array, kind = np.asarray(leaf), leaf.__class__.__name__
    if (
        not isinstance(leaf, (np.ndarray, np.generic, *_SCALARS))
        or array.dtype.hasobject
        or array.dtype.kind == "V"  # which `load` would refuse
    ):
        raise TypeError(
            f"leaf {path or '(the tree)'} is a {kind} of {array.dtype}; "
            "expected an array of numbers or strings, a number or a string"
        )
    return array


def _like(source: str, path: str, like: Any, array: Array) -> Any:
    """The stored array as what `like` is: an array, a NumPy scalar or a Python one."""
    expected = _to_array(path, like)
    same_dtype = array.dtype == expected.dtype or array.dtype.kind == expected.dtype.kind == "U"
    if array.shape != expected.shape or not same_dtype:
        raise ValueError(
            f"{source}: leaf {path or '(the tree)'} is {array.dtype}{list(array.shape)}, "
            f"but {expected.dtype}{list(expected.shape)} is expected"
        )
    if isinstance(like, np.ndarray):
        return array
    return array[()] if isinstance(like, np.generic) else array.item()


# A folder of checkpoints ----------------------------------------------------------------------------------------------


def save_step(
    folder: str | Path,
    step: int,
    tree_: PyTree,
    *,
    metadata: Mapping[str, Any] | None = None,
    keep: int = 2,
) -> Path:
    """Write a checkpoint of a step to a folder, then delete all but it and the `keep` of the highest steps.

    Raises:
        TypeError, OSError: as `save`; what was there is still there.
        ValueError: `keep` is not positive, or step is negative.
    """
    if keep < 1 or step < 0:
        raise ValueError(f"expected keep of 1 or more and a step of 0 or more, but got {keep} and {step}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:010d}.npz"
    save(path, tree_, metadata=metadata)
    for old in steps(folder)[keep:]:
        if old != path:
            old.unlink(missing_ok=True)
    for left in folder.glob(".step-*.tmp"):  # of a process that was killed while it wrote
        left.unlink(missing_ok=True)
    return path


def steps(folder: str | Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    return sorted(Path(folder).glob("step-*.npz"), reverse=True)


def load_newest(folder: str | Path, read: Callable[[Path], T]) -> T | None:
    """What `read` gives for the newest checkpoint in a folder that is not damaged; None where there is none.

    Warns of each damaged one, by name.

    Args:
        read: such as `lambda path: load(path, like)`; a ValueError from it means damage.

    Raises:
        ValueError: there are checkpoints, but all are damaged.
    """
    paths = steps(folder)
    for path in paths:
        try:
            return read(path)
        except ValueError as error:
            warnings.warn(f"skipping a damaged checkpoint: {error}", stacklevel=2)
    if paths:
        raise ValueError(f"all checkpoints in {folder} are damaged")
    return None
