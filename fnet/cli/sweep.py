"""`fnet sweep`: train combinations of options from a grid or at random, and rank them on validation rows.

    fnet sweep --grid hidden=64,128,256 learning_rate=1e-4..1e-2:log --epochs 10
    fnet sweep --random 20 --grid hidden=32..512:log learning_rate=1e-4..1e-2:log dropout=0..0.6
    fnet sweep --toml FILE                      with lines such as hidden = [64, 128] or dropout = "0..0.5:3"
    fnet sweep --table3 --dry-run               the 648 combinations of Chen & Wu's Table III

It writes results.csv, history.csv, timings.csv, table.md and a file per run in runs/. Started again after an
interruption or with more values, it trains only the missing runs. The best combination is retrained with other seeds.
"""

import argparse
import itertools
import math
import shlex
import tomllib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import fnet
from fnet import metrics, sweep
from fnet.checkpoint import write_atomically
from fnet.cli import options, studies
from fnet.cli.data import is_table
from fnet.cli.folder import locked
from fnet.cli.output import markdown, mean_and_deviation, visible
from fnet.cli.parser import Parser
from fnet.cli.presets import LBFGS, PRESETS
from fnet.random import Key
from fnet.sweep import Failure, Outcome, Pool, Run
from fnet.sweep.executors import cores
from fnet.sweep.runs import estimate
from fnet.sweep.space import parse_values

__all__ = ["main"]

# The values of Chen & Wu's Table III.
TABLE3: dict[str, tuple[Any, ...]] = {
    "layers": (1, 2, 3, 5),
    "hidden": (64, 128, 256),
    "learning_rate": (1e-4, 5e-4, 1e-3),
    "batch_size": (16, 32, 64),
    "dropout": (0.1, 0.3, 0.5),
    "optimizer": ("adam", "sgd"),
}
SAMPLE = 24  # runs whose first steps are timed


class Trial(NamedTuple):
    """A combination and its outcome."""

    changes: dict[str, Any]
    run: Run
    outcome: Outcome | Failure


def parse_args(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        "sweep",
        "--grid NAME=VALUES … [OPTION…]",
        "Train combinations of options from a grid or at random, and rank them on validation rows. NAME is layers or "
        "an option below, with _ for -. VALUES is a list, 64,128, or a range, 1e-4..1e-2:log:5.",
    )
    group = parser.add_argument_group("sweep")
    add = group.add_argument
    add("--grid", nargs="+", default=[], metavar="NAME=VALUES", help="values to try")
    add("--toml", type=Path, metavar="FILE", help="more values")
    add("--table3", action="store_true", help="Chen & Wu's Table III")
    add("--random", type=int, metavar="N", help="N random combinations")
    add("--retrain-seeds", type=int, default=3, metavar="N", help="for the best")
    add("--top", type=int, default=10, metavar="N", help="rows to show")
    add("--out", type=Path, default=Path("runs/sweep"), metavar="DIR", help="for the results")
    add("--dry-run", action="store_true", help="only estimate the time")
    options.add_run_options(group)
    studies.add_executor_options(parser)
    options.add_data_options(parser)
    options.add_model_options(parser)
    options.add_training_options(parser)
    args = options.parse(parser, argv)
    if args.threads not in (None, 1):
        parser.error("each run uses one thread; for more runs in parallel, use --jobs")
    if args.retrain_seeds < 0 or args.top < 1 or (args.random is not None and args.random < 1):
        parser.error("--retrain-seeds must be at least 0, and --top and --random at least 1")
    return args


def main(argv: list[str]) -> int:
    """Search as the command line says."""
    args = parse_args(argv)
    with studies.opened(args) as pool:
        return 0 if pool is None else search(args, pool)


def search(args: argparse.Namespace, pool: Pool) -> int:
    """Train, rank, and retrain the best; return 3 if all runs failed."""
    options.prepare_tensorboard(args.tensorboard)
    combinations = list_combinations(args)
    runs = [studies.make_run(args, changes, args.seed) for changes in combinations]
    if args.dry_run or not args.quiet:
        print(plan(args, runs), flush=True)
        if "ensemble" in PRESETS[args.preset]:
            print(f"the preset {args.preset} is an ensemble in fnet train; here each run is one of its networks")
    if args.dry_run:
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    with locked(args.out):
        ranked = sorted(train(args, pool, combinations, runs), key=place)
        best, again = ranked[0], list[Trial]()
        if not isinstance(best.outcome, Failure) and args.retrain_seeds:
            seeds = range(args.seed, args.seed + args.retrain_seeds)
            again = train(args, pool, [best.changes] * len(seeds), [best.run._replace(seed=seed) for seed in seeds])
        write_results(args, ranked, again)
        both = [*ranked, *again]
        names = [studies.label(trial.changes) for trial in both]
        studies.write_tensorboard(args, names, [trial.run for trial in both], [trial.outcome for trial in both])
    if not args.quiet:
        shown = table(ranked[: args.top], score_name(args, best))
        print(f"\n{shown}\n{best_text(args, best, again)}\nResults are in {visible(args.out)}")
    return 3 if isinstance(best.outcome, Failure) else 0


def train(args: argparse.Namespace, pool: Pool, combinations: list[dict[str, Any]], runs: list[Run]) -> list[Trial]:
    names = [f"{studies.label(changes)}, seed {run.seed}" for changes, run in zip(combinations, runs, strict=True)]
    outcomes = sweep.run_all(runs, names, pool, args.out / "runs", quiet=args.quiet)
    return [Trial(*parts) for parts in zip(combinations, runs, outcomes, strict=True)]


def list_combinations(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The combinations to try."""
    space: dict[str, Any] = dict(TABLE3) if args.table3 else {}
    if args.toml is not None:
        space.update(read_toml(args.toml))
    space.update(sweep.parse_space(args.grid))
    if not space:
        raise ValueError("nothing to try: add --grid NAME=VALUES, --toml FILE or --table3")
    if args.random is None:
        combinations = sweep.grid(space)
    else:
        combinations = sweep.random_search(key_of(args, "search"), space, args.random)
    if args.table3:  # Chen & Wu's SGD has momentum and weight decay
        combinations = [{**(studies.SGD if c.get("optimizer") == "sgd" else {}), **c} for c in combinations]
    return combinations


def key_of(args: argparse.Namespace, purpose: str) -> Key:
    """A key for other purposes than the runs, which use the keys of their seeds."""
    return fnet.random.fold_in(fnet.random.key(args.seed), ("plan", "search").index(purpose))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a search space with lines `name = [value, …]` or `name = "LOW..HIGH"`."""
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    space: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict) or value == []:
            raise ValueError(f'{path}: expected {name} = [VALUE, VALUE] or "LOW..HIGH", but got {value!r}')
        values: Any = value if isinstance(value, list) else [value]  # pyright: ignore
        space[name] = parse_values(name, value) if isinstance(value, str) else tuple(values)
    return space


def plan(args: argparse.Namespace, runs: Sequence[Run]) -> str:
    """The number of runs, the time they need, and how to distribute them."""
    by_path = {run.path(args.out / "runs"): run for run in runs}
    left = [run for path, run in by_path.items() if not path.exists()]
    if not left:
        return f"{len(runs)} runs, all finished"
    order_key, *keys = fnet.random.split(key_of(args, "plan"), 1 + min(SAMPLE, len(left)))
    order: list[int] = fnet.random.permutation(order_key, len(left)).tolist()
    seconds = fmean(estimate(left[i], key=key) for i, key in zip(order, keys, strict=False)) * len(left)
    jobs = args.jobs or cores()
    one, spread = (timedelta(seconds=round(seconds / n)) for n in (1, min(jobs, len(left))))
    return (
        f"{len(runs)} run{'s' * (len(runs) > 1)}, {len(left)} to do: about {one} h on one core, "
        f"{spread} h on {jobs} idle cores,\nestimated from the first steps of {len(keys)}. For parallel runs: --jobs N "
        "on this machine; on several\n--executor dask --scheduler tcp://HOST:PORT, or mpiexec -n N fnet sweep "
        "--executor mpi."
    )


# Results --------------------------------------------------------------------------------------------------------------


def place(trial: Trial) -> tuple[float, float]:
    """The sort key of the ranking: accuracy or RMSE, then loss; for quantiles, loss; failures last."""
    if isinstance(trial.outcome, Failure):
        return math.inf, 0.0
    sign = {"accuracy": -1, "rmse": 1, "coverage": 0}[metrics.score_name(trial.run.config.loss)]
    return sign * trial.outcome.score, trial.outcome.loss


def score_name(args: argparse.Namespace, trial: Trial) -> str:
    return studies.source(args).load().score(trial.run.config.loss)


def fields(trials: Sequence[Trial]) -> list[str]:
    return list(dict.fromkeys(itertools.chain.from_iterable(trial.changes for trial in trials)))


def cells(trial: Trial, names: Sequence[str]) -> list[str]:
    """The values of a combination."""
    return [studies.text(trial.changes[name]) if name in trial.changes else "" for name in names]


def table(ranked: Sequence[Trial], score: str) -> str:
    """The ranking in Markdown."""
    names, rows = fields(ranked), list[list[Any]]()
    for rank, trial in enumerate(ranked, 1):
        outcome, scores = trial.outcome, list[Any]()
        if isinstance(outcome, Failure):
            scores = ["failed", outcome.error, ""]
        else:
            scores = [f"{outcome.score:.4f}", f"{outcome.loss:.4f}", outcome.parameters]
        rows.append([rank, *cells(trial, names), *scores])
    return markdown(["", *names, score, "loss", "parameters"], rows)


def best_text(args: argparse.Namespace, best: Trial, again: Sequence[Trial]) -> str:
    """The best combination, its command, and its scores with other seeds."""
    if isinstance(best.outcome, Failure):
        return f"All runs failed, the first with: {best.outcome.error}\n"
    text = f"The best: {studies.label(best.changes)}\n\n    {train_command(args, best)}\n"
    outcomes = [trial.outcome for trial in again if not isinstance(trial.outcome, Failure)]
    if not outcomes:
        return text
    seeds = ", ".join(str(trial.run.seed) for trial in again)
    score = mean_and_deviation([outcome.score for outcome in outcomes], 4)
    loss = mean_and_deviation([outcome.loss for outcome in outcomes], 4)
    return (
        f"{text}\nTrained with the seeds {seeds}: {score_name(args, best)} {score}, loss {loss}. It was chosen on "
        "these validation rows, so new data will score slightly worse.\n"
    )


def train_command(args: argparse.Namespace, trial: Trial) -> str:
    """The `fnet train` command for the same network and rows."""
    parser = Parser("train", "", "")
    for add in (options.add_data_options, options.add_model_options, options.add_training_options):
        add(parser)
    new = options.settled(studies.changed(args, trial.changes), studies.source(args).load())
    if new.optimizer == "lbfgs":
        parser.set_defaults(**LBFGS)
    new.data = studies.shown_path(args.data)
    words = ["--preset", "chen-wu"] if is_table(args.data) else []
    words += ["--seed", str(trial.run.seed), "--engine", trial.run.engine, *parser.arguments(new)]
    return shlex.join(["fnet", "train", *words])


def write_results(args: argparse.Namespace, ranked: Sequence[Trial], again: Sequence[Trial]) -> None:
    names = fields(ranked)
    keys = [[rank, *cells(trial, names), trial.run.seed] for rank, trial in enumerate(ranked, 1)]
    keys += [["", *cells(trial, names), trial.run.seed] for trial in again]
    score = score_name(args, ranked[0])
    outcomes = [trial.outcome for trial in (*ranked, *again)]
    studies.write_outcomes(args.out, ["rank", *names, "seed"], keys, outcomes, score=score)
    lines = [
        f"# {len(ranked)} combinations, ranked by {'loss' if score == 'coverage' else score} on the validation rows\n",
        studies.circumstances(args, ranked[0].run),
        table(ranked, score),
        best_text(args, ranked[0], again),
    ]
    write_atomically(args.out / "table.md", "\n".join(lines).encode())
