"""Evaluation, and recomputed batch-norm statistics."""

import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import pytest
from helpers import KEY, LOSSES, check_purity, each_dtype, examples, network, small

import fnet
from fnet import Dataset, MLPConfig, data, losses, metrics, mlp, random, tree
from fnet.testing import assert_trees_close, assert_trees_equal
from fnet.training import evaluation, recompute_state

# Evaluation


@pytest.mark.parametrize("rows", [1, 30, 300])
@pytest.mark.parametrize("loss", LOSSES)
def test_evaluate_is_inference_in_chunks(loss: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "CHUNK", 100 * 5)  # 100 rows of the widest layer
    config = small(loss=loss, dropout=0.3)
    params, state = network(config)
    dataset = examples(config, rows)
    result = check_purity(fnet.evaluate, config, params, state, dataset, transform=lambda x: 2 * x)
    logits = fnet.predict_logits(config, params, state, 2 * dataset.x)
    np.testing.assert_allclose(result.logits, logits, rtol=1e-12, atol=1e-14)
    assert not result.logits.flags.writeable
    targets = losses.label_targets(dataset.y, 3, dtype="float64") if loss == "cross_entropy" else dataset.y
    expected, _ = mlp.loss_fwd(config, logits, targets)
    assert result.loss == pytest.approx(expected.mean(), rel=1e-12)
    total = metrics.example_scores(loss, logits, dataset.y).sum()
    assert result.score == pytest.approx(metrics.mean_score(loss, total, rows), rel=1e-12)
    assert result.accuracy == result.score


@each_dtype
def test_evaluate_needs_little_more_memory_than_the_logits(dtype: str) -> None:
    config = MLPConfig(sizes=(4, 2000), dtype=dtype)
    params, state = fnet.init(KEY, config)
    rows = 8000 if dtype == "float32" else 4000  # logits of 64 MB
    x = np.zeros((rows, 4), dtype)
    dataset = Dataset(x, np.arange(rows) % 2000)
    tracemalloc.start()
    try:
        fnet.evaluate(config, params, state, dataset)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2.5 * rows * 2000 * x.itemsize


CONFIG = small()
GOOD = examples(CONFIG, 5)
WITH_NAN = GOOD.x.copy()
WITH_NAN[3, 2] = np.nan


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        (GOOD._replace(y=np.array([0, 1, 3, 0, 0])), ValueError, "labels must be from 0 to 2"),
        (GOOD._replace(y=np.zeros(5)), TypeError, "labels must be integers, but got float64"),
        (GOOD._replace(x=np.zeros((5, 3))), ValueError, r"dataset.x must have shape \[rows, 4\] .* got \[5, 3\]"),
        (GOOD._replace(x=np.zeros((0, 4))), ValueError, "dataset.x has no rows"),
        (GOOD._replace(y=np.array([0, 1])), ValueError, r"as many rows as dataset.x, 5, but its shape is \[2\]"),
        (GOOD._replace(x=WITH_NAN), ValueError, r"x must be finite in float\d\d, but x\[3, 2\] is nan"),
        (GOOD._replace(y=[0] * 5), TypeError, "dataset.y must be an array, not list: use numpy.asarray"),
        (tuple(GOOD[:2]), TypeError, r"dataset must be a Dataset, not tuple: fnet.Dataset\(x, y\)"),
    ],
)
def test_evaluate_refuses(dataset: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fnet.evaluate(CONFIG, *network(CONFIG), dataset)


# Recomputed statistics


def batch_statistics(config: MLPConfig, params: fnet.Params, x: Any) -> Any:
    """The statistics of one training batch: the new running ones, where the old ones are 0."""
    zero = tree.map(np.zeros_like, fnet.init(KEY, config)[1])
    _, state = fnet.forward(config, params, zero, x, train=True)
    return tree.map(lambda leaf: leaf / leaf.dtype.type(1 - fnet.nn.BATCH_NORM_MOMENTUM), state)


@pytest.mark.parametrize("rows", [2, 600])
def test_recomputed_statistics_are_those_of_one_batch(rows: int) -> None:
    config = small(sizes=(4, 8, 6, 3))
    params, _ = network(config)
    x = examples(config, rows).x
    state = check_purity(recompute_state, config, params, x)
    assert_trees_close(state, batch_statistics(config, params, x), rtol=1e-12, atol=1e-14)
    assert not any(leaf.flags.writeable for leaf in tree.leaves(state))


@pytest.mark.parametrize("rows", [1024, 1026])
def test_recomputed_statistics_of_the_digits_do_not_depend_on_batches(rows: int) -> None:
    train = data.take(data.digits()[0], slice(rows))
    config = MLPConfig(sizes=(64, 32, 16, 10), dropout=0.0)
    train_config = fnet.TrainConfig(epochs=2, recompute_statistics=True, learning_rate=5e-3)
    params, state, records = fnet.run(config, train_config, train, train, key=KEY)
    assert_trees_close(state, batch_statistics(config, params, train.x), rtol=1e-4, atol=1e-4)
    train_logits, _ = fnet.forward(config, params, state, train.x, train=True)
    assert records[-1].valid_accuracy == pytest.approx(metrics.accuracy(train_logits, train.y), abs=2 / rows)


def test_recomputed_statistics_survive_a_large_mean() -> None:
    config = MLPConfig(sizes=(1, 4, 3))
    params, _ = fnet.init(KEY, config)
    x = np.float32(1000) + random.normal(KEY, (500, 1))
    (state,) = recompute_state(config, params, x)
    z = x.astype(np.float64) @ params[0].linear.w
    np.testing.assert_allclose(state.var, z.var(axis=0, ddof=1), rtol=1e-2)


def test_recompute_state_ignores_dropout() -> None:
    config = small(dropout=0.5, input_dropout=0.5)
    params, _ = network(config)
    x = examples(config).x
    without = recompute_state(small(), params, x)
    assert_trees_equal(recompute_state(config, params, x), without)


def test_a_network_without_batch_norm_has_no_statistics() -> None:
    config = dataclasses.replace(CONFIG, batch_norm=False)
    assert recompute_state(config, fnet.init(KEY, config)[0], GOOD.x) == ()


def test_statistics_need_two_rows() -> None:
    with pytest.raises(ValueError, match="need at least 2 rows, but got 1"):
        recompute_state(CONFIG, network(CONFIG)[0], GOOD.x[:1])
