"""Read many strange and damaged tables; only documented errors may occur, quickly and in little memory.

    python scripts/checks/fuzz_tables.py --count 10000

The tables have cells, delimiters, quotes and headers of all kinds, then flipped bits, cuts and spliced pieces. Those in
gzip are damaged before or after compression, and some are bombs. A table that can be read is processed completely:
target, encoder, features, encoder from JSON. The program exits with 1 if there is another error or a warning, features
are not finite, or a file takes over a second or over 64 MB beyond its size.
"""

import gzip
import json
import random
from pathlib import Path

import fuzz_readers
import mutations
import numpy as np
from fuzz_readers import Format

from fnet import data

CELLS = (
    "", "NA", "nan", "-nan", "inf", "1e400", "-1e-400", "1_000", "1,5", "1.5", "1,000", "\uff11", "0x1", "007", "True",
    "null", "?", "2024-02-29", "2023-02-29", "9999-12-31 23:59:59", "0000-01-01", "2024-02-29T01:02:03.456Z",
    "0001-01-01 00:00+05:30", "a,b", "a;b", 'a"b', '"', '""', "id",
    "a\nb", "a\rb", "\x1b[31m", "=1+1", "x" * 1000, "9" * 400, "1.7e308", "-1.7e308", "4.9e-324", "1e-5", "\x1c5",
    "\xa05", "\u0662", "\ufeff", " ", "\t",
)  # fmt: skip


def go_all_the_way(path: Path) -> None:
    """Process a table as in training, then as in prediction."""
    features, target = data.split_target(data.read_table(path))
    encoder = data.encoder_from_json(json.loads(json.dumps(data.encoder_to_json(data.fit_encoder(features)))))
    x, _ = data.encode(encoder, features)
    if not np.isfinite(x).all() or x.shape != (len(target.values), len(data.feature_names(encoder))):
        raise AssertionError(f"features {x.shape} are not finite, or their number is wrong")
    data.describe(features, target, encoder)
    again, _ = data.encode(encoder, data.read_table(path, target=target.name, text=data.text_columns(encoder)))
    if not np.array_equal(again, x):
        raise AssertionError("prediction has other features than training")


def table(chance: random.Random) -> bytes:
    """A table with a few strange cells in a random format."""
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
    return mutations.mutate(table(chance), chance, text=True)


def packed(chance: random.Random) -> bytes:
    """A table in gzip, damaged before or after compression, or a bomb."""
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
            return mutations.mutate(gzip.compress(table(chance), 1), chance, text=True)


KINDS = {
    kind: Format(".csv", make, go_all_the_way, strict=True)
    for kind, make in (("strange", table), ("damaged", damaged), ("gzip", packed))
}


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


if __name__ == "__main__":
    raise SystemExit(fuzz_readers.main(KINDS, __doc__))
