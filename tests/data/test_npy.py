"""NumPy's files as untrusted input."""

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fnet.data import npy

HUGE = "{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776, 1024), }"


def with_header(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def saved(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


GOOD = saved(np.arange(6.0).reshape(2, 3))
BAD = {
    "empty": b"",
    "text": b"hello",
    "cut": GOOD[:-1],
    "longer": GOOD + b"x",
    "cut header": GOOD[:20],
    "terabytes": with_header(HUGE, b"12345678"),
    "negative": with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }", b"12345678"),
    "objects": saved(np.array([{}]), allow_pickle=True),
    "fields": saved(np.zeros(1, [("a", "f8")])),
    "no dict": with_header("__import__('os').system('true')"),
    "version": with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", b"12345678", b"\x09\x00"),
    "nested": with_header("(" * 5000),
    "overflow": with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (0, " + "9" * 40 + "), }"),
    "not Unicode": saved(np.array(["ab"]))[:-1] + b"\x80",
    "not Unicode, big-endian": saved(np.array(["ab"], ">U2"))[:-4] + b"\xff\0\0\0",
    "bad type": with_header("{'descr': 'q9', 'fortran_order': False, 'shape': (1,), }", b"12345678"),
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("mmap", [True, False])
def test_good_files_are_read(order: str, mmap: bool, tmp_path: Path) -> None:
    for i, array in enumerate(
        (
            np.arange(6.0).reshape(2, 3),
            np.zeros((0, 3)),
            np.array(5),
            np.array(["a", "bc"]),
            np.array([["\U0010ffff", "bc"]], ">U2"),
            np.array([""]),
        )
    ):
        path = tmp_path / f"{i}.npy"
        np.save(path, np.asarray(array, order=order))  # pyright: ignore[reportArgumentType, reportCallIssue]
        got = npy.read_npy(path, mmap=mmap)
        np.testing.assert_array_equal(got, array)
        assert not got.flags.writeable
        assert got.dtype == array.dtype


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_bad_files_are_errors(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.npy").write_bytes(content)
    for mmap in (True, False):
        with pytest.raises(ValueError, match=r"bad\.npy"):
            npy.read_npy(tmp_path / "bad.npy", mmap=mmap)
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "bad.npz", "w", compression) as archive:
            archive.writestr("x.npy", content)
        with pytest.raises(ValueError, match=r"bad\.npz"):
            npy.read_npz(tmp_path / "bad.npz")


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(BAD["objects"])
    with pytest.raises(ValueError, match="unpickling runs code"):
        npy.read_npy(tmp_path / "x.npy")


def test_bombs_and_twins(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.zeros(20_000_000))
    with pytest.raises(ValueError, match="zip bomb"):
        npy.read_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", GOOD)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("x.npy", GOOD)
    with pytest.raises(ValueError, match="has two entries"):
        npy.read_npz(path)
    path.write_bytes(b"PK")
    with pytest.raises(ValueError, match="not an npz file"):
        npy.read_npz(path)


@pytest.mark.parametrize("read", [npy.read_npy, npy.read_npz])
def test_pipes_devices_and_folders(read: Callable[[Path], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(ValueError, match=rf"{path} is not a regular file"):
            read(path)
    with pytest.raises(IsADirectoryError):
        read(tmp_path)


def test_only_what_is_named_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones(2), y=np.zeros(3))
    assert list(npy.read_npz(tmp_path / "x.npz", ("y", "z"))) == ["y"]


def test_a_flipped_bit_in_an_entry_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros(1000))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        npy.read_npz(path)
