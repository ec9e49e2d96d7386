"""The examples of a run: what `fit` accepts, what it leaves out, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import KEY, LOSSES, each_engine, examples, small

import fnet
from fnet import Dataset, MLPConfig, TrainConfig, data
from fnet.testing import assert_trees_equal

CONFIG = small(dtype="float32", dropout=0.3, input_dropout=0.1)
GOOD = examples(CONFIG)
ONE_EPOCH = TrainConfig(epochs=1, batch_size=8)


def trained(dataset: Dataset = GOOD, config: MLPConfig = CONFIG, **options: Any) -> fnet.TrainState:
    ((state, _),) = fnet.fit(config, options.pop("train_config", ONE_EPOCH), dataset, key=KEY, **options)
    return state


# What is accepted


@each_engine
@pytest.mark.parametrize("dtype", ["uint8", "uint64", "int32", ">i8"])
def test_labels_of_any_integers_give_the_same_bits(engine: str, dtype: str) -> None:
    labels = GOOD.y.astype(dtype)
    assert_trees_equal(trained(GOOD._replace(y=labels), engine=engine), trained(engine=engine))


@each_engine
@pytest.mark.parametrize("dtype", [">f4", "f8", "int8", "uint16"])
def test_features_of_any_numbers_give_the_bits_of_float32(engine: str, dtype: str) -> None:
    x = np.abs(10 * GOOD.x).astype(np.uint8) if "int" in dtype else GOOD.x
    dataset = GOOD._replace(x=np.asfortranarray(x.astype(dtype)))
    assert_trees_equal(trained(dataset, engine=engine), trained(GOOD._replace(x=x.astype("f4")), engine=engine))


@pytest.mark.parametrize("loss", ["squared_error", "huber", "pinball"])
def test_one_target_may_be_a_vector_of_any_numbers(loss: str) -> None:
    config = small(loss=loss, sizes=(4, 5, 1), **({"quantiles": (0.5,)} if loss == "pinball" else {}))
    dataset = examples(config)
    y = np.rint(10 * dataset.y).astype(np.int8)
    expected = trained(dataset._replace(y=y.astype(np.float64)), config)
    assert_trees_equal(trained(dataset._replace(y=y[:, 0]), config), expected)


def test_a_mapped_data_set_gives_the_same_bits(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", GOOD.x)
    mapped = GOOD._replace(x=np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert_trees_equal(trained(mapped), trained())
    epochs = fnet.fit(CONFIG, TrainConfig(epochs=2, batch_size=8), mapped, key=KEY)
    next(epochs)
    with (tmp_path / "x.npy").open("r+b") as file:
        file.truncate(300)
    with pytest.raises(ValueError, match="became shorter"):
        next(epochs)


def test_a_transform_is_applied_to_each_batch() -> None:
    doubled = GOOD._replace(x=2 * GOOD.x)
    assert_trees_equal(trained(transform=lambda x: 2 * x), trained(doubled))


# Weights


@each_engine
@pytest.mark.parametrize("weight", [1e-50, 1e37, 1e39, 1e300])
def test_equal_weights_of_any_size_give_the_bits_of_weights_of_1(engine: str, weight: float) -> None:
    expected = trained(sample_weight=np.ones(50), engine=engine)
    actual = trained(sample_weight=np.full(50, weight), engine=engine)
    fnet.testing.assert_trees_close(actual[:3], expected[:3], rtol=1e-5, atol=1e-7)


@each_engine
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_rows_of_weight_0_are_left_out(engine: str, class_weight: Any) -> None:
    sample_weight = np.ones(50)
    sample_weight[:20] = 0
    train_config = TrainConfig(epochs=1, batch_size=4, class_weight=class_weight, recompute_statistics=True)
    options: Any = {"train_config": train_config, "sample_weight": sample_weight, "engine": engine}
    others = GOOD._replace(
        x=np.where(sample_weight[:, None] > 0, GOOD.x, np.float32(np.nan)),
        y=np.where(sample_weight > 0, GOOD.y, 0),
    )
    state = trained(others, **options)
    assert state.totals.count == 30
    assert_trees_equal(state, trained(**options))


def test_classes_of_weight_0_are_left_out() -> None:
    state = trained(train_config=TrainConfig(epochs=1, class_weight=(1, 0, 2)))
    assert state.totals.count == np.count_nonzero(GOOD.y != 1)


# What is refused

WITH_NAN = GOOD.x.copy()
WITH_NAN[31, 2] = np.nan
WITH_INF = np.where(np.isnan(WITH_NAN), np.inf, GOOD.x)
ROWS = Dataset(np.zeros((4, 4)), np.array([0, 1, 2, 1]))


@pytest.mark.parametrize(
    ("dataset", "options", "error", "message"),
    [
        (tuple(GOOD[:2]), {}, TypeError, r"train must be a Dataset, not tuple: fnet.Dataset\(x, y\) makes one"),
        (GOOD.x, {}, TypeError, "train must be a Dataset, not ndarray"),
        (
            ROWS._replace(x=[[0.0] * 4] * 4),
            {},
            TypeError,
            "train.x must be an array, not list: use numpy.asarray",
        ),
        (ROWS._replace(y=[0, 1, 2, 1]), {}, TypeError, "train.y must be an array, not list: use numpy.asarray"),
        (ROWS._replace(x=np.zeros((4, 4), complex)), {}, TypeError, "train.x must be numbers, but its dtype is compl"),
        (ROWS._replace(x=np.full((4, 4), "1")), {}, TypeError, "train.x must be numbers, but its dtype is <U1"),
        (ROWS._replace(x=np.ma.masked_equal(ROWS.x, 0)), {}, TypeError, "train.x is a masked array"),
        (ROWS._replace(y=np.ma.masked_equal(ROWS.y, 0)), {}, TypeError, "train.y is a masked array"),
        (ROWS._replace(x=np.zeros((4, 7))), {}, ValueError, r"train.x must have shape \[rows, 4\] .* got \[4, 7\]"),
        (ROWS._replace(x=np.zeros(4)), {}, ValueError, r"train.x must have shape \[rows, 4\] .* got \[4\]"),
        (ROWS._replace(y=np.array([0, 1, 0, 3])), {}, ValueError, "labels must be from 0 to 2"),
        (ROWS._replace(y=np.array([0, 1, 0])), {}, ValueError, r"as many rows as train.x, 4, but its shape is \[3\]"),
        (ROWS._replace(y=np.eye(3)[[0, 1, 2, 1]]), {}, TypeError, "labels must be integers"),
        (ROWS._replace(y=np.zeros(4, int)), {}, ValueError, "at least 2 classes, but all labels are 0"),
        (Dataset(np.zeros((0, 4)), np.zeros(0, int)), {}, ValueError, "train.x has no rows"),
        (data.take(ROWS, slice(1)), {}, ValueError, "at least 2 examples with a weight above 0, but got 1"),
        (
            GOOD,
            {"valid": ROWS._replace(y=np.array([0, 1, 0]))},
            ValueError,
            "valid.y must have as many rows as valid.x",
        ),
        (GOOD, {"sample_weight": np.ones(3)}, ValueError, r"expected 50 sample weights, but got \[3\]"),
        (GOOD, {"sample_weight": np.ma.masked_equal(np.ones(50), 1)}, TypeError, "sample_weight is a masked array"),
        (GOOD, {"sample_weight": np.zeros(50)}, ValueError, "2 examples with a weight above 0, but got 0"),
        (GOOD, {"sample_weight": GOOD.y == 1}, ValueError, "all labels with a weight above 0 are 1"),
        (GOOD, {"train_config": TrainConfig(class_weight=(0, 0, 1))}, ValueError, "with a weight above 0 are 2"),
        (GOOD, {"train_config": TrainConfig(class_weight=(1, 1))}, ValueError, "expected 3 class weights, but got 2"),
    ],
)
def test_fit_refuses_before_the_first_step(
    dataset: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    options = {"train_config": ONE_EPOCH, **options}
    with pytest.raises(error, match=message):
        fnet.fit(CONFIG, options.pop("train_config"), dataset, options.pop("valid", None), key=KEY, **options)


@pytest.mark.parametrize("class_weight", [(0, 1), (1, 0)])
def test_one_class_alone_is_not_trained_on(class_weight: tuple[float, float]) -> None:
    config = small(sizes=(4, 5, 2))
    dataset = examples(config)
    message = f"at least 2 classes, but all labels with a weight above 0 are {class_weight.index(1)}"
    with pytest.raises(ValueError, match=message):
        fnet.fit(config, TrainConfig(class_weight=class_weight), dataset, key=KEY)


@each_engine
@pytest.mark.parametrize("x", [WITH_NAN, WITH_INF, WITH_INF.astype("f8") * 1e300], ids=["nan", "inf", "overflow"])
@pytest.mark.parametrize("options", [{}, {"batch_norm": False}, {"sizes": (4, 3)}], ids=str)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_features_that_are_not_finite_are_named_by_their_row(
    activation: str, options: dict[str, Any], x: Any, engine: str
) -> None:
    config = small(activation=activation, dtype="float32", **options)
    x = np.where(np.isfinite(WITH_NAN), GOOD.x, x)
    with pytest.raises(ValueError, match=r"row 31 of the training data has (nan|inf) in column 2"):
        trained(GOOD._replace(x=x), config, engine=engine)


@pytest.mark.parametrize("loss", LOSSES)
def test_targets_that_are_not_finite_are_refused(loss: str) -> None:
    config = small(loss=loss, dtype="float32")
    dataset = examples(config)
    for bad in (np.nan, np.inf, 1e300):
        y = dataset.y.astype(np.float64)
        y[7] = bad
        with pytest.raises((ValueError, TypeError), match=r"labels must be integers|must be finite in float32"):
            fnet.fit(config, ONE_EPOCH, dataset._replace(y=y), key=KEY)


def test_a_transform_keeps_the_shape() -> None:
    with pytest.raises(ValueError, match=r"transform must keep the shape \[8, 4\], but gave \[8, 3\]"):
        trained(transform=lambda x: x[:, :3])
