"""What several tests need: a small network, small data sets, the steps of `fit` one by one, optional libraries,
tables in a text."""

import dataclasses
import importlib.util
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fnet
from fnet import Dataset, MLPConfig, Params, State, TrainConfig, TrainState, data, random, tree
from fnet.data import Table, read_table
from fnet.nn import BatchNormState
from fnet.testing import assert_trees_equal
from fnet.training import example_weights

KEY = random.key(0)
LOSSES: dict[str, dict[str, Any]] = {
    "cross_entropy": {},
    "squared_error": {},
    "huber": {"huber_delta": 0.5},
    "pinball": {"quantiles": (0.1, 0.5, 0.9)},
}  # for three outputs

needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="Numba is not installed")
each_engine = pytest.mark.parametrize("engine", ["numpy", pytest.param("numba", marks=needs_numba)])
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
with_and_without_norm = pytest.mark.parametrize("batch_norm", [True, False], ids=["norm", "no norm"])


def library(name: str) -> Any:
    """A module that fnet does not need; the test is skipped where it is not installed."""
    return pytest.importorskip(name, reason=f"{name.partition('.')[0]} is not installed")


def small(**options: Any) -> MLPConfig:
    """A network of 4 features, 5 hidden units and 3 outputs, without dropout, in float64."""
    loss = options.get("loss", "cross_entropy")
    return MLPConfig(**{"sizes": (4, 5, 3), "dropout": 0.0, "dtype": "float64", **LOSSES[loss], **options})


def network(config: MLPConfig) -> tuple[Params, State]:
    """Parameters and statistics without special values: no bias is 0, no scale is 1."""
    params, state = fnet.init(KEY, config)
    leaves, treedef = tree.flatten(params)
    keys = random.split(random.key(1), len(leaves))
    noise = [random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    params = tree.unflatten(treedef, [leaf + leaf.dtype.type(0.3) * n for leaf, n in zip(leaves, noise, strict=True)])
    state = tuple(BatchNormState(0.1 + norm.mean, 2 * norm.var) for norm in state)
    return tree.freeze((params, state))


def examples(config: MLPConfig, rows: int = 50, seed: int = 0) -> Dataset:
    """Normal features, and targets that depend on them: labels, or numbers from -1 to 1."""
    x = random.normal(random.key(seed), (rows, config.sizes[0]), config.dtype)
    outputs = 1 if config.loss == "pinball" else config.num_outputs
    z = x @ random.normal(random.key(1000), (config.sizes[0], outputs), config.dtype)
    return Dataset(*tree.freeze((x, z.argmax(axis=1) if config.loss == "cross_entropy" else np.sin(z))))


def frozen_copy(value: Any) -> Any:
    """A copy of a tree whose arrays cannot be written to."""
    return tree.freeze(tree.map(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, value))


def check_purity(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Check that f writes to none of its arguments and gives the same bits twice; what it gives."""
    before = tree.map(lambda leaf: np.array(leaf), (args, kwargs))
    result = f(*args, **kwargs)
    assert_trees_equal(f(*args, **kwargs), result)
    assert_trees_equal(tree.map(lambda leaf: np.array(leaf), (args, kwargs)), before)
    return result


def assert_close_to_scale(actual: Any, expected: Any, tolerance: float) -> None:
    """Check that each element differs by at most tolerance times the largest element of its array.

    The relative error of an element alone says little where it is a difference of larger numbers.
    """
    paths = [path for path, _ in tree.flatten_with_path(expected)[0]]
    for path, (a, e) in zip(paths, tree.zip_leaves(actual, expected), strict=True):
        a, e = np.asarray(a), np.asarray(e)
        assert (a.shape, a.dtype) == (e.shape, e.dtype), path
        if a.size:
            error, scale = np.abs(a.astype(np.float64) - e).max(), np.abs(e).max()
            assert error <= tolerance * scale, f"{path}: {error} in numbers up to {scale}"


def steps_of_fit(
    config: MLPConfig, train_config: TrainConfig, train: Dataset, steps: int, *, sample_weight: Any = None
) -> TrainState:
    """`train_step` over the batches and keys that `fit(…, key=KEY)` documents: the state after so many steps."""
    init_key, order_key, step_key, _ = random.split(KEY, 4)
    weights = example_weights(train_config, train.y, config.num_outputs, sample_weight)
    rows = np.arange(len(train.x)) if weights is None else np.flatnonzero(weights)
    slices = data.batch_slices(len(rows), train_config.batch_size, min_size=2 if config.batch_norm else 1)
    train_config = dataclasses.replace(train_config, total_steps=len(slices) * train_config.epochs)
    train_state = fnet.init_train_state(init_key, config, train_config)
    for step in range(steps):
        epoch, position = divmod(step, len(slices))
        if position == 0:
            train_state = train_state._replace(totals=tree.map(np.zeros_like, train_state.totals))
        batch = rows[random.permutation(random.fold_in(order_key, epoch), len(rows))][slices[position]]
        train_state, _ = fnet.train_step(
            config,
            train_config,
            train_state,
            train.x[batch],
            train.y[batch],
            key=random.fold_in(step_key, step),
            sample_weight=None if weights is None else weights[batch],
        )
    return train_state


def read_text(content: str | bytes, **options: Any) -> Table:
    """The table in a text, as if it stood in a file d.csv."""
    file = io.BytesIO(content.encode() if isinstance(content, str) else content)
    file.name = "d.csv"
    return read_table(file, **options)


def cells_of(table: Table) -> list[list[Any]]:
    """The columns of a table as Python values: numbers, texts, None where missing."""
    return [
        [None if value != value else value for value in column.values.tolist()]
        if column.levels is None
        else [None if value < 0 else column.levels[value] for value in column.values.tolist()]
        for column in table.columns
    ]


def names_of(table: Table) -> list[str]:
    """The names of the columns of a table."""
    return [column.name for column in table.columns]
