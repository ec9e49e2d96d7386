"""MLPRegressor: scikit-learn's own checks, and what they do not ask; what it shares with MLPClassifier, on both."""

# pyright: reportCallIssue=false, reportArgumentType=false

import pickle
from typing import Any

import numpy as np
import pytest

import fnet
from fnet import data, model
from fnet.testing import assert_trees_equal

pytest.importorskip("sklearn")

import sklearn.base
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_iris, load_linnerud
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fnet.interop import sklearn as interop

MLPRegressor: Any = interop.MLPRegressor  # Any: the tests pass it values of wrong types
MLPClassifier: Any = interop.MLPClassifier
clone: Any = sklearn.base.clone

X, Y = (np.asarray(array) for array in load_diabetes(return_X_y=True, scaled=False))
SEVERAL = np.asarray(load_linnerud(return_X_y=True)[1])
IRIS, IRIS_LABELS = (np.asarray(array) for array in load_iris(return_X_y=True))
SMALL: dict[str, Any] = {"hidden_layer_sizes": 8, "max_iter": 3, "random_state": 0}
# Every ingredient that the defaults leave out.
OTHER = MLPRegressor(
    (16, 16),
    activation="gelu",
    batch_norm=True,
    dropout=0.1,
    solver="sgd",
    learning_rate_init=0.1,
    schedule="constant",
    weight_decay=0.01,
    batch_size=16,
    max_iter=40,
    standardize=True,
    early_stopping=True,
    loss="huber",
    huber_delta=2.0,
)
UNEQUAL = (
    "batch statistics, dropout, mini-batches and validation rows depend on the number of rows, not on their weights"
)


def expected_failures(estimator):
    return {"check_sample_weight_equivalence_on_dense_data": UNEQUAL} if estimator.batch_norm else {}


@parametrize_with_checks(
    [
        MLPRegressor(),
        MLPRegressor(solver="lbfgs"),
        OTHER,
        MLPRegressor(loss="pinball", quantile=0.9, standardize_target=False),
    ],
    expected_failed_checks=expected_failures,
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


# Numbers --------------------------------------------------------------------------------------------------------------


def test_good_by_default_in_any_unit():
    pipeline = make_pipeline(StandardScaler(), MLPRegressor(max_iter=30, random_state=0))
    scores = cross_val_score(pipeline, X, Y, cv=3)
    assert scores.mean() > 0.4
    far = cross_val_score(pipeline, X, 1e9 + 1e-3 * Y, cv=3)
    np.testing.assert_allclose(far, scores, atol=1e-4)


def test_several_targets_and_one_in_two_shapes():
    several = MLPRegressor(**SMALL, standardize=True).fit(SEVERAL[:, :2], SEVERAL)
    assert several.predict(SEVERAL[:, :2]).shape == (20, 3)
    assert several.score(SEVERAL[:, :2], SEVERAL) == r2_score(SEVERAL, several.predict(SEVERAL[:, :2]))
    column = MLPRegressor(**SMALL).fit(X, Y[:, None]).predict(X)
    np.testing.assert_array_equal(column, MLPRegressor(**SMALL).fit(X, Y).predict(X))


def test_fit_is_the_pure_functions():
    arguments = {"max_iter": 3, "batch_size": 50, "schedule": "onecycle", "b2": 0.9, "random_state": 4}
    fitted = MLPRegressor((8, 5), loss="huber", huber_delta=0.5, engine="numpy", **arguments).fit(X, Y)
    config = fnet.MLPConfig((10, 8, 5, 1), batch_norm=False, dropout=0, dtype="float64", loss="huber", huber_delta=0.5)
    assert fitted.model_.config == config
    scale = data.fit_target_scale(Y)
    _, key = fnet.random.split(fnet.random.key(int(np.random.RandomState(4).randint(2**31))))
    automatic = {"weight_decay": (370 / 442) ** 1.5, "decay_weights_only": True}
    train_config = fnet.TrainConfig(
        epochs=3, batch_size=50, learning_rate=3e-3, schedule="onecycle", b2=0.9, **automatic
    )
    targets = data.scale_targets(scale, Y, dtype="float64")
    *_, (end, record) = fnet.fit(config, train_config, fnet.Dataset(X, targets), key=key)
    assert_trees_equal(fitted.model_.members[0], (end.params, end.state))
    np.testing.assert_allclose((fitted.model_.scale.mean, fitted.model_.scale.std), (scale.mean, scale.std))
    np.testing.assert_allclose(fitted.loss_curve_[-1], record.train_loss)
    np.testing.assert_array_equal(model.predict(fitted.model_, X), fitted.predict(X))


@pytest.mark.parametrize(
    ("rows", "options", "batch_size", "weight_decay"),
    [
        (20, {}, 20, 1.5), (75, {}, 25, 1.5), (221, {}, 56, 1.5), (3000, {}, 60, (370 / 3000) ** 1.5),
        (100_000, {}, 50, 0.0037**1.5), (75, {"solver": "sgd"}, 25, 0.0),
        (75, {"weight_decay": 0.1, "batch_size": 64}, 64, 0.1),
    ],
)  # fmt: skip
def test_what_auto_stands_for(rows, options, batch_size, weight_decay):
    for estimator in (MLPClassifier(**options), MLPRegressor(**options)):
        found = estimator._train_config(np.ones(rows))
        assert (found.batch_size, found.weight_decay) == (batch_size, weight_decay)
        found = estimator._train_config(np.ones(rows), partial=True)
        assert found.weight_decay == options.get("weight_decay", 0), "of how many rows these are a part is not known"


def test_the_target_is_standardized_inside():
    arguments = {"hidden_layer_sizes": 8, "max_iter": 20, "random_state": 0, "engine": "numpy"}
    inside = MLPRegressor(**arguments).fit(X, Y)
    outside = TransformedTargetRegressor(
        MLPRegressor(**arguments, standardize_target=False), transformer=StandardScaler()
    )
    np.testing.assert_allclose(inside.predict(X), outside.fit(X, Y).predict(X), rtol=1e-6)
    assert MLPRegressor(**arguments, standardize_target=False).fit(X, 1e6 * Y).score(X, 1e6 * Y) < 0


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_a_quantile(quantile):
    arguments = {"loss": "pinball", "quantile": quantile, "standardize": True, "batch_size": 400}
    fitted = MLPRegressor((), learning_rate_init=0.05, max_iter=200, random_state=0, **arguments).fit(X, Y)
    assert np.mean(fitted.predict(X) >= Y) == pytest.approx(quantile, abs=0.04)
    assert fitted.model_.config.quantiles == (quantile,)


def test_float32():
    fitted = MLPRegressor(**SMALL).fit(X.astype(np.float32), Y)
    assert fitted.model_.config.dtype == "float32"
    assert fitted.partial_fit(X.astype(np.float32), Y).predict(X).dtype == np.float64


def test_early_stopping_keeps_the_best_epoch_and_its_scores():
    estimator = MLPRegressor(standardize=True, early_stopping=True, max_iter=200, n_iter_no_change=4, random_state=0)
    fitted = clone(estimator).fit(X, Y)
    best = int(np.argmin(fitted.validation_losses_))
    assert fitted.n_iter_ == len(fitted.validation_scores_) == best + 5 < 200
    assert int(np.argmax(fitted.validation_scores_)) == best, "R² is highest where the squared error is lowest"
    split_key, _ = fnet.random.split(fitted._key)
    _, valid = data.train_test_split(split_key, fnet.Dataset(np.arange(len(Y)), Y), 0.1)
    expected = r2_score(Y[valid.x], fitted.predict(X[valid.x]))
    assert fitted.validation_scores_[best] == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="early_stopping needs at least 2 rows, but got n_samples=1"):
        clone(estimator).fit(X[:1], Y[:1])


def test_partial_fit_learns_and_goes_on_from_fit():
    estimator = MLPRegressor(standardize=True, batch_size=16, random_state=0)
    for _ in range(15):
        estimator.partial_fit(X, Y)
    assert estimator.score(X, Y) > 0.5
    assert (estimator.n_iter_, len(estimator.loss_curve_)) == (15, 15)
    scale = estimator.model_.scale
    estimator.partial_fit(X[:50], 2 * Y[:50], sample_weight=np.arange(50))
    assert estimator.model_.scale is scale
    fitted = MLPRegressor(standardize=True, max_iter=30, random_state=0).fit(X, Y)
    score = fitted.score(X, Y)
    assert fitted.partial_fit(X, Y).score(X, Y) > score - 0.1
    with pytest.raises(ValueError, match="y had 1 targets before, but now has 3"):
        fitted.partial_fit(X[:20], SEVERAL)


def test_rows_of_weight_zero_are_absent():
    weights = np.tile([1.0, 0.5, 0.0], 200)[: len(Y)]
    estimator = MLPRegressor(**SMALL, standardize=True, early_stopping=True)
    weighted, without = clone(estimator).fit(X, Y, weights), clone(estimator)
    without.fit(X[weights > 0], Y[weights > 0], weights[weights > 0])
    np.testing.assert_array_equal(weighted.predict(X), without.predict(X))


def test_search_pickle_and_clone():
    grid = {"loss": ["squared_error", "huber"], "learning_rate_init": [1e-6, 0.05]}
    search = GridSearchCV(MLPRegressor(**SMALL, standardize=True), grid, cv=2).fit(X, Y)
    assert search.best_params_["learning_rate_init"] == 0.05
    copy = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(copy.predict(X), search.predict(X))
    assert clone(OTHER).get_params() == OTHER.get_params()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"loss": "absolute_error"}, ValueError, "loss must be one of"),
        ({"loss": "cross_entropy"}, ValueError, "is for classes: use MLPClassifier"),
        ({"loss": "huber", "huber_delta": 0}, ValueError, "huber_delta must be a positive number"),
        ({"loss": "pinball", "quantile": 1.0}, ValueError, "quantiles must be 1 increasing numbers"),
        ({"b2": 1.0}, ValueError, r"b2 must be in \[0, 1\)"),
        ({"max_iter": 2.5}, TypeError, "integer"),
    ],
)
def test_errors(changes, error, message):
    estimator = MLPRegressor(**changes)
    with pytest.raises(error, match=message):
        estimator.fit(X, Y)
    with pytest.raises(NotFittedError):
        estimator.predict(X)


# Of both --------------------------------------------------------------------------------------------------------------

BOTH = [(MLPClassifier, IRIS, IRIS_LABELS), (MLPRegressor, X, Y)]
each_estimator = pytest.mark.parametrize(("estimator", "x", "y"), BOTH, ids=["classifier", "regressor"])


@each_estimator
def test_warm_start_goes_on_with_the_parameters_there_are(estimator, x, y):
    warm = estimator(**SMALL, standardize=True, warm_start=True).fit(x, y)
    first, loss = warm.model_, warm.loss_curve_[-1]
    warm.fit(x, y)
    assert (warm.n_iter_, len(warm.loss_curve_)) == (6, 6)
    assert warm.loss_curve_[3] < loss < 1.2 * estimator(**SMALL, standardize=True).fit(x, y).loss_curve_[0]
    assert warm.model_.standardizer is first.standardizer
    cold = warm.set_params(warm_start=False).fit(x, y)
    assert_trees_equal(cold.model_.members, first.members)
    assert cold.n_iter_ == 3


@each_estimator
def test_a_warm_start_that_fails_leaves_the_network_as_it_was(estimator, x, y):
    warm = estimator(**SMALL, warm_start=True).fit(x, y)
    before = warm.model_
    for bad_x, bad_y, changes in ((x * np.nan, y, {}), (x[:, 1:], y, {}), (x, y, {"learning_rate_init": -1})):
        with pytest.raises(ValueError, match=r"NaN|features|learning_rate"):
            warm.set_params(**changes).fit(bad_x, bad_y)
        assert warm.model_ is before


@each_estimator
def test_verbose_prints_a_line_per_epoch(estimator, x, y, capsys):
    fitted = estimator(**SMALL, verbose=True).fit(x, y)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"epoch {i}, loss {loss:.6g}" for i, loss in enumerate(fitted.loss_curve_, 1)]
    fitted = estimator(**SMALL, verbose=True, early_stopping=True, warm_start=True).fit(x, y).fit(x, y)
    last = f"epoch 6, loss {fitted.loss_curve_[-1]:.6g}, validation loss {fitted.validation_losses_[-1]:.6g}"
    assert capsys.readouterr().out.splitlines()[-1] == last


@each_estimator
def test_validation_losses_are_those_that_stop(estimator, x, y):
    fitted = estimator(**SMALL, early_stopping=True).fit(x, y)
    assert len(fitted.validation_losses_) == len(fitted.validation_scores_) == 3
    assert (estimator(**SMALL).fit(x, y).validation_losses_, estimator(**SMALL).fit(x, y).validation_scores_) == (
        None,
        None,
    )


@each_estimator
def test_b2_is_that_of_adam(estimator, x, y):
    curves = [estimator(**SMALL, **changes).fit(x, y).loss_curve_ for changes in ({}, {"b2": 0.999}, {"b2": 0.5})]
    assert curves[0] == curves[1] != curves[2]
