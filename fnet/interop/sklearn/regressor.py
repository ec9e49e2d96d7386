"""The regressor."""

from __future__ import annotations

# ruff: noqa: N803  # scikit-learn calls the features X
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
import dataclasses
import math
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if

from fnet import data, model
from fnet.data import Dataset, TargetScale
from fnet.interop.sklearn.base import Base
from fnet.model import Model
from fnet.nn import Array
from fnet.training import EpochRecord

__all__ = ["MLPRegressor"]


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class MLPRegressor(RegressorMixin, Base):
    """A multi-layer perceptron as a scikit-learn regressor, for one or several targets.

    `help(fnet.interop.sklearn)` describes the parameters and attributes that it shares with `MLPClassifier`.

    >>> X = [[0.0], [1.0], [2.0], [3.0]]
    >>> line = MLPRegressor((), learning_rate_init=0.3, weight_decay=0, random_state=0).fit(X, [10, 20, 30, 40])
    >>> line.predict([[1.5]]).round(1)
    array([25.])

    Args:
        loss: "squared_error", "huber" or "pinball".
        huber_delta: where the Huber loss becomes linear, in standard deviations of the target.
        quantile: the quantile that the pinball loss predicts, for a single target.
        standardize_target: standardize the targets internally, with the weighted means and standard deviations of the
            training rows (in `partial_fit`, of the first call). Predictions are always in the unit of y; losses are
            those of the scaled targets.

    Attributes:
        validation_scores_: R² (for several targets, of the sums of their squares); with the pinball loss, the fraction
            of rows that are not above the quantile.
    """

    loss: str = "squared_error"
    huber_delta: float = 1.0
    quantile: float = 0.5
    standardize_target: bool = True

    @available_if(Base._trains_on_batches)  # pyright: ignore[reportPrivateUsage]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Continue training with one pass over the given rows, at a constant learning rate.

        A failed call leaves the network unchanged.

        Args:
            X, y, sample_weight: as in `fit`.

        Raises:
            TypeError, ValueError: as for `fit`; a single row with batch norm.
            fnet.NonFiniteLossError: the loss is infinite or not a number.
        """
        return self._partial_fit(X, y, sample_weight, first=not hasattr(self, "model_"))

    def predict(self, X: Any) -> Array:
        """The predictions for X `[rows, features]`: `[rows]`, or `[rows, targets]` for several targets.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: X is not finite numbers `[rows, features]`.
        """
        x = self._checked_features(X)
        return model.predict(self.model_, x)

    def __sklearn_tags__(self) -> Any:
        tags: Any = super().__sklearn_tags__()
        tags.target_tags.multi_output = self._y_options["multi_output"]
        return tags

    @property
    def _y_options(self) -> dict[str, Any]:
        return {"multi_output": self.loss != "pinball", "y_numeric": True}

    def _targets(self, y: Array, new: bool) -> Array:
        targets = np.asarray(y, np.float64).reshape(len(y), -1)
        if not new and targets.shape[1] != self.model_.config.num_targets:
            raise ValueError(f"y had {self.model_.config.num_targets} targets before, but now has {targets.shape[1]}")
        return targets

    def _predicted(self, targets: Array, weights: Array) -> tuple[int, dict[str, Any], dict[str, Any]]:
        count = targets.shape[1]
        meaning: dict[str, Any] = {"loss": self.loss}
        if self.loss == "huber":
            meaning["huber_delta"] = self.huber_delta
        if self.loss == "pinball":
            meaning["quantiles"] = (self.quantile,)
        if self.loss == "cross_entropy":
            raise ValueError('loss="cross_entropy" is for classes: use MLPClassifier')
        if self.standardize_target:
            scale = data.fit_target_scale(targets, sample_weight=weights)
        else:
            scale = TargetScale(np.zeros(count), np.ones(count))
        return count, meaning, {"classes": (), "scale": scale}

    def _scaled(self, model: Model, targets: Array) -> Array:
        assert model.scale is not None
        return data.scale_targets(model.scale, targets, dtype=model.config.dtype)

    def _validation_score(self, record: EpochRecord, valid: Dataset) -> float | None:
        if self.loss == "pinball" or record.valid_score is None:
            return record.valid_score
        spread = float(np.var(valid.y, axis=0, dtype=np.float64).mean())
        return 1 - record.valid_score**2 / spread if spread else math.nan
