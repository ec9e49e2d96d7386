"""Which engine runs; that both notice what is not finite; that threads and processes do not change a bit."""

import hashlib
import importlib.util
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import KEY, assert_close_to_scale, each_dtype, each_engine, examples, needs_numba, small, steps_of_fit

import fnet
from fnet import MLPConfig, NonFiniteLossError, TrainConfig, TrainState, engine, random, tree
from fnet.engine import Engine
from fnet.testing import assert_trees_equal

CONFIG = small(dtype="float32", dropout=0.3)
TRAIN = examples(CONFIG)


# Which engine


@pytest.fixture
def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec

    def find_spec_without_numba(name: str, *args: Any) -> Any:
        return None if name == "numba" else find_spec(name, *args)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec_without_numba)


@pytest.mark.usefixtures("without_numba")
def test_without_numba_its_engine_says_how_to_install_it() -> None:
    message = r'engine="numba" needs Numba: python -m pip install numba \(the extra "fast"\)'
    with pytest.raises(ImportError, match=message):
        engine.resolve("numba")
    with pytest.raises(ImportError, match=message):
        fnet.fit(CONFIG, TrainConfig(), TRAIN, key=KEY, engine="numba")


@pytest.mark.usefixtures("without_numba")
def test_without_numba_auto_is_numpy() -> None:
    assert engine.resolve("auto") == engine.resolve("numpy") == "numpy"
    train_config = TrainConfig(epochs=1)
    (auto,), (numpy,) = (fnet.fit(CONFIG, train_config, TRAIN, key=KEY, engine=name) for name in ("auto", "numpy"))
    assert_trees_equal(auto[0], numpy[0])


@needs_numba
def test_with_numba_auto_is_numba() -> None:
    assert [engine.resolve(name) for name in ("auto", "numba", "numpy")] == ["numba", "numba", "numpy"]
    train_config = TrainConfig(epochs=1)
    (auto,), (numba,) = (fnet.fit(CONFIG, train_config, TRAIN, key=KEY, engine=name) for name in ("auto", "numba"))
    assert_trees_equal(auto[0], numba[0])


def test_the_default_engine_is_numpy() -> None:
    train_config = TrainConfig(epochs=1)
    (default, _), (numpy, _) = (
        next(fnet.fit(CONFIG, train_config, TRAIN, key=KEY)),
        next(fnet.fit(CONFIG, train_config, TRAIN, key=KEY, engine="numpy")),
    )
    assert_trees_equal(default, numpy)


def test_other_engines_are_refused() -> None:
    with pytest.raises(ValueError, match="engine must be one of numpy, numba, auto; got 'jax'"):
        engine.resolve("jax")


# Memory


@each_engine
@each_dtype
@pytest.mark.parametrize("options", [{}, {"optimizer": "sgd"}], ids=["adam", "sgd"])
def test_a_state_that_is_loaded_and_unloaded_is_the_same(engine: str, dtype: str, options: dict[str, Any]) -> None:
    config, train_config = small(sizes=(4, 6, 5, 3), dtype=dtype), TrainConfig(**options)
    state = steps_of_fit(config, train_config, examples(config), 1)
    memory = Engine(config, train_config, 64, engine)
    memory.load(*state[:3])  # pyright: ignore[reportArgumentType]  # not L-BFGS
    assert_trees_equal(memory.unload(), tuple(state[:3]))
    assert not any(leaf.flags.writeable for leaf in tree.leaves(memory.unload()) if isinstance(leaf, np.ndarray))


# Losses that are not finite

EXPLOSIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"batch_norm": False}, {"optimizer": "sgd", "learning_rate": 1e20}),
    ({"batch_norm": False}, {"optimizer": "sgd", "learning_rate": 1e3}),
    ({}, {"optimizer": "sgd", "learning_rate": 1e30}),
    ({}, {"learning_rate": 1e30, "label_smoothing": 0.1}),
    ({"activation": "gelu"}, {"optimizer": "sgd", "learning_rate": 1e15}),
    ({"loss": "squared_error"}, {"optimizer": "sgd", "learning_rate": 10.0}),
    ({"loss": "squared_error", "batch_norm": False}, {"optimizer": "sgd", "learning_rate": 1e6, "clip_norm": 1e6}),
    ({"loss": "huber", "batch_norm": False}, {"optimizer": "sgd", "learning_rate": 1e30}),
    ({"loss": "pinball", "batch_norm": False}, {"optimizer": "sgd", "learning_rate": 1e30}),
]


@each_engine
@pytest.mark.parametrize(("options", "train_options"), EXPLOSIONS, ids=str)
def test_a_loss_that_is_not_finite_ends_at_the_step_of_the_equations(
    options: dict[str, Any], train_options: dict[str, Any], engine: str
) -> None:
    config, train_config = small(**options, dtype="float32"), TrainConfig(epochs=10, batch_size=8, **train_options)
    train = examples(config)
    with pytest.raises(
        NonFiniteLossError, match=r"the training loss is (nan|inf) at epoch \d, step \d+: try"
    ) as actual:
        list(fnet.fit(config, train_config, train, key=KEY, engine=engine))
    with pytest.raises(NonFiniteLossError) as expected:
        steps_of_fit(config, train_config, train, 70)
    assert actual.value.step == expected.value.step == actual.value.train_state.step + 1 > 1
    assert str(actual.value.loss) == str(expected.value.loss)
    states = actual.value.train_state[:3], expected.value.train_state[:3]
    assert all(np.isfinite(leaf).all() for leaf in tree.leaves(states))
    assert_close_to_scale(*states, 1e-5)
    if engine == "numpy":
        assert_trees_equal(*states)


# Threads and processes

BIGGER = MLPConfig(sizes=(64, 128, 64, 10))
BIGGER_DATA = examples(BIGGER, 600)


def trained(engine: str, seed: int) -> TrainState:
    train_config = TrainConfig(epochs=3, batch_size=32, keep="best", input_noise=0.1)
    *_, (state, _) = fnet.fit(BIGGER, train_config, BIGGER_DATA, BIGGER_DATA, key=random.key(seed), engine=engine)
    return state


@each_engine
def test_two_threads_give_the_bits_of_one(engine: str) -> None:
    barrier = threading.Barrier(2, timeout=60)

    def together(seed: int) -> TrainState:
        barrier.wait()
        return trained(engine, seed)

    alone = [trained(engine, seed) for seed in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            assert_trees_equal(list(pool.map(together, (0, 1))), alone)


@each_engine
def test_two_runs_in_turns_give_the_bits_of_one(engine: str) -> None:
    def run(seed: int) -> Any:
        return fnet.fit(CONFIG, TrainConfig(epochs=3, batch_size=8), TRAIN, key=random.key(seed), engine=engine)

    together = [(a, b) for (a, _), (b, _) in zip(run(0), run(1), strict=True)]
    assert_trees_equal(together, list(zip(*([state for state, _ in run(seed)] for seed in (0, 1)), strict=True)))


SCRIPT = """
import hashlib, sys
sys.path.insert(0, sys.argv[2])
from helpers import examples, small
import fnet
config, key = small(dtype="float32", dropout=0.3), fnet.random.key(0)
params, state, _ = fnet.run(config, fnet.TrainConfig(epochs=2), examples(config), key=key, engine=sys.argv[1])
print(hashlib.sha256(b"".join(leaf.tobytes() for leaf in fnet.tree.leaves((params, state)))).hexdigest())
"""


@each_engine
def test_another_process_gives_the_same_bits(engine: str) -> None:
    command = [sys.executable, "-c", SCRIPT, engine, str(Path(__file__).parents[1])]
    other = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    params, state, _ = fnet.run(CONFIG, TrainConfig(epochs=2), TRAIN, key=KEY, engine=engine)
    assert hashlib.sha256(b"".join(leaf.tobytes() for leaf in tree.leaves((params, state)))).hexdigest() == other
