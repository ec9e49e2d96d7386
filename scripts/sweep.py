"""Search for good options: train every combination of a grid, or random ones, and rank them on the validation rows.

    python scripts/sweep.py --grid hidden=64,128,256 learning_rate=1e-4..1e-2:log --epochs 10
    python scripts/sweep.py --random 20 --grid hidden=32..512:log learning_rate=1e-4..1e-2:log dropout=0..0.6
    python scripts/sweep.py --toml FILE                 lines such as: hidden = [64, 128] or dropout = "0..0.5:3"
    python scripts/sweep.py --table3 --dry-run          the 648 combinations of the report's Table III

NAME=LOW..HIGH:NUMBER is a list of that many values, NAME=LOW..HIGH a range, from which a grid takes five and --random
draws; :log stands for evenly spaced logarithms. NAME is any option of scripts/train.py on the network or the training,
with _ for -, or layers; `hidden` is the width of all hidden layers, or widths as in 128x64. All other options on the
command line hold for every run.

Writes results.csv, table.md, timings.csv and a file for each run in runs/ to DIR. Started again, after an interruption
or with more values, it trains only what is not there yet. The best is trained again with other seeds.
"""

import _executors  # noqa: I001  # before NumPy

import argparse
import itertools
import shlex
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _options
import _runs
from _results import write_csv
from _runs import SGD, Engine, Outcome, Run

import fnet
from fnet import sweep
from fnet.checkpoint import write_atomically
from fnet.sweep import Failure

# The values of the report's Table III.
TABLE3: dict[str, tuple[Any, ...]] = {
    "layers": (1, 2, 3, 5),
    "hidden": (64, 128, 256),
    "learning_rate": (1e-4, 5e-4, 1e-3),
    "batch_size": (16, 32, 64),
    "dropout": (0.1, 0.3, 0.5),
    "optimizer": ("adam", "sgd"),
}
SAMPLE = 24  # runs of which the first steps are timed


class Trial(NamedTuple):
    """A combination and what came of it."""

    changes: dict[str, Any]
    run: Run
    outcome: Outcome | Failure


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--grid", nargs="+", default=[], metavar="NAME=VALUES", help="what to try")
    parser.add_argument("--toml", type=Path, metavar="FILE", help="more of it")
    parser.add_argument("--table3", action="store_true", help="the values of the report's Table III")
    parser.add_argument("--random", type=int, metavar="N", help="N random combinations, of --seed, instead of all")
    parser.add_argument("--retrain-seeds", type=int, default=3, metavar="N", help="for the best one (default 3)")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="rows of the table shown (default 10)")
    parser.add_argument("--dry-run", action="store_true", help="say how many runs and how long, and stop")
    parser.add_argument("--preset", choices=tuple(_options.PRESETS), default="report")
    parser.add_argument("--out", type=Path, default=Path("runs/sweep"), metavar="DIR", help="default runs/sweep")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    _options.add_tensorboard_option(parser)
    _executors.add_options(parser)
    _options.add_data_options(parser)
    _options.add_model_options(parser)
    _options.add_training_options(parser)
    return _options.parse(parser, argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        with _executors.opened(args) as engine:
            return 0 if engine is None else search(args, engine)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with what is left", file=sys.stderr)
        return 130
    except (OSError, ValueError, TypeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def search(args: argparse.Namespace, engine: Engine) -> int:
    """Train, rank, and train the best again."""
    if args.test is not None:
        raise ValueError("a sweep looks at no test data; leave --test out")
    if args.threads not in (None, 1):
        raise ValueError("each run has one thread; for more runs at a time there is --jobs")
    if args.retrain_seeds < 0 or args.top < 1:
        raise ValueError("--retrain-seeds must be at least 0, and --top at least 1")
    _options.prepare_tensorboard(args.tensorboard)
    source = _runs.source(args)
    base = {name: getattr(args, name) for name in _runs.default_options()}
    combinations = list_combinations(args)
    runs = [_runs.describe(source, base, changes, args.seed) for changes in combinations]
    names = [_runs.label(changes) for changes in combinations]
    if args.dry_run or not args.quiet:
        print(plan(runs, args), flush=True)
    if args.dry_run:
        return 0
    outcomes = _runs.run_all(runs, names, engine, args.out / "runs", quiet=args.quiet)
    trials = [Trial(*trial) for trial in zip(combinations, runs, outcomes, strict=True)]
    ranked = rank(trials)
    retrained: list[Trial] = []
    if not isinstance(ranked[0].outcome, Failure) and args.retrain_seeds:
        best = ranked[0]
        seeds = range(args.seed, args.seed + args.retrain_seeds)
        again = [best.run._replace(seed=seed) for seed in seeds]
        names = [f"the best again, seed {seed}" for seed in seeds]
        outcomes = _runs.run_all(again, names, engine, args.out / "runs", quiet=args.quiet)
        retrained = [Trial(best.changes, run, outcome) for run, outcome in zip(again, outcomes, strict=True)]
    write_results(args.out, source, trials, ranked, retrained)
    shown = [*trials, *retrained]
    labels = [_runs.label(trial.changes) for trial in shown]
    runs, outcomes = [trial.run for trial in shown], [trial.outcome for trial in shown]
    _runs.write_tensorboard(args.tensorboard, labels, runs, outcomes)
    if not args.quiet:
        print(f"\n{table(ranked[: args.top])}\n{best_text(ranked[0], retrained)}\nResults are in {args.out}")
    return 3 if isinstance(ranked[0].outcome, Failure) else 0


def list_combinations(args: argparse.Namespace) -> list[dict[str, Any]]:
    """What to try."""
    space: dict[str, Any] = dict(TABLE3) if args.table3 else {}
    if args.toml is not None:
        space.update(read_toml(args.toml))
    space.update(sweep.parse_space(args.grid))
    if not space:
        raise ValueError("nothing to try: give --grid NAME=VALUES, --toml FILE or --table3")
    if args.random is None:
        combinations = sweep.grid(space)
    elif args.random < 1:
        raise ValueError(f"--random must be at least 1, but got {args.random}")
    else:
        combinations = sweep.random_search(fnet.random.key(args.seed), space, args.random)
    if args.table3:  # its SGD is one with momentum and weight decay
        combinations = [
            {**SGD, **changes} if changes.get("optimizer") == "sgd" else changes for changes in combinations
        ]
    return combinations


def read_toml(path: Path) -> dict[str, Any]:
    """A search space from lines `name = [value, …]` or `name = "LOW..HIGH"`."""
    try:
        values = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML: {error}") from None
    space: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, str):
            space[name] = sweep.parse_values(name, value)
        elif isinstance(value, dict) or value == []:
            raise ValueError(f'{path}: expected {name} = [VALUE, VALUE] or "LOW..HIGH", but got {value!r}')
        else:
            space[name] = tuple(value) if isinstance(value, list) else (value,)
    return space


def plan(runs: Sequence[Run], args: argparse.Namespace) -> str:
    """How many runs, how long they take, and how to have them done sooner."""
    left = list({str(run): run for run in runs if not _runs.is_finished(run, args.out / "runs")}.values())
    if not left:
        return f"{len(runs)} runs, all finished"
    sample = [left[i] for i in fnet.random.permutation(fnet.random.key(0), len(left))[:SAMPLE]]
    seconds = sum(map(_runs.estimate, sample)) / len(sample) * len(left)
    jobs = args.jobs or _executors.cores()
    number = f"{len(runs)} run{'s' * (len(runs) > 1)}, {len(left)} to do"
    return (
        f"{number}: about {_runs.duration(seconds)} on one core, as the first steps of {len(sample)} of them say,\n"
        f"and {_runs.duration(seconds / min(jobs, len(left)))} on {jobs}, if as many are idle. Spread them: --jobs N "
        "in this machine, --executor dask --scheduler tcp://…\n"
        "or mpiexec -n N python scripts/sweep.py --executor mpi over several."
    )


def rank(trials: Sequence[Trial]) -> list[Trial]:
    """By accuracy, then by loss; failures last."""

    def place(trial: Trial) -> tuple[float, float]:
        outcome = trial.outcome
        return (1.0, 0.0) if isinstance(outcome, Failure) else (-outcome["accuracy"], outcome["loss"])

    return sorted(trials, key=place)


def fields(trials: Sequence[Trial]) -> list[str]:
    return list(dict.fromkeys(itertools.chain.from_iterable(trial.changes for trial in trials)))


def table(ranked: Sequence[Trial]) -> str:
    """The ranking in Markdown."""
    names = fields(ranked)
    rows: list[list[Any]] = []
    for place, trial in enumerate(ranked, 1):
        options = [_runs.text(trial.changes[name]) if name in trial.changes else "" for name in names]
        if isinstance(trial.outcome, Failure):
            rows.append([place, *options, "failed", trial.outcome.error, ""])
        else:
            outcome = trial.outcome
            rows.append(
                [place, *options, f"{outcome['accuracy']:.4f}", f"{outcome['loss']:.4f}", outcome["parameters"]]
            )
    return _runs.markdown(["", *names, "accuracy", "loss", "parameters"], rows)


def best_text(best: Trial, retrained: Sequence[Trial]) -> str:
    """The best, with its command, and what other seeds make of it."""
    if isinstance(best.outcome, Failure):
        return f"All runs failed, the first with: {best.outcome.error}\n"
    lines = [f"The best: {_runs.label(best.changes)}", "", f"    {train_command(best.run)}", ""]
    outcomes = [trial.outcome for trial in retrained if not isinstance(trial.outcome, Failure)]
    if outcomes:
        seeds = ", ".join(str(trial.run.seed) for trial in retrained)
        accuracy = _runs.mean_and_spread([outcome["accuracy"] for outcome in outcomes], 4)
        loss = _runs.mean_and_spread([outcome["loss"] for outcome in outcomes], 4)
        lines += [
            f"Trained with the seeds {seeds}: accuracy {accuracy}, loss {loss}. It was chosen on these validation "
            "rows, so expect a little less of new data.",
            "",
        ]
    return "\n".join(lines)


def train_command(run: Run) -> str:
    """How scripts/train.py trains the same network on the same rows."""
    words = ["python", "scripts/train.py", "--seed", str(run.seed)]
    if run.source.data != "digits":
        words += ["--data", "PATH"]
    options = {**run.options, **run.source._asdict()}
    del options["data"]
    defaults = vars(_options.defaults())
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value == defaults[name]:
            continue
        if name == "batch_norm":
            words.append("--no-batch-norm")
        elif isinstance(value, bool):
            words.append(option)
        elif name == "class_weight":
            words += [option, value if isinstance(value, str) else ",".join(map(str, value))]
        else:
            words += [option, *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def write_results(
    out: Path, source: _runs.Source, trials: Sequence[Trial], ranked: Sequence[Trial], retrained: Sequence[Trial]
) -> None:
    names = fields(trials)
    places = {id(trial): place for place, trial in enumerate(ranked, 1)}
    rows: list[tuple[Any, ...]] = []
    for trial in trials:
        options = [_runs.text(trial.changes[name]) if name in trial.changes else "" for name in names]
        outcome = trial.outcome
        if isinstance(outcome, Failure):
            rows.append((*options, trial.run.seed, places[id(trial)], "", "", "", "", outcome.error))
        else:
            scores = (outcome["accuracy"], outcome["loss"], len(outcome["records"]), outcome["parameters"])
            rows.append((*options, trial.run.seed, places[id(trial)], *scores, ""))
    header = (*names, "seed", "rank", "accuracy", "loss", "epochs", "parameters", "error")
    write_csv(out / "results.csv", header, rows)
    timings = [
        (_runs.label(trial.changes), trial.run.seed, f"{_runs.seconds(trial.outcome):.3f}")
        for trial in [*trials, *retrained]
        if not isinstance(trial.outcome, Failure)
    ]
    write_csv(out / "timings.csv", ("run", "seed", "seconds"), timings)
    lines = [
        f"# {len(trials)} combinations, by accuracy on the validation rows",
        "",
        *_runs.circumstances(*_runs.load(source)),
        "",
        table(ranked),
        best_text(ranked[0], retrained),
    ]
    write_atomically(out / "table.md", "\n".join(lines).encode())


if __name__ == "__main__":
    raise SystemExit(main())
