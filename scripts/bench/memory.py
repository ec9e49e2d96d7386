"""Training on a memory-mapped file: `python memory.py JSON` prints time and memory as JSON."""

import json
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

import fnet

FEATURES, CLASSES, BATCH_SIZE = 128, 10, 64


def measure(rows: int, examples: int, engine: str) -> dict[str, Any]:
    """Run epochs of `fit` on a memory-mapped file and on examples in memory, in turns.

    Returns the seconds per row of both, and the peak of the anonymous memory (without pages of files).
    """
    config, train_config = fnet.MLPConfig(dropout=0.3), fnet.TrainConfig(batch_size=BATCH_SIZE, epochs=10**6)
    memory_key, disk_key = fnet.random.split(fnet.random.key(0))
    in_memory, on_disk, samples = list[float](), list[float](), list[int]()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            samples.append(anonymous_memory())

    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), rows)
        large, _ = fnet.data.load(folder)
        small = fnet.Dataset(np.array(large.x[:examples]), large.y[:examples])
        run = fnet.fit(config, train_config, small, key=memory_key, engine=engine)
        next(run)  # warm-up
        before = anonymous_memory()
        watcher = threading.Thread(target=watch)
        watcher.start()
        steps, seconds = 0, 0.0
        every = -(-examples // BATCH_SIZE)
        for _, record in fnet.fit(config, train_config, large, key=disk_key, engine=engine, yield_every=every):
            on_disk.append((record.seconds - seconds) / (record.step - steps) / BATCH_SIZE)
            in_memory.append(next(run)[1].seconds / len(small.y))
            steps, seconds = record.step, record.seconds
            if record.finished:
                break
        done.set()
        watcher.join()
    return {"peak": max(samples), "before": before, "on disk": on_disk, "in memory": in_memory}


def write_data(folder: Path, rows: int) -> None:
    """Noise."""
    rng = np.random.default_rng(0)
    x = np.lib.format.open_memmap(folder / "train_data.npy", "w+", np.float32, (rows, FEATURES))
    for start in range(0, rows, 8192):
        x[start : start + 8192] = rng.standard_normal(x[start : start + 8192].shape, np.float32)
    np.save(folder / "train_label.npy", rng.integers(CLASSES, size=rows))


def anonymous_memory() -> int:
    """The memory of this process in bytes, without pages of files."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
