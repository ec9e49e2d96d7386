"""The configuration of training, and what it implies: schedules, and the weights of the examples."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

import fnet
from fnet import TrainConfig, training


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "positive integer"), ("batch_size", 1.5, "positive integer"), ("patience", 0, "positive integer"),
        ("optimizer", "muon", "adam, sgd, lbfgs"), ("schedule", "linear", "constant, cosine, warmup_cosine, onecycle"),
        ("keep", "first", "last, best"), ("monitor", "f1", "loss, accuracy"), ("learning_rate", -1, "at least 0"),
        ("learning_rate", math.inf, "finite"), ("weight_decay", math.nan, "finite"), ("b1", 1.0, r"in \[0, 1\)"),
        ("b2", -0.1, r"in \[0, 1\)"), ("eps", 0, "positive"), ("momentum", 1.0, r"in \[0, 1\)"),
        ("label_smoothing", 1.0, r"in \[0, 1\)"), ("clip_norm", 0.0, "positive"), ("input_noise", -1, "at least 0"),
        ("class_weight", "even", '"balanced"'), ("class_weight", 5, "numbers"), ("class_weight", ("a",), "numbers"),
        ("epochs", None, "positive integer"), ("batch_size", True, "positive integer"),
        ("learning_rate", None, "finite number"), ("learning_rate", "0.1", "finite number"), ("eps", None, "positive"),
        ("learning_rate", lambda count: 0.1, "finite number.*; a schedule is chosen by name"),
        ("nesterov", "no", "True or False"), ("recompute_statistics", None, "True or False"),
    ],
)  # fmt: skip
def test_train_config_refuses(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be.*{message}"):
        TrainConfig(**{field: value})


def test_one_cycle_needs_a_warmup() -> None:
    with pytest.raises(ValueError, match='warmup must be above 0 with schedule="onecycle"'):
        TrainConfig(schedule="onecycle", warmup=0.0)


def test_scalars_of_numpy_become_numbers() -> None:
    """As those that come back from JSON; arithmetic with a float64 of NumPy would give other bits."""
    config = TrainConfig(epochs=np.int64(3), b1=np.float64(0.8), clip_norm=np.float32(0.5))  # pyright: ignore
    assert [type(value) for value in (config.epochs, config.b1, config.clip_norm)] == [int, float, float]
    assert config == TrainConfig(epochs=3, b1=0.8, clip_norm=0.5)


# Schedules


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ("cosine", [1.0, 0.5, 0.0, 0.0]),
        ("warmup_cosine", [0.0, 0.75, 0.0, 0.0]),
        ("onecycle", [0.04, 0.750001, 0.000004, 0.000004]),
    ],
)
def test_learning_rate_schedule(schedule: str, expected: list[float]) -> None:
    config = TrainConfig(schedule=schedule, learning_rate=1.0, total_steps=100, warmup=0.25)
    rate = training.learning_rate_schedule(config)
    assert [rate(count) for count in (0, 50, 100, 200)] == pytest.approx(expected, abs=1e-12)
    if schedule in ("warmup_cosine", "onecycle"):
        assert rate(25) == 1.0


def test_a_schedule_needs_its_length() -> None:
    with pytest.raises(ValueError, match=r"replace\(train_config, total_steps="):
        training.learning_rate_schedule(TrainConfig(schedule="cosine"))


def test_an_eps_that_is_zero_in_the_dtype_is_refused_by_its_name() -> None:
    train_config = TrainConfig(eps=1e-60)
    train = fnet.Dataset(np.eye(4), np.array([0, 1, 0, 1]))
    config = fnet.MLPConfig(sizes=(4, 2), dropout=0.0)
    for call in (
        lambda: fnet.fit(config, train_config, train, key=fnet.random.key(0)),
        lambda: fnet.init_train_state(fnet.random.key(0), config, train_config),
    ):
        with pytest.raises(ValueError, match=r"eps=1e-60 is 0 in float32: expected at least 1\.4e-45; use 1e-8"):
            call()
    fnet.run(dataclasses.replace(config, dtype="float64"), train_config, train, key=fnet.random.key(0))
    fnet.run(config, dataclasses.replace(train_config, optimizer="sgd"), train, key=fnet.random.key(0))


# Weights

LABELS = np.array([0, 0, 0, 1])


def weights(class_weight: Any = None, sample_weight: Any = None, labels: Any = LABELS, num_classes: int = 2) -> Any:
    return training.example_weights(TrainConfig(class_weight=class_weight), labels, num_classes, sample_weight)


def test_class_weights_times_sample_weights() -> None:
    assert weights() is None
    np.testing.assert_allclose(weights("balanced"), [2 / 3] * 3 + [2])
    np.testing.assert_allclose(weights((1.0, 5.0)), [1, 1, 1, 5])
    np.testing.assert_allclose(weights((1.0, 5.0), [1, 2, 3, 4]), [1, 2, 3, 20])
    np.testing.assert_allclose(weights(None, [1, 2, 3, 4]), [1, 2, 3, 4])


@pytest.mark.parametrize("scale", [1e-50, 1.0, 1e39])
def test_balanced_weights_do_not_count_rows_of_weight_0(scale: float) -> None:
    sample_weight = scale * np.array([1.0, 0, 0, 1])
    balanced = weights("balanced", sample_weight)
    np.testing.assert_allclose(balanced[[0, 3]], weights("balanced", sample_weight[[0, 3]], LABELS[[0, 3]]))
    assert balanced[0] == balanced[3] == scale
    assert balanced[1] == balanced[2] == 0


def test_balanced_weights_give_each_class_the_same_sum() -> None:
    labels = np.array([0, 1, 1, 1, 3, 3])
    balanced = weights("balanced", [0.5, 1, 2, 3, 1, 1], labels, 4)
    sums = np.bincount(labels, balanced, 4)
    np.testing.assert_allclose(sums, [sums[0], sums[0], 0, sums[0]])


@pytest.mark.parametrize(
    ("class_weight", "sample_weight", "message"),
    [
        ((1, 1, 1), None, "expected 2 class weights, but got 3"),
        ((1, -1), None, "finite and not negative"),
        ((1, np.nan), None, "finite and not negative"),
        (None, [1, 1, 1, -1], "finite and not negative"),
        (None, [1, 1, 1, np.inf], "finite and not negative"),
        (None, [1, 1, 1], r"expected 4 sample weights, but got \[3\]"),
        (None, [[1]] * 4, r"expected 4 sample weights, but got \[4, 1\]"),
    ],
)
def test_bad_weights(class_weight: Any, sample_weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weights(class_weight, sample_weight)
