"""Read many damaged files of each format: only documented errors may come, quickly, and without filling the memory.

    python scripts/fuzz_readers.py --count 10000

Good files are mutated by flipped bits, cuts, spliced pieces of themselves, and random numbers in the place of others.
Prints how the reading of each format went; exits with 1 if an error is of another kind, or a read takes over a second.
"""

import _threads  # noqa: F401, I001  # before NumPy

import argparse
import collections
import importlib.util
import random
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fnet
from fnet.data import npy as _npy
from fnet import checkpoint, data, model  # pyright: ignore[reportPrivateUsage]
from fnet.interop.safetensors import save_safetensors
from fnet.model import Model

DOCUMENTED = (ValueError, TypeError, OSError)
LIMIT = 1.0  # seconds a read


class Format(NamedTuple):
    """A kind of file: what is in a good one, and how it is read."""

    suffix: str
    good: bytes
    read: Callable[[Path], Any]


class Outcome(NamedTuple):
    """How the reading of one format went."""

    read: int  # files that could be read, as where a bit means nothing
    errors: dict[str, int]  # documented errors, by kind
    wrong: list[str]  # other errors
    slowest: float  # seconds
    memory: float  # MB by which the peak rose


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--count", type=int, default=10_000, metavar="N", help="mutated files of each format")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    failed = False
    print(f"{'format':<12}{'read':>8}{'errors':>8}{'wrong':>8}{'slowest':>10}{'memory':>10}")
    for name, form in formats().items():
        outcome = fuzz(form, args.count, args.seed)
        failed |= bool(outcome.wrong) or outcome.slowest > LIMIT
        errors = sum(outcome.errors.values())
        print(
            f"{name:<12}{outcome.read:>8}{errors:>8}{len(outcome.wrong):>8}"
            f"{outcome.slowest:>8.3f} s{outcome.memory:>7.0f} MB",
            flush=True,
        )
        for line in outcome.wrong[:5]:
            print(f"  {line}")
    return int(failed)


def formats() -> dict[str, Format]:
    """A good file of each format."""
    x, y = np.arange(40, dtype=np.float32).reshape(10, 4), np.arange(10) % 2
    config = fnet.MLPConfig(sizes=(4, 3, 2))
    member = fnet.init(fnet.random.key(0), config)
    classifier = Model(config, (member,), fnet.fit_standardizer(x), ("no", "yes"))
    state = fnet.init_train_state(fnet.random.key(0), config)
    csv = "\n".join(["a,b,c,d,label", *(",".join([*map(str, row), "yn"[k]]) for row, k in zip(x, y, strict=True))])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")

        def written(write: Callable[[Path], Any], suffix: str) -> bytes:
            write(path.with_suffix(suffix))
            return path.with_suffix(suffix).read_bytes()

        found = {
            "npy": Format(".npy", written(lambda p: np.save(p, x), ".npy"), _npy.read_npy),
            "npy mapped": Format(
                ".npy", written(lambda p: np.save(p, x), ".npy"), lambda p: np.sum(_npy.read_npy(p, mmap=True) != 0)
            ),
            "npz": Format(".npz", written(lambda p: np.savez_compressed(p, x=x, y=y), ".npz"), data.load),
            "checkpoint": Format(
                ".npz", written(lambda p: checkpoint.save(p, state), ".npz"), lambda p: checkpoint.load(p, state)
            ),
            "model": Format(".npz", written(lambda p: model.save(p, classifier), ".npz"), model.load),
            "csv": Format(".csv", csv.encode(), data.load),
        }
        if importlib.util.find_spec("safetensors"):
            good = written(lambda p: save_safetensors(p, classifier), ".safetensors")
            found["safetensors"] = Format(".safetensors", good, model.load)
        return found


def fuzz(form: Format, count: int, seed: int) -> Outcome:
    """Read mutated files of a format."""
    chance = random.Random(seed)
    errors: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    read, slowest, before = 0, 0.0, peak_memory()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, "file" + form.suffix)
        for i in range(count):
            path.write_bytes(mutate(form.good, chance))
            started = time.perf_counter()
            try:
                form.read(path)
                read += 1
            except DOCUMENTED as error:
                errors[type(error).__name__] += 1
            except Exception as error:
                wrong.append(f"file {i} of seed {seed}: {type(error).__name__}: {error}")
            slowest = max(slowest, time.perf_counter() - started)
    return Outcome(read, dict(errors), wrong, slowest, peak_memory() - before)


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


def peak_memory() -> float:
    """The largest resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(main())
