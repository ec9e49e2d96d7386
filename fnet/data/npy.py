"""NumPy's file formats, read as untrusted input: without pickle, and in memory proportional to the file."""

from __future__ import annotations

import math
import os
import stat
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, BinaryIO

import numpy as np

from fnet.nn import Array

__all__ = ["open_regular", "read_npy", "read_npz"]

MAX_HEADER = 10_000  # bytes; NumPy's own limit
MAX_RATIO = 100  # of a compressed file above MAX_SMALL, so that a small file cannot fill the memory
MAX_SMALL = 32 << 20  # bytes; together with a copy in another dtype, 64 MB
MAX_CODE_POINT = 0x10FFFF  # in Unicode


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading; refuse pipes and devices, which could block or never end.

    Raises:
        FileNotFoundError, IsADirectoryError, PermissionError: the file cannot be opened.
        ValueError: it is not a regular file.
    """
    file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115  # the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(f"{path} is not a regular file, but a pipe or a device; copy its content to a file")
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # otherwise, opening a pipe waits for its writer


def read_npy(path: str | Path, *, mmap: bool = False) -> Array:
    """The array in a `.npy` file, read-only.

    Args:
        mmap: leave the data on disk until they are used. The file must not change while the array is in use: if it is
            truncated, the system kills a process that reads the missing part (SIGBUS).

    Raises:
        FileNotFoundError, IsADirectoryError, PermissionError: the file cannot be opened.
        ValueError: it is not a regular file, is damaged, or holds something other than plain numbers or strings.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        shape, fortran, dtype = _read_header(file, str(path))
        offset = file.tell()
        _check_size(str(path), shape, dtype, size - offset)
        order = "F" if fortran else "C"
        if mmap and math.prod(shape):
            return _checked_text(str(path), np.memmap(file, dtype, "r", offset, shape, order))
        data = np.fromfile(file, dtype, math.prod(shape))
    return _checked_text(str(path), data.reshape(shape, order=order))


def read_npz(path: str | Path, names: Collection[str] | None = None) -> dict[str, Array]:
    """The arrays in an `.npz` file, read-only; with `names`, only these.

    Raises:
        FileNotFoundError, IsADirectoryError, PermissionError: the file cannot be opened.
        ValueError: the file is not regular or is damaged, or an entry is damaged or declares more data than the file
            can hold.
    """
    arrays: dict[str, Array] = {}
    with open_regular(path) as raw:
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
            raise ValueError(f"{source} is damaged: it has two entries {name!r}")
        seen.add(name)
        if "/" in name or "\\" in name:
            raise ValueError(f"{source}: entry {name!r} is named like a path")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{source}: entry {name!r} is compressed by an unknown method")
        if entry.flag_bits & 1:
            raise ValueError(f"{source}: entry {name!r} is encrypted")
        total += entry.file_size
    packed = sum(entry.compress_size for entry in entries)
    if packed > size:
        raise ValueError(f"{source} is damaged: its entries overlap")
    if total > max(MAX_SMALL, MAX_RATIO * size) or total > 1100 * size:
        raise ValueError(
            f"{source}: {size} bytes that expand to {total} look like a zip bomb; "
            "if it is not, write the file with numpy.savez, not savez_compressed"
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
            raise ValueError(f"{source} is truncated")
        view[read : read + len(part)] = part
        read += len(part)
    if file.read(1):  # which also makes zipfile check the CRC of the entry
        raise ValueError(f"{source} is longer than its header says")
    return _checked_text(source, np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C"))


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
            f"{source} holds Python objects, which are not read because unpickling runs code; store numbers or strings"
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


def _checked_text(source: str, array: Array) -> Array:
    """Make the array read-only, after checking that its text is Unicode."""
    if array.dtype.kind == "U" and array.size and array.dtype.itemsize:
        codes = np.ascontiguousarray(array).reshape(-1).view(f"{array.dtype.byteorder}u4")
        if codes.max() > MAX_CODE_POINT:
            raise ValueError(f"{source} is damaged: its text is not Unicode")
    array.flags.writeable = False
    return array
