"""Measure the speed and the accuracy of fnet and other libraries on this machine.

    python scripts/bench networks                 an epoch of training, and prediction, of four networks on one core
    python scripts/bench networks --all-cores     the same with the default number of threads of each library
    python scripts/bench grid                     other depths, widths and batch sizes
    python scripts/bench activations              other activations compared with ReLU
    python scripts/bench start                    import, compilation, and the first epoch of a new process
    python scripts/bench memory                   training data on disk
    python scripts/bench accuracy                 MLPClassifier and scikit-learn's, by cross-validation
    python scripts/bench tables                   `fnet train` on tables as they come, beside scikit-learn's networks
    python scripts/bench lbfgs                    MLPClassifier beside scikit-learn's, both with L-BFGS

Each contender runs in a separate process, on one core with one thread unless --all-cores is given. Contenders take
turns, in an order that changes with each repetition, after they have compiled, except in `start`. Contenders that are
not installed are left out and named. The results are printed as a section of Markdown; --results FILE also replaces the
section in that file. The comparison of fnet with its limits is written to standard error.
"""

import argparse
import datetime
import itertools
import shlex
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import processes
from processes import Turns, Workers
from report import Report, machine, ratios, spread

FNET = ("fnet-numba", "fnet-numpy")
TORCH = ("torch", "torch-fused", "torch-compiled")
CONTENDERS = {
    "fnet-numba": 'fit, engine="numba"',
    "fnet-numpy": 'fit, engine="numpy"',
    "jax-scan": "a jitted epoch, lax.scan; batches gathered beforehand",
    "jax-step": "a jitted step; batches gathered beforehand",
    "torch": "eager",
    "torch-fused": "eager, fused Adam",
    "torch-compiled": "compiled, fused Adam",
    "sklearn": "MLPClassifier: no batch norm, no dropout",
    "floor": "only the matrix products, with np.dot",
}
PREDICTORS = ("fnet-numpy", "jax-step", "torch", "torch-compiled", "sklearn", "floor")  # the others predict like these
OTHERS = ("jax-scan", "jax-step", *TORCH, "sklearn")


class Network(NamedTuple):
    sizes: tuple[int, ...]
    batch_size: int

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.sizes))}, batches of {self.batch_size}"

    def examples(self, most: int) -> int:
        """The examples of an epoch: full batches, and fewer for a large network."""
        weights = sum(a * b for a, b in itertools.pairwise(self.sizes))
        return max(1, min(most, 40_000_000_000 // weights) // self.batch_size) * self.batch_size


NETWORKS = (
    Network((128, 256, 256, 256, 10), 64),
    Network((64, 64, 64, 10), 32),
    Network((30, 100, 2), 32),
    Network((128, 1024, 1024, 1024, 10), 16),
)
GRID = tuple(
    Network((128, *[width] * depth, 10), batch_size)
    for depth, width, batch_size in itertools.product((1, 2, 3, 5), (64, 256, 1024), (16, 64, 256))
)
# The largest ratio of fnet's time to that of another, for the first three networks.
Limits = Mapping[tuple[str, str], Sequence[float | None]]
LIMITS: Limits = {
    ("fnet-numba", "floor"): (1.45, None, None),
    ("fnet-numba", "jax-scan"): (0.85, 0.90, 1.0),
    ("fnet-numba", "jax-step"): (0.75, 0.45, 0.40),
    ("fnet-numba", "torch-fused"): (0.32, 0.16, 0.13),
    ("fnet-numba", "sklearn"): (0.45, 0.28, 0.22),
    ("fnet-numpy", "floor"): (2.2, None, None),
    ("fnet-numpy", "torch-fused"): (0.48, 0.34, None),
    ("fnet-numpy", "sklearn"): (None, 0.60, 0.55),
}
PREDICTION_LIMITS: Limits = {("fnet-numpy", "floor"): (1.3, None, None), ("fnet-numpy", "sklearn"): (1.0, 1.0, 1.0)}
ALL_CORES_LIMITS: Limits = {("fnet-numba", "the fastest other"): (1.0, 1.0, 1.0)}
RIVALS = {"PyTorch": (TORCH, 0.80), "JAX": (("jax-scan",), 1.0)}  # of the grid, with the limits of fnet-numba
ACTIVATION_LIMIT, COMPILE_LIMIT, LATER_LIMIT = 1.25, 20.0, 0.6  # times ReLU's; seconds; seconds more than with NumPy

ACTIVATIONS = ("relu", "tanh", "gelu", "silu")
STARTS = ("fnet-numpy", "fnet-numba, nothing compiled", "fnet-numba, later")
DATA = ("iris", "wine", "breast_cancer", "digits")
TABLES = {
    "classes": (*DATA, "penguins", "diamonds"),
    "numbers": ("diabetes", "linnerud", "penguins-mass", "diamonds-price", "friedman", "oscillator"),
}


# The commands ---------------------------------------------------------------------------------------------------------


def networks(args: argparse.Namespace, report: Report) -> None:
    with processes.contenders(args.only, report.left_out, all_cores=args.all_cores) as workers:
        for network in args.network:
            accuracy, turns = train(workers, network, args)
            report.text("", f"Training {network}: an epoch of {network.examples(args.examples):,} examples;")
            report.text("accuracy after the first epoch:")
            compare(report, turns, accuracy)
            check(report, f"training {network}", network, turns, ALL_CORES_LIMITS if args.all_cores else LIMITS)
            turns = processes.take_turns(workers, PREDICTORS, args.repeats, do="predict")
            report.text("", f"Predicting 10,000 rows with {'-'.join(map(str, network.sizes))}:")
            compare(report, turns)
            check(report, f"predicting with {network}", network, turns, {} if args.all_cores else PREDICTION_LIMITS)


def grid(args: argparse.Namespace, report: Report) -> None:
    columns = list(itertools.product(FNET, RIVALS))
    medians: dict[tuple[str, str], list[tuple[float, Network]]] = {column: [] for column in columns}
    report.text("", "Training: seconds per epoch, over those of the fastest form of PyTorch, and of JAX's scan:")
    report.table("network", *FNET, *(" / ".join(column) for column in columns))
    with processes.contenders(args.only, report.left_out) as workers:
        for network in args.network:
            _, turns = train(workers, network, args)
            cells = [spread(turns.get(engine, [])) for engine in FNET]
            for engine, rival in columns:
                ratio = ratios(turns.get(engine, []), fastest(turns, RIVALS[rival][0]))
                cells.append(spread(ratio))
                if ratio:
                    medians[engine, rival].append((statistics.median(ratio), network))
            report.row(str(network), *cells)
    for (engine, rival), found in medians.items():
        if found and engine == "fnet-numba":
            worst, network = max(found)
            report.limit(f"at worst, {network}: {engine} / {rival}", worst, RIVALS[rival][1])


def activations(args: argparse.Namespace, report: Report) -> None:
    report.text("", "Training: seconds per epoch, over those with ReLU:")
    report.table("network", "activation", *(cell for engine in args.only for cell in (engine, f"{engine} / relu")))
    names = [f"{engine}:{activation}" for engine in args.only for activation in ACTIVATIONS]
    with processes.contenders(names, report.left_out) as workers:
        for network in args.network:
            _, turns = train(workers, network, args)
            for activation in ACTIVATIONS:
                cells: list[str] = []
                for engine in args.only:
                    seconds = turns.get(f"{engine}:{activation}", [])
                    ratio = ratios(seconds, turns.get(f"{engine}:relu", []))
                    cells += [spread(seconds), spread(ratio)]
                    if ratio and engine == "fnet-numba" and activation != "relu":
                        report.limit(f"{engine}: {activation} / relu", statistics.median(ratio), ACTIVATION_LIMIT)
                report.row(str(network), activation, *cells)


def start(args: argparse.Namespace, report: Report) -> None:
    turns = {name: list[dict[str, float]]() for name in STARTS if name.startswith(tuple(args.only))}
    processes.call("start.py", "", {}, engine="numpy")  # Python compiles its modules
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            for name, times in turns.items():
                fnet, _, _ = name.partition(",")
                options = {"env": {"NUMBA_CACHE_DIR": folder}, "engine": fnet.removeprefix("fnet-")}
                if seconds := processes.call("start.py", fnet, report.left_out, **options):
                    times.append(seconds)
    report.text("", "Seconds of a new process, up to the end of a first epoch of 4 steps:")
    report.table("contender", "import numpy", "import fnet", "first epoch", "sum")
    for name, times in turns.items():
        if times:
            report.row(name, *(spread([turn[part] for turn in times]) for part in times[0]))
    if all(turns.get(name) for name in STARTS):
        numpy, fresh, later = (statistics.median(turn["sum"] for turn in turns[name]) for name in STARTS)
        report.limit("seconds of compiling on a fresh machine", fresh - later, COMPILE_LIMIT)
        report.limit("seconds more of a later process than with numpy", later - numpy, LATER_LIMIT)


def memory(args: argparse.Namespace, report: Report) -> None:
    file, rows = f"{args.rows:,} rows of 128 features in a memory-mapped file", f"{args.examples:,} rows in memory"
    report.text("", f"An epoch of {file} ({args.rows * 512e-6:,.0f} MB), in turns with epochs of {rows}:")
    report.table("contender", "MB before", "MB at most", "us per row on disk", "us per row in memory", "disk / memory")
    for name in args.only:
        sizes = {"rows": args.rows, "examples": args.examples}
        found = processes.call("memory.py", name, report.left_out, engine=name.removeprefix("fnet-"), **sizes)
        if found:
            disk, ram = ([1e6 * seconds for seconds in found[place]] for place in ("on disk", "in memory"))
            megabytes = [f"{found[moment] / 1e6:.0f}" for moment in ("before", "peak")]
            report.row(name, *megabytes, spread(disk), spread(ram), spread(ratios(disk, ram)))


def accuracy(args: argparse.Namespace, report: Report) -> None:
    options = {"data": args.data, "repeats": args.repeats, "raw": args.raw}
    if rows := processes.call("accuracy.py", "MLPClassifier", report.left_out, **options):
        scaled = "the data as they are" if args.raw else "a StandardScaler in front"
        report.text("", f"Percent of 5-fold cross-validation with its standard error; defaults, {scaled}:")
        report.table(*rows[0])
        for row in rows[1:]:
            report.row(*row)


def tables(args: argparse.Namespace, report: Report) -> None:
    for kind, names in TABLES.items():
        found: list[dict[str, Any]] = []
        for name in (name for name in names if name in args.data):
            answer = processes.call("tables.py", name, report.left_out, data=name, repeats=args.repeats)
            if answer is None:
                continue
            (_, *header), *rows = answer["rows"]
            if not found:
                means = "means, and standard errors of the differences to the first contender in each fold"
                report.text("", f"Tables of {kind}, {args.repeats} times 2 folds: {means}; seconds of the processor:")
                report.table("table", *header)
            for row in rows:
                report.row(*row)
            found.append(answer)
        for contender in found[0]["fnet"] if found else ():
            own: list[Any] = [answer["fnet"][contender] for answer in found]
            what, worse = f"{kind}, {contender}", [of_table["worse"] for of_table in own]
            report.limit(f"{what}: tables on which it is worse", sum(mean > 0 for mean, _ in worse), 1)
            report.limit(f"{what}: at worst, in standard errors", max(mean / error for mean, error in worse), 1)
            average = statistics.fmean(of_table["on average"] for of_table in own)
            report.limit(f"{what}: more errors in percent, or less R², on average", average, 0)
            seconds = max(of_table["seconds"] for of_table in own)
            report.limit(f"{what}: seconds / scikit-learn's, at worst", seconds, 1)
        for covered in [answer["coverage"] for answer in found if "coverage" in answer]:
            mean, least, most = statistics.fmean(covered), min(covered), max(covered)
            share = f"{100 * mean:.1f} % of the test rows ({100 * least:.1f} to {100 * most:.1f} in a fold)"
            report.text("", f"`fnet train --quantiles 0.1 0.9` on the price of diamonds: {share} are in the interval.")
            report.limit("coverage of the interval from 10 to 90 %: distance from 0.8", abs(mean - 0.8), 0.03)


def lbfgs(args: argparse.Namespace, report: Report) -> None:
    report.text("", f"100 hidden units, {args.repeats} seeds: means of what is minimized, and seconds per fit:")
    report.table("data", "contender", "loss", "iterations", "seconds", "it / scikit-learn")
    for name in args.data:
        report.rows(processes.call("lbfgs.py", name, report.left_out, data=name, repeats=args.repeats) or [])


# Common parts ---------------------------------------------------------------------------------------------------------


def train(workers: Workers, network: Network, args: argparse.Namespace) -> tuple[dict[str, float], Turns]:
    """The accuracy of each contender after the first epoch, and the seconds per later epoch."""
    sizes = {"sizes": network.sizes, "batch_size": network.batch_size, "examples": network.examples(args.examples)}
    accuracy = {name: processes.ask(workers, name, do="set up", **sizes) for name in list(workers.running)}
    turns = processes.take_turns(workers, list(workers.running), args.repeats, do="train", at_least=args.turn)
    return accuracy, turns


def compare(report: Report, turns: Turns, accuracy: Mapping[str, float] | None = None) -> None:
    fnet = [name for name in FNET if name in turns]
    report.table("contender", "seconds", *(f"{name} / it" for name in fnet), *(["accuracy"] if accuracy else []))
    for name, seconds in turns.items():
        contender = f"{name}: {CONTENDERS[name]}" if accuracy else name
        cells = [spread(ratios(turns[engine], seconds)) for engine in fnet]
        if accuracy:
            cells.append("-" if name == "floor" else f"{accuracy[name]:.3f}")
        report.row(contender, spread(seconds), *cells)


def fastest(turns: Turns, names: Iterable[str]) -> list[float]:
    """The shortest time of each turn."""
    return [min(turn) for turn in zip(*(turns[name] for name in names if name in turns), strict=True)]


def check(report: Report, what: str, network: Network, turns: Turns, limits: Limits) -> None:
    turns = turns | {"the fastest other": fastest(turns, OTHERS)}
    for (fnet, other), values in limits.items():
        most = dict(zip(NETWORKS, values, strict=False)).get(network)
        if most is not None and (ratio := ratios(turns.get(fnet, []), turns.get(other, []))):
            report.limit(f"{what}: {fnet} / {other}", statistics.median(ratio), most)


# The command line -----------------------------------------------------------------------------------------------------


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, but got {text!r}")
    return int(text)


def network_of(text: str) -> Network:
    sizes, _, batch_size = text.partition(":")
    network = Network(tuple(map(count, sizes.split("-"))), count(batch_size))
    if len(network.sizes) < 3 or network.batch_size < 2:
        raise argparse.ArgumentTypeError(f"needs a hidden layer and batches of 2 or more, but got {text!r}")
    return network


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for run, title, only, repeats, networks_of in (
        (networks, "Training and prediction", tuple(CONTENDERS), 5, NETWORKS),
        (grid, "Other depths, widths and batch sizes", (*FNET, *TORCH, "jax-scan"), 3, GRID),
        (activations, "Activations", FNET, 5, NETWORKS[:1]),
        (start, "The first epoch of a process", FNET, 3, ()),
        (memory, "Data on disk", FNET, None, ()),
        (accuracy, "Accuracy beside scikit-learn", (), 10, ()),
        (tables, "Tables beside scikit-learn", (), 5, ()),
        (lbfgs, "L-BFGS beside scikit-learn", (), 20, ()),
    ):
        command = commands.add_parser(run.__name__, help=title)
        command.set_defaults(run=run, title=title, all_cores=False)
        add = command.add_argument
        add("--results", type=Path, metavar="FILE", help="also write the section to it")
        if only:
            add("--only", choices=only, nargs="+", default=only, metavar="NAME", help=f"of {', '.join(only)}")
        if repeats:
            add("--repeats", type=count, default=repeats, metavar="N", help=f"default {repeats}")
        if networks_of:
            help = "such as 64-64-64-10:32, where 32 is the batch size"
            add("--network", type=network_of, nargs="+", default=networks_of, metavar="SIZES", help=help)
            add("--turn", type=float, default=0.2, metavar="SECONDS", help="at least; default 0.2")
        if networks_of or run is memory:
            help = "of an epoch in memory, at most; default 50000"
            add("--examples", type=count, default=50_000, metavar="N", help=help)
        if run is networks:
            add("--all-cores", action="store_true", help="with the default number of threads")
        if run is memory:
            add("--rows", type=count, default=2_000_000, metavar="N", help="of the file; default 2000000")
        if run in (accuracy, tables, lbfgs):
            names = tuple(itertools.chain(*TABLES.values())) if run is tables else DATA
            add("--data", choices=names, nargs="+", default=names, metavar="NAME", help=f"of {', '.join(names)}")
        if run is accuracy:
            add("--raw", action="store_true", help="without a StandardScaler")
    args = parser.parse_args(argv)
    if args.results is not None and not args.results.parent.is_dir():
        parser.error(f"there is no folder {args.results.parent} for --results")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if not args.all_cores:
        processes.pin()
    report = Report(args.title + (" on all cores" if args.all_cores else ""))
    command = shlex.join(["python", "scripts/bench", *(sys.argv[1:] if argv is None else argv)])
    report.text("", f"`{command}`, {datetime.date.today()}: {machine(all_cores=args.all_cores)}.")
    args.run(args, report)
    if report.left_out:
        report.text("", f"Left out: {'; '.join(f'{name} ({why})' for name, why in report.left_out.items())}.")
    if args.results is not None:
        report.write(args.results)
    print("\n".join(report.limits), file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
