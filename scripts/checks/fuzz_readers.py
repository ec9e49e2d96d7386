"""Read many damaged and hostile files of each format; only documented errors may occur, quickly and in little memory.

    python scripts/checks/fuzz_readers.py --count 10000

Most are good files with flipped bits, cuts, spliced pieces and random numbers. In formats called "sealed", metadata and
arrays are changed and the checksums are valid. Models that can be read predict. The program prints a line per format,
and exits with 1 if there is another error, or if a read takes over a second or over 64 MB beyond the size of the file.
"""

import argparse
import collections
import importlib.util
import json
import random
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import mutations
import numpy as np

import fnet
from fnet import checkpoint, data, model
from fnet.data import EncodedColumn, Encoder, npy
from fnet.interop import safetensors
from fnet.model import Model

DOCUMENTED = (ValueError, TypeError, OSError)
CLEAR = Path("/proc/self/clear_refs")
SECONDS, MEGABYTES = 1.0, 64  # limits of a read; the memory excludes the size of the file


class Format(NamedTuple):
    """A kind of file: its suffix, a maker of damaged files, and the reader.

    If it is strict, a warning is an error, and each message must name the file.
    """

    suffix: str
    make: Callable[[random.Random], bytes]
    read: Callable[[Path], Any]
    strict: bool = False


class Outcome(NamedTuple):
    """The results for one format."""

    read: int  # files that could be read, as when a changed bit does not matter
    errors: dict[str, int]  # documented errors, by kind
    wrong: list[str]  # other errors
    slowest: float  # seconds
    memory: float  # the most MB of a read, beyond the size of its file


def main(formats: dict[str, Format], description: str | None) -> int:
    parser = argparse.ArgumentParser(description=(description or "").split("\n\n")[0])
    parser.add_argument("--count", type=int, default=10_000, metavar="N", help="files of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="NAME", help="formats whose name contains this")
    args = parser.parse_args()
    failed = False
    print(f"{'format':<22}{'read':>7}{'errors':>8}{'wrong':>7}{'slowest':>10}{'memory':>10}")
    for name, form in formats.items():
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
    """All formats, with small good files as templates."""
    x, y = np.arange(40, dtype=np.float32).reshape(10, 4), np.arange(10) % 2
    config = fnet.MLPConfig(sizes=(4, 3, 2))
    member = fnet.init(fnet.random.key(0), config)
    columns = {"a": [1.5, None], "b": ["yes", "no"]}
    encoder = Encoder(
        (
            EncodedColumn("a", "numeric", median=2.5, indicator=True),
            EncodedColumn("b", "categorical", levels=("no", "yes")),
            EncodedColumn("c", "dropped", "constant"),
        )
    )
    classifier = Model(
        config, (member, member), fnet.fit_standardizer(x), ("no", "yes"), 1.5, {"epochs": [3, None]}, encoder, "d"
    )
    config = fnet.MLPConfig(sizes=(4, 3, 2), loss="pinball", quantiles=(0.1, 0.9))
    scale = data.fit_target_scale([1.0, 3.0], log=True)
    quantiles = classifier._replace(config=config, classes=(), temperature=1.0, scale=scale)
    state = fnet.init_train_state(fnet.random.key(0), config)
    csv = "\n".join(["a,b,c,d,label", *(",".join([*map(str, row), "yn"[k]]) for row, k in zip(x, y, strict=True))])

    def damaged(path: Path) -> Callable[[random.Random], bytes]:
        good = path.read_bytes()
        return lambda chance: mutations.mutate(good, chance)

    def sealed(path: Path) -> Callable[[random.Random], bytes]:
        arrays, metadata = checkpoint.read(path)
        return lambda chance: checkpoint._pack(
            mutations.mutate_arrays(arrays, chance), mutations.mutate_json(metadata, chance)
        )

    def read_checkpoint(path: Path) -> Any:
        checkpoint.load_metadata(path)
        return checkpoint.load(path, state)

    def map_npy(path: Path) -> Any:
        return np.sum(npy.read_npy(path, mmap=True) != 0)

    def predict(path: Path, load: Callable[[Path], Model] = model.load_model) -> None:
        classifier = load(path)
        model.predict(classifier, x)
        model.predict(classifier, data.from_columns(columns))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "x.npy", x)
        np.savez_compressed(folder / "xy.npz", x=x, y=y)
        (folder / "xy.csv").write_text(csv)
        checkpoint.save(folder / "state.npz", state, metadata={"epoch": 3})
        model.save_model(folder / "model.npz", classifier)
        model.save_model(folder / "quantiles.npz", quantiles)
        found = {
            "npy": Format(".npy", damaged(folder / "x.npy"), npy.read_npy),
            "npy, mapped": Format(".npy", damaged(folder / "x.npy"), map_npy),
            "npy, sealed": Format(".npy", mutations.hostile_npy, npy.read_npy),
            "npy, mapped, sealed": Format(".npy", mutations.hostile_npy, map_npy),
            "npz": Format(".npz", damaged(folder / "xy.npz"), data.load),
            "npz, sealed": Format(".npz", lambda chance: mutations.hostile_npz({"x": x, "y": y}, chance), data.load),
            "checkpoint": Format(".npz", damaged(folder / "state.npz"), read_checkpoint),
            "checkpoint, sealed": Format(".npz", sealed(folder / "state.npz"), read_checkpoint),
            "model": Format(".npz", damaged(folder / "model.npz"), predict),
            "model, sealed": Format(".npz", sealed(folder / "model.npz"), predict),
            "model of quantiles, sealed": Format(".npz", sealed(folder / "quantiles.npz"), predict),
            "csv": Format(".csv", damaged(folder / "xy.csv"), data.load),
        }
        if importlib.util.find_spec("safetensors"):
            path = folder / "model.safetensors"
            safetensors.save_safetensors(path, classifier)
            tensors, metadata = safetensors._read(path)
            note = json.loads(metadata["fnet"])
            del note["sha256"]

            def predict_safetensors(path: Path) -> None:
                predict(path, safetensors.load_safetensors)

            def hostile(chance: random.Random) -> bytes:
                return mutations.hostile_safetensors(tensors, note, chance)

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
        warnings.simplefilter("error" if form.strict else "ignore")
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
                if form.strict and str(path) not in str(error):
                    wrong.append(f"file {i} of seed {seed} is not named: {error!s:.300}")
            except Exception as error:
                wrong.append(f"file {i} of seed {seed}: {type(error).__name__}: {error!s:.300}")
            slowest = max(slowest, time.perf_counter() - started)
            memory = max(memory, peak_memory() - before - size / 2**20)
    return Outcome(read, dict(errors), wrong, slowest, memory)


def reset_peak_memory() -> float:
    """Reset `peak_memory` to the present resident memory, in MB, and return it; only Linux can reset it."""
    if CLEAR.exists():
        CLEAR.write_text("5")
    return peak_memory()


def peak_memory() -> float:
    """The largest resident memory, in MB."""
    if not CLEAR.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    status = CLEAR.with_name("status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    raise SystemExit(main(formats(), __doc__))
