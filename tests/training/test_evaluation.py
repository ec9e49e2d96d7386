"""Evaluation, and recomputed batch-norm statistics."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import fnet
from fnet import Dataset, MLPConfig, evaluation, train
from fnet import random as frandom

KEY = frandom.key(0)
CONFIG = MLPConfig(sizes=(5, 8, 6, 3), dropout=0.3, input_dropout=0.1)


def data(rows: int) -> Dataset:
    return Dataset(frandom.normal(KEY, (rows, 5)), frandom.permutation(KEY, rows) % 3)


WITH_NAN = data(5000)
WITH_NAN.x[4500, 2] = np.nan


def network() -> tuple[fnet.Params, fnet.State]:
    """Parameters, and statistics that are not those of the start."""
    params, state = fnet.init(KEY, CONFIG)
    _, state = fnet.forward(CONFIG, params, state, data(20).x, key=KEY, train=True)
    return params, state


@pytest.mark.parametrize("rows", [1, 30, evaluation.CHUNK + 1])
def test_evaluate_is_inference_mode_and_transforms(rows: int) -> None:
    params, state = network()
    dataset = data(rows)
    result = fnet.evaluate(CONFIG, params, state, dataset, transform=lambda x: 2 * x)
    logits = fnet.predict_logits(CONFIG, params, state, 2 * dataset.x)
    np.testing.assert_allclose(result.logits, logits, rtol=1e-5, atol=1e-6)
    assert not result.logits.flags.writeable
    expected = fnet.losses.softmax_cross_entropy_with_integer_labels(logits, dataset.y).mean()
    assert result.loss == pytest.approx(float(expected), rel=1e-5)
    assert result.accuracy == np.mean(logits.argmax(axis=1) == dataset.y)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (data(3)._replace(y=np.array([0, 1, 3])), "labels must be from 0 to 2"),
        (data(3)._replace(x=np.zeros((3, 4))), r"x must have shape \[batch, 5\]"),
        (data(0), "x has no rows"),
        (data(3)._replace(y=np.array([0, 1])), "3 rows, but 2 labels"),
        (data(5000)._replace(y=np.zeros(evaluation.CHUNK, int)), "5000 rows, but 4096 labels"),
        (WITH_NAN, r"x must be finite, but x\[4500, 2\] is nan"),
    ],
)
def test_evaluate_refuses(dataset: Dataset, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fnet.evaluate(CONFIG, *network(), dataset)


def test_recomputed_statistics_are_those_of_the_data() -> None:
    config = dataclasses.replace(CONFIG, dtype="float64", sizes=(5, 8, 3))
    params, _ = fnet.init(KEY, config)
    x = data(600).x.astype(np.float64)
    (got,) = fnet.recompute_state(config, params, x)
    z = x @ params[0].linear.w
    np.testing.assert_allclose(got.mean, z.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(got.var, z.var(axis=0, ddof=1), rtol=1e-12)


def test_recomputed_statistics_of_transformed_features() -> None:
    params, _ = network()
    x = data(40).x
    got: Any = fnet.recompute_state(CONFIG, params, x, transform=lambda x: 2 * x)
    fnet.testing.assert_trees_equal(got, fnet.recompute_state(CONFIG, params, 2 * x))
    assert not any(leaf.flags.writeable for leaf in fnet.tree.leaves(got))


def test_a_network_without_batch_norm_has_no_statistics() -> None:
    config = dataclasses.replace(CONFIG, batch_norm=False)
    assert fnet.recompute_state(config, fnet.init(KEY, config)[0], data(4).x) == ()


def test_the_names_are_in_fnet_train_too() -> None:
    names = ["Evaluation", "Transform", "evaluate", "recompute_state"]
    assert all(getattr(train, name) is getattr(evaluation, name) for name in names)
