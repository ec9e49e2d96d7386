"""Kill training with SIGKILL at random moments, resume it, and compare the results with an undisturbed run.

    python scripts/checks/kill_test.py --kills 200

A checkpoint is saved after each step, so that many kills happen while it is saved. After the last kill, the run may
finish. The model, history, predictions, report and metrics (except times) must have the same bytes.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = [sys.executable, "-m", "fnet", "train"]
OPTIONS = ["--hidden", "16", "16", "--epochs", "40", "--input-noise", "0.2", "--schedule", "onecycle"]
ENGINES = ("numpy", "numba")
EXACT = ("model.npz", "history.csv", "predictions.csv", "report.txt")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="with each engine")
    parser.add_argument("--engine", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    args = parser.parse_args(argv)
    failed = False
    for engine in args.engine:
        with tempfile.TemporaryDirectory() as folder:
            whole, parts = Path(folder, "whole"), Path(folder, "parts")
            subprocess.run(command(whole, engine), check=True)
            steps = train_with_kills(parts, engine, args.kills, args.seed)
            different = differences(whole, parts)
        print(f"{engine}: {args.kills} kills; the newest checkpoints after them: step {', '.join(map(str, steps))}")
        same = "all files have the bytes of the undisturbed run"
        print(f"{engine}: " + ("different: " + ", ".join(different) if different else same), flush=True)
        failed |= bool(different)
    return int(failed)


def command(out: Path, engine: str) -> list[str]:
    """The command of a run."""
    return [*TRAIN, *OPTIONS, "--engine", engine, "--quiet", "--no-pictures", "--out", str(out)]


def train_with_kills(out: Path, engine: str, kills: int, seed: int) -> list[int]:
    """Kill the run at random moments and resume it; return the step of the newest checkpoint after each kill.

    Most kills come at a random time after the first checkpoint of the process, often while a later checkpoint is saved.
    Every fourth kill comes earlier, while the process starts and loads.
    """
    chance = random.Random(seed)
    resume = [*command(out, engine), "--checkpoint-every", "1", "--resume"]
    steps: list[int] = []
    for kill in range(kills):
        before, started = newest_step(out), time.monotonic()
        process = subprocess.Popen(resume)
        if kill % 4 == 3:
            time.sleep(chance.uniform(0, 0.3))
        else:
            while newest_step(out) == before and process.poll() is None and time.monotonic() - started < 60:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 2 / kills))
        process.kill()
        if process.wait() == 0:
            raise RuntimeError("the run finished before all kills; give it more epochs")
        steps.append(newest_step(out))
    subprocess.run(resume, check=True)
    return steps


def newest_step(out: Path) -> int:
    saved = (out / "checkpoints" / "member-0").glob("step-*.npz")
    return max((int(path.stem.removeprefix("step-")) for path in saved), default=0)


def differences(a: Path, b: Path) -> list[str]:
    """The files that differ."""
    different = [name for name in EXACT if (a / name).read_bytes() != (b / name).read_bytes()]
    metrics = [json.loads((out / "metrics.json").read_text()) for out in (a, b)]
    for values in metrics:
        del values["seconds_per_epoch"]
    return different + (["metrics.json"] if metrics[0] != metrics[1] else [])


if __name__ == "__main__":
    raise SystemExit(main())
