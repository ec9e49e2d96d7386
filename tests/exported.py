"""Models for the tests of what writes them as source code, and names that try to get out of their strings there."""

import functools
import itertools
from typing import Any

import numpy as np
from helpers import network

import fnet
from fnet import Dataset, MLPConfig, Params, State, TrainConfig, data, tree
from fnet.data import Standardizer
from fnet.model import Model
from fnet.nn import Linear
from fnet.params import Layer

ROWS = 10_000
HOSTILE = (
    '"""\nimport os\n"""',
    "'''\\",
    "*/ int evil; /*",
    '"',
    "%s%n",
    "a\nb\r\n#error",
    "nul\0inside",
    "??/",
    "\\",
    "\\\n",
    "__import__('os').abort()",
    "{MEAN}",
    "<WEIGHTS>",
    "<P>",
    "größer \u2028\u202e\x1b[31m",
    "//",
)


def classifier(members: int = 1, classes: Any = ("ant", "bee", "größer"), **changes: Any) -> Model:
    """A model whose networks have no special numbers."""
    fields = {name: changes.pop(name) for name in ("temperature", "provenance", "encoder", "target") if name in changes}
    config = MLPConfig(**{"sizes": (5, 8, 7, len(classes)), **changes})
    rng = np.random.default_rng(0)

    def member(i: int) -> tuple[Params, State]:
        """A network with logits of mean 0 and standard deviation 2, so that each class is predicted."""
        params, state = network(config)
        params = tree.map(lambda leaf: leaf * leaf.dtype.type(1 + i / 8), params)
        z = fnet.predict_logits(config, params, state, rng.normal(size=(1000, config.sizes[0])))
        w, b = params[-1].linear
        factor = 2 / z.std(axis=0)
        last = Layer(Linear(w * factor, (b - z.mean(axis=0)) * factor), None)
        return (*params[:-1], last), state

    networks = tuple(map(member, range(members)))
    standardizer = Standardizer(rng.normal(size=config.sizes[0]), rng.uniform(0.5, 2, config.sizes[0]))
    return Model(config, networks, standardizer, classes, **fields)


def regression(members: int = 1, log: bool = False, **changes: Any) -> Model:
    """A model of numbers whose networks have no special numbers."""
    config = MLPConfig(**{"sizes": (5, 8, 7, 1), "loss": "squared_error", **changes})
    rng = np.random.default_rng(0)
    targets = rng.normal(3, 2, (50, config.num_targets))
    scale = data.fit_target_scale(np.exp(targets) if log else targets, log=log)
    params, state = network(config)

    def member(i: int) -> tuple[Params, State]:
        return tree.map(lambda leaf: leaf * leaf.dtype.type(1 + i / 8), params), state

    standardizer = Standardizer(rng.normal(size=config.sizes[0]), rng.uniform(0.5, 2, config.sizes[0]))
    return Model(config, tuple(map(member, range(members))), standardizer, (), scale=scale)


REGRESSIONS = {
    "number": regression(),
    "linear": regression(sizes=(5, 1), batch_norm=False),
    "targets": regression(sizes=(5, 8, 3), loss="huber", activation="silu"),
    "logarithm": regression(log=True, activation="tanh"),
    "quantiles": regression(sizes=(5, 8, 4), loss="pinball", quantiles=(0.1, 0.25, 0.5, 0.9)),
    "ensemble": regression(members=3, sizes=(5, 6, 2), loss="pinball", quantiles=(0.1, 0.9), activation="gelu"),
    "float64": regression(members=2, dtype="float64"),
}


@functools.cache
def digits() -> tuple[Model, Dataset, Dataset]:
    """A classifier that was trained on the digits, and the digits of training and test."""
    train, test = data.digits()
    standardizer = data.fit_standardizer(train.x)
    config = MLPConfig(sizes=(64, 64, 64, 10))
    scaled = train._replace(x=data.standardize(standardizer, train.x))
    params, state, _ = fnet.run(config, TrainConfig(epochs=10), scaled, key=fnet.random.key(0))
    return Model(config, ((params, state),), standardizer, train.classes or ()), train, test


def features(some: Model, rows: int = ROWS) -> Any:
    return 3 * np.random.default_rng(1).normal(size=(rows, some.config.sizes[0])).astype(np.float32)


def named(names: tuple[str, ...]) -> Model:
    """A model in which these names stand wherever a name can."""
    kinds = itertools.cycle(["numeric", "date", "categorical"])
    encoded = tuple(
        data.EncodedColumn(name, kind, levels=names if kind == "categorical" else (), pooled=("p",))
        for name, kind in zip(names, kinds, strict=False)
    )
    encoder = data.Encoder(encoded)
    width = len(data.feature_names(encoder))
    provenance = {name: {"text": name, "list": [name]} for name in names}
    config = MLPConfig(sizes=(width, 3, len(names)))
    standardizer = Standardizer(np.zeros(width), np.ones(width))
    return Model(config, (network(config),), standardizer, names, 1.0, provenance, encoder, names[0])


# Of tables -----------------------------------------------------------------------------------------------------------

CELLS = {
    "age": [31, None, 27.5, float("nan"), 1e300, -0.0],
    "text of numbers": ["1", " 2.5 ", "", "NA", "+1e-3", "7."],
    "since": ["2024-12-31", "1969-01-01 12:30", None, "NA", "2024-02-29T23:59:59", "2024-12-31"],
    "city": ["Bern", "Basel", "rare", None, "Bern", "Basel"],
    "code": [1, 2, 2.0, None, 1, 12345678901234567],
    "yes": [True, False, True, None, True, False],
    "unknown": ["a"] * 6,
}


def columns(rows: int = 500) -> dict[str, list[Any]]:
    rng = np.random.default_rng(0)
    picked = {name: [cells[i] for i in rng.integers(0, 6, rows)] for name, cells in CELLS.items()}
    cities = [f"city {i}" for i in rng.integers(0, 40, rows)]
    return picked | {"many": cities, "label": rng.choice(["x", "y", "z"], rows).tolist()}


def of_table(table: data.Table, **options: Any) -> tuple[Model, data.Encoder, data.Table]:
    """A model of a table, its encoder, and the features of the table; options are those of `fit_encoder`."""
    features, target = data.split_target(table)
    encoder = data.fit_encoder(features, **options)
    x, _ = data.encode(encoder, features)
    config = MLPConfig(sizes=(x.shape[1], 9, len(target.classes or ())), activation="silu")
    standardizer = data.fit_standardizer(np.clip(x, -1e6, 1e6), only=data.numeric_features(encoder))
    classes = target.classes or ()
    some = Model(config, (network(config),), standardizer, classes, encoder=encoder, target=target.name)
    return some, encoder, features
