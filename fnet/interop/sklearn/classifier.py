"""The classifier."""

from __future__ import annotations

# ruff: noqa: N803  # scikit-learn calls the features X
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_class_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets

from fnet import data, losses, mlp, model
from fnet.interop.sklearn.base import Base, features
from fnet.model import Model
from fnet.nn import Array

__all__ = ["MLPClassifier"]


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class MLPClassifier(ClassifierMixin, Base):
    """A multi-layer perceptron as a scikit-learn classifier.

    `help(fnet.interop.sklearn)` describes the parameters and attributes that it shares with `MLPRegressor`.

    >>> X, y = [[0.0], [0.1], [0.9], [1.0]], ["no", "no", "yes", "yes"]
    >>> MLPClassifier(random_state=0).fit(X, y).predict([[-0.5], [1.5]])
    array(['no', 'yes'], dtype='<U3')

    Args:
        label_smoothing: see `fnet.losses.label_targets`.
        class_weight: None, a dict of weights, or "balanced", the inverse of the total weight of the class.

    Attributes:
        classes_: the sorted classes, in the order of the probabilities; in `model_`, they are ints or strings.
        validation_scores_: the accuracy.
    """

    label_smoothing: float = 0.0
    class_weight: Mapping[Any, float] | str | None = None

    @available_if(Base._trains_on_batches)  # pyright: ignore[reportPrivateUsage]
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Continue training with one pass over the given rows, at a constant learning rate.

        A failed call leaves the network unchanged.

        Args:
            X, y, sample_weight: as in `fit`, but not every class needs to occur.
            classes: all classes, required in the first call.

        Raises:
            TypeError, ValueError: as for `fit`; a label is not among the classes; a single row with batch norm.
            fnet.NonFiniteLossError: the loss is infinite or not a number.
        """
        first = not hasattr(self, "model_")
        if self.class_weight == "balanced":
            raise ValueError('class_weight="balanced" needs all rows, unlike partial_fit; pass a dict instead')
        if first:
            if classes is None:
                raise ValueError("the first call of partial_fit needs all classes: classes=numpy.unique(y_of_all_rows)")
            self.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes were {self.classes_.tolist()} in the first call, but now are {classes}")
        return self._partial_fit(X, y, sample_weight, first=first)

    def predict(self, X: Any) -> Array:
        """The most probable class of each row of X, `[rows, features]`.

        Raises:
            sklearn.exceptions.NotFittedError, ValueError: as for `predict_proba`.
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
            sklearn.exceptions.NotFittedError, ValueError: as for `predict_proba`.
        """
        x = self._checked_features(X)
        (member,) = self.model_.members
        return losses.log_softmax(mlp.predict_logits(self.model_.config, *member, features(self.model_, x)))

    def _targets(self, y: Array, new: bool) -> Array:
        check_classification_targets(y)
        if new and not hasattr(self, "classes_"):  # partial_fit gets them as an argument
            self.classes_, codes = np.unique(y, return_inverse=True)
            return codes
        return data.encode_labels(y, tuple(self.classes_.tolist()))

    def _check_targets(self, targets: Array) -> None:
        if (count := len(np.unique(targets))) < 2:
            raise ValueError(f"training needs at least 2 classes, but got {count} class")

    def _predicted(self, targets: Array, weights: Array) -> tuple[int, dict[str, Any], dict[str, Any]]:
        names = tuple(name if isinstance(name, int | str) else str(name) for name in self.classes_.tolist())
        return len(names), {}, {"classes": names}

    def _scaled(self, model: Model, targets: Array) -> Array:
        return targets

    def _class_weights(self) -> Any:
        if self.class_weight is None or self.class_weight == "balanced":
            return self.class_weight
        return compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_)

    def _train_options(self) -> dict[str, Any]:
        return {"label_smoothing": self.label_smoothing}
