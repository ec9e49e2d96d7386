"""Presets: changes to the defaults of `fnet train`, some of which depend on the data."""

from collections.abc import Callable
from typing import Any, NamedTuple

from fnet import TrainConfig
from fnet.data import even_batch_size

__all__ = ["LBFGS", "PRESETS", "QUANTILES", "DataFacts", "Decided"]


class DataFacts(NamedTuple):
    """The facts about the data that presets depend on."""

    rows: int  # training rows of a network
    classes: bool  # whether the task is classification


class Decided(NamedTuple):
    """A value that depends on the data."""

    text: str  # its description in the help
    value: Callable[[DataFacts], Any]


# The defaults are Chen & Wu's best model; scripts/ablate_recipe.py measures the other recipes.
BEST: dict[str, Any] = {
    "activation": "silu",
    "dropout": 0.2,
    "whitening": 0.5,
    "schedule": "warmup_cosine",
    "warmup": 0.25,
    "learning_rate": 2e-3,
    "batch_size": 128,
    "input_noise": 0.35,
    "recompute_statistics": True,
    "weight_decay": 1.0,
    "decay_weights_only": True,
    "calibrate": "if possible",  # not without validation data
}
LARGE: dict[str, Any] = {
    **BEST,
    "ensemble": 3,
    "hidden": [512, 512, 512],
    "input_dropout": 0.2,
    "batch_size": 256,
    "weight_decay": 0.8,
    "epochs": 50,
}


def even_batches(known: DataFacts) -> int:
    """About 32, of which no batch is small."""
    return even_batch_size(known.rows, 32)


def dropout(known: DataFacts) -> float:
    """More dropout for few rows, and less for regression, where it adds noise to the outputs."""
    few = known.rows < 300
    if known.classes:
        return 0.6 if few else 0.25
    return 0.3 if few else 0.05


def of_classes(value: float, *, of_numbers: float) -> Decided:
    """A value for classification, and another for regression."""

    def decide(known: DataFacts) -> float:
        return value if known.classes else of_numbers

    return Decided(f"{value:g}; numbers {of_numbers:g}", decide)


# Chosen with scripts/bench/tables.py, on folds that are not in its results.
TABULAR: dict[str, Any] = {
    "hidden": [128, 128],
    "activation": "silu",
    "batch_norm": of_classes(True, of_numbers=False),
    "dropout": Decided("0.05 to 0.6", dropout),
    "schedule": "warmup_cosine",
    "warmup": 0.1,
    "learning_rate": of_classes(4e-3, of_numbers=3e-3),
    "epochs": of_classes(40, of_numbers=30),
    "batch_size": Decided("about 32", even_batches),
    "weight_decay": 0.1,
    "label_smoothing": of_classes(0.01, of_numbers=0.0),
    "calibrate": "if possible",
}
PRESETS: dict[str, dict[str, Any]] = {
    "chen-wu": {},
    "chen-wu-best": BEST,
    "chen-wu-large": LARGE,
    "tabular": TABULAR,  # the default for a table
}


def decay_of_lbfgs(known: DataFacts) -> float:
    """As much as a normal prior of variance 1/4 on each parameter, whatever the number of rows."""
    return 4 / known.rows


# With every preset: all rows in each step, whose length the line search finds, and a loss without noise.
LBFGS: dict[str, Any] = {
    "dropout": 0.0,
    "input_dropout": 0.0,
    "batch_norm": False,
    "input_noise": 0.0,
    "recompute_statistics": False,
    "learning_rate": TrainConfig.learning_rate,
    "schedule": TrainConfig.schedule,
    "warmup": TrainConfig.warmup,
    "weight_decay": Decided("4 / rows", decay_of_lbfgs),
    "epochs": 200,
    "batch_size": 1024,
}
# For every preset: noise in training would be attributed to the target and widen the quantiles.
QUANTILES: dict[str, Any] = {"dropout": 0.0, "input_noise": 0.0, "batch_norm": False}
