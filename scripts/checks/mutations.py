"""Files that are damaged at random, and hostile files with valid checksums."""

import contextlib
import io
import json
import math
import random
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from fnet.interop import safetensors


def mutate(good: bytes, chance: random.Random, *, text: bool = False) -> bytes:
    """A damaged copy of a file; with `text`, by characters that have a meaning in tables."""
    changed = bytearray(good)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at = chance.randrange(max(len(changed), 1))
        match chance.randrange(6):
            case 0:  # a bit
                changed[at : at + 1] = bytes(b ^ (1 << chance.randrange(8)) for b in changed[at : at + 1])
            case 1:  # a byte
                special = b',;\t"\n\r\0' if text and chance.random() < 0.9 else bytes(range(256))
                changed[at : at + 1] = bytes([chance.choice(special)])
            case 2:  # the end is missing
                del changed[at:]
            case 3:  # a piece is missing
                del changed[at : at + chance.randrange(1, 64)]
            case 4:  # a piece is copied to another place
                other = chance.randrange(max(len(changed), 1))
                changed[at:at] = changed[other : other + chance.randrange(1, 64)]
            case _ if text:  # a piece is repeated
                times = int(10 ** chance.uniform(0, math.log10(2e4)))
                changed[at:at] = changed[at : at + chance.randrange(1, 16)] * times
            case _:  # a number becomes small or huge
                size = chance.choice((1, 2, 4, 8))
                value = chance.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), chance.getrandbits(8 * size)))
                changed[at : at + size] = value.to_bytes(size, "little")
    return bytes(changed)


TEXTS = ("", "x", "a\0", "\ud800", "float16", "O", "S1000000000", "(50000000,)f8", "float64", "relu", "y" * 100_000)
NUMBERS = (0, 1, -1, 2, 5, 10**6, 2**31, 2**63, 10**400, 0.0, 0.5, 1e-300, 1e300, math.inf, math.nan)


def mutate_json(value: Any, chance: random.Random) -> bytes:
    """The JSON of a value with a few random changes."""
    if chance.random() < 0.02:
        return chance.choice((b"", b"[]", b"1", b"null", b'"x"', b"[" * 100_000, b"{", b"\xff", b"9" * 10_000))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 5))):
        value = mutate_value(value, chance)
    return json.dumps(value).encode()


def mutate_value(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict) and value and chance.random() < 0.95:
        key = chance.choice(list(value))
        rest = {name: item for name, item in value.items() if name != key}
        return rest if chance.random() < 0.05 else {**rest, key: mutate_value(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.7:
        at = chance.randrange(len(value))
        match chance.randrange(4):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value[: at + 1] + value[at:]
            case _:
                return [*value[:at], mutate_value(value[at], chance), *value[at + 1 :]]
    match chance.randrange(5):
        case 0:
            return chance.choice(TEXTS)
        case 1:
            return chance.choice(([], {}, None, True, False, [[]], [["a"], ["b", "c"]], ["a", "a"], [1.5, None]))
        case 2:
            return [value] * chance.choice((1, 2, 3, 100_000 if chance.random() < 0.02 else 4))
        case _:
            return chance.choice(NUMBERS)


DTYPES = ("f4", "f8", ">f4", "f2", "c8", "c16", "i8", ">i8", "u1", "?", "U1", "U3", ">U2", "S3", "M8[s]", "m8[ns]")


def mutate_arrays(arrays: Mapping[str, np.ndarray], chance: random.Random) -> dict[str, np.ndarray]:
    """Named arrays with a few random changes."""
    changed = dict(arrays)
    for _ in range(chance.choice((0, 0, 1, 1, 2, 5))):
        name = chance.choice(list(changed) or ["x"])
        array = changed.pop(name, np.zeros(3))
        if chance.random() < 0.1:
            continue
        if chance.random() < 0.1:
            name = chance.choice((name + "x", "x", "leaf", "leaf[0]", "a.npy", "é"))
        with np.errstate(all="ignore"), contextlib.suppress(Exception):
            array = mutate_array(array, chance)
        changed[name] = array
    return changed


def mutate_array(array: np.ndarray, chance: random.Random) -> np.ndarray:
    match chance.randrange(8):
        case 0:
            return array.astype(chance.choice(DTYPES[:-2]))  # NumPy 2.4 crashes when it converts bytes to dates
        case 1:
            return np.frombuffer(array.tobytes() * 48, chance.choice(DTYPES))
        case 2:
            return array.reshape(chance.choice(((-1,), (1, *array.shape), (*array.shape, 1), array.shape[::-1])))
        case 3:
            return chance.choice((array[:0], array[:, None], np.zeros(()), np.zeros(100_000), array.T))
        case _:
            at = slice(None) if chance.random() < 0.3 else chance.randrange(array.size)
            array = array.copy()
            array.reshape(-1)[at] = chance.choice((np.nan, np.inf, 0, -1, 7, 3e38, -3e38, 1e-45))
            return array


def hostile_npy(chance: random.Random) -> bytes:
    """A `.npy` file with a random header and, if it is small, as much data as the header declares."""
    descr: Any = chance.choice(
        (*DTYPES, "<U0", "|S0", "|O", "|V8", "<U268435455", "|S2147483647", [("a", "<f8")], "(2,)f8", "q9", 7, None)
    )
    shape: Any = tuple(
        chance.choice((0, 1, 2, 3, 10, 64, 2**31, 2**62, 10**30, -1)) for _ in range(chance.randrange(5))
    )
    if chance.random() < 0.1:
        shape = chance.choice(((1,) * 65, (0,) * 70, [2, 3], "x", 3, (2.5,), (True,), None))
    header = {"descr": descr, "fortran_order": chance.choice((True, False, False, 0, "x")), "shape": shape}
    if chance.random() < 0.05:
        del header[chance.choice(list(header))]
    text = repr(header).encode() + b"\n"
    size = 64
    with contextlib.suppress(Exception):
        size = math.prod(shape) * np.dtype(descr).itemsize
    body = chance.randbytes(int(size) if size in range(100_000) else 64)
    version = chance.choice((b"\1\0", b"\1\0", b"\1\0", b"\2\0", b"\3\0"))
    return b"\x93NUMPY" + version + struct.pack("<H" if version[0] == 1 else "<I", len(text)) + text + body


def hostile_npz(arrays: Mapping[str, np.ndarray], chance: random.Random) -> bytes:
    """An `.npz` file with randomly changed arrays."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **mutate_arrays(arrays, chance))
    return buffer.getvalue()


TYPES = {"F32": "f4", "F64": "f8", "I64": "i8", "F16": "f2", "U8": "u1", "BOOL": "?", "C64": "c8"}
OTHER_TYPES = ("F8_E4M3", "F8_E5M2", "F8_E8M0", "BF16", "F4", "x")


def hostile_safetensors(tensors: Mapping[str, np.ndarray], note: dict[str, Any], chance: random.Random) -> bytes:
    """A file with randomly changed tensors and metadata, and a valid SHA-256."""
    names = {np.dtype(dtype): name for name, dtype in TYPES.items()}
    arrays = {name: array for name, array in mutate_arrays(tensors, chance).items() if array.dtype in names}
    text = mutate_json(note, chance)
    try:
        value = json.loads(text)
        text = json.dumps({**value, "sha256": safetensors._digest(arrays, value)}).encode()
    except (ValueError, TypeError, RecursionError):
        pass
    header: dict[str, Any] = {"__metadata__": {"fnet": text.decode(errors="replace")}}
    body = b""
    for name, array in arrays.items():
        kind = chance.choice(OTHER_TYPES) if chance.random() < 0.01 else names[array.dtype]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": (len(body), len(body) + array.nbytes)}
        body += array.tobytes()
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + body
