"""Read many damaged and hostile files of each format: only documented errors may come, quickly, in little memory.

    python scripts/checks/fuzz_readers.py --count 10000

Most are good files with flipped bits, cuts, spliced pieces and random numbers. Those called "sealed" have valid
checksums: their metadata and arrays are mutated, then sealed again. Models that can be read are asked to predict.
Prints how the reading of each format went; exits with 1 if an error is of another kind, or a read takes over a second
or over 64 MB beyond the size of its file.
"""

import argparse
import collections
import contextlib
import importlib.util
import io
import json
import math
import random
import resource
import struct
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fnet
from fnet import checkpoint, data, model
from fnet.data import npy
from fnet.interop import safetensors
from fnet.model import Model

DOCUMENTED = (ValueError, TypeError, OSError)
CLEAR = Path("/proc/self/clear_refs")
SECONDS, MEGABYTES = 1.0, 64  # limits of a read; the memory is beyond the file's size


class Format(NamedTuple):
    """A kind of file: its suffix, a maker of damaged files, and the reader."""

    suffix: str
    make: Callable[[random.Random], bytes]
    read: Callable[[Path], Any]


class Outcome(NamedTuple):
    """How the reading of one format went."""

    read: int  # files that could be read, as where a bit means nothing
    errors: dict[str, int]  # documented errors, by kind
    wrong: list[str]  # other errors
    slowest: float  # seconds
    memory: float  # the most MB of a read, beyond the size of its file


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--count", type=int, default=10_000, metavar="N", help="files of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="NAME", help="formats whose name contains this")
    args = parser.parse_args(argv)
    failed = False
    print(f"{'format':<22}{'read':>7}{'errors':>8}{'wrong':>7}{'slowest':>10}{'memory':>10}")
    for name, form in formats().items():
        if args.only not in name:
            continue
        outcome = fuzz(form, args.count, args.seed)
        failed |= bool(outcome.wrong) or outcome.slowest > SECONDS or outcome.memory > MEGABYTES
        errors = sum(outcome.errors.values())
        print(
            f"{name:<22}{outcome.read:>7}{errors:>8}{len(outcome.wrong):>7}"
            f"{outcome.slowest:>8.3f} s{outcome.memory:>7.1f} MB",
            flush=True,
        )
        for line in outcome.wrong[:5]:
            print(f"  {line}")
    return int(failed)


def formats() -> dict[str, Format]:
    """All formats, with small good files to start from."""
    x, y = np.arange(40, dtype=np.float32).reshape(10, 4), np.arange(10) % 2
    config = fnet.MLPConfig(sizes=(4, 3, 2))
    member = fnet.init(fnet.random.key(0), config)
    classifier = Model(config, (member, member), fnet.fit_standardizer(x), ("no", "yes"), 1.5, {"epochs": [3, None]})
    state = fnet.init_train_state(fnet.random.key(0), config)
    csv = "\n".join(["a,b,c,d,label", *(",".join([*map(str, row), "yn"[k]]) for row, k in zip(x, y, strict=True))])

    def damaged(path: Path) -> Callable[[random.Random], bytes]:
        good = path.read_bytes()
        return lambda chance: mutate(good, chance)

    def sealed(path: Path) -> Callable[[random.Random], bytes]:
        arrays, metadata = checkpoint.read(path)
        return lambda chance: checkpoint._pack(mutate_arrays(arrays, chance), mutate_json(metadata, chance))

    def read_checkpoint(path: Path) -> Any:
        checkpoint.load_metadata(path)
        return checkpoint.load(path, state)

    def map_npy(path: Path) -> Any:
        return np.sum(npy.read_npy(path, mmap=True) != 0)

    def predict(path: Path) -> Any:
        return model.predict(model.load_model(path), x)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "x.npy", x)
        np.savez_compressed(folder / "xy.npz", x=x, y=y)
        (folder / "xy.csv").write_text(csv)
        checkpoint.save(folder / "state.npz", state, metadata={"epoch": 3})
        model.save_model(folder / "model.npz", classifier)
        found = {
            "npy": Format(".npy", damaged(folder / "x.npy"), npy.read_npy),
            "npy, mapped": Format(".npy", damaged(folder / "x.npy"), map_npy),
            "npy, sealed": Format(".npy", hostile_npy, npy.read_npy),
            "npy, mapped, sealed": Format(".npy", hostile_npy, map_npy),
            "npz": Format(".npz", damaged(folder / "xy.npz"), data.load),
            "npz, sealed": Format(".npz", lambda chance: pack_npz(mutate_arrays({"x": x, "y": y}, chance)), data.load),
            "checkpoint": Format(".npz", damaged(folder / "state.npz"), read_checkpoint),
            "checkpoint, sealed": Format(".npz", sealed(folder / "state.npz"), read_checkpoint),
            "model": Format(".npz", damaged(folder / "model.npz"), predict),
            "model, sealed": Format(".npz", sealed(folder / "model.npz"), predict),
            "csv": Format(".csv", damaged(folder / "xy.csv"), data.load),
        }
        if importlib.util.find_spec("safetensors"):
            path = folder / "model.safetensors"
            safetensors.save_safetensors(path, classifier)
            tensors, metadata = safetensors._read(path)
            note = json.loads(metadata["fnet"])
            del note["sha256"]

            def predict_safetensors(path: Path) -> Any:
                return model.predict(safetensors.load_safetensors(path), x)

            def hostile(chance: random.Random) -> bytes:
                return hostile_safetensors(tensors, note, chance)

            found["safetensors"] = Format(path.suffix, damaged(path), predict_safetensors)
            found["safetensors, sealed"] = Format(path.suffix, hostile, predict_safetensors)
        return found


def fuzz(form: Format, count: int, seed: int) -> Outcome:
    """Read damaged files of a format."""
    chance = random.Random(seed)
    errors: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    read, slowest, memory = 0, 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, "file" + form.suffix)
        for i in range(count):
            path.unlink(missing_ok=True)  # some file systems flush a file that is overwritten
            size = path.write_bytes(form.make(chance))
            before, started = reset_peak_memory(), time.perf_counter()
            try:
                form.read(path)
                read += 1
            except DOCUMENTED as error:
                errors[type(error).__name__] += 1
            except Exception as error:
                wrong.append(f"file {i} of seed {seed}: {type(error).__name__}: {error!s:.300}")
            slowest = max(slowest, time.perf_counter() - started)
            memory = max(memory, peak_memory() - before - size / 2**20)
    return Outcome(read, dict(errors), wrong, slowest, memory)


def reset_peak_memory() -> float:
    """The resident memory now, in MB; that of `peak_memory` from here on. Linux alone; elsewhere it is never reset."""
    if not CLEAR.exists():
        return peak_memory()
    CLEAR.write_text("5")
    return peak_memory()


def peak_memory() -> float:
    """The largest resident memory, in MB."""
    if not CLEAR.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    status = CLEAR.with_name("status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


# Damage ---------------------------------------------------------------------------------------------------------------


def mutate(good: bytes, chance: random.Random) -> bytes:
    """A damaged copy of a file."""
    changed = bytearray(good)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at = chance.randrange(max(len(changed), 1))
        match chance.randrange(6):
            case 0:  # a bit
                changed[at : at + 1] = bytes(b ^ (1 << chance.randrange(8)) for b in changed[at : at + 1])
            case 1:  # a byte
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 2:  # the end is missing
                del changed[at:]
            case 3:  # a piece is missing
                del changed[at : at + chance.randrange(1, 64)]
            case 4:  # a piece stands in another place
                other = chance.randrange(max(len(changed), 1))
                changed[at:at] = changed[other : other + chance.randrange(1, 64)]
            case _:  # a number is another one, small or huge
                size = chance.choice((1, 2, 4, 8))
                value = chance.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), chance.getrandbits(8 * size)))
                changed[at : at + size] = value.to_bytes(size, "little")
    return bytes(changed)


TEXTS = ("", "x", "a\0", "\ud800", "float16", "O", "S1000000000", "(50000000,)f8", "float64", "relu", "y" * 100_000)
NUMBERS = (0, 1, -1, 2, 5, 10**6, 2**31, 2**63, 10**400, 0.0, 0.5, 1e-300, 1e300, math.inf, math.nan)


def mutate_json(value: Any, chance: random.Random) -> bytes:
    """JSON that is like that of a value, but for a few places."""
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


DTYPES = (
    "f4",
    "f8",
    ">f4",
    "f2",
    "c8",
    "c16",
    "i1",
    "i8",
    ">i8",
    "u8",
    "?",
    "U1",
    "U3",
    ">U2",
    "S3",
    "M8[s]",
    "m8[ns]",
)


def mutate_arrays(arrays: Mapping[str, np.ndarray], chance: random.Random) -> dict[str, np.ndarray]:
    """Named arrays like those given, but for a few."""
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
            return array.astype(chance.choice(DTYPES))
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
    """A `.npy` file with any header, and as much data as it declares, if that is little."""
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


def pack_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()


TYPES = {"F32": "f4", "F64": "f8", "I64": "i8", "F16": "f2", "U8": "u1", "BOOL": "?", "C64": "c8"}
OTHER_TYPES = ("F8_E4M3", "F8_E5M2", "F8_E8M0", "BF16", "F4", "x")


def hostile_safetensors(tensors: Mapping[str, np.ndarray], note: dict[str, Any], chance: random.Random) -> bytes:
    """A file with other tensors and metadata, whose SHA-256 is right."""
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


if __name__ == "__main__":
    raise SystemExit(main())
