"""Overwrite a finished run, and let the new run die before its first change of a file, before its second, and so on.

    python scripts/checks/crash_points.py

After each death, the folder must hold the complete old run or the complete new run, or `--resume` must finish one of
them with its bytes, without files of the other. The program prints how often each case occurred. It needs `fork`, which
Windows does not have.
"""

import collections
import os
import shutil
import sys
import tempfile
from pathlib import Path

import kill_test

from fnet.cli.main import main as fnet

SMALL = ["train", "--hidden", "4", "--epochs", "1", "--engine", "numpy", "--quiet", "--no-pictures"]
JOBS = {"old": [*SMALL, "--ensemble", "2"], "new": [*SMALL, "--seed", "1"]}
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.utime")  # and the creation of a file


def main() -> int:
    found: collections.Counter[str] = collections.Counter()
    os.fsync = lambda fd: None  # only the process dies, not the machine
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for job, command in JOBS.items():
            if fnet([*command, "--out", str(folder / job)]):
                raise RuntimeError(f"the {job} run fails undisturbed")
        out, change, code = folder / "out", 0, 9
        while code == 9:
            change += 1
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(folder / "old", out)
            code = train("new", "--overwrite", out, dies_before=change)
            found[state(folder, out)] += 1
    for what, count in sorted(found.items()):
        print(f"{count:>4}  {what}")
    return int(any(what.startswith("LOST") for what in found) or len(found) < 4)


def train(job: str, option: str, out: Path, *, dies_before: int = 0) -> int:
    """The exit code of a run in a separate process, which dies before its nth change of a file."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    changes = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal changes
        if event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT):
            changes += 1
            if changes == dies_before:
                os._exit(9)

    sys.addaudithook(count)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os._exit(fnet([*JOBS[job], option, "--out", str(out)]))


def state(folder: Path, out: Path) -> str:
    """The state of the folder of the old run."""
    how = "is whole" if (out / "metrics.json").exists() else "goes on"
    for job in ("new", "old"):
        if how == "goes on" and train(job, "--resume", out):
            continue
        if holds(out, folder / job):
            return f"the {job} run {how}"
    return f"LOST: what {how} is neither run, or both"


def holds(out: Path, reference: Path) -> bool:
    """Whether a folder holds the run of another folder, and nothing else except a lock and temporary files."""
    names = [
        {path.relative_to(folder) for path in folder.rglob("[!.]*") if path.is_file()} for folder in (out, reference)
    ]
    return names[0] == names[1] and not kill_test.differences(out, reference)


if __name__ == "__main__":
    raise SystemExit(main())
