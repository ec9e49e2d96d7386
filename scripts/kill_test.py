"""Kill training with SIGKILL at random moments, again and again, and compare what it writes with an undisturbed run.

    python scripts/kill_test.py --kills 200

A checkpoint is saved after each step, so that many of the kills fall into the saving. After the last kill the run is
left to come to its end; model, history, predictions and metrics (but for seconds) must then be the same bytes.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = Path(__file__).with_name("train.py")
OPTIONS = ["--hidden", "16", "16", "--epochs", "40", "--mixup", "0.2", "--ema-decay", "0.9", "--schedule", "onecycle"]
EXACT = ("model.npz", "history.csv", "predictions.csv", "report.txt")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder, "whole"), Path(folder, "parts")
        subprocess.run(command(whole), check=True)
        steps = train_with_kills(parts, args.kills, args.seed)
        different = differences(whole, parts)
    print(f"{args.kills} kills, after which the newest checkpoint was of step {', '.join(map(str, steps))}")
    print(
        "different: " + ", ".join(different) if different else "every file has the same bytes as the undisturbed run's"
    )
    return bool(different)


def command(out: Path) -> list[str]:
    return [sys.executable, str(TRAIN), *OPTIONS, "--quiet", "--no-pictures", "--out", str(out)]


def train_undisturbed(out: Path) -> float:
    """One run from beginning to end; the seconds that it takes."""
    started = time.monotonic()
    subprocess.run(command(out), check=True)
    return time.monotonic() - started


def train_with_kills(out: Path, kills: int, seed: int) -> list[int]:
    """The same run, killed at random moments and resumed; the step of the newest checkpoint after each kill.

    Most kills come a random while after the first checkpoint that the process has saved, in the middle of the saving
    of a later one as often as not; every fourth one comes before, while it starts and loads.
    """
    chance = random.Random(seed)
    resume = [*command(out), "--checkpoint-every", "1", "--resume"]
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
            raise RuntimeError("the run came to its end before all kills; give it more epochs")
        steps.append(newest_step(out))
    subprocess.run(resume, check=True)
    return steps


def newest_step(out: Path) -> int:
    saved = (out / "checkpoints" / "member-0").glob("step-*.npz")
    return max((int(path.stem.removeprefix("step-")) for path in saved), default=0)


def differences(a: Path, b: Path) -> list[str]:
    """The files that are not the same."""
    different = [name for name in EXACT if (a / name).read_bytes() != (b / name).read_bytes()]
    metrics = [json.loads((out / "metrics.json").read_text()) for out in (a, b)]
    for values in metrics:
        del values["seconds_per_epoch"]
    return different + (["metrics.json"] if metrics[0] != metrics[1] else [])


if __name__ == "__main__":
    raise SystemExit(main())
