"""fnet.interop.sklearn: scikit-learn's own checks of estimators, its tools, and what the checks do not ask."""

# pyright: reportCallIssue=false, reportArgumentType=false

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fnet
from fnet import model
from fnet.testing import assert_trees_equal

pytest.importorskip("sklearn")

import joblib
import sklearn.base
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

from fnet.interop import sklearn as interop

MLPClassifier: Any = interop.MLPClassifier  # Any: the tests pass it values of wrong types
clone: Any = sklearn.base.clone

IRIS, IRIS_LABELS = (np.asarray(array) for array in load_iris(return_X_y=True))
NAMES = np.array(["setosa", "versicolor", "virginica"])[IRIS_LABELS]
SMALL: dict[str, Any] = {"hidden_layer_sizes": 8, "max_iter": 3, "random_state": 0}
# Every ingredient that the defaults leave out.
OTHER = MLPClassifier(
    (16, 16),
    activation="gelu",
    batch_norm=True,
    dropout=0.1,
    solver="sgd",
    learning_rate_init=0.1,
    schedule="constant",
    weight_decay=0.01,
    label_smoothing=0.1,
    batch_size=16,
    max_iter=40,
    standardize=True,
    early_stopping=True,
)


# As of scikit-learn's SGDClassifier.
UNEQUAL = (
    "batch statistics, dropout, mini-batches and validation rows depend on the number of rows, not on their weights"
)


def expected_failures(estimator):
    return {"check_sample_weight_equivalence_on_dense_data": UNEQUAL} if estimator.batch_norm else {}


@parametrize_with_checks(
    [MLPClassifier(), MLPClassifier(solver="lbfgs"), OTHER], expected_failed_checks=expected_failures
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


# With scikit-learn's tools ------------------------------------------------------------------------------------------


def test_good_by_default():
    for load, least in ((load_iris, 0.93), (load_wine, 0.96)):
        x, y = load(return_X_y=True)
        scores = cross_val_score(make_pipeline(StandardScaler(), MLPClassifier(random_state=0)), x, y)
        assert scores.mean() >= least


def test_grid_search_in_two_processes():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), MLPClassifier(**SMALL)),
        {"mlpclassifier__learning_rate_init": np.array([1e-5, 0.1]), "mlpclassifier__max_iter": np.arange(4, 6)},
        cv=2,
        n_jobs=2,
    ).fit(IRIS, NAMES)
    assert search.best_params_["mlpclassifier__learning_rate_init"] == 0.1
    assert search.best_score_ > 0.7
    again = clone(search.best_estimator_).fit(IRIS, NAMES)
    np.testing.assert_array_equal(again.predict_proba(IRIS), search.predict_proba(IRIS))


def test_calibration():
    calibrated = CalibratedClassifierCV(MLPClassifier(**SMALL), cv=2).fit(IRIS, NAMES)
    assert calibrated.predict_proba(IRIS).shape == (150, 3)


def test_pickle_joblib_and_clone(tmp_path):
    fitted = MLPClassifier(**SMALL).fit(IRIS, NAMES)
    joblib.dump(fitted, tmp_path / "model.joblib")
    for copy in (pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "model.joblib")):
        np.testing.assert_array_equal(copy.predict_proba(IRIS), fitted.predict_proba(IRIS))
        np.testing.assert_array_equal(
            copy.partial_fit(IRIS, NAMES).predict_proba(IRIS),
            clone(fitted).fit(IRIS, NAMES).partial_fit(IRIS, NAMES).predict_proba(IRIS),
        )
    assert not hasattr(clone(fitted), "model_")


# What comes out -------------------------------------------------------------------------------------------------------


def test_lbfgs_finds_the_minimum_of_logistic_regression():
    x, alpha = StandardScaler().fit_transform(IRIS), 0.1
    own = MLPClassifier((), solver="lbfgs", weight_decay=alpha / 150, tol=1e-7, max_iter=500, random_state=0)
    own.fit(x, NAMES)
    assert own.n_iter_ < 500
    with_ones = np.column_stack([x, np.ones(150)])  # whose weight decays, as the bias of fnet does
    theirs = LogisticRegression(C=1 / alpha, fit_intercept=False, tol=1e-8, max_iter=1000).fit(with_ones, NAMES)
    np.testing.assert_allclose(own.predict_proba(x), theirs.predict_proba(with_ones), atol=1e-4)


def test_lbfgs_needs_all_rows():
    estimator = MLPClassifier(solver="lbfgs", max_iter=5, warm_start=True, random_state=0)
    assert not hasattr(estimator, "partial_fit")
    assert hasattr(MLPClassifier(), "partial_fit")
    with pytest.raises(AttributeError, match="has no attribute 'partial_fit'"):
        estimator.partial_fit(IRIS, NAMES, np.unique(NAMES))
    assert estimator.fit(IRIS, NAMES).fit(IRIS, NAMES).n_iter_ == 10
    assert len(estimator.loss_curve_) == 10
    assert estimator.loss_curve_[-1] < estimator.loss_curve_[4]


def test_attributes():
    fitted = MLPClassifier(**SMALL).fit(IRIS, NAMES)
    assert fitted.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert (fitted.n_features_in_, fitted.n_iter_, len(fitted.loss_curve_)) == (4, 3, 3)
    assert fitted.loss_curve_[2] < fitted.loss_curve_[0]
    assert fitted.validation_scores_ is None


def test_model_is_the_estimator():
    fitted = MLPClassifier(**SMALL, standardize=True).fit(1000 + IRIS, NAMES)
    assert fitted.model_.classes == ("setosa", "versicolor", "virginica")
    np.testing.assert_array_equal(model.predict(fitted.model_, 1000 + IRIS), fitted.predict(1000 + IRIS))
    np.testing.assert_allclose(fitted.model_.standardizer.mean, 1000 + IRIS.mean(axis=0))
    assert MLPClassifier(**SMALL).fit(IRIS, IRIS_LABELS * 2.0).model_.classes == ("0.0", "2.0", "4.0")
    assert MLPClassifier(**SMALL).fit(IRIS, IRIS_LABELS > 0).model_.classes == (False, True)


def test_fit_is_the_pure_functions():
    network: dict[str, Any] = {"activation": "gelu", "batch_norm": True, "dropout": 0.2}
    training: dict[str, Any] = {"batch_size": 50, "weight_decay": 0.1, "label_smoothing": 0.1, "schedule": "onecycle"}
    arguments = {"max_iter": 3, "random_state": 4, "solver": "sgd", "engine": "numpy", **network, **training}
    fitted = MLPClassifier((8, 5), **arguments).fit(IRIS, IRIS_LABELS)
    config = fnet.MLPConfig(sizes=(4, 8, 5, 3), dtype="float64", **network)
    assert fitted.model_.config == config
    seed = int(np.random.RandomState(4).randint(2**31))
    _, key = fnet.random.split(fnet.random.key(seed))
    training |= {"decay_weights_only": True}
    train_config = fnet.TrainConfig(epochs=3, optimizer="sgd", learning_rate=3e-3, **training)
    *_, (end, record) = fnet.fit(config, train_config, fnet.Dataset(IRIS, IRIS_LABELS), key=key)
    assert_trees_equal(fitted.model_.members[0], (end.params, end.state))
    assert_trees_equal(fitted._train_state, end)
    assert fitted.loss_curve_[-1] == record.train_loss


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes(dtype):
    fitted = MLPClassifier(**SMALL).fit(IRIS.astype(dtype), NAMES)
    assert fitted.predict_proba(IRIS).dtype == dtype
    assert fitted.partial_fit(IRIS.astype(dtype), NAMES).predict_proba(IRIS).dtype == dtype
    assert MLPClassifier(**SMALL).fit((10 * IRIS).astype(int), NAMES).predict_proba(IRIS).dtype == np.float64


def test_random_state():
    def probabilities(**changes):
        return MLPClassifier(**{**SMALL, **changes}).fit(IRIS, NAMES).predict_proba(IRIS)

    np.testing.assert_array_equal(probabilities(dropout=0.3), probabilities(dropout=0.3))
    assert not np.array_equal(probabilities(), probabilities(random_state=1))
    shared = np.random.RandomState(0)
    assert not np.array_equal(probabilities(random_state=shared), probabilities(random_state=shared))


def test_engines_agree():
    pytest.importorskip("numba")
    numpy, numba, auto = (
        MLPClassifier(**SMALL, engine=engine).fit(IRIS, NAMES).predict_proba(IRIS)
        for engine in ("numpy", "numba", "auto")
    )
    np.testing.assert_allclose(numba, numpy, rtol=1e-9)
    np.testing.assert_array_equal(auto, numba)
    with pytest.raises(ValueError, match="engine"):
        MLPClassifier(engine="fast").fit(IRIS, NAMES)


def test_early_stopping():
    fitted = MLPClassifier(max_iter=300, early_stopping=True, n_iter_no_change=3, random_state=0).fit(IRIS, NAMES)
    assert fitted.n_iter_ < 300
    assert len(fitted.validation_scores_) == len(fitted.loss_curve_) == fitted.n_iter_
    assert all(0 <= score <= 1 for score in fitted.validation_scores_)
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        MLPClassifier(early_stopping=True, validation_fraction=1.0).fit(IRIS, NAMES)


def test_early_stopping_keeps_the_best_epoch():
    # With labels that mean nothing, the loss on other rows is lowest early.
    labels = np.random.default_rng(0).integers(2, size=150)
    arguments = {"batch_size": 5, "learning_rate_init": 0.05, "schedule": "constant", "random_state": 0}
    stopping = MLPClassifier(early_stopping=True, n_iter_no_change=5, **arguments).fit(IRIS, labels)
    best = MLPClassifier(early_stopping=True, max_iter=stopping.n_iter_ - 5, **arguments).fit(IRIS, labels)
    np.testing.assert_array_equal(stopping.predict_proba(IRIS), best.predict_proba(IRIS))


def test_standardize():
    far = 1e4 + IRIS
    assert MLPClassifier(random_state=0, standardize=True).fit(far, NAMES).score(far, NAMES) > 0.9
    assert MLPClassifier(random_state=0).fit(far, NAMES).score(far, NAMES) < 0.9


# Weights --------------------------------------------------------------------------------------------------------------


def test_rows_of_weight_zero_are_absent():
    weights = np.tile([1.0, 1.0, 0.0], 50) * (IRIS_LABELS != 1)
    weights[50:60] = 1  # a class of few rows
    for arguments in ({"early_stopping": True, "batch_norm": True, "dropout": 0.1}, {"standardize": True}):
        estimator = MLPClassifier(**SMALL, **arguments)
        weighted = clone(estimator).fit(IRIS, NAMES, weights).predict_proba(IRIS)
        without = clone(estimator).fit(IRIS[weights > 0], NAMES[weights > 0]).predict_proba(IRIS)
        np.testing.assert_array_equal(weighted, without)
        weighted = clone(estimator).partial_fit(IRIS, NAMES, np.unique(NAMES), weights).loss_curve_
        without = clone(estimator).partial_fit(IRIS[weights > 0], NAMES[weights > 0], np.unique(NAMES)).loss_curve_
        np.testing.assert_array_equal(weighted, without)
    balanced = MLPClassifier(**SMALL, class_weight="balanced")
    weighted = clone(balanced).fit(IRIS, NAMES, weights).predict_proba(IRIS)
    without = clone(balanced).fit(IRIS[weights > 0], NAMES[weights > 0]).predict_proba(IRIS)
    np.testing.assert_array_equal(weighted, without)
    assert not np.array_equal(weighted, MLPClassifier(**SMALL).fit(IRIS, NAMES, weights).predict_proba(IRIS))


def test_a_weight_is_a_number_of_rows():
    # In one batch; scikit-learn's checks ask it of fit alone.
    counts = np.arange(150) % 3 + 1
    estimator = MLPClassifier(**SMALL, batch_size=1000, solver="sgd", learning_rate_init=0.1)
    weighted = clone(estimator).partial_fit(IRIS, NAMES, np.unique(NAMES), counts)
    repeated = clone(estimator).partial_fit(IRIS.repeat(counts, axis=0), NAMES.repeat(counts), np.unique(NAMES))
    np.testing.assert_allclose(weighted.predict_proba(IRIS), repeated.predict_proba(IRIS))
    counts[:50] = 3
    balanced = clone(estimator).set_params(class_weight="balanced")
    weighted = clone(balanced).fit(IRIS, NAMES, counts)
    repeated = clone(balanced).fit(IRIS.repeat(counts, axis=0), NAMES.repeat(counts))
    np.testing.assert_allclose(weighted.predict_proba(IRIS), repeated.predict_proba(IRIS))


def test_class_weight_is_a_sample_weight():
    per_class = {"setosa": 0.5, "versicolor": 3.0}  # the third is 1
    weights = np.array([0.5, 3.0, 1.0])[IRIS_LABELS]
    by_class = MLPClassifier(**SMALL, class_weight=per_class).fit(IRIS, NAMES)
    by_row = MLPClassifier(**SMALL).fit(IRIS, NAMES, weights)
    np.testing.assert_array_equal(by_class.predict_proba(IRIS), by_row.predict_proba(IRIS))
    by_class.partial_fit(IRIS, NAMES, sample_weight=weights)
    by_row.partial_fit(IRIS, NAMES, sample_weight=weights**2)
    np.testing.assert_array_equal(by_class.predict_proba(IRIS), by_row.predict_proba(IRIS))
    unequal = np.arange(150) > 30
    balanced = MLPClassifier(**SMALL, class_weight="balanced").fit(IRIS[unequal], NAMES[unequal])
    weights = (119 / (3 * np.array([19, 50, 50])))[IRIS_LABELS]
    by_row = MLPClassifier(**SMALL).fit(IRIS[unequal], NAMES[unequal], weights[unequal])
    np.testing.assert_allclose(balanced.predict_proba(IRIS), by_row.predict_proba(IRIS))


# partial_fit ----------------------------------------------------------------------------------------------------------


def test_partial_fit_learns():
    estimator = MLPClassifier(batch_size=16, random_state=0)
    for i in range(30):
        estimator.partial_fit(IRIS, NAMES, classes=np.unique(NAMES) if i == 0 else None)
    assert estimator.score(IRIS, NAMES) > 0.9
    assert (estimator.n_iter_, len(estimator.loss_curve_)) == (30, 30)
    assert estimator.loss_curve_[-1] < estimator.loss_curve_[0] / 2


def test_partial_fit_shuffles_and_draws_anew():
    sorted_rows = MLPClassifier(solver="sgd", learning_rate_init=0.1, batch_size=25, random_state=0)
    for _ in range(5):
        sorted_rows.partial_fit(IRIS, NAMES, classes=np.unique(NAMES))
    assert sorted_rows.score(IRIS, NAMES) > 0.5  # in the order of the rows it is 1 / 3: the class of the last batch
    noise = MLPClassifier(dropout=0.5, learning_rate_init=0.0, random_state=0)
    for _ in range(2):
        noise.partial_fit(IRIS, NAMES, classes=np.unique(NAMES))
    assert noise.loss_curve_[0] != noise.loss_curve_[1]


def test_partial_fit_of_one_class_and_of_one_row():
    estimator = MLPClassifier(**SMALL).partial_fit(IRIS[:1], NAMES[:1], classes=np.unique(NAMES))
    before = estimator.predict_proba(IRIS[:50])[:, 0].mean()
    for _ in range(5):
        estimator.partial_fit(IRIS[:50], NAMES[:50])
    assert estimator.predict_proba(IRIS[:50])[:, 0].mean() > before
    estimator = MLPClassifier(**SMALL, batch_norm=True, batch_size=10)
    estimator.partial_fit(IRIS[:21], NAMES[:21], classes=np.unique(NAMES))  # no batch of one
    with pytest.raises(ValueError, match="batch norm needs"):
        estimator.partial_fit(IRIS[:1], NAMES[:1])


def test_partial_fit_goes_on_from_fit():
    fitted = MLPClassifier(max_iter=50, early_stopping=True, random_state=0).fit(IRIS, NAMES)
    score, epochs = fitted.score(IRIS, NAMES), fitted.n_iter_
    assert score > 0.8
    assert fitted.partial_fit(IRIS, NAMES).score(IRIS, NAMES) > score - 0.1
    assert fitted.n_iter_ == epochs + 1


def test_partial_fit_errors():
    with pytest.raises(ValueError, match="first call of partial_fit needs all classes"):
        MLPClassifier().partial_fit(IRIS, NAMES)
    with pytest.raises(ValueError, match="virginica"):
        MLPClassifier().partial_fit(IRIS, NAMES, classes=["setosa", "versicolor"])
    estimator = MLPClassifier(**SMALL).partial_fit(IRIS, NAMES, classes=np.unique(NAMES)[::-1])
    assert estimator.partial_fit(IRIS, NAMES, classes=np.unique(NAMES)).n_iter_ == 2
    with pytest.raises(ValueError, match="in the first call"):
        estimator.partial_fit(IRIS, NAMES, classes=["setosa", "other"])
    with pytest.raises(ValueError, match="balanced"):
        MLPClassifier(class_weight="balanced").partial_fit(IRIS, NAMES, classes=np.unique(NAMES))
    with pytest.raises(ValueError, match="zero"):
        estimator.partial_fit(IRIS, NAMES, sample_weight=np.zeros(150))


# Refits and errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", [True, False])
def test_small_data(batch_norm):
    x, y = [[0.0], [1.0], [1.1]], ["no", "yes", "yes"]  # one class with one row
    fitted = MLPClassifier(batch_norm=batch_norm, batch_size=2, random_state=0).fit(x, y)
    assert fitted.predict_proba([[0.5]]).shape == (1, 2)
    assert fitted.predict(x).tolist() == y
    MLPClassifier(batch_norm=batch_norm, early_stopping=True, max_iter=2).fit(np.repeat(x, 4, axis=0), np.repeat(y, 4))


def test_errors():
    for changes, match in (
        ({"activation": "logistic"}, "activation must be one of"),
        ({"solver": "muon"}, "optimizer must be one of"),
        ({"max_iter": 0}, "epochs must be a positive integer"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"dropout": 1.0}, "dropout is the fraction"),
        ({"hidden_layer_sizes": (0,)}, "sizes must be positive"),
    ):
        with pytest.raises(ValueError, match=match):
            MLPClassifier(**changes).fit(IRIS, NAMES)
    for changes in ({"hidden_layer_sizes": 2.5}, {"batch_size": "all"}, {"max_iter": 2.0}):
        with pytest.raises(TypeError):
            MLPClassifier(**changes).fit(IRIS, NAMES)
    with pytest.raises(ValueError, match="at least 2 classes, but got 1 class"):
        MLPClassifier().fit(IRIS, NAMES, IRIS_LABELS == 0)
    with pytest.raises(ValueError, match="150 sample weights"):
        MLPClassifier().fit(IRIS, NAMES, np.ones(149))
    with pytest.raises(NotFittedError):
        MLPClassifier().predict(IRIS)
    with pytest.raises(fnet.NonFiniteLossError):
        MLPClassifier(solver="sgd", learning_rate_init=1e200, random_state=0).fit(IRIS, NAMES)


def test_a_fit_that_fails_leaves_the_estimator_unfitted():
    fitted = MLPClassifier(**SMALL).fit(IRIS, NAMES)
    for x, y, changes in (
        (IRIS, IRIS_LABELS > 0, {"solver": "sgd", "learning_rate_init": 1e200, "max_iter": 9}),
        (IRIS[:, :3], np.full(150, "one class"), {}),
        (IRIS * np.nan, NAMES, {}),
    ):
        estimator = pickle.loads(pickle.dumps(fitted)).set_params(**changes)
        with pytest.raises((ValueError, FloatingPointError)):
            estimator.fit(x, y)
        with pytest.raises(NotFittedError):
            estimator.predict(IRIS)
        with pytest.raises(NotFittedError):
            check_is_fitted(estimator)
        np.testing.assert_array_equal(
            estimator.set_params(**SMALL, solver="adam", learning_rate_init=3e-3).fit(IRIS, NAMES).predict_proba(IRIS),
            fitted.predict_proba(IRIS),
        )


def test_a_partial_fit_that_fails_leaves_the_network_as_it_was():
    estimator = MLPClassifier(**SMALL).fit(IRIS, NAMES)
    before, epochs = estimator.predict_proba(IRIS), estimator.n_iter_
    for x, y in ((IRIS * np.nan, NAMES), (IRIS, np.full(150, "other")), (IRIS[:, :3], NAMES)):
        with pytest.raises(ValueError, match=r"NaN|other|features"):
            estimator.partial_fit(x, y)
    np.testing.assert_array_equal(estimator.predict_proba(IRIS), before)
    assert estimator.n_iter_ == epochs


def test_logarithms_of_probabilities():
    fitted = MLPClassifier(**SMALL, standardize=True).fit(IRIS, NAMES)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(fitted.predict_log_proba(IRIS), np.log(fitted.predict_proba(IRIS)), atol=1e-12)
    far = fitted.predict_log_proba(1e6 * IRIS)
    assert np.isfinite(far).all()
    assert far.min() < -1000
    with pytest.raises(NotFittedError):
        MLPClassifier().predict_log_proba(IRIS)


def test_masks_and_complex_numbers_are_refused():
    fitted = MLPClassifier(**SMALL).fit(IRIS, NAMES)
    masked = np.ma.masked_greater(IRIS, 5)
    for call in (
        lambda: fitted.predict(masked),
        lambda: MLPClassifier(**SMALL).fit(masked, NAMES),
        lambda: MLPClassifier(**SMALL).fit(IRIS, np.ma.masked_equal(IRIS_LABELS, 1)),
        lambda: fitted.partial_fit(IRIS, NAMES, sample_weight=np.ma.masked_equal(np.ones(150), 1)),
    ):
        with pytest.raises(TypeError, match="is a masked array"):
            call()
    with pytest.raises(TypeError, match="sample_weight must be numbers, but got dtype complex128"):
        MLPClassifier(**SMALL).fit(IRIS, NAMES, np.full(150, 1j))
    for x, y in ((IRIS * 1j, NAMES), (IRIS, IRIS_LABELS * 1j)):
        with pytest.raises(ValueError, match=r"[Cc]omplex"):
            MLPClassifier(**SMALL).fit(x, y)


def test_the_error_without_the_package():
    code = "import sys; sys.modules['sklearn'] = None; import fnet.interop.sklearn"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "MLPClassifier needs scikit-learn: python -m pip install scikit-learn; or in a clone" in run.stderr
