"""Measure the gain and the cost of each ingredient of a recipe, added one by one and alone.

    python scripts/ablate_recipe.py --data PATH --valid-size 5000
    python scripts/ablate_recipe.py --data digits iris breast_cancer wine --batch-size 16 --seeds 5

The data sets iris, breast_cancer and wine are those of scikit-learn. Accuracy is measured on the validation rows. Runs
are trained one at a time, on one core, so that their times can be compared. The folder gets table.md, results.csv,
history.csv, timings.csv, a file per run in runs/ and, with matplotlib, a picture of each data set. Started again, the
program trains only the missing runs.
"""

import argparse
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypeAlias

import fnet
from fnet import plots, sweep
from fnet.checkpoint import write_atomically
from fnet.cli import main as cli
from fnet.cli import options, studies, threads
from fnet.cli.data import Data
from fnet.cli.output import markdown, mean_and_deviation, say
from fnet.cli.parser import Parser, add_help, one_of
from fnet.engine import ENGINES, resolve
from fnet.interop import missing
from fnet.sweep import Failure, Outcome, Run, Splits
from fnet.sweep.runs import estimate

# Each line adds to the lines above it, from Chen & Wu's best model to the preset chen-wu-best.
LADDER: list[tuple[str, dict[str, Any]]] = [
    ("Chen & Wu", {}),
    (
        "warm-up and cosine, peak 2e-3, batch 128",
        {"schedule": "warmup_cosine", "warmup": 0.25, "learning_rate": 2e-3, "batch_size": 128},
    ),
    ("std ** 0.5", {"whitening": 0.5}),
    ("silu, dropout 0.2", {"activation": "silu", "dropout": 0.2}),
    ("noise 0.35 on the input", {"input_noise": 0.35}),
    ("recomputed statistics", {"recompute_statistics": True}),
    ("weight decay 1 on weights", {"weight_decay": 1.0, "decay_weights_only": True}),
]
# Not in chen-wu-best. Each is added to the last line above.
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("and label smoothing 0.1", {"label_smoothing": 0.1}),
    ("and dropout 0.1 on the input", {"input_dropout": 0.1}),
]
# Each line adds to the lines above it, from chen-wu-best to a network of chen-wu-large.
LARGER: list[tuple[str, dict[str, Any]]] = [
    (
        "3 x 512, 50 epochs, batch 256, decay 0.8",
        {"hidden": [512, 512, 512], "epochs": 50, "batch_size": 256, "weight_decay": 0.8},
    ),
    ("3 x 512, and dropout 0.2 on the input", {"input_dropout": 0.2}),
]
SKLEARN = ("breast_cancer", "iris", "wine")

Groups: TypeAlias = dict[tuple[str, str], list[Outcome]]  # data, recipe: an outcome per seed


class Recipe(NamedTuple):
    """Options, and the recipe to compare them with."""

    name: str
    changes: dict[str, Any]
    before: str | None


def recipes() -> list[Recipe]:
    """The ladder, the other changes and the larger network on top of it, and each line of the ladder alone."""
    steps = climb(LADDER, {}, None)
    top = steps[-1]
    others = [Recipe(name, {**top.changes, **change}, top.name) for name, change in OTHERS]
    larger = climb(LARGER, top.changes, top.name)
    # The second line is already alone on the ladder.
    alone = [Recipe(f"alone: {name}", change, steps[0].name) for name, change in LADDER[2:]]
    return [*steps, *others, *larger, *alone]


def climb(lines: list[tuple[str, dict[str, Any]]], changes: dict[str, Any], before: str | None) -> list[Recipe]:
    """A recipe for each line, with the changes of all lines above it."""
    steps: list[Recipe] = []
    for name, change in lines:
        changes = {**changes, **change}
        steps.append(Recipe(name, changes, before))
        before = name
    return steps


class SklearnSource(NamedTuple):
    """A data set of scikit-learn, split at random with the seed."""

    name: str
    valid_size: float | int
    whitening: float
    seed: int

    def __call__(self) -> Splits:
        try:
            from sklearn import datasets
        except ImportError:
            raise missing(f"the data set {self.name}", "scikit-learn", "sklearn") from None
        raw = getattr(datasets, f"load_{self.name}")()
        whole = fnet.Dataset(raw.data, raw.target, tuple(raw.target_names.tolist()))
        key = fnet.random.fold_in(fnet.random.key(self.seed), 1)
        train, valid = fnet.data.train_test_split(key, whole, self.valid_size)
        return Splits(train, valid, fnet.fit_standardizer(train.x, whitening=self.whitening))


def new_run(args: argparse.Namespace, data: str, recipe: Recipe, seed: int) -> Run:
    common = {name: getattr(args, name) for name in ("valid_size", "epochs", "engine")}
    base = options.defaults(data=data, preset="chen-wu", **common)
    changes = recipe.changes if args.batch_size is None else {**recipe.changes, "batch_size": args.batch_size}
    if data not in SKLEARN:
        return studies.make_run(base, changes, seed)
    new = studies.changed(base, changes)
    source = SklearnSource(data, args.valid_size, new.whitening, seed)
    config = options.model_config(new, Data(data, source().train, None, None, source().standardizer))
    return sweep.make_run(source, config, options.train_config(new), seed=seed, engine=resolve(args.engine))


def parse_args(argv: list[str]) -> argparse.Namespace:
    parser = Parser("", "", (__doc__ or "").split("\n\n")[0])
    parser.usage = "python scripts/ablate_recipe.py [OPTION…]"
    group = parser.add_argument_group("options")
    add = group.add_argument
    add("--data", nargs="+", default=["digits"], metavar="PATH …", help="as for fnet train, or " + ", ".join(SKLEARN))
    add("--valid-size", type=options.size, default=0.2, metavar="SIZE", help="fraction or rows")
    add("--epochs", type=threads.number, default=25, metavar="N")
    add("--batch-size", type=threads.number, metavar="N", help="replaces those of the recipes, for small data")
    add("--seeds", type=threads.number, default=3, metavar="N", help="runs per recipe")
    add("--engine", **one_of(*ENGINES), default="auto")
    add("--out", type=Path, default=Path("runs/ablate"), metavar="DIR", help="for the results")
    add_help(group)
    return parser.parse(argv)


def main(argv: list[str]) -> None:
    args = parse_args(argv)
    threads.limit(1)
    keys = [(data, recipe, seed) for data in args.data for recipe in recipes() for seed in range(args.seeds)]
    runs = [new_run(args, *key) for key in keys]
    names = [(Path(data).stem, recipe.name, seed) for data, recipe, seed in keys]
    with sweep.open_pool("serial") as pool:
        assert pool is not None
        lines = [f"{data}: {recipe}, seed {seed}" for data, recipe, seed in names]
        for i, run in enumerate(runs[:: args.seeds]):  # compile first, so that the training times do not include it
            estimate(run, key=fnet.random.fold_in(fnet.random.key(args.seeds), i), limit=0)
        outcomes = sweep.run_all(runs, lines, pool, args.out / "runs", quiet=False)
    studies.write_outcomes(args.out, ("data", "recipe", "seed"), names, outcomes)
    groups: Groups = {}
    for (data, recipe, _), line, outcome in zip(names, lines, outcomes, strict=True):
        if isinstance(outcome, Failure):
            raise ValueError(f"{line}: {outcome.error}")
        groups.setdefault((data, recipe), []).append(outcome)
    sets = dict.fromkeys(data for data, _ in groups)
    text = "\n".join(f"**{data}**, engine {runs[0].engine}\n\n{table(groups, data)}" for data in sets)
    write_atomically(args.out / "table.md", text.encode())
    print(f"\n{text}")
    try:
        for data in sets:
            draw(groups, data).savefig(args.out / f"{data}.png")
    except ImportError as error:
        say("note", f"no pictures: {error}")
    print(f"Results are in {args.out}")


def table(groups: Groups, data: str) -> str:
    """Means over the seeds, in Markdown."""
    rows: list[list[str]] = []
    accuracy: dict[str, float] = {}
    for recipe in recipes():
        group = groups[data, recipe.name]
        accuracies, losses, errors, seconds = (
            [getattr(outcome, name) for outcome in group]
            for name in ("accuracy", "loss", "calibration_error", "seconds")
        )
        accuracy[recipe.name] = fmean(accuracies)
        gain = "" if recipe.before is None else f"{accuracy[recipe.name] - accuracy[recipe.before]:+.4f}"
        rest = [f"{fmean(losses):.3f}", f"{fmean(errors):.3f}", f"{fmean(seconds):.1f}"]
        rows.append([recipe.name, mean_and_deviation(accuracies, 4), gain, *rest])
    return markdown(["added", "accuracy", "gain", "loss", "calibration error", "seconds"], rows)


def draw(groups: Groups, data: str) -> Any:
    """Accuracy against training time, with a point for each recipe on the ladder and each change on top of it."""
    points = {
        name: ([o.seconds for o in group], [o.accuracy for o in group])
        for name, _ in [*LADDER, *OTHERS]
        for group in [groups[data, name]]
    }
    return plots.accuracy_against_time(points, title=data)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
