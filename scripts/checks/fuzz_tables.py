"""Read many strange and damaged tables: only documented errors may come, quickly, in little memory.

    python scripts/checks/fuzz_tables.py --count 10000

The tables have cells, delimiters, quotes and headers of every kind, then flipped bits, cuts and spliced pieces; those
in gzip are damaged before or after they are compressed, and some are bombs. Each that can be read goes all the way:
target, encoder, features, back from JSON. Exits with 1 if an error is of another kind, a warning comes, features are
not finite, or a file takes over a second or over 64 MB beyond its size.
"""

import argparse
import collections
import gzip
import json
import math
import random
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fnet import data

DOCUMENTED = (ValueError, TypeError, OSError)
SECONDS, MEGABYTES = 1.0, 64  # limits of a file; the memory is beyond its size
CLEAR = Path("/proc/self/clear_refs")
CELLS = (
    "", "NA", "nan", "-nan", "inf", "1e400", "-1e-400", "1_000", "1,5", "1.5", "1,000", "\uff11", "0x1", "007", "True",
    "null", "?", "2024-02-29", "2023-02-29", "9999-12-31 23:59:59", "0000-01-01", "a,b", "a;b", 'a"b', '"', '""', "id",
    "a\nb", "a\rb", "\x1b[31m", "=1+1", "x" * 1000, "9" * 400, "1.7e308", "-1.7e308", "4.9e-324", "1e-5", "\x1c5",
    "\xa05", "\u0662", "\ufeff", " ", "\t",
)  # fmt: skip


class Outcome(NamedTuple):
    """How the reading of one kind of file went."""

    read: int  # tables that could be read
    errors: dict[str, int]  # documented errors, by kind
    wrong: list[str]  # other errors
    slowest: float  # seconds
    memory: float  # the most MB of a file, beyond its size


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--count", type=int, default=10_000, metavar="N", help="files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    failed = False
    print(f"{'kind':<16}{'read':>7}{'errors':>8}{'wrong':>7}{'slowest':>10}{'memory':>10}")
    for kind, make in KINDS.items():
        outcome = fuzz(make, args.count, args.seed)
        failed |= bool(outcome.wrong) or outcome.slowest > SECONDS or outcome.memory > MEGABYTES
        print(
            f"{kind:<16}{outcome.read:>7}{sum(outcome.errors.values()):>8}{len(outcome.wrong):>7}"
            f"{outcome.slowest:>8.3f} s{outcome.memory:>7.1f} MB",
            flush=True,
        )
        for line in outcome.wrong[:5]:
            print(f"  {line}")
    return int(failed)


def fuzz(make: Callable[[random.Random], bytes], count: int, seed: int) -> Outcome:
    """Read as many tables that `make` makes."""
    chance = random.Random(seed)
    errors: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    read, slowest, memory = 0, 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Path(folder, "table.csv")
        for i in range(count):
            path.unlink(missing_ok=True)  # some file systems flush a file that is overwritten
            size = path.write_bytes(make(chance))
            before, started = reset_peak_memory(), time.perf_counter()
            try:
                go_all_the_way(path)
                read += 1
            except DOCUMENTED as error:
                errors[type(error).__name__] += 1
                if str(path) not in str(error):
                    wrong.append(f"file {i} of seed {seed} is not named: {error!s:.300}")
            except Exception as error:
                wrong.append(f"file {i} of seed {seed}: {type(error).__name__}: {error!s:.300}")
            slowest = max(slowest, time.perf_counter() - started)
            memory = max(memory, peak_memory() - before - size / 2**20)
    return Outcome(read, dict(errors), wrong, slowest, memory)


def go_all_the_way(path: Path) -> None:
    """From a file to features and back, as training and then prediction do."""
    features, target = data.split_target(data.read_table(path))
    encoder = data.encoder_from_json(json.loads(json.dumps(data.encoder_to_json(data.fit_encoder(features)))))
    x, _ = data.encode(encoder, features)
    if not np.isfinite(x).all() or x.shape != (len(target.values), len(data.feature_names(encoder))):
        raise AssertionError(f"features {x.shape} that are not finite, or of another number")
    data.describe(features, target, encoder)
    again, _ = data.encode(encoder, data.read_table(path, target=target.name, text=data.text_columns(encoder)))
    if not np.array_equal(again, x):
        raise AssertionError("other features at prediction than in training")


def table(chance: random.Random) -> bytes:
    """A table with a few strange cells, in one way of writing or another."""
    width, rows = (
        chance.choice((2, 3, 3, 5, 9)),
        chance.choice((2, 5, 20, 60)) if chance.random() < 0.9 else chance.randrange(3),
    )
    kinds = [*(chance.randrange(5) for _ in range(width - 1)), chance.choice((2, 2, 3, 3, 3, 0, 1, 4))]
    strange = chance.choice((0, 0, 0.02, 0.2))

    def cell(kind: int, row: int) -> str:
        if chance.random() < strange:
            return chance.choice(CELLS)
        number, date = chance.gauss(0, 10 ** chance.randrange(4)), f"2024-{row % 12 + 1:02}-{row % 28 + 1:02}"
        return (f"{number:.3f}", str(row), str(row % 3), chance.choice(("yes", "no", "\u00e4 b")), date)[kind]

    grid = [[cell(kind, row) for kind in kinds] for row in range(rows)]
    match chance.randrange(5):
        case 0:
            pass
        case 1:
            grid.insert(0, [str(i) for i in range(width - 1)] + ["label"])
        case 2:
            grid.insert(0, [chance.choice((*CELLS, "species", "y", "a")) for _ in range(width)])
        case _:
            grid.insert(0, [f"c{i}" for i in range(width)])
    delimiter, end = chance.choice(",,,,,;;;\t\t|"), chance.choice(("\n",) * 8 + ("\r\n", "\r\n", "\r", "\n\n"))
    if delimiter == ";" and chance.random() < 0.5:
        grid = [[text.replace(".", ",") for text in row] for row in grid]
    quoted = chance.random() < 0.5 or strange > 0
    lines = [delimiter.join(_quoted(text) if quoted else text for text in row) for row in grid]
    text = chance.choice(("", "", "", "\ufeff")) + end.join(lines) + chance.choice(("", end))
    return text.encode(chance.choice(("utf-8",) * 50 + ("utf-16", "latin-1", "cp1252")), "replace")


def damaged(chance: random.Random) -> bytes:
    """A table with flipped bits, cuts and spliced pieces."""
    return mutate(table(chance), chance)


def packed(chance: random.Random) -> bytes:
    """A table in gzip, damaged before or after; or a bomb."""
    match chance.randrange(50):
        case 0:
            return gzip.compress(chance.choice((b"1,2\n", b"0", b"\n", b'"', b"a,b\r\n", b",")) * (3 << 20), 6)
        case 1:
            return b"".join(gzip.compress(table(chance), 1) for _ in range(chance.randrange(300)))
        case 2:
            return gzip.compress(gzip.compress(table(chance)))
        case case if case < 25:
            return gzip.compress(damaged(chance), 1)
        case _:
            return mutate(gzip.compress(table(chance), 1), chance)


KINDS: dict[str, Callable[[random.Random], bytes]] = {"strange": table, "damaged": damaged, "gzip": packed}


def mutate(good: bytes, chance: random.Random) -> bytes:
    """A damaged copy of a file."""
    changed = bytearray(good)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at = chance.randrange(max(len(changed), 1))
        match chance.randrange(6):
            case 0:  # a bit
                changed[at : at + 1] = bytes(b ^ (1 << chance.randrange(8)) for b in changed[at : at + 1])
            case 1:  # a byte, often one that means something
                changed[at : at + 1] = chance.choice((b",", b";", b"\t", b'"', b"\n", b"\r", b"\0", bytes([at % 256])))
            case 2:  # the end is missing
                del changed[at:]
            case 3:  # a piece is missing
                del changed[at : at + chance.randrange(1, 64)]
            case 4:  # a piece stands in another place
                other = chance.randrange(max(len(changed), 1))
                changed[at:at] = changed[other : other + chance.randrange(1, 64)]
            case _:  # a piece comes many times
                changed[at:at] = changed[at : at + chance.randrange(1, 16)] * int(
                    10 ** chance.uniform(0, math.log10(2e4))
                )
    return bytes(changed)


def reset_peak_memory() -> float:
    """The resident memory now, in MB; that of `peak_memory` from here on. Linux alone; elsewhere it is never reset."""
    if CLEAR.exists():
        CLEAR.write_text("5")
    return peak_memory()


def peak_memory() -> float:
    """The largest resident memory, in MB."""
    if not CLEAR.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    status = CLEAR.with_name("status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


if __name__ == "__main__":
    raise SystemExit(main())
