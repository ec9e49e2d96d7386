"""What each ingredient of the recipes is worth, and what it costs: added one by one, and alone, over several seeds.

    python scripts/ablate_recipe.py --data PATH --valid-size 5000
    python scripts/ablate_recipe.py --data digits breast_cancer wine --seeds 5     the last two from scikit-learn

Writes table.md, results.csv and, with matplotlib, a picture of each data set to DIR (default runs/ablate). Accuracy is
that on the validation data.
"""

import _threads  # noqa: I001  # before NumPy

import argparse
import csv
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

import _options
import fnet
from _options import Data

# Each line changes what the lines above it have built, from the report's model to the preset "best".
LADDER: list[tuple[str, dict[str, Any]]] = [
    ("report", {}),
    (
        "warm-up and cosine, peak 2e-3, batch 128",
        {"schedule": "warmup_cosine", "warmup": 0.25, "learning_rate": 2e-3, "batch_size": 128},
    ),
    ("std ** 0.5", {"power": 0.5}),
    ("silu, dropout 0.2", {"activation": "silu", "dropout": 0.2}),
    ("noise 0.35 on the input", {"input_noise": 0.35}),
    ("recomputed statistics", {"recompute_statistics": True}),
]
# Not in the presets, since they do not pay on enough of the data sets: each added to the last rung.
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("and weight decay 0.6 on weights", {"weight_decay": 0.6, "decay_weights_only": True}),
    ("and mixup 0.2", {"mixup": 0.2}),
    ("and label smoothing 0.1", {"label_smoothing": 0.1}),
    ("and dropout 0.1 on the input", {"input_dropout": 0.1}),
    ("and a moving average of 0.99", {"ema_decay": 0.99}),
]


class Outcome(NamedTuple):
    """One trained network."""

    data: str
    ingredient: str
    seed: int
    accuracy: float
    loss: float
    calibration_error: float
    seconds: float  # of training


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", nargs="+", default=["digits"], metavar="NAME|PATH")
    parser.add_argument("--valid-size", default=0.2, type=_options.size, metavar="SIZE")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--batch-size", type=int, metavar="N", help="in place of the recipes' own, for small data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/ablate"), metavar="DIR")
    _threads.add_option(parser)
    args = parser.parse_args(argv)
    if args.seeds < 1:
        parser.error(f"--seeds must be at least 1, but got {args.seeds}")
    if not args.valid_size:
        parser.error("recipes are compared on validation rows, so --valid-size must not be 0")
    outcomes: list[Outcome] = []
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        for source in args.data:
            for recipe in recipes():
                for seed in range(args.seeds):
                    outcomes.append(train(source, recipe, seed, args))
                    print(describe(outcomes[-1]), flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (OSError, ValueError, TypeError, ImportError, fnet.NonFiniteLossError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = table(outcomes)
    (args.out / "table.md").write_text(text + "\n")
    with (args.out / "results.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([Outcome._fields, *outcomes])
    print(f"\n{text}\n")
    try:
        for name in dict.fromkeys(outcome.data for outcome in outcomes):
            draw([outcome for outcome in outcomes if outcome.data == name], args.out / f"{name}.png")
    except ImportError as error:
        print(f"No pictures: {error}\n")
    print(f"Results are in {args.out}")
    return 0


class Recipe(NamedTuple):
    """Options, and the recipe that they are compared with."""

    name: str
    options: dict[str, Any]
    before: str | None


def recipes() -> list[Recipe]:
    """Each rung of the ladder with all the options up to it, the others on top of it, and each rung alone."""
    options: dict[str, Any] = {}
    steps: list[Recipe] = []
    for ingredient, change in LADDER:
        options = {**options, **change}
        steps.append(Recipe(ingredient, options, steps[-1].name if steps else None))
    top = steps[-1].name
    others = [Recipe(ingredient, {**options, **change}, top) for ingredient, change in OTHERS]
    first = steps[0].name
    # The first rung after the report's is alone on the ladder already.
    return [*steps, *others, *(Recipe(f"alone: {ingredient}", change, first) for ingredient, change in LADDER[2:])]


def train(source: str, recipe: Recipe, seed: int, args: argparse.Namespace) -> Outcome:
    """Train one network and look at it on the validation data."""
    run = _options.defaults(
        **{"data": source, "valid_size": args.valid_size, "epochs": args.epochs, "seed": seed, **recipe.options}
    )
    if args.batch_size is not None:
        run.batch_size = args.batch_size
    data = load(run)
    config, train_config = _options.model_config(run, data), _options.train_config(run)
    seconds = 0.0
    train_state = fnet.init_train_state(fnet.random.key(seed), config, train_config)
    for train_state, record in fnet.fit(  # noqa: B007
        config, train_config, data.train, key=fnet.random.key(seed), transform=data.transform
    ):
        seconds += record.seconds
    assert data.valid is not None
    params, state = fnet.final_model(train_state, train_config)
    evaluation = fnet.evaluate(config, params, state, data.valid, transform=data.transform)
    calibration = fnet.metrics.expected_calibration_error(fnet.losses.softmax(evaluation.logits), data.valid.y)
    return Outcome(data.name, recipe.name, seed, evaluation.accuracy, evaluation.loss, calibration, seconds)


def load(run: argparse.Namespace) -> Data:
    """The data of the options, or one of scikit-learn's own data sets, split at random."""
    if run.data not in ("breast_cancer", "wine", "iris"):
        return _options.load_data(run)
    try:
        from sklearn import datasets
    except ImportError:
        raise ImportError('this data set needs scikit-learn: python -m pip install "fnet[sklearn]"') from None
    raw = getattr(datasets, f"load_{run.data}")()
    whole = fnet.Dataset(raw.data.astype("float32"), raw.target, tuple(raw.target_names.tolist()))
    train, valid = fnet.data.train_test_split(fnet.random.key(run.seed), whole, run.valid_size)
    return Data(run.data, train, valid, None, fnet.fit_standardizer(train.x, power=run.power))


def describe(outcome: Outcome) -> str:
    return (
        f"{outcome.data}: {outcome.ingredient}, seed {outcome.seed}: accuracy {outcome.accuracy:.4f}, "
        f"loss {outcome.loss:.4f}, {outcome.seconds:.1f} s"
    )


def table(outcomes: list[Outcome]) -> str:
    """A Markdown table for each data set: means over the seeds, and the spread of the accuracy."""
    lines: list[str] = []
    for name in dict.fromkeys(outcome.data for outcome in outcomes):
        lines += [
            f"**{name}**",
            "",
            "| added | accuracy | gain | loss | calibration error | seconds |",
            "|---|---|---|---|---|---|",
        ]
        means: dict[str, float] = {}
        for recipe in recipes():
            group = [o for o in outcomes if o.data == name and o.ingredient == recipe.name]
            mean = means[recipe.name] = statistics.mean(o.accuracy for o in group)
            spread = statistics.stdev(o.accuracy for o in group) if len(group) > 1 else 0.0
            gain = "" if recipe.before is None else f"{mean - means[recipe.before]:+.4f}"
            loss = statistics.mean(o.loss for o in group)
            calibration = statistics.mean(o.calibration_error for o in group)
            seconds = statistics.mean(o.seconds for o in group)
            numbers = f"{gain} | {loss:.3f} | {calibration:.3f} | {seconds:.1f}"
            lines.append(f"| {recipe.name} | {mean:.4f} ± {spread:.4f} | {numbers} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def draw(outcomes: list[Outcome], path: Path) -> None:
    """Accuracy against seconds of training, a point for each ingredient."""
    from fnet import plots

    points: dict[str, tuple[list[float], list[float]]] = {}
    for outcome in outcomes:
        if outcome.ingredient.startswith("alone"):
            continue
        seconds, accuracies = points.setdefault(outcome.ingredient, ([], []))
        seconds.append(outcome.seconds)
        accuracies.append(outcome.accuracy)
    plots.accuracy_against_time(points, title=outcomes[0].data).savefig(path)


if __name__ == "__main__":
    raise SystemExit(main())
