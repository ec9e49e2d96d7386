"""Start many concurrent `fnet train`, kill them and fill the disk at random, and check that nothing is lost or mixed.

    python scripts/checks/soak.py --runs 20 --minutes 5

A start resumes the run in a folder, overwrites it with another job, tries either without permission, or names no
folder. Of every four runs, two share a folder, so that they often write to it at once, and one is on a small disk that
is sometimes full (as root a tmpfs, otherwise a limit of the file size, RLIMIT_FSIZE). Most starts end by a signal. What
a start does is a function of the seed, the run and the number of the start; its timing depends on the machine.

A start may finish, end by its signal, or end with the expected error. A finished run must have the bytes of an
undisturbed run, a refused start must change nothing, and a resumed run must not lose a saved step. Finally, each folder
must be finished, or be finished by `--resume`, with these bytes. The program prints how often each end occurred, and
exits with 1 if one was wrong.
"""

import argparse
import collections
import contextlib
import itertools
import json
import math
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals
from typing import Any, NamedTuple

import kill_test

from fnet import model
from fnet.cli import folder

TRAIN = [*kill_test.TRAIN, "--hidden", "16", "16", "--engine", "numpy", "--quiet", "--no-pictures"]
JOBS = {
    "one": ["--epochs", "8", "--input-noise", "0.2", "--schedule", "onecycle"],
    "best": ["--epochs", "12", "--seed", "1", "--keep-best", "--patience", "2", "--calibrate"],
    "ensemble": ["--epochs", "4", "--ensemble", "2"],
    "folds": ["--epochs", "3", "--folds", "3"],
}
MODES = {"resume": ["--resume"], "other": ["--resume"], "overwrite": ["--overwrite"], "plain": [], "unnamed": []}
REFUSED = {"plain": ["holds a finished run", "holds an unfinished run"], "other": ["cannot resume, since"]}
IN_USE = "another run is writing"
FULL = ["No space left on device", "File too large"]


class Run(NamedTuple):
    """One of the concurrent runs."""

    number: int
    out: Path
    alone: bool  # no other run uses this folder
    small: bool  # the folder is on the small disk


class Plan(NamedTuple):
    """What a start does."""

    mode: str  # "resume" continues the job in the folder; the other modes use `job`
    job: str
    every: str  # --checkpoint-every
    moment: str  # the signal follows the "start", the first new "step", the first of the "results", or comes "never"
    delay: float  # seconds
    signal: Signals
    room: int | None  # free bytes on the small disk; None: enough


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=20, metavar="N", help="concurrent runs")
    parser.add_argument("--minutes", type=float, default=5, metavar="M")
    parser.add_argument("--seed", type=int, default=0, help="decides what the starts do")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name, small_disk(Path(name, "disk")) as tmpfs:
        ends = soak(Path(name), args.runs, 60 * args.minutes, args.seed, tmpfs=tmpfs)
    print(f"{args.runs} runs, {args.minutes:g} minutes, seed {args.seed}, {'tmpfs' if tmpfs else 'RLIMIT_FSIZE'}")
    wrong = [end for end in ends if "WRONG" in end]
    for end, count in sorted(collections.Counter(end for end in ends if end not in wrong).items()):
        print(f"{count:>6}  {end}")
    print("\n".join(wrong) or "nothing was lost or mixed")
    return int(bool(wrong))


def soak(area: Path, runs: int, seconds: float, seed: int, *, tmpfs: bool = False) -> list[str]:
    """The ends of all starts and of all folders."""
    for job in JOBS:
        subprocess.run([*TRAIN, *JOBS[job], "--out", str(area / "whole" / job)], check=True)
    for name in ("disk", "unnamed"):
        (area / name).mkdir(exist_ok=True)
    places = [area / (f"disk/{i}" if i % 4 == 3 else f"{i - (i % 4 == 1)}") for i in range(runs)]
    deadline = time.monotonic() + seconds

    def drive(run: Run) -> list[str]:
        ends: list[str] = []
        while time.monotonic() < deadline:
            plan = make_plan(random.Random(f"{seed} {run.number} {len(ends)}"), runs)
            ends.append(f"{plan.mode:<10}{start(area, run, plan, deadline, tmpfs)}")
        return ends

    with ThreadPoolExecutor(max(runs, 1)) as threads:
        side_by_side = [Run(i, out, places.count(out) == 1, i % 4 == 3) for i, out in enumerate(places)]
        ends = list(itertools.chain(*threads.map(drive, side_by_side)))
    fill(area / "disk", None)
    folders = {*places, *area.glob("unnamed/runs/*")}
    return ends + [f"folder    {settle(area, out)}" for out in sorted(folders)]


def make_plan(chance: random.Random, runs: int) -> Plan:
    moment, pace = chance.choice([("start", 0.2), ("step", 0.05), ("results", 0.005), ("never", 0.0)])
    return Plan(
        mode=chance.choices(list(MODES), (50, 10, 20, 10, 10))[0],
        job=chance.choice(list(JOBS)),
        every=chance.choice(["1", "7", "epoch"]),
        moment=moment,
        delay=chance.uniform(0, pace * runs),  # more runs are slower
        signal=chance.choice([SIGKILL, SIGKILL, SIGTERM, SIGINT]),
        room=chance.choice([None, chance.randrange(100_000)]),
    )


# One start ------------------------------------------------------------------------------------------------------------


def start(area: Path, run: Run, plan: Plan, deadline: float, tmpfs: bool) -> str:
    """Start the command, disturb it, and check how it ends."""
    job = (job_in(area, run.out) if plan.mode == "resume" else None) or plan.job
    command = [*TRAIN, *JOBS[job], "--checkpoint-every", plan.every, *MODES[plan.mode]]
    if plan.mode == "unnamed":
        time.sleep(-time.time() % 3)  # in the same second as other starts
    else:
        command += ["--out", str(run.out)]
    if run.small and tmpfs:
        fill(area / "disk", plan.room)
    elif run.small and plan.room is not None:
        command = ["sh", "-c", 'ulimit -f "$0" && exec "$@"', str(plan.room // 1024), *command]
    before = contents(run.out)
    process = subprocess.Popen(command, cwd=area / "unnamed", stderr=subprocess.PIPE, text=True)
    sent = disturb(process, plan, run.out, before, deadline)
    error = process.communicate()[1]
    end = judge(run, plan, process.returncode, sent, error)
    problem = "" if end else f"ended with code {process.returncode}"
    if "damaged" in error:
        problem = "found a damaged file"
    if run.alone and plan.mode != "unnamed":
        after = contents(run.out)
        if end == "finished" and (job_in(area, run.out) != job or "metrics.json" not in after):
            problem = "did not finish its job"
        if end.startswith("refused") and after != before:
            problem = "was refused, but changed something"
        if plan.mode == "resume" and any(newest(after).get(key, "") < name for key, name in newest(before).items()):
            problem = "lost a saved step"
    problem = problem or flaw(area, run.out)
    return f"WRONG: run {run.number} {problem}: {job}, {plan}, {error!r}" if problem else end


def disturb(
    process: "subprocess.Popen[str]", plan: Plan, out: Path, before: dict[str, bytes], deadline: float
) -> Signals | None:
    """Send the signal of the plan, or SIGKILL at the deadline; return the signal."""
    due = math.inf
    while process.poll() is None:
        now = time.monotonic()
        if due == math.inf and has_come(plan.moment, out, before):
            due = now + plan.delay
        if now >= min(due, deadline):
            sent = plan.signal if now < deadline else SIGKILL
            process.send_signal(sent)
            return sent
        time.sleep(0.02)
    return None


def has_come(moment: str, out: Path, before: dict[str, bytes]) -> bool:
    if moment == "step":
        return any(str(path.relative_to(out)) not in before for path in out.glob("checkpoints/*/step-*"))
    if moment == "results":
        return (out / "model.npz").exists() and not (out / "metrics.json").exists()
    return moment == "start"


def judge(run: Run, plan: Plan, code: int, sent: Signals | None, error: str) -> str:
    """The name of an end, or an empty string if it must not occur."""
    if code == 0:
        return "finished"
    # Python may end with a KeyboardInterrupt, which the import of NumPy turns into an ImportError.
    interrupted = sent == SIGINT and ("KeyboardInterrupt" in error or "ImportError" in error)
    if sent is not None and (code == -sent or (code == 130 and sent != SIGKILL) or interrupted):
        return f"ended by {sent.name}"
    if run.small and code == 2 and any(text in error for text in FULL):
        return "disk full"
    refusals = REFUSED.get(plan.mode, [])
    if plan.mode != "unnamed" and not run.alone:
        refusals = [IN_USE, *itertools.chain(*REFUSED.values())]
    return next((f"refused: {text}" for text in refusals if code == 2 and text in error), "")


# What is in a folder --------------------------------------------------------------------------------------------------


def contents(out: Path) -> dict[str, bytes]:
    """The files in a folder by name, without the lock and temporary files."""
    found: dict[str, bytes] = {}
    for path in out.rglob("[!.]*"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # another run may just have removed it
            found[str(path.relative_to(out))] = path.read_bytes()
    return found


def newest(files: dict[str, bytes]) -> dict[str, str]:
    """The newest checkpoint of each network."""
    return {name.rpartition("/")[0]: name for name in sorted(files) if "/step-" in name}


def config(out: Path) -> dict[str, Any]:
    return {**json.loads((out / "config.json").read_text()), "command": None}


def job_in(area: Path, out: Path) -> str | None:
    """The job that config.json describes, or None."""
    if not (out / "config.json").exists():
        return None
    given = config(out)  # read once, since another run may replace it
    return next((job for job in JOBS if config(area / "whole" / job) == given), None)


def flaw(area: Path, out: Path) -> str:
    """The problem of a finished run in a folder, or an empty string; also empty while another run uses the folder."""
    try:
        with folder.locked(out) if out.exists() else contextlib.nullcontext():
            if not (out / "metrics.json").exists():
                return ""
            whole = area / "whole" / str(job_in(area, out))
            names, expected = ({path.name for path in place.glob("[!.]*")} for place in (out, whole))
            if names != expected:
                return f"has the files {sorted(names)}"
            model.load_model(out / "model.npz")
            different = kill_test.differences(whole, out)
            return f"has other bytes in {different}" if different else ""
    except ValueError as error:
        return "" if IN_USE in str(error) else str(error)


def settle(area: Path, out: Path) -> str:
    """The final state of a folder."""
    job, end = job_in(area, out), "finished"
    if job is None:
        return f"WRONG: {out} has no job, but has {[*contents(out)]}" if contents(out) else "nothing begun"
    if not (out / "metrics.json").exists():
        end, command = "finished by --resume", [*TRAIN, *JOBS[job], "--resume", "--out", str(out)]
        resumed = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if resumed.returncode or "damaged" in resumed.stderr:
            return f"WRONG: {out} cannot be resumed: {resumed.stderr!r}"
    problem = flaw(area, out)
    return f"WRONG: {out} {problem}" if problem else end


# The small disk -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[bool]:
    """Make a folder with little space; yields whether this process could mount a disk for it."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "soak", str(path)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, stderr=subprocess.DEVNULL).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(path)], check=True)


def fill(disk: Path, room: int | None) -> None:
    """Fill a small disk up to `room` free bytes; None frees all but the files of the runs."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    if room is not None:
        status = os.statvfs(disk)
        with contextlib.suppress(OSError), filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, status.f_bavail * status.f_frsize - room))


if __name__ == "__main__":
    raise SystemExit(main())
