"""Compare the speed of fnet with that of other libraries, side by side on this machine, in one run.

    python scripts/bench.py                                       an epoch of the report's best model, and prediction
    python scripts/bench.py --only torch floor --json bench.json  some contenders, and all raw times
    python scripts/bench.py --profile                             where the time of a training step goes
    python scripts/bench.py --grid --repeats 3                    other depths, widths and batch sizes, beside PyTorch
    python scripts/bench.py --memory                              training data larger than memory

Every contender trains the same network on the same batches in a process of its own, with the same number of threads and
kept to as many cores. They take turns, one at a time, in an order that changes with each repetition; what is compiled
is compiled before. Where other programs keep the machine busy, `--clock processor` is the steadier measure.
"""

import _threads  # noqa: I001  # before any library that starts threads

import argparse
import contextlib
import itertools
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

# What the table says of each contender, and whether it predicts with code of its own.
CONTENDERS = {
    "fnet": ("train_step in donated memory, as fit", True),
    "torch": ("eager", True),
    "torch-fused": ("eager, fused Adam", False),
    "torch-compile": ("compiled, fused Adam", True),
    "jax": ("a jitted step, donated; batches gathered beforehand", True),
    "jax-scan": ("a jitted epoch, donated; batches gathered beforehand", False),
    "sklearn": ("MLPClassifier: no batch norm, no dropout", True),
    "floor": ("the matrix products alone, by np.dot", True),
}
GRID_CONTENDERS = ("fnet", "torch", "torch-fused")
GRID_DEPTHS, GRID_WIDTHS, GRID_BATCH_SIZES = (1, 2, 3, 5), (64, 256, 1024), (16, 64, 256)
MIN_TURN = 0.2  # seconds; epochs that are shorter are repeated within a turn

Lines: TypeAlias = Iterator[str]
Turns: TypeAlias = dict[str, list[dict[str, float]]]  # of each contender, the seconds of its turns by either clock


class Session(NamedTuple):
    """The contenders' processes, and what is known of them."""

    workers: dict[str, subprocess.Popen[str]]
    left_out: dict[str, str]  # why
    versions: dict[str, str]


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--grid", dest="kind", action="store_const", const=grid, help="many sizes, beside PyTorch")
    kind.add_argument("--profile", dest="kind", action="store_const", const=profile, help="the parts of a step of fnet")
    kind.add_argument("--memory", dest="kind", action="store_const", const=memory, help="train on a memory-mapped file")
    parser.set_defaults(kind=compare)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 256, 256, 10], metavar="N")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N")
    parser.add_argument(
        "--examples", type=int, metavar="N", help="an epoch, cut to whole batches (default 50000; --grid: 12800)"
    )
    parser.add_argument("--repeats", type=int, default=5, metavar="N")
    parser.add_argument("--threads", type=_threads.number, default=int(os.environ[_threads.VARIABLES[0]]), metavar="N")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--only", nargs="+", choices=tuple(CONTENDERS), default=tuple(CONTENDERS), metavar="NAME")
    parser.add_argument("--rows", type=int, default=2_000_000, metavar="N", help="of the file of --memory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    args = parser.parse_args(argv)
    if args.examples is None:
        args.examples = 12_800 if args.kind is grid else 50_000
    if min(args.repeats, args.batch_size - 1, len(args.sizes) - 2) < 1 or args.examples < args.batch_size:
        parser.error("needs a repetition, a hidden layer, batches of 2 or more, and at least one of them")
    if args.json is not None and not args.json.parent.is_dir():
        parser.error(f"there is no folder {args.json.parent} for --json")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    names: Sequence[str] = {grid: GRID_CONTENDERS, compare: ("fnet", *args.only)}.get(args.kind, ("fnet",))
    result: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv] if argv is None else ["python", "scripts/bench.py", *argv]),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "threads": args.threads,
        "clock": args.clock,
    }
    with processes(names, args.threads) as session:
        table = list(args.kind(args, session, result))
    versions = {"python": platform.python_version(), **session.versions}
    result |= {"versions": versions, "left_out": session.left_out}
    print(f"    {result['command']}\n")
    print(f"{result['machine']['processor']}, {args.threads} of {os.cpu_count()} cores, {args.clock} clock; ", end="")
    print(", ".join(f"{name} {version}" for name, version in versions.items()), end=".\n\n")
    print("\n".join(table))
    if session.left_out:
        print("\nLeft out:", "; ".join(f"{name} ({why})" for name, why in session.left_out.items()))
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


# What can be measured: each gives the lines of its tables, and adds to the result -------------------------------------


def compare(args: argparse.Namespace, session: Session, result: dict[str, Any]) -> Lines:
    """All contenders: an epoch of training, and prediction."""
    run = result["run"] = measure(session, args, args.sizes, args.batch_size, warm_up=2)
    yield f"An epoch: {run['steps']} steps of {args.batch_size} examples, layers {'-'.join(map(str, args.sizes))}"
    yield f"(median of {args.repeats}, least-most):\n"
    yield "| contender | seconds an epoch | fnet / contender | cores busy | test accuracy |"
    yield "|---|---|---|---|---|"
    for name, turns in run["epoch"].items():
        cores = statistics.median(turn["processor"] / turn["wall"] for turn in turns)
        accuracy = "-" if name == "floor" else f"{run['score'][name]['accuracy']:.3f}"
        ratio = spread(ratios(run["epoch"]["fnet"], turns, args.clock))
        seconds = spread([turn[args.clock] for turn in turns])
        yield f"| {name}: {CONTENDERS[name][0]} | {seconds} | {ratio} | {cores:.2f} | {accuracy} |"
    yield "\nPrediction of 10,000 rows:\n"
    yield "| contender | milliseconds | fnet / contender |"
    yield "|---|---|---|"
    for name, turns in run["predict"].items():
        milliseconds = spread([1e3 * turn[args.clock] for turn in turns])
        yield f"| {name} | {milliseconds} | {spread(ratios(run['predict']['fnet'], turns, args.clock))} |"


def grid(args: argparse.Namespace, session: Session, result: dict[str, Any]) -> Lines:
    """The ratio of fnet to the faster form of PyTorch, over depths, widths and batch sizes."""
    yield "Seconds an epoch of fnet / the faster of PyTorch eager and with fused Adam (median, least-most):\n"
    yield "| hidden layers | " + " | ".join(f"batches of {size}" for size in GRID_BATCH_SIZES) + " |"
    yield "|---" * (len(GRID_BATCH_SIZES) + 1) + "|"
    runs = result["grid"] = list[dict[str, Any]]()
    for depth, width in itertools.product(GRID_DEPTHS, GRID_WIDTHS):
        row = f"| {depth} x {width} |"
        for batch_size in GRID_BATCH_SIZES:
            sizes = [args.sizes[0], *[width] * depth, args.sizes[-1]]
            run = measure(session, args, sizes, batch_size, warm_up=1)
            rivals = [turns for name, turns in run["epoch"].items() if name != "fnet"]
            if not rivals:
                raise SystemExit(f"the grid needs PyTorch: {session.left_out}")
            best = [min(turns, key=lambda turn: turn[args.clock]) for turns in zip(*rivals, strict=True)]
            run["ratios"] = ratios(run["epoch"]["fnet"], best, args.clock)
            runs.append(run)
            row += f" {spread(run['ratios'])} |"
        print(row, file=sys.stderr, flush=True)  # it takes a while
        yield row
    worst = max(runs, key=lambda run: statistics.median(run["ratios"]))
    yield f"\nThe worst: {spread(worst['ratios'])} at {worst['sizes']} with batches of {worst['batch_size']}."


def profile(args: argparse.Namespace, session: Session, result: dict[str, Any]) -> Lines:
    """The parts of a training step of fnet."""
    set_up(session, args.sizes, args.batch_size, args.examples, warm_up=1)
    parts: dict[str, list[float]] = ask(session, "fnet", do="profile", repeats=args.repeats)
    result["profile"] = dict(parts)
    whole, watched = (statistics.median(parts.pop(name)) for name in ("whole", "whole with stopwatches"))
    floor = statistics.median(parts.pop("floor"))
    yield "A training step of fnet by parts (wall clock; median, least-most):\n"
    yield "| part | microseconds | share |"
    yield "|---|---|---|"
    for name, seconds in parts.items():
        yield f"| {name} | {spread([1e6 * s for s in seconds])} | {statistics.median(seconds) / watched:.1%} |"
    total = sum(statistics.median(seconds) for seconds in parts.values())
    yield f"| **sum** | {1e6 * total:.0f} | {total / watched:.1%} |"
    yield f"\nThe whole step takes {1e6 * whole:.0f} us, and {1e6 * watched:.0f} us with stopwatches around its parts:"
    yield f"measuring costs {watched / whole - 1:+.1%}. The matrix products alone take {1e6 * floor:.0f} us."


def memory(args: argparse.Namespace, session: Session, result: dict[str, Any]) -> Lines:
    """Training on a memory-mapped file."""
    set_up(session, args.sizes, args.batch_size, args.examples, warm_up=1)
    found = result["memory"] = ask(session, "fnet", do="memory", rows=args.rows)
    file_bytes = args.rows * args.sizes[0] * 4
    disk, ram = ([1e6 * s for s in found[name]] for name in ("on disk", "in memory"))
    yield f"An epoch of fnet.fit on a memory-mapped file of {args.rows:,} rows, {file_bytes / 1e6:,.0f} MB:\n"
    yield f"- anonymous memory at most {found['peak bytes'] / 1e6:.0f} MB, {found['bytes before'] / 1e6:.0f} MB before;"
    yield f"- {spread(disk)} us a row, against {spread(ram)} us for {args.examples:,} rows in memory, in turn with it:"
    yield f"  ratio {spread([a / b for a, b in zip(disk, ram, strict=True)])}."


# Measuring ------------------------------------------------------------------------------------------------------------


def measure(
    session: Session, args: argparse.Namespace, sizes: list[int], batch_size: int, *, warm_up: int
) -> dict[str, Any]:
    """Let the contenders train and predict in turn. One that fails, or does not learn, is left out from then on."""
    steps = set_up(session, sizes, batch_size, args.examples, warm_up=warm_up)
    probe = [reply["wall"] for name in list(session.workers) if (reply := ask(session, name, do="train", epochs=1))]
    epochs = math.ceil(MIN_TURN / min(probe))
    epoch: Turns = {name: [] for name in session.workers}
    predict: Turns = {name: [] for name in session.workers if CONTENDERS[name][1]}
    for repeat in range(args.repeats):
        for turns, request in ((epoch, {"do": "train", "epochs": epochs}), (predict, {"do": "predict"})):
            names = [name for name in turns if name in session.workers]
            first = repeat % len(names)
            for name in names[first:] + names[:first]:
                turns[name].append(ask(session, name, **request))
    score = {name: ask(session, name, do="score") for name in list(session.workers)}
    for name, reply in score.items():
        if reply and name != "floor" and not reply["loss"] < max(reply["first loss"], math.log(sizes[-1])):
            leave_out(session, name, f"it does not learn: its loss is {reply['loss']:.3g}")
    measured: dict[str, dict[str, Any]] = {"epoch": epoch, "predict": predict, "score": score}
    return {
        "sizes": sizes,
        "batch_size": batch_size,
        "steps": steps,
        "epochs_a_turn": epochs,
        **{what: {name: of[name] for name in of if name in session.workers} for what, of in measured.items()},
    }


def set_up(session: Session, sizes: list[int], batch_size: int, examples: int, *, warm_up: int) -> int:
    """Give every contender the task; the number of steps in an epoch."""
    task = {"sizes": sizes, "batch_size": batch_size, "examples": examples}
    steps = set[int]()
    for name in list(session.workers):
        if reply := ask(session, name, do="setup", **task, warm_up=warm_up):
            session.versions.update(reply["versions"])
            steps.add(reply["steps"])
    if len(steps) != 1:
        raise SystemExit(f"the contenders do not make the same number of steps: {steps}")
    return steps.pop()


def ratios(fnet: list[dict[str, float]], other: list[dict[str, float]], clock: str) -> list[float]:
    return [a[clock] / b[clock] for a, b in zip(fnet, other, strict=True)]


def spread(values: list[float]) -> str:
    """Median, least and most, to three digits of the median."""
    median = statistics.median(values)
    places = max(0, 2 - math.floor(math.log10(median))) if median > 0 else 3
    return f"{median:.{places}f} ({min(values):.{places}f}-{max(values):.{places}f})"


# Processes ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def processes(names: Sequence[str], threads: int) -> Iterator[Session]:
    """A process for each contender, which finds the same packages as this one."""
    program = Path(__file__).with_name("_bench_workers.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    workers = {
        name: subprocess.Popen(
            [sys.executable, str(program), name, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for name in dict.fromkeys(names)
    }
    started = list(workers.values())
    try:
        yield Session(workers, {}, {})
    finally:
        for process in started:
            process.kill()
            process.communicate()


def ask(session: Session, name: str, **request: Any) -> dict[str, Any]:
    """A contender's answer; an empty one if it cannot give any, and is left out from then on; fnet must."""
    process = session.workers[name]
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        print(json.dumps(request), file=process.stdin, flush=True)
        reply = json.loads(process.stdout.readline())
    except (OSError, ValueError):
        reply = {"error": f"its process ended with code {process.wait()}"}
    if "error" not in reply:
        return reply
    leave_out(session, name, reply["error"])
    return {}


def leave_out(session: Session, name: str, why: str) -> None:
    if name == "fnet":
        raise SystemExit(f"fnet cannot be measured: {why}")
    session.left_out[name] = why
    del session.workers[name]


def processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    raise SystemExit(main())
