"""Time and memory of reading tables, compared with numpy.loadtxt and pandas.

    python scripts/bench/read_tables.py

Two files: 1,000,000 rows of 20 numbers, which it writes (190 MB), and the 53,940 diamonds of `plotnine.data`, with
three columns of text. Each is read by each reader in a process of its own. Time is wall-clock and of the processor;
memory is the peak beyond that after the imports. The median of `--repeat` processes.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

READERS = {
    "fnet.data.read_table": "from fnet.data import read_table as read",
    "numpy.loadtxt": "import numpy; read = lambda path: numpy.loadtxt(path, delimiter=',', skiprows=1)",
    "pandas.read_csv": "from pandas import read_csv as read",
}
WORKER = """
import json, resource, sys, time
{imports}
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, wall, processor = peak(), time.perf_counter(), time.process_time()
kept = read(sys.argv[1])
print(json.dumps([time.perf_counter() - wall, time.process_time() - processor, peak() - before]))
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "numbers.csv")
        write_numbers(path, args.rows)
        print(
            f"{args.rows:,} x 20 numbers, {path.stat().st_size / 1e6:.0f} MB; as float64 {args.rows * 160 / 1e6:.0f} MB"
        )
        compare(path, tuple(READERS), args.repeat)
    plotnine = importlib.util.find_spec("plotnine")
    if plotnine is not None and plotnine.origin is not None:
        print("diamonds, 53,940 x 10")
        compare(
            Path(plotnine.origin).parent / "data" / "diamonds.csv",
            ("fnet.data.read_table", "pandas.read_csv"),
            args.repeat,
        )
    return 0


def write_numbers(path: Path, rows: int) -> None:
    """A header and rows of 20 numbers with six decimals, repeated after 10,000 rows."""
    x = np.random.default_rng(0).normal(size=(min(rows, 10_000), 20))
    lines = [",".join(f"{value:.6f}" for value in row) + "\n" for row in x.tolist()]
    with path.open("w") as file:
        file.write(",".join(f"f{i}" for i in range(20)) + "\n")
        for start in range(0, rows, len(lines)):
            file.writelines(lines[: rows - start])


def compare(path: Path, readers: tuple[str, ...], repeat: int) -> None:
    for name in readers:
        if not importlib.util.find_spec(name.partition(".")[0]):
            continue
        code = WORKER.format(imports=READERS[name])
        runs = [
            json.loads(subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=True).stdout)
            for _ in range(repeat)
        ]
        wall, processor, memory = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"  {name:<22}{wall:>7.2f} s{processor:>7.2f} s of processor{memory:>7.0f} MB")


if __name__ == "__main__":
    raise SystemExit(main())
