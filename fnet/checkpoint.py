"""Save and load any pytree: bit for bit, atomically, without pickle.

The file is an `.npz` that `numpy.load` reads. It has an entry for each leaf, named by its path, an entry with metadata
as JSON, and an entry with the SHA-256 of all others. The same tree always gives the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import time
import urllib.parse
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from fnet import tree
from fnet.data import npy
from fnet.nn import Array
from fnet.tree import PyTree

__all__ = [
    "digest",
    "load",
    "load_metadata",
    "load_newest",
    "read",
    "remove_temporaries",
    "restore",
    "save",
    "save_step",
    "steps",
    "write_atomically",
]

T = TypeVar("T")

_METADATA, _SHA256 = "metadata.json", "sha256"
_SCALARS = (bool, int, float, complex, str)
_TEMPORARY = ".fnet-tmp"  # the suffix of files that are being written
MAX_METADATA = 16 << 20  # bytes; parsed JSON takes several times its length


def save(path: str | Path, tree_: PyTree, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Save a pytree of arrays, numbers and strings to a file from which `load` returns it bit for bit.

    The file is written under a temporary name in the same folder, flushed to the disk and renamed. At any moment, and
    after a crash at any moment, `path` is therefore the complete old file or the complete new one.

    Args:
        metadata: a JSON object for `load_metadata`, at most 16 MiB.

    Raises:
        TypeError: a leaf is not an array of numbers or strings, a number or a string; the message names its path.
        ValueError: a string ends in a NUL character, which NumPy would drop; or the metadata are too large.
        OSError: the file cannot be written; the old file is intact.
    """
    leaves = tree.flatten_with_path(tree_)[0]
    arrays = {_entry_name(leaf_path): _to_array(leaf_path, leaf) for leaf_path, leaf in leaves}
    note = json.dumps(dict(metadata or {}), sort_keys=True).encode()
    if len(note) > MAX_METADATA:
        raise ValueError(f"the metadata take {len(note)} bytes as JSON, more than {MAX_METADATA}")
    write_atomically(path, _pack(arrays, note))


def load(path: str | Path, like: T) -> T:
    """Load the pytree in a file that `save` wrote.

    Args:
        like: a tree with the same structure, shapes and dtypes, such as one from `fnet.init`.

    Raises:
        FileNotFoundError, PermissionError: the file cannot be opened.
        ValueError: it is damaged, is not a regular file, or holds another tree; the message names the path and both
            shapes.
    """
    return restore(path, read(path)[0], like)


def restore(path: str | Path, arrays: Mapping[str, Array], like: T) -> T:
    """Make the tree of `load` from the arrays of `read`; the path is for messages.

    Raises:
        ValueError: as for `load`.
    """
    leaves, treedef = tree.flatten_with_path(like)
    names = [_entry_name(leaf_path) for leaf_path, _ in leaves]
    if set(names) != set(arrays):
        missing = _some(set(names) - set(arrays))
        extra = _some(set(arrays) - set(names))
        raise ValueError(f"{path} holds another tree: missing {missing}, not expected {extra}")
    loaded = [
        _like(str(path), leaf_path, leaf, arrays[name]) for name, (leaf_path, leaf) in zip(names, leaves, strict=True)
    ]
    return tree.unflatten(treedef, loaded)


def _some(names: set[str]) -> str:
    """The first few of many names, for a message."""
    return (str(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")) if names else "none"


def load_metadata(path: str | Path) -> dict[str, Any]:
    """Load the metadata in a file that `save` wrote.

    Raises:
        FileNotFoundError, PermissionError, ValueError: as for `load`.
    """
    return read(path)[1]


def read(path: str | Path, *, max_metadata: int = MAX_METADATA) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read the arrays in a file that `save` wrote, by the name of their entry, and the metadata.

    Raises:
        FileNotFoundError, PermissionError, ValueError: as for `load`; or the metadata have over `max_metadata` bytes.
    """
    arrays = npy.read_npz(path)
    missing = {_METADATA, _SHA256} - arrays.keys()
    if missing:
        raise ValueError(f"{path} is not a checkpoint of fnet: it has no entry {min(missing)!r}")
    if arrays[_METADATA].nbytes > max_metadata:
        raise ValueError(f"{path}: its metadata take {arrays[_METADATA].nbytes} bytes, more than {max_metadata}")
    note, stored = (arrays.pop(name).tobytes() for name in (_METADATA, _SHA256))
    if digest(arrays, note) != stored:
        raise ValueError(f"{path} is damaged: its SHA-256 differs from the one that was stored")
    try:
        metadata = json.loads(note)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its metadata are not JSON ({error})") from None
    if not isinstance(metadata, dict):
        raise ValueError(f"{path} is damaged: its metadata are not a JSON object")
    return arrays, cast(dict[str, Any], metadata)


# Writing --------------------------------------------------------------------------------------------------------------


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a file so that at any moment it is the complete old one or the complete new one.

    Raises:
        OSError: the file cannot be written; the old file is intact.
    """
    path = Path(path)
    if not path.parent.is_dir():  # otherwise the message would name the temporary file
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}{_TEMPORARY}")
    try:
        with temporary.open("xb") as file:  # with mode 0o666 & ~umask, like any new file
            _lock(file.fileno())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.utime(temporary)  # recent until the rename, see remove_temporaries
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, f"cannot write the file: {error.strerror}", str(path)) from None
        raise
    _sync_folder(path.parent)


def remove_temporaries(folder: str | Path) -> None:
    """Delete the temporary files of `write_atomically` whose writers were killed, but not those being written."""
    for path in Path(folder).glob(f".*{_TEMPORARY}"):
        with contextlib.suppress(OSError), path.open("r+b") as file:
            # A running writer holds the lock, except just after it creates the file and just before it renames it.
            if _lock(file.fileno()) and time.time() - os.fstat(file.fileno()).st_mtime > 1:
                path.unlink()


def _lock(handle: int) -> bool:
    """Lock an open file until it is closed or the process ends; False if it is locked already or cannot be locked."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power failure, if the system allows it (Windows cannot open a folder)."""
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


def _entry_name(path: str) -> str:
    """The name of the entry for a path, without characters that separate folders."""
    return "leaf" + urllib.parse.quote(path, safe="[]'. ")


def digest(arrays: Mapping[str, Array], note: bytes) -> bytes:
    """The SHA-256 of metadata and named arrays, in order."""
    sha256 = hashlib.sha256(note)
    for name, array in arrays.items():
        sha256.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        if array.nbytes:
            sha256.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha256.digest()


def _to_array(path: str, leaf: Any) -> Array:
    array, kind = np.asarray(leaf), leaf.__class__.__name__
    if (
        not isinstance(leaf, (np.ndarray, np.generic, *_SCALARS))
        or array.dtype.hasobject
        or array.dtype.kind == "V"  # which `load` would refuse
        or isinstance(leaf, np.ma.MaskedArray)
    ):
        raise TypeError(
            f"leaf {path or '(the tree)'} is a {kind} of {array.dtype}; "
            "expected an array of numbers or strings, a number or a string"
        )
    if isinstance(leaf, (str, bytes)) and leaf[-1:] in ("\0", b"\0"):
        raise ValueError(f"leaf {path or '(the tree)'} is a string that ends in a NUL character, which NumPy drops")
    return array


def _like(source: str, path: str, like: Any, array: Array) -> Any:
    """The stored array as an array, NumPy scalar or Python scalar, like `like`."""
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
    """Write a checkpoint of a step to a folder, then delete all but the `keep` newest.

    Raises:
        TypeError, ValueError, OSError: as for `save`; the older checkpoints are intact.
        ValueError: `keep` is not positive, or `step` is negative.
    """
    if keep < 1 or step < 0:
        raise ValueError(f"keep must be at least 1 and step at least 0, but got {keep} and {step}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:010d}.npz"
    save(path, tree_, metadata=metadata)
    for old in steps(folder)[keep:]:
        if old != path:
            old.unlink(missing_ok=True)
    remove_temporaries(folder)
    return path


def steps(folder: str | Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    return sorted(Path(folder).glob("step-*.npz"), reverse=True)


def load_newest(folder: str | Path, read: Callable[[Path], T]) -> T | None:
    """Read the newest undamaged checkpoint in a folder; None if there are no checkpoints.

    Each damaged checkpoint causes a warning that names it.

    Args:
        read: a function such as `lambda path: load(path, like)`; a ValueError from it means damage.

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
