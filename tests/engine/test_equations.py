"""The engine computes the equations: `fit` is `train_step`, folded over the same batches and keys."""

import dataclasses
import importlib.util
from typing import Any

import numpy as np
import pytest

import fnet
from fnet import Dataset, MLPConfig, TrainConfig, TrainState, random, testing, tree
from fnet.training import example_weights

ROWS, STEPS = 150, 30
CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    # Depth, batch norm, activations
    ({"sizes": (6, 4), "batch_norm": False}, {}),
    ({"sizes": (6, 4)}, {"optimizer": "sgd", "learning_rate": 0.1}),
    ({"sizes": (6, 1, 4)}, {}),
    ({"sizes": (6, 16, 4)}, {}),
    ({"sizes": (6, 16, 16, 4)}, {}),
    ({"sizes": (6, 16, 12, 8, 4)}, {}),
    ({"sizes": (6, 16, 4), "batch_norm": False}, {}),
    ({"sizes": (6, 16, 12, 4), "batch_norm": False}, {}),
    *[({"sizes": (6, 16, 4), "activation": name}, {}) for name in fnet.nn.ACTIVATIONS],
    *[({"sizes": (6, 16, 4), "activation": name, "batch_norm": False}, {}) for name in fnet.nn.ACTIVATIONS],
    ({"sizes": (6, 16, 4), "activation": "tanh", "dropout": 0.0}, {}),
    ({"sizes": (6, 16, 4), "activation": "leaky_relu", "dropout": 0.0}, {}),
    # Noise
    ({"sizes": (6, 16, 16, 4), "dropout": 0.0}, {}),
    ({"sizes": (6, 16, 16, 4), "dropout": 0.0, "input_dropout": 0.2}, {}),
    ({"sizes": (6, 16, 16, 4), "dropout": 0.6, "input_dropout": 0.2}, {}),
    ({"sizes": (6, 16, 4)}, {"input_noise": 0.3}),
    # Losses and weights
    ({"sizes": (6, 16, 4)}, {"label_smoothing": 0.1}),
    ({"sizes": (6, 16, 100)}, {"label_smoothing": 0.1}),
    ({"sizes": (6, 16, 4)}, {"class_weight": "balanced"}),
    ({"sizes": (6, 16, 4)}, {"class_weight": (1.0, 2.0, 0.0, 4.0), "label_smoothing": 0.2}),
    ({"sizes": (6, 16, 1), "loss": "squared_error"}, {}),
    ({"sizes": (6, 16, 3), "loss": "squared_error"}, {}),
    ({"sizes": (6, 16, 3), "loss": "huber", "huber_delta": 0.5}, {}),
    ({"sizes": (6, 16, 3), "loss": "pinball", "quantiles": (0.1, 0.5, 0.9)}, {}),
    ({"sizes": (6, 16, 1), "loss": "pinball", "quantiles": (0.7,)}, {}),
    # Optimizers
    ({"sizes": (6, 16, 4)}, {"bias_correction": False}),
    ({"sizes": (6, 16, 4)}, {"weight_decay": 0.1}),
    ({"sizes": (6, 16, 4)}, {"weight_decay": 0.1, "decay_weights_only": True}),
    ({"sizes": (6, 16, 4)}, {"optimizer": "sgd", "weight_decay": 0.1, "decay_weights_only": True}),
    ({"sizes": (6, 16, 4)}, {"optimizer": "sgd", "momentum": 0.0}),
    ({"sizes": (6, 16, 4)}, {"optimizer": "sgd", "nesterov": True, "weight_decay": 0.01}),
    ({"sizes": (6, 16, 4)}, {"clip_norm": 0.1}),
    ({"sizes": (6, 16, 4), "batch_norm": False}, {"optimizer": "sgd", "clip_norm": 0.1}),
    # Schedules and batches
    ({"sizes": (6, 16, 4)}, {"schedule": "cosine"}),
    ({"sizes": (6, 16, 4)}, {"schedule": "warmup_cosine"}),
    ({"sizes": (6, 16, 4)}, {"schedule": "onecycle"}),
    ({"sizes": (6, 16, 4)}, {"batch_size": 32}),
    ({"sizes": (6, 16, 4)}, {"batch_size": 149}),
    ({"sizes": (6, 16, 4)}, {"batch_size": 1000}),
    ({"sizes": (6, 16, 4), "batch_norm": False}, {"batch_size": 1}),
]


def examples(config: MLPConfig) -> Dataset:
    x_key, y_key = random.split(random.key(1))
    x = random.normal(x_key, (ROWS, config.sizes[0]))
    if config.loss == "cross_entropy":
        return Dataset(x, random.bits(y_key, (ROWS,), np.uint8) % config.num_outputs)
    return Dataset(x, random.normal(y_key, (ROWS, 1 if config.loss == "pinball" else config.num_outputs)))


def folded(config: MLPConfig, train_config: TrainConfig, train: Dataset, steps: int) -> TrainState:
    """`train_step` over the batches and keys that `fit` documents."""
    init_key, order_key, step_key, _ = random.split(random.key(0), 4)
    weights = example_weights(train_config, train.y, config.num_outputs)
    used = np.arange(ROWS) if weights is None else np.flatnonzero(weights)
    slices = fnet.data.batch_slices(len(used), train_config.batch_size, min_size=2 if config.batch_norm else 1)
    train_config = dataclasses.replace(train_config, total_steps=len(slices) * train_config.epochs)
    train_state = fnet.init_train_state(init_key, config, train_config)
    for step in range(steps):
        epoch, position = divmod(step, len(slices))
        rows = used[random.permutation(random.fold_in(order_key, epoch), len(used))][slices[position]]
        train_state, _ = fnet.train_step(
            config,
            train_config,
            train_state,
            train.x[rows],
            train.y[rows],
            key=random.fold_in(step_key, step),
            sample_weight=None if weights is None else weights[rows],
        )
    return train_state


def fitted(config: MLPConfig, train_config: TrainConfig, train: Dataset, engine: str, steps: int) -> TrainState:
    for train_state, _ in fnet.fit(config, train_config, train, key=random.key(0), engine=engine, yield_every=1):
        if train_state.step == steps:
            return train_state
    raise AssertionError("too few steps")


def close(actual: TrainState, expected: TrainState, tolerance: float) -> None:
    """All arrays equal to a relative tolerance, in the Euclidean norm."""
    for name in ("params", "state", "opt_state"):
        for (path, a), e in zip(
            tree.flatten_with_path(getattr(actual, name))[0], tree.leaves(getattr(expected, name)), strict=True
        ):
            error = np.linalg.norm(np.asarray(a, np.float64) - e)
            assert error <= tolerance * np.linalg.norm(e), f"{name}{path}: {error / np.linalg.norm(e)}"


def configs(case: tuple[dict[str, Any], dict[str, Any]], dtype: str) -> tuple[MLPConfig, TrainConfig]:
    return MLPConfig(**case[0], dtype=dtype), TrainConfig(**{"epochs": STEPS, "batch_size": 64, **case[1]})


needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="needs numba")
all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: str(case).replace("'", ""))


@all_cases
def test_numpy_computes_the_bits_of_train_step(case: tuple[dict[str, Any], dict[str, Any]]) -> None:
    config, train_config = configs(case, "float32")
    train = examples(config)
    actual = fitted(config, train_config, train, "numpy", STEPS)
    expected = folded(config, train_config, train, STEPS)
    testing.assert_trees_equal(actual[:3], expected[:3])


@needs_numba
@all_cases
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 1e-5)])
def test_numba_computes_train_step(
    case: tuple[dict[str, Any], dict[str, Any]], dtype: str, tolerance: float
) -> None:
    config, train_config = configs(case, dtype)
    train = examples(config)
    actual = fitted(config, train_config, train, "numba", STEPS)
    close(actual, folded(config, train_config, train, STEPS), tolerance)
