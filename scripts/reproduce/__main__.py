"""Reproduce every study of Chen & Wu over several seeds, and decide for each of their findings if it is confirmed.

    python scripts/reproduce                                        on the embedded digits, 90 s on two cores
    python scripts/reproduce --data PATH --valid-size 5000 --out DIR

The best model (Fig. 5-7, Tables I and II), number of layers, hidden size, learning rate, batch size, dropout, optimizer
(Fig. 8-13) and the ablations (Fig. 14), each with one value of the best model changed and judged on the validation
rows; and what Chen & Wu left for later, each activation with each optimizer at equal training time. It writes
studies.md, the figures as PNG, the tables as CSV, timings.csv and, for each run, a file in runs/ to DIR. Started again
after an interruption, it trains only the runs that are missing.
"""

import argparse
import math
import shlex
from pathlib import Path

import findings
import later
import tables
from later import Trial
from tables import STUDIES

from fnet import sweep
from fnet.checkpoint import write_atomically
from fnet.cli import options, studies, threads
from fnet.cli.main import run
from fnet.cli.output import markdown, say, write_csv
from fnet.cli.parser import Parser, add_help, one_of
from fnet.engine import ENGINES
from fnet.sweep import Failure, Outcome, Pool, Run

Key = tuple[str, str, int]  # study, label, seed
Results = dict[str, dict[str, list[Outcome | Failure]]]  # study, label: an outcome per seed

CHEN_AND_WU = (128, 10, 50_000)  # features, classes and rows of their training data
WITHOUT_EFFECT = ("out", "quiet", "tensorboard", "executor", "jobs", "scheduler")  # on the results


def new_parser() -> Parser:
    parser = Parser("", "", "Reproduce every study of Chen & Wu over several seeds, and judge their findings.")
    parser.usage = "python scripts/reproduce [OPTION…]"
    group = parser.add_argument_group("studies")
    add = group.add_argument
    add("--seeds", type=threads.number, default=3, metavar="N", help="runs per network")
    add("--epochs", type=threads.number, default=25, metavar="N")
    add("--seconds", type=positive, metavar="S", help="per run where the time is equal; else by rows")
    add("--engine", **one_of(*ENGINES), default="auto")
    add("--out", type=Path, default=Path("runs/reproduce"), metavar="DIR", help="the folder")
    add("--tensorboard", type=Path, metavar="DIR", help="write for TensorBoard too")
    add("--quiet", action="store_true", help="print errors only")
    add_help(group)
    studies.add_executor_options(parser)
    options.add_data_options(parser)
    return parser


def positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError
    return number


def main(argv: list[str]) -> int:
    parser = new_parser()
    parsed = parser.parse(argv)
    args = argparse.Namespace(**{**vars(options.defaults(preset="chen-wu")), **vars(parsed)})
    parsed.data = studies.shown_path(parsed.data)
    for name in WITHOUT_EFFECT:
        setattr(parsed, name, parser.get_default(name))
    command = shlex.join(["python", "scripts/reproduce", *parser.arguments(parsed)])
    with studies.opened(args) as pool:
        return 0 if pool is None else reproduce(args, command, pool)


def reproduce(args: argparse.Namespace, command: str, pool: Pool) -> int:
    """Train what is missing, and write everything; 1 if a run failed."""
    options.prepare_tensorboard(args.tensorboard)
    data = studies.source(args).load()
    seconds = args.seconds or later.seconds(len(data.train.y))
    keys, names, runs, outcomes = list[Key](), list[str](), list[Run](), list[Outcome | Failure]()

    def train(new_keys: list[Key], new_names: list[str], new_runs: list[Run]) -> list[Outcome | Failure]:
        new = sweep.run_all(new_runs, new_names, pool, args.out / "runs", quiet=args.quiet)
        keys.extend(new_keys)
        names.extend(new_names)
        runs.extend(new_runs)
        outcomes.extend(new)
        return new

    def train_trials(trials: list[Trial]) -> dict[Trial, Outcome | Failure]:
        timed = [studies.make_run(args, trial.changes, trial.seed)._replace(seconds=seconds) for trial in trials]
        new_keys = [(later.STUDY, trial.label, trial.seed) for trial in trials]
        return dict(zip(trials, train(new_keys, [trial.name for trial in trials], timed), strict=True))

    curves = [
        (study, label, seed) for study in STUDIES for label in STUDIES[study].curves for seed in range(args.seeds)
    ]
    titles = [f"{STUDIES[study].title}: {label}, seed {seed}" for study, label, seed in curves]
    train(curves, titles, [studies.make_run(args, STUDIES[study].curves[label], seed) for study, label, seed in curves])
    results: Results = {study: {label: [] for label in STUDIES[study].curves} for study in STUDIES}
    for (study, label, _), outcome in zip(curves, outcomes, strict=True):
        results[study][label].append(outcome)
    trials = train_trials(later.first_trials())
    trials |= train_trials(later.judging_trials(trials, args.seeds))
    write(args, command, runs[0], results, later.text(args.out, later.chapter(trials), data.name, seconds))
    studies.write_outcomes(args.out, ("study", "value", "seed"), keys, outcomes)
    studies.write_tensorboard(args, [f"{study}/{label}" for study, label, _ in keys], runs, outcomes)
    failures = {name: o.error for name, o in zip(names, outcomes, strict=True) if isinstance(o, Failure)}
    for name, error in failures.items():
        say("failed", f"{name}: {error}")
    if not args.quiet:
        print(f"Results are in {args.out}; see {args.out / 'studies.md'}")
    return 1 if failures else 0


def write(args: argparse.Namespace, command: str, first: Run, results: Results, chapter: list[str]) -> None:
    """Write studies.md, which ends with a chapter, and all else that it shows as CSV and PNG."""
    data = studies.source(args).load()
    assert data.valid is not None
    shape = (data.train.x.shape[1], len(data.classes), len(data.train.y) + len(data.valid.y))
    comparable, best = shape == CHEN_AND_WU, tables.complete(results["best"]).get("best", [])
    accuracy, loss = (
        {study: tables.histories(curves, field) for study, curves in results.items()}
        for field in ("valid_score", "valid_loss")
    )
    judged = findings.find(accuracy, loss, [tables.f1(outcome) for outcome in best], comparable=comparable)
    text = [
        "# Chen & Wu's studies, reproduced",
        f"    {command}",
        f"{studies.circumstances(args, first)}- Seeds 0 to {args.seeds - 1}, {args.epochs} epochs, except in the last "
        "chapter; best model: Table I",
        "All numbers here are of the validation rows after the last epoch, theirs of their test data. ± in tables is "
        "the standard deviation over the seeds, in findings the standard error of a mean difference.",
        "## Findings",
        markdown(["", "Chen & Wu", "here", ""], [(f.figure, f.claim, f.here, f"**{f.verdict}**") for f in judged]),
        "The criteria:",
        findings.CRITERIA,
    ]
    write_csv(args.out / "findings.csv", findings.Finding._fields, judged)
    for name, title, (header, rows) in (
        ("table_1", "Table I: the best model", tables.table_1(best, comparable)),
        ("table_2", "Table II: its classes", tables.table_2(best, data.classes, comparable)),
        ("table_3", "Table III: the values tried", tables.table_3(results)),
    ):
        text += [f"## {title}", markdown(header, rows)]
        write_csv(args.out / f"{name}.csv", header, rows)
    text += ["## Figures", "A band is one standard deviation over the seeds to either side."]
    try:
        for study, curves in results.items():
            text += tables.draw(args.out, data, study, curves)
    except ImportError as error:
        text.append(f"No figures: {error}")
    text += chapter
    write_atomically(args.out / "studies.md", "".join(part.strip("\n") + "\n\n" for part in text).encode())


if __name__ == "__main__":
    raise SystemExit(run(main))
