"""The configuration of training, and what is made from it."""

import math
from typing import Any

import numpy as np
import pytest

from fnet import TrainConfig, training


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "positive integer"), ("batch_size", 1.5, "positive integer"), ("patience", 0, "positive integer"),
        ("optimizer", "lbfgs", "adam, sgd"), ("schedule", "linear", "constant, cosine, warmup_cosine, onecycle"),
        ("keep", "first", "last, best"), ("monitor", "f1", "loss, accuracy"), ("learning_rate", -1, "at least 0"),
        ("learning_rate", math.inf, "finite"), ("weight_decay", math.nan, "finite"), ("b1", 1.0, r"in \[0, 1\)"),
        ("b2", -0.1, r"in \[0, 1\)"), ("eps", 0, "positive"), ("momentum", 1.0, r"in \[0, 1\)"),
        ("label_smoothing", 1.0, r"in \[0, 1\)"), ("clip_norm", 0.0, "positive"), ("mixup", -1, "positive"),
        ("class_weight", "even", '"balanced"'), ("ema_decay", 1.0, r"in \[0, 1\)"), ("input_noise", -1, "at least 0"),
        ("epochs", None, "positive integer"), ("batch_size", True, "positive integer"), ("class_weight", 5, "numbers"),
        ("learning_rate", None, "finite number"), ("learning_rate", "0.1", "finite number"), ("eps", None, "positive"),
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
    """As those that come back from JSON: training computes other bits with a float64 than with a number."""
    given = TrainConfig(epochs=np.int64(3), b1=np.float64(0.8), clip_norm=np.float32(0.5))  # pyright: ignore
    assert [type(value) for value in (given.epochs, given.b1, given.clip_norm)] == [int, float, float]
    assert given == TrainConfig(epochs=3, b1=0.8, clip_norm=0.5)


def test_a_schedule_without_its_length() -> None:
    with pytest.raises(ValueError, match=r"replace\(train_config, total_steps="):
        training.schedule(TrainConfig(schedule="cosine"))


def test_class_weights() -> None:
    labels = np.array([0, 0, 0, 1])
    weights = training.example_weights
    np.testing.assert_allclose(weights(TrainConfig(class_weight="balanced"), labels, 2), [2 / 3] * 3 + [2])  # pyright: ignore
    np.testing.assert_allclose(weights(TrainConfig(class_weight=(1.0, 5.0)), labels, 2, [1, 2, 3, 4]), [1, 2, 3, 20])  # pyright: ignore
    assert weights(TrainConfig(), labels, 2) is None
    with pytest.raises(ValueError, match="expected 2 class weights, but got 3"):
        weights(TrainConfig(class_weight=(1, 1, 1)), labels, 2)
    with pytest.raises(ValueError, match="finite and not negative"):
        weights(TrainConfig(), labels, 2, [1, 1, 1, -1])
