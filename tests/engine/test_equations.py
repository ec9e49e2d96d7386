"""The engine computes the equations: `fit` is `train_step`, folded over the same batches and keys."""

import functools
from typing import Any

import numpy as np
import pytest
from helpers import KEY, assert_close_to_scale, each_dtype, each_engine, examples, needs_numba, steps_of_fit

import fnet
from fnet import Dataset, MLPConfig, TrainConfig, TrainState, random
from fnet.engine import numpy_kernels, step
from fnet.testing import assert_trees_close, assert_trees_equal

ROWS, STEPS = 150, 30
CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    # Depth, batch norm, activations
    ({"sizes": (6, 4), "batch_norm": False}, {}),
    ({"sizes": (6, 4)}, {"optimizer": "sgd", "learning_rate": 0.1}),
    ({"sizes": (6, 1, 4)}, {}),
    ({"sizes": (6, 16, 4)}, {}),
    ({"sizes": (6, 16, 16, 4)}, {}),
    ({"sizes": (6, 16, 12, 8, 4)}, {}),
    ({"sizes": (6, 300, 250, 4)}, {"optimizer": "sgd", "weight_decay": 0.1}),  # more than a chunk of parameters
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
    ({"sizes": (6, 3), "loss": "squared_error"}, {"optimizer": "sgd", "learning_rate": 0.1}),
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
    ({"sizes": (6, 160, 20, 4)}, {"batch_size": 16}),  # a small batch beside the width
    ({"sizes": (6, 16, 4)}, {"batch_size": 1000}),
    ({"sizes": (6, 16, 4), "batch_norm": False}, {"batch_size": 1}),
]


TOLERANCES = {"float32": 1e-5, "float64": 1e-11}


def config_of(case: int, dtype: str) -> tuple[MLPConfig, TrainConfig, Dataset]:
    options, train_options = CASES[case]
    config = MLPConfig(**options, dtype=dtype)
    return config, TrainConfig(**{"epochs": STEPS, "batch_size": 64, **train_options}), examples(config, ROWS)


@functools.cache
def expected(case: int, dtype: str) -> TrainState:
    return steps_of_fit(*config_of(case, dtype), STEPS)


def fitted(config: MLPConfig, train_config: TrainConfig, train: Dataset, engine: str, **options: Any) -> TrainState:
    run = fnet.fit(config, train_config, train, key=KEY, engine=engine, yield_every=STEPS, **options)
    return next(state for state, _ in run if state.step == STEPS)


each_case = pytest.mark.parametrize("case", range(len(CASES)), ids=[str(case).replace("'", "") for case in CASES])


@each_case
def test_numpy_computes_the_bits_of_train_step(case: int) -> None:
    actual = fitted(*config_of(case, "float32"), "numpy")
    assert_trees_equal(actual[:3], expected(case, "float32")[:3])
    assert_trees_close(actual.totals, expected(case, "float32").totals, rtol=1e-6)


def test_numpy_updates_more_than_a_chunk_of_parameters() -> None:
    config = MLPConfig(sizes=(6, 300, 250, 4))
    assert fnet.num_params(config) > numpy_kernels.CHUNK
    train_config, train = TrainConfig(epochs=STEPS, batch_size=64, weight_decay=0.1), examples(config, ROWS)
    actual = fitted(config, train_config, train, "numpy")
    assert_trees_equal(actual[:3], steps_of_fit(config, train_config, train, STEPS)[:3])


@each_engine
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.1}, {"decay_weights_only": True}])
def test_large_matrices_are_updated_alike(
    optimizer: str, options: dict[str, Any], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "LARGE", 200)
    config = MLPConfig(sizes=(6, 16, 16, 12, 20, 4), dtype="float64")
    train_config = TrainConfig(epochs=STEPS, batch_size=64, optimizer=optimizer, weight_decay=0.1, **options)
    train = examples(config, ROWS)
    actual, steps = fitted(config, train_config, train, engine), steps_of_fit(config, train_config, train, STEPS)
    assert_close_to_scale(actual[:3], steps[:3], TOLERANCES["float64"])
    if engine == "numpy":
        assert_trees_equal(actual[:3], steps[:3])


@needs_numba
@each_case
@each_dtype
def test_numba_computes_train_step(case: int, dtype: str) -> None:
    actual = fitted(*config_of(case, dtype), "numba")
    assert_close_to_scale(actual[:3], expected(case, dtype)[:3], TOLERANCES[dtype])
    assert_trees_close(actual.totals, expected(case, dtype).totals, rtol=TOLERANCES[dtype])


@each_engine
@each_dtype
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_sample_weights(engine: str, dtype: str, class_weight: Any) -> None:
    config = MLPConfig(sizes=(6, 16, 4), dtype=dtype)
    train_config = TrainConfig(epochs=STEPS, batch_size=64, class_weight=class_weight)
    train = examples(config, ROWS)
    weights = np.maximum(random.uniform(random.key(1), (ROWS,), "float64", -0.2, 1.0), 0)
    actual = fitted(config, train_config, train, engine, sample_weight=weights)
    steps = steps_of_fit(config, train_config, train, STEPS, sample_weight=weights)
    assert_close_to_scale(actual[:3], steps[:3], TOLERANCES[dtype])
    if engine == "numpy":
        assert_trees_equal(actual[:3], steps[:3])
