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


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_many_rows_outweigh_the_prior(temperature: float) -> None:
    logits, labels = sample(temperature, 2000)
    assert calibration.safe_temperature(logits, labels) == pytest.approx(temperature, rel=0.1)


@pytest.mark.parametrize("rows", [1, 2, 10, 50])
def test_few_rows_that_are_all_right_do_not_make_a_network_sure(rows: int) -> None:
    logits = np.zeros((rows, 3))
    logits[:, 0] = 3
    labels = np.zeros(rows, int)
    assert calibration.fit_temperature(logits, labels) < 0.1
    assert 0.25 < calibration.safe_temperature(logits, labels) <= 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("rows", [5, 20, 100])
def test_a_safe_temperature_is_better_on_new_data_than_none_or_hardly_worse(temperature: float, rows: int) -> None:
    logits, labels = sample(temperature)

    def loss(t: float) -> float:
        return float(losses.softmax_cross_entropy_with_integer_labels(logits / t, labels).mean())

    found = [
        loss(calibration.safe_temperature(logits[start : start + rows], labels[start : start + rows]))
        for start in range(0, 40 * rows, rows)
    ]
    assert np.mean(found) < loss(1.0) + 0.01
    if temperature != 1 and rows == 100:
        assert np.mean(found) < loss(1.0) - 0.01


def test_what_does_not_help_on_the_rows_that_are_left_out_is_not_done() -> None:
    logits = np.array([[6.0, 0], [0, 6], [6, 0], [0, 6], [6, 0]] * 2)
    labels = np.array([0, 1, 0, 1, 1, 0, 1, 0, 1, 0])  # wrong in one fold alone
    assert calibration.safe_temperature(logits[:5], labels[:5]) == 1


@pytest.mark.parametrize("rows", [1, 3, 203])
def test_cross_fitted_temperatures_are_those_of_the_other_rows(rows: int) -> None:
    logits, labels = sample(2.0, rows)
    temperatures = check_purity(calibration.cross_fitted_temperatures, *tree.freeze((logits, labels)))
    assert temperatures.shape == (rows,)
    for row in range(min(rows, 5)):
        others = np.arange(rows) % 5 != row
        expected = calibration.safe_temperature(logits[others], labels[others]) if rows > 1 else 1
        np.testing.assert_array_equal(temperatures[row::5], expected)


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


# Quantiles ------------------------------------------------------------------------------------------------------------

LEVELS = (0.1, 0.5, 0.9)


def too_wide(key: random.Key, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles that are not those of the targets, and differ from row to row."""
    centre_key, noise_key = random.split(key)
    centre = random.normal(centre_key, (rows, 1), np.float64)
    return tree.freeze(
        (centre + np.array([-3.0, 0.2, 2.0]), centre[:, 0] + random.normal(noise_key, (rows,), np.float64))
    )


def test_shifted_quantiles_have_their_share_of_new_targets() -> None:
    q, y = too_wide(random.key(1), 5000)
    shifts = check_purity(calibration.fit_quantile_shifts, q, y, LEVELS)
    new_q, new_y = too_wide(random.key(2), 20_000)
    shares = (new_y[:, None] <= new_q + shifts).mean(axis=0)
    np.testing.assert_allclose(shares, LEVELS, atol=0.02)
    assert np.abs((new_y[:, None] <= new_q).mean(axis=0) - LEVELS).min() > 0.05


def test_few_rows_promise_as_much_on_average() -> None:
    shares = []
    for key in random.split(random.key(3), 400):
        q, y = too_wide(key, 20)
        shares.append(y[-1] <= q[-1] + calibration.fit_quantile_shifts(q[:-1], y[:-1], LEVELS))
    np.testing.assert_allclose(np.mean(shares, axis=0), LEVELS, atol=0.06)


def test_a_quantile_with_too_few_rows_is_left_as_it_is() -> None:
    q, y = np.zeros((8, 3)), np.arange(8.0)
    assert calibration.fit_quantile_shifts(q, y, LEVELS).tolist() == [0, 3.5, 0]


@pytest.mark.parametrize(
    ("quantiles", "targets", "message"),
    [
        (np.zeros((2, 2)), np.zeros(2), r"quantiles \[rows, 3\], but got"),
        (np.zeros((3, 3)), np.zeros(2), r"quantiles \[rows, 3\], but got"),
        (np.zeros((0, 3)), np.zeros(0), r"quantiles \[rows, 3\], but got"),
        (np.zeros((2, 3)), np.array([0, np.nan]), "must be finite"),
    ],
)
def test_quantiles_that_do_not_fit(quantiles: np.ndarray, targets: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibration.fit_quantile_shifts(quantiles, targets, LEVELS)
