"""The common part of the classifier and the regressor: parameters, training, and checks of the input."""

from __future__ import annotations

# ruff: noqa: N803  # scikit-learn calls the features X
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
import dataclasses
import operator
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

import fnet
from fnet import data, mlp, random, training
from fnet.data import Dataset, Standardizer
from fnet.model import Model
from fnet.nn import Array
from fnet.params import MLPConfig
from fnet.training import EpochRecord, TrainConfig, TrainState

__all__ = ["Base"]

# What "auto" stands for, chosen with scripts/bench/tables.py on other folds than those of its results. More rows need
# less weight decay: a prior weighs less in the mean loss, and there are more steps.
BATCH_SIZES, BATCHES = (32, 64), 4  # at least so many batches in an epoch, if they are not smaller
WEIGHT_DECAY, DECAYED_ROWS = 1.5, 370
LBFGS_ROWS, LBFGS_DECAY = 1024, 4.0  # rows at a time; divided by the weight of all rows


@dataclasses.dataclass(eq=False, repr=False)  # generates the __init__ that scikit-learn requires
class Base(BaseEstimator):
    """An estimator. Its parameters are the fields of the class; the package documents them."""

    hidden_layer_sizes: int | Sequence[int] = (100,)
    _: dataclasses.KW_ONLY
    activation: str = "relu"
    batch_norm: bool = False
    dropout: float = 0.0
    solver: str = "adam"
    learning_rate_init: float = 3e-3
    schedule: str = "cosine"
    b2: float = 0.999
    weight_decay: float | str = "auto"
    batch_size: int | str = "auto"
    max_iter: int = 100
    tol: float = TrainConfig.tolerance
    standardize: bool = False
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    warm_start: bool = False
    verbose: bool = False
    engine: str = "auto"
    random_state: int | np.random.RandomState | None = None

    # Differences between the two --------------------------------------------------------------------------------------

    def _targets(self, y: Array, new: bool) -> Array:
        """The labels or unscaled numbers in y `[rows, …]`; `new` targets define the classes or their number."""
        raise NotImplementedError

    def _check_targets(self, targets: Array) -> None:
        """Refuse targets of the weighted rows that cannot be learned."""

    def _predicted(self, targets: Array, weights: Array) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """The number of outputs, and the fields of the config and the model that describe them."""
        raise NotImplementedError

    def _scaled(self, model: Model, targets: Array) -> Array:
        """The targets as the network learns them."""
        raise NotImplementedError

    @property
    def _y_options(self) -> dict[str, Any]:
        """Options of `validate_data`."""
        return {}

    def _class_weights(self) -> Any:
        return None

    def _train_options(self) -> dict[str, Any]:
        return {}

    def _validation_score(self, record: EpochRecord, valid: Dataset) -> float | None:
        return record.valid_score

    # Training ---------------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new network or, with `warm_start`, the existing one, which a failed call leaves unchanged.

        Args:
            X: features, `[rows, features]`.
            y: labels `[rows]`, or numbers `[rows]` or `[rows, targets]`.
            sample_weight: weights `[rows]`, not negative. A row with weight 0 is ignored.

        Raises:
            TypeError, ValueError: parameters or data are not allowed; there are fewer than 2 classes.
            fnet.NonFiniteLossError: the loss is infinite or not a number.
        """
        again = self.warm_start and hasattr(self, "model_")
        if not again:
            for name in [name for name in vars(self) if name.endswith("_") and not name.endswith("__")]:
                delattr(self, name)
        x, targets, weights = self._checked(X, y, sample_weight, new=not again)
        rows = np.flatnonzero(weights)
        self._check_targets(targets[rows])
        if not again:
            self._begin()
        split_key, key = random.split(random.fold_in(self._key, self.n_iter_) if again else self._key)
        valid_rows = None
        if self.early_stopping:
            if len(rows) < 2:
                raise ValueError(f"early_stopping needs at least 2 rows, but got n_samples={len(rows)}")
            # Row numbers replace the features, so that the weights are split too.
            numbers = Dataset(rows, targets[rows])
            rows, valid_rows = (part.x for part in data.train_test_split(split_key, numbers, self.validation_fraction))
        train_config = self._train_config(weights[rows])
        train_state = None
        if again:
            model, (init_key, key) = self.model_, random.split(key)
            train_state = fnet.init_train_state(init_key, model.config, train_config)
            train_state = train_state._replace(params=model.members[0][0], state=model.members[0][1])
        else:
            model = self._new_model(x[rows], targets[rows], weights[rows])

        def dataset(rows: Array) -> Dataset:
            return Dataset(features(model, x[rows]), self._scaled(model, targets[rows]))

        valid = None if valid_rows is None else dataset(valid_rows)
        epochs = fnet.fit(
            model.config,
            train_config,
            dataset(rows),
            valid,
            key=key,
            train_state=train_state,
            engine=self.engine,
            sample_weight=weights[rows],
        )
        records: list[EpochRecord] = []
        for end_of_epoch, record in epochs:
            train_state = end_of_epoch
            records.append(record)
            if self.verbose:
                held_out = "" if valid is None else f", validation loss {record.valid_loss:.6g}"
                print(f"epoch {self.n_iter_ + len(records)}, loss {record.train_loss:.6g}{held_out}", flush=True)
        assert train_state is not None  # there is at least one epoch
        self.n_iter_ += len(records)
        self.loss_curve_ += [record.train_loss for record in records]
        if valid is not None:
            scores = [self._validation_score(record, valid) for record in records]
            self.validation_losses_ = [*(self.validation_losses_ or []), *(record.valid_loss for record in records)]
            self.validation_scores_ = [*(self.validation_scores_ or []), *scores]
        params, state = fnet.final_model(train_state, train_config)
        self._keep(model, train_state._replace(params=params, state=state, best=None))
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, *, first: bool) -> Self:
        x, targets, weights = self._checked(X, y, sample_weight, new=first)
        if first:
            self._begin()
        rows = np.flatnonzero(weights)
        train_config = self._train_config(weights[rows], partial=True)
        init_key, order_key, step_key = random.split(random.fold_in(self._key, self.n_iter_), 3)
        if first:
            model = self._new_model(x[rows], targets[rows], weights[rows])
            train_state = fnet.init_train_state(init_key, model.config, train_config)
        else:
            model, train_state = self.model_, self._train_state
        rows = rows[random.permutation(order_key, len(rows))]
        loss = 0.0
        slices = data.batch_slices(len(rows), train_config.batch_size, min_size=2 if self.batch_norm else 1)
        for i, part in enumerate(slices):
            batch = rows[part]
            train_state, metrics = fnet.train_step(
                model.config,
                train_config,
                train_state,
                features(model, x[batch]),
                self._scaled(model, targets[batch]),
                key=random.fold_in(step_key, i),
                sample_weight=weights[batch],
            )
            loss += metrics.loss * metrics.count
        self.n_iter_ += 1
        self.loss_curve_.append(loss / len(rows))
        self._keep(model, train_state)
        return self

    def _begin(self) -> None:
        """Set the key and the curves of a new network."""
        self._key = random.key(int(check_random_state(self.random_state).randint(2**31)))
        self.n_iter_, self.loss_curve_ = 0, list[float]()
        self.validation_losses_: list[float | None] | None = None
        self.validation_scores_: list[float | None] | None = None

    def _keep(self, model: Model, train_state: TrainState) -> None:
        self._train_state = train_state
        self.model_ = model._replace(members=((train_state.params, train_state.state),))

    def _trains_on_batches(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError('solver="lbfgs" needs all rows, in fit; with warm_start=True it continues')
        return True

    def _train_config(self, weights: Array, *, partial: bool = False) -> TrainConfig:
        """How to train on rows with these weights."""
        rows, batch_size, weight_decay = len(weights), self.batch_size, self.weight_decay
        schedule = "constant" if partial else self.schedule
        options: dict[str, Any] = {"learning_rate": self.learning_rate_init, "schedule": schedule, "b2": self.b2}
        if self.solver == "lbfgs":
            options = {"tolerance": self.tol}
            batch_size = LBFGS_ROWS if batch_size == "auto" else batch_size
            weight_decay = LBFGS_DECAY / float(weights.sum()) if weight_decay == "auto" else weight_decay
        if batch_size == "auto":
            batch_size = data.even_batch_size(rows, min(max(rows // BATCHES, BATCH_SIZES[0]), BATCH_SIZES[1]))
        if weight_decay == "auto":
            unknown = partial or self.solver != "adam"
            weight_decay = 0.0 if unknown else min(WEIGHT_DECAY, (DECAYED_ROWS / rows) ** 1.5)
        return TrainConfig(
            epochs=operator.index(self.max_iter),
            batch_size=min(operator.index(batch_size), rows),  # pyright: ignore[reportArgumentType]
            optimizer=self.solver,
            weight_decay=weight_decay,  # pyright: ignore[reportArgumentType]
            decay_weights_only=self.solver != "lbfgs",  # whose minimum is then well determined
            keep="best" if self.early_stopping else "last",
            patience=operator.index(self.n_iter_no_change) if self.early_stopping else None,
            **options,
            **self._train_options(),
        )

    def _new_model(self, x: Array, targets: Array, weights: Array) -> Model:
        """A model without networks, scaled for these rows."""
        hidden = np.atleast_1d(self.hidden_layer_sizes).tolist()
        outputs, meaning, unit = self._predicted(targets, weights)
        config = MLPConfig(
            sizes=(x.shape[1], *hidden, outputs),
            activation=self.activation,
            batch_norm=self.batch_norm,
            dropout=float(self.dropout),
            dtype=x.dtype.name,
            **meaning,
        )
        if self.standardize:
            standardizer = fnet.fit_standardizer(x)
        else:
            standardizer = Standardizer(np.zeros(x.shape[1]), np.ones(x.shape[1]))
        return Model(config, (), standardizer, **unit)

    # Checks -----------------------------------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _checked_features(self, X: Any) -> Array:
        check_is_fitted(self)
        mlp.refuse_masked("X", X)
        x: Any = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return x

    def _checked(self, X: Any, y: Any, sample_weight: Any, *, new: bool) -> tuple[Array, Array, Array]:
        """Features, targets, and the weight of each row, multiplied by the weight of its class."""
        for name, array in (("X", X), ("y", y), ("sample_weight", sample_weight)):
            mlp.refuse_masked(name, array)
        checked: Any = validate_data(self, X, y, dtype=(np.float64, np.float32), reset=new, **self._y_options)
        x, y = checked
        targets = self._targets(y, new)
        weights = np.array(np.ones(len(targets)) if sample_weight is None else sample_weight)
        if weights.dtype.kind not in "fiub":
            raise TypeError(f"sample_weight must be numbers, but got dtype {weights.dtype}")
        per_class = self._class_weights()
        classes = 0 if per_class is None else len(per_class)
        weights = training.example_weights(TrainConfig(class_weight=per_class), targets, classes, weights)
        if weights is None or not weights.any():
            raise ValueError("the weights of all rows are zero")
        return x, targets, weights


def features(model: Model, x: Array) -> Array:
    """Standardized features for the network."""
    return data.standardize(model.standardizer, x, dtype=model.config.dtype)
