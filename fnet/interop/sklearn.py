"""scikit-learn: `MLPClassifier`, an estimator like `sklearn.neural_network.MLPClassifier`.

A shell over the pure functions: `fit` is `fnet.fit`, `partial_fit` is `fnet.train_step`, `predict_proba` is
`fnet.model.predict_proba`. Importing this module imports scikit-learn.
"""

# ruff: noqa: N803  # scikit-learn calls the features X
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

import fnet
from fnet import data, losses, mlp, model, random, training
from fnet.data import Dataset, Labels, Standardizer
from fnet.interop import missing
from fnet.model import Model
from fnet.nn import Array
from fnet.params import MLPConfig
from fnet.training import TrainConfig, TrainState

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state, compute_class_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise missing("MLPClassifier", "scikit-learn", "sklearn") from None

__all__ = ["MLPClassifier"]

BATCH_SIZE = 64  # of batch_size="auto"


class MLPClassifier(ClassifierMixin, BaseEstimator):
    """A multi-layer perceptron as a scikit-learn classifier.

    Parameters have scikit-learn's names where its `MLPClassifier` has them, and those of `fnet.MLPConfig` and
    `fnet.TrainConfig` otherwise. `python scripts/bench accuracy` compares the two with their defaults.

    Fitted on float32, the network computes in float32; fitted on anything else, in float64, like scikit-learn's, in up
    to twice the time.

    >>> X, y = [[0.0], [0.1], [0.9], [1.0]], ["no", "no", "yes", "yes"]
    >>> MLPClassifier(random_state=0).fit(X, y).predict([[-0.5], [1.5]])
    array(['no', 'yes'], dtype='<U3')

    Args:
        hidden_layer_sizes: widths of the hidden layers; `()` is softmax regression.
        activation: one of `fnet.nn.ACTIVATION_NAMES`.
        batch_norm: batch norm in each hidden layer.
        dropout: the share of hidden units that is dropped in training.
        solver: "adam", or "sgd" with a momentum of 0.9.
        learning_rate_init: the learning rate; with a schedule, its peak.
        schedule: of the learning rate over `max_iter` epochs: "constant", "cosine", "warmup_cosine" or "onecycle".
        weight_decay: decoupled, see `fnet.adam_update`.
        label_smoothing: see `fnet.losses.label_targets`.
        batch_size: rows per step, at most all; "auto" is 64.
        max_iter: the number of epochs.
        class_weight: None, a dict of weights, or "balanced": the inverse of the weight of all rows of the class.
        standardize: standardize the features with the unweighted means and standard deviations of the training rows
            (of the first call, in `partial_fit`); without it, put a `StandardScaler` in front.
        early_stopping: set a stratified `validation_fraction` of the rows aside, stop after `n_iter_no_change` epochs
            without a lower loss on them, and keep the parameters of the best epoch; in `fit` only.
        validation_fraction, n_iter_no_change: see `early_stopping`.
        engine: of `fit`: "numpy"; "numba", several times as fast on small networks; or "auto", Numba where it is
            installed. The two agree to rounding.
        random_state: an int makes everything reproducible, to the bit, with one engine on one machine.

    Attributes:
        classes_: the classes, sorted, in the order of the probabilities.
        model_: the classifier as a `fnet.Model` of raw features, for `fnet.save_model`, `fnet.interop.onnx` and
            `fnet.interop.safetensors`; its classes are ints or strings.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.
        n_iter_: the number of epochs trained.
        loss_curve_: the training loss of each epoch.
        validation_scores_: with `early_stopping` the validation accuracy after each epoch, otherwise None.
    """

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        *,
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        solver: str = "adam",
        learning_rate_init: float = 3e-3,
        schedule: str = "cosine",
        weight_decay: float = 0.0,
        label_smoothing: float = 0.0,
        batch_size: int | str = "auto",
        max_iter: int = 100,
        class_weight: Mapping[Any, float] | str | None = None,
        standardize: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        engine: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.standardize = standardize
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.engine = engine
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new network. A call that fails leaves the estimator unfitted.

        Args:
            X: features, `[rows, features]`.
            y: labels, `[rows]`.
            sample_weight: `[rows]`, not negative. A row of weight 0 counts as absent.

        Raises:
            TypeError, ValueError: parameters or data are not allowed; there are fewer than 2 classes.
            fnet.NonFiniteLossError: the loss is infinite or not a number.
        """
        for name in [name for name in vars(self) if name.endswith("_") and not name.endswith("__")]:
            delattr(self, name)
        x, labels = self._checked(X, y, reset=True)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        weights = self._weights(codes, sample_weight)
        rows = np.flatnonzero(weights)
        if (count := len(np.unique(codes[rows]))) < 2:
            raise ValueError(f"training needs rows of 2 or more classes, but got {count} class")
        self._key = self._new_key()
        split_key, key = random.split(self._key)
        valid = None
        if self.early_stopping:
            # Row numbers take the place of features, so that the weights are split too.
            numbers = Dataset(rows, codes[rows])
            rows, valid = (part.x for part in data.train_test_split(split_key, numbers, self.validation_fraction))
        train_config = self._train_config(len(rows))
        classifier = self._new_model(x[rows])

        def dataset(rows: Array) -> Dataset:
            return Dataset(_features(classifier, x[rows]), codes[rows])

        epochs = fnet.fit(
            classifier.config,
            train_config,
            dataset(rows),
            None if valid is None else dataset(valid),
            key=key,
            engine=self.engine,
            sample_weight=weights[rows],
        )
        records: list[fnet.EpochRecord] = []
        train_state = None
        for end_of_epoch, record in epochs:
            train_state = end_of_epoch
            records.append(record)
        assert train_state is not None  # there is at least one epoch
        self.n_iter_ = len(records)
        self.loss_curve_ = [record.train_loss for record in records]
        self.validation_scores_ = [record.valid_accuracy for record in records] if self.early_stopping else None
        params, state = fnet.final_model(train_state, train_config)
        self._keep(classifier, train_state._replace(params=params, state=state, best=None))
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Continue training with one pass over the given rows, at a constant learning rate.

        A call that fails leaves the network as it was.

        Args:
            X, y, sample_weight: as in `fit`, but not every class needs to occur.
            classes: in the first call, all classes that will ever occur.

        Raises:
            TypeError, ValueError: as `fit`; a label is not among the classes; a single row with batch norm.
            fnet.NonFiniteLossError: the loss is infinite or not a number.
        """
        first = not hasattr(self, "model_")
        x, labels = self._checked(X, y, reset=first)
        if self.class_weight == "balanced":
            raise ValueError('class_weight="balanced" needs all rows, but partial_fit sees some; pass a dict instead')
        if first:
            if classes is None:
                raise ValueError("the first call of partial_fit needs all classes: classes=numpy.unique(y_of_all_rows)")
            self.classes_ = np.unique(classes)
            self._key = self._new_key()
            self.n_iter_, self.loss_curve_, self.validation_scores_ = 0, list[float](), None
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes were {self.classes_.tolist()} in the first call, but now are {classes}")
        codes = data.encode_labels(labels, tuple(self.classes_.tolist()))
        weights = self._weights(codes, sample_weight)
        rows = np.flatnonzero(weights)
        train_config = dataclasses.replace(self._train_config(len(rows)), schedule="constant")
        init_key, order_key, step_key = random.split(random.fold_in(self._key, self.n_iter_), 3)
        if first:
            classifier = self._new_model(x[rows])
            train_state = fnet.init_train_state(init_key, classifier.config, train_config)
        else:
            classifier, train_state = self.model_, self._train_state
        rows = rows[random.permutation(order_key, len(rows))]
        loss = 0.0
        slices = data.batch_slices(len(rows), train_config.batch_size, min_size=2 if self.batch_norm else 1)
        for i, part in enumerate(slices):
            batch = rows[part]
            train_state, metrics = fnet.train_step(
                classifier.config,
                train_config,
                train_state,
                _features(classifier, x[batch]),
                codes[batch],
                key=random.fold_in(step_key, i),
                sample_weight=weights[batch],
            )
            loss += metrics.loss * metrics.count
        self.n_iter_ += 1
        self.loss_curve_.append(loss / len(rows))
        self._keep(classifier, train_state)
        return self

    def predict(self, X: Any) -> Array:
        """The most probable class of each row of `[rows, features]`.

        Raises:
            sklearn.exceptions.NotFittedError, ValueError: as `predict_proba`.
        """
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(self, X: Any) -> Array:
        """The probabilities `[rows, classes]` of features `[rows, features]`; classes in the order of `classes_`.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: X is not finite numbers `[rows, features]`.
        """
        x = self._checked_features(X)
        return model.predict_proba(self.model_, x)

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithms of `predict_proba`, finite even where a probability rounds to 0.

        Raises:
            sklearn.exceptions.NotFittedError, ValueError: as `predict_proba`.
        """
        x = self._checked_features(X)
        (member,) = self.model_.members
        return losses.log_softmax(mlp.predict_logits(self.model_.config, *member, _features(self.model_, x)))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _checked_features(self, X: Any) -> Array:
        check_is_fitted(self)
        _refuse_masked(X=X)
        x: Any = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return x

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[Array, Array]:
        _refuse_masked(X=X, y=y)
        checked: Any = validate_data(self, X, y, dtype=(np.float64, np.float32), reset=reset)
        check_classification_targets(checked[1])
        return checked

    def _weights(self, codes: Labels, sample_weight: Any) -> Array:
        """The weight of each row: its own times that of its class."""
        _refuse_masked(sample_weight=sample_weight)
        weights = np.array(np.ones(len(codes)) if sample_weight is None else sample_weight)
        if weights.dtype.kind not in "fiub":
            raise TypeError(f"sample_weight must be numbers, but got dtype {weights.dtype}")
        per_class: Any = self.class_weight
        if per_class != "balanced":
            per_class = compute_class_weight(per_class, classes=self.classes_, y=self.classes_)
        weights = training.example_weights(TrainConfig(class_weight=per_class), codes, len(self.classes_), weights)
        if weights is None or not weights.any():
            raise ValueError("the weights of all rows are zero")
        return weights

    def _train_config(self, rows: int) -> TrainConfig:
        batch_size: Any = BATCH_SIZE if self.batch_size == "auto" else self.batch_size
        return TrainConfig(
            epochs=operator.index(self.max_iter),
            batch_size=min(operator.index(batch_size), rows),
            optimizer=self.solver,
            learning_rate=self.learning_rate_init,
            schedule=self.schedule,
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
            keep="best" if self.early_stopping else "last",
            patience=operator.index(self.n_iter_no_change) if self.early_stopping else None,
        )

    def _new_model(self, x: Array) -> Model:
        """A model without networks for features such as x."""
        hidden, dtype = np.atleast_1d(self.hidden_layer_sizes).tolist(), x.dtype.name
        config = MLPConfig(
            sizes=(x.shape[1], *hidden, len(self.classes_)),
            activation=self.activation,
            batch_norm=self.batch_norm,
            dropout=float(self.dropout),
            dtype=dtype,
        )
        if self.standardize:
            standardizer = fnet.fit_standardizer(x)
        else:
            standardizer = Standardizer(np.zeros(x.shape[1]), np.ones(x.shape[1]))
        classes = tuple(name if isinstance(name, int | str) else str(name) for name in self.classes_.tolist())
        return Model(config, (), standardizer, classes)

    def _keep(self, classifier: Model, train_state: TrainState) -> None:
        self._train_state = train_state
        self.model_ = classifier._replace(members=((train_state.params, train_state.state),))

    def _new_key(self) -> random.Key:
        return random.key(int(check_random_state(self.random_state).randint(2**31)))


def _refuse_masked(**arrays: Any) -> None:
    for name, array in arrays.items():
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"{name} is a masked array, whose mask would be ignored; fill it first, with .filled(...)")


def _features(classifier: Model, x: Array) -> Array:
    return data.standardize(classifier.standardizer, x, dtype=classifier.config.dtype)
