"""Processes that share each batch, here threads with a reduction through memory, give what one process gives."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from helpers import KEY, LOSSES, assert_close_to_scale, each_dtype, each_engine, examples, small

import fnet
from fnet import NonFiniteLossError, TrainConfig
from fnet.engine import Processes
from fnet.nn import Array
from fnet.testing import assert_trees_equal

TOLERANCES = {"float32": 1e-6, "float64": 1e-12}


def in_processes(size: int, f: Callable[[Processes], Any]) -> list[Any]:
    """`f` of each process, in a thread each."""
    barrier = threading.Barrier(size, timeout=60)
    parts: list[Any] = [None] * size

    def run(rank: int) -> Any:
        def total(array: Array) -> Array:
            parts[rank] = array.copy()
            barrier.wait()
            result = np.sum(parts, axis=0)
            barrier.wait()
            return result

        try:
            return f(Processes(rank, size, total))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))


CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"sizes": (4, 3)}, {}),
    ({}, {}),
    ({"batch_norm": False}, {"optimizer": "sgd", "learning_rate": 0.1}),
    ({"dropout": 0.3, "input_dropout": 0.2}, {"input_noise": 0.1}),
    ({"sizes": (4, 6, 5, 3), "activation": "gelu"}, {"class_weight": "balanced", "label_smoothing": 0.1}),
    ({"dropout": 0.3}, {"optimizer": "sgd", "learning_rate": 0.1, "nesterov": True, "clip_norm": 0.1}),
    ({}, {"clip_norm": 0.1, "weight_decay": 0.1, "recompute_statistics": True, "keep": "best"}),
    ({}, {"batch_size": 7}),  # the last batch has 8 rows
    ({}, {"batch_size": 57}),
    ({"batch_norm": False}, {"optimizer": "lbfgs", "weight_decay": 0.1}),
    *[({"loss": loss, "dropout": 0.3}, {}) for loss in LOSSES],
]


@each_engine
@each_dtype
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(("options", "train_options"), CASES, ids=str)
def test_processes_give_what_one_gives(
    options: dict[str, Any], train_options: dict[str, Any], size: int, dtype: str, engine: str
) -> None:
    config = small(**options, dtype=dtype)
    train_config = TrainConfig(**{"epochs": 2, "batch_size": 16, **train_options})
    train, valid = examples(config, 58), examples(config, 30, seed=1)
    weights = np.linspace(0, 2, 58)

    def run(processes: Processes | None) -> Any:
        epochs = fnet.fit(
            config, train_config, train, valid, key=KEY, engine=engine, sample_weight=weights, processes=processes
        )
        return [(state, record._replace(seconds=0)) for state, record in epochs]

    alone = run(None)
    together = in_processes(size, run)
    for process in together:
        assert_trees_equal(process, together[0])  # to the bit: all processes have the same parameters
    for (state, record), (state_alone, record_alone) in zip(together[0], alone, strict=True):
        assert_close_to_scale(state[:2], state_alone[:2], TOLERANCES[dtype])
        assert_close_to_scale(state.opt_state, state_alone.opt_state, 10 * TOLERANCES[dtype])
        numbers, numbers_alone = ([value for value in each if value is not None] for each in (record, record_alone))
        assert numbers == pytest.approx(numbers_alone, rel=TOLERANCES[dtype])


@each_engine
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_process_may_have_no_rows_of_the_last_batch(loss: str, batch_norm: bool, engine: str) -> None:
    config, train_config = small(loss=loss, batch_norm=batch_norm), TrainConfig(epochs=2, batch_size=16)
    train = examples(config, 50)
    assert Processes(0, 3, np.asarray).own(50 % 16) == slice(0, 0)

    def run(processes: Processes | None) -> fnet.TrainState:
        *_, (state, _) = fnet.fit(config, train_config, train, key=KEY, engine=engine, processes=processes)
        return state

    alone = run(None)
    for state in in_processes(3, run):
        assert_close_to_scale(state[:3], alone[:3], 1e-11)


@each_engine
def test_all_processes_notice_a_loss_that_is_not_finite(engine: str) -> None:
    config = small(batch_norm=False, dtype="float32")
    train_config, train = TrainConfig(optimizer="sgd", learning_rate=1e20, batch_size=8), examples(config)

    def step(processes: Processes | None) -> int:
        with pytest.raises(NonFiniteLossError) as caught:
            list(fnet.fit(config, train_config, train, key=KEY, engine=engine, processes=processes))
        return caught.value.step

    assert in_processes(3, step) == [step(None)] * 3


def test_a_process_names_the_row_of_the_data_that_is_not_finite() -> None:
    config = small()
    train = examples(config)
    x = train.x.copy()
    x[31, 2] = np.nan
    train = train._replace(x=x)

    def message(rank: int) -> str:
        # As if the other process had the same rows: the sum is not that of the batch, but finite where this part is.
        processes = Processes(rank, 2, lambda array: 2 * array)
        try:
            list(fnet.fit(config, TrainConfig(epochs=1, batch_size=50), train, key=KEY, processes=processes))
        except ValueError as error:
            return str(error)
        return ""

    assert sorted(message(rank) for rank in range(2)) == [
        "",
        "x must be finite, but row 31 of the training data has nan in column 2",
    ]


@each_engine
def test_a_shared_run_that_stops_goes_on_to_the_same_bits(engine: str) -> None:
    config, train_config = small(dropout=0.3), TrainConfig(epochs=2, batch_size=16)
    train = examples(config)

    def run(processes: Processes) -> Any:
        def fit(**options: Any) -> Any:
            return fnet.fit(config, train_config, train, key=KEY, engine=engine, processes=processes, **options)

        *_, (whole, _) = fit()
        stopped, _ = next(fit(yield_every=3))
        *_, (resumed, _) = fit(train_state=stopped)
        return resumed, whole

    for resumed, whole in in_processes(2, run):
        assert_trees_equal(resumed, whole)
