"""NumPy's own file formats, read as if by an enemy written: no pickle, and no more memory than the file can fill."""

import math
import os
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np

from fnet.nn import Array

MAX_HEADER = 10_000  # bytes; NumPy's own limit
MAX_RATIO = 100  # of a compressed file beyond 64 MiB, so that a small file cannot fill the memory
MAX_SMALL = 64 << 20


def read_npy(path: str | Path, *, mmap: bool = False) -> Array:
    """The array in a `.npy` file, read-only; with `mmap` its data stay on disk until they are used.

    Raises:
        FileNotFoundError, IsADirectoryError, PermissionError: the file cannot be opened.
        ValueError: it is damaged, or holds something other than plain numbers or strings.
    """
    path = Path(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        shape, fortran, dtype = _read_header(file, str(path))
        offset = file.tell()
        _check_size(str(path), shape, dtype, size - offset)
        order = "F" if fortran else "C"
        if mmap and math.prod(shape):
            return np.memmap(path, dtype, "r", offset, shape, order)
        data = np.fromfile(file, dtype, math.prod(shape))
    array = data.reshape(shape, order=order)
    array.flags.writeable = False
    return array


def read_npz(path: str | Path, names: Collection[str] | None = None) -> dict[str, Array]:
    """The arrays in an `.npz` file, or those of them that are named.

    Raises:
        FileNotFoundError, IsADirectoryError, PermissionError: the file cannot be opened.
        ValueError: it is damaged, or an entry is, or declares more than the file can hold.
    """
    path = Path(path)
    arrays: dict[str, Array] = {}
    with path.open("rb") as raw:
        size = os.fstat(raw.fileno()).st_size
        try:
            with zipfile.ZipFile(raw) as archive:
                entries = archive.infolist()
                _check_entries(str(path), entries, size)
                for entry in entries:
                    name = entry.filename.removesuffix(".npy")
                    if names is not None and name not in names:
                        continue
                    with archive.open(entry) as file:
                        arrays[name] = _read_entry(file, f"{path}, entry {name!r}", entry.file_size)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"{path} is damaged or not an npz file: {error}") from None
    return arrays


def _check_entries(source: str, entries: list[zipfile.ZipInfo], size: int) -> None:
    seen: set[str] = set()
    total = 0
    for entry in entries:
        name = entry.filename
        if name in seen:
            raise ValueError(f"{source} is damaged: entry {name!r} is there twice")
        seen.add(name)
        if "/" in name or "\\" in name:
            raise ValueError(f"{source}: entry {name!r} is named like a path")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{source}: entry {name!r} is compressed in an unknown way")
        if entry.flag_bits & 1:
            raise ValueError(f"{source}: entry {name!r} is encrypted")
        total += entry.file_size
    packed = sum(entry.compress_size for entry in entries)
    if packed > size:
        raise ValueError(f"{source} is damaged: its entries overlap")
    if total > max(MAX_SMALL, MAX_RATIO * size) or total > 1100 * size:
        raise ValueError(
            f"{source}: {size} bytes that unpack to {total} look like a zip bomb; "
            "write it with numpy.savez, not savez_compressed, if it is none"
        )


def _read_entry(file: IO[bytes], source: str, size: int) -> Array:
    shape, fortran, dtype = _read_header(file, source)
    _check_size(source, shape, dtype, size - file.tell())
    data = bytearray(math.prod(shape) * dtype.itemsize)
    view = memoryview(data)
    read = 0
    while read < len(data):
        part = file.read(min(len(data) - read, 1 << 20))
        if not part:
            raise ValueError(f"{source} is cut short")
        view[read : read + len(part)] = part
        read += len(part)
    if file.read(1):  # which also makes zipfile check the sum of the entry
        raise ValueError(f"{source} is longer than its header says")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    array.flags.writeable = False
    return array


def _read_header(file: IO[bytes], source: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(file, max_header_size=MAX_HEADER)
    except KeyError:
        raise ValueError(f"{source}: unknown version of the npy format") from None
    except (ValueError, TypeError, SyntaxError, OverflowError, RecursionError, MemoryError, TokenError) as error:
        raise ValueError(f"{source} is damaged or not an npy file: {error}") from None
    if dtype.hasobject:
        raise ValueError(
            f"{source} holds Python objects, which are not read, since unpickling runs code; store numbers or strings"
        )
    if dtype.fields is not None or dtype.subdtype is not None or dtype.kind not in "biufcUSmM":
        raise ValueError(f"{source} holds {dtype}; expected plain numbers or strings")
    if min(shape, default=0) < 0:
        raise ValueError(f"{source} is damaged: its shape is {shape}")
    return shape, bool(fortran), dtype


def _check_size(source: str, shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> None:
    declared = math.prod(shape) * dtype.itemsize
    if declared != size or (dtype.itemsize == 0 and math.prod(shape) > MAX_HEADER):
        raise ValueError(f"{source} is damaged: {dtype}{list(shape)} takes {declared} bytes, but it has {size}")
    if max((*shape, len(shape) - 64), default=0) > np.iinfo(np.intp).max // max(dtype.itemsize, 1):
        raise ValueError(f"{source} is damaged: its shape is {shape}")
