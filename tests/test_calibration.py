"""Temperature scaling."""

import numpy as np
import pytest
from helpers import check_purity

from fnet import calibration, losses, random, tree


def sample(temperature: float, rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from softmax(logits / temperature)."""
    logits_key, labels_key = random.split(random.key(0))
    logits = 3 * random.normal(logits_key, (rows, 4), np.float64)
    p = losses.softmax(logits / temperature)
    return logits, (p.cumsum(axis=1) < random.uniform(labels_key, (rows, 1), np.float64)).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_fit_temperature_finds_the_one_that_the_labels_were_drawn_with(temperature: float) -> None:
    assert calibration.fit_temperature(*sample(temperature)) == pytest.approx(temperature, rel=0.03)


def test_fit_temperature_is_a_minimum_of_the_cross_entropy() -> None:
    logits, labels = sample(1.7, 500)
    best = check_purity(calibration.fit_temperature, *tree.freeze((logits, labels)))

    def cross_entropy(temperature: float) -> float:
        return losses.softmax_cross_entropy_with_integer_labels(logits / temperature, labels).mean()

    assert cross_entropy(best) < min(cross_entropy(0.99 * best), cross_entropy(1.01 * best))


def test_an_ensemble_of_equal_members_is_one_of_them() -> None:
    logits, labels = sample(2.0, 500)
    single = calibration.fit_temperature(logits, labels)
    assert calibration.fit_temperature(np.stack([logits, logits]), labels) == pytest.approx(single, rel=1e-5)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros(3), [0, 0, 0], r"logits must have shape .*, but got \[3\]"),
        (np.full((2, 2), np.nan), [0, 1], "logits must be finite"),
        (np.zeros((2, 2)), [0], "1 labels for 2 rows"),
        (np.zeros((2, 2)), [0, 2], "from 0 to 1"),
    ],
)
def test_bad_input(logits: np.ndarray, labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibration.fit_temperature(logits, labels)
