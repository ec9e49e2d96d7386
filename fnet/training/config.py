"""The training configuration: optimizer, schedule, weights of the examples, and regularization."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import numpy.typing as npt

from fnet import mlp, schedules
from fnet.nn import Array
from fnet.params import MLPConfig
from fnet.schedules import Schedule

__all__ = ["OPTIMIZERS", "SCHEDULES", "TrainConfig", "example_weights", "learning_rate_schedule"]

OPTIMIZERS = ("adam", "sgd", "lbfgs")
SCHEDULES = ("constant", "cosine", "warmup_cosine", "onecycle")
# Fields without a meaning for L-BFGS, which has a line search and needs a loss without noise.
_NOT_OF_LBFGS = (
    *("learning_rate", "schedule", "warmup", "momentum", "nesterov", "b1", "b2", "eps", "bias_correction"),
    *("clip_norm", "input_noise", "recompute_statistics"),
)
_OPTIONAL = ("total_steps", "clip_norm", "patience")  # fields that may be None


@dataclass(frozen=True)
class TrainConfig:
    """The training configuration. The defaults are those of Chen & Wu's best model (Table I).

    >>> TrainConfig(optimizer="sgd", learning_rate=0.1).momentum
    0.9

    Args:
        epochs: the number of passes over the examples; for L-BFGS, of iterations, which need one or more passes each.
        batch_size: the number of examples per step. The last batch of an epoch has the remaining examples, at least 2
            with batch norm, whose statistics are then noisy; `fnet.data.even_batch_size` avoids small last batches.
            For L-BFGS, the number of examples in memory at a time.
        optimizer: "adam", "sgd" or "lbfgs". L-BFGS minimizes the loss of all examples, see `fnet.lbfgs_update`; it
            allows neither batch norm, dropout nor input noise, and has no learning rate.
        learning_rate: the learning rate of every step, or the peak of the schedule.
        schedule: "constant", "cosine", "warmup_cosine" or "onecycle"; see `fnet.schedules`.
        warmup: the fraction of steps before the peak of "warmup_cosine" and "onecycle".
        total_steps: the length of the schedule in steps; None means all epochs of `fit`.
        momentum: the momentum of SGD.
        nesterov: whether SGD uses Nesterov momentum.
        b1, b2, eps, bias_correction: parameters of Adam, see `fnet.adam_update`.
        weight_decay: decoupled weight decay; a step shrinks parameters by `learning_rate * weight_decay`. L-BFGS
            minimizes the loss plus `weight_decay / 2 * |params|^2`; the losses in the records exclude this term.
        decay_weights_only: exclude biases and the scales of batch norms from weight decay.
        tolerance: L-BFGS stops when no element of the gradient exceeds this in absolute value.
        clip_norm: the largest global norm of the gradients; None disables clipping.
        label_smoothing: see `fnet.losses.label_targets`.
        class_weight: a weight for each class, or "balanced", see `example_weights`; None means equal weights.
        input_noise: the standard deviation of Gaussian noise that is added to the features.
        recompute_statistics: recompute the batch-norm statistics at the end of each epoch, see `recompute_state`.
        keep: which parameters `final_model` returns: "last", or "best" on the validation data.
        monitor: what defines the best epoch: the lowest "loss" or the highest "accuracy".
        patience: stop after this many epochs without improvement on the validation data; None disables it.

    Raises:
        TypeError, ValueError: a value is not allowed; the message says what is.
    """

    epochs: int = 25
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 5e-4
    schedule: str = "constant"
    warmup: float = 0.3
    total_steps: int | None = None
    momentum: float = 0.9
    nesterov: bool = False
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    bias_correction: bool = True
    weight_decay: float = 0.0
    decay_weights_only: bool = False
    tolerance: float = 5e-5
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    class_weight: str | tuple[float, ...] | None = None
    input_noise: float = 0.0
    recompute_statistics: bool = False
    keep: str = "last"
    monitor: str = "loss"
    patience: int | None = None

    def __post_init__(self) -> None:
        for name, allowed in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("keep", ("last", "best")),
            ("monitor", ("loss", "accuracy")),
        ):
            if getattr(self, name) not in allowed:
                choices = ", ".join(allowed)
                raise ValueError(f"{name} must be one of {choices}; got {getattr(self, name)!r}")
        for name in ("nesterov", "bias_correction", "decay_weights_only", "recompute_statistics"):
            value = getattr(self, name)
            if value not in (True, False):
                raise ValueError(f"{name} must be True or False; got {value!r}")
            object.__setattr__(self, name, bool(value))
        for name in ("epochs", "batch_size", "total_steps", "patience"):
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
                raise ValueError(f"{name} must be a positive integer; got {value!r}")
            object.__setattr__(self, name, int(value))
        for name, low, high, allowed in (
            ("learning_rate", 0, math.inf, "a finite number of at least 0"),
            ("weight_decay", 0, math.inf, "a finite number of at least 0"),
            ("tolerance", 0, math.inf, "a finite number of at least 0"),
            ("input_noise", 0, math.inf, "a finite number of at least 0"),
            ("label_smoothing", 0, 1, "in [0, 1)"),
            ("momentum", 0, 1, "in [0, 1)"),
            ("warmup", 0, 1, "in [0, 1)"),
            ("b1", 0, 1, "in [0, 1)"),
            ("b2", 0, 1, "in [0, 1)"),
            ("eps", math.ulp(0.0), math.inf, "positive"),
            ("clip_norm", math.ulp(0.0), math.inf, "positive"),
        ):
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            if not isinstance(value, Real) or not low <= float(value) < high:
                hint = '; a schedule is chosen by name, as in schedule="cosine"' if callable(value) else ""
                raise ValueError(f"{name} must be {allowed}; got {value!r}{hint}")
            # A NumPy scalar would promote float32, so that the same config from JSON would give other bits.
            object.__setattr__(self, name, float(value))
        if self.schedule == "onecycle" and self.warmup == 0:
            raise ValueError('warmup must be above 0 with schedule="onecycle"; got 0')
        if self.optimizer == "lbfgs":
            for name in _NOT_OF_LBFGS:
                if getattr(self, name) != getattr(TrainConfig, name):
                    raise ValueError(
                        f'{name} has no meaning with optimizer="lbfgs"; leave out {name}={getattr(self, name)!r}'
                    )
        weights = self.class_weight
        if isinstance(weights, str):
            if weights != "balanced":
                raise ValueError(f'class_weight must be "balanced", numbers or None; got {weights!r}')
        elif weights is not None:
            try:
                object.__setattr__(self, "class_weight", tuple(float(w) for w in weights))
            except (TypeError, ValueError):
                raise ValueError(f'class_weight must be "balanced", numbers or None; got {weights!r}') from None

    @property
    def tracks_best(self) -> bool:
        """Whether the best epoch is recorded, which needs validation data."""
        return self.keep == "best" or self.patience is not None


def check_pair(config: MLPConfig, train_config: TrainConfig) -> None:
    """Raise an error unless the arguments are an MLPConfig and a TrainConfig that match."""
    if not isinstance(config, MLPConfig) or not isinstance(train_config, TrainConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            "expected (config, train_config, …), an MLPConfig and a TrainConfig, but got "
            f"{type(config).__name__} and {type(train_config).__name__}"
        )
    if train_config.optimizer == "adam" and not np.asarray(train_config.eps).astype(config.dtype):
        raise ValueError(
            f"eps={train_config.eps:g} is 0 in {config.dtype}: expected at least "
            f"{np.finfo(config.dtype).smallest_subnormal:.1e}; use 1e-8, for example, or dtype='float64'"
        )


def learning_rate_schedule(train_config: TrainConfig) -> Schedule:
    """The learning rate as a function of the number of steps so far.

    Raises:
        ValueError: the schedule needs `total_steps`.
    """
    peak, steps = train_config.learning_rate, train_config.total_steps
    if train_config.schedule == "constant":
        return schedules.constant_schedule(peak)
    if steps is None:
        raise ValueError(
            f"the schedule {train_config.schedule!r} needs its length: "
            "dataclasses.replace(train_config, total_steps=…), as fit does"
        )
    match train_config.schedule:
        case "cosine":
            return schedules.cosine_decay_schedule(peak, steps)
        case "warmup_cosine":
            warmup = int(train_config.warmup * steps)
            return schedules.warmup_cosine_decay_schedule(0.0, peak, warmup, steps)
        case _:
            return schedules.cosine_onecycle_schedule(steps, peak, train_config.warmup)


def example_weights(
    train_config: TrainConfig,
    labels: Array,
    num_classes: int,
    sample_weight: npt.ArrayLike | None = None,
) -> Array | None:
    """The weights of the examples, `[rows]`: sample_weight times the weight of the class; None if all are equal.

    "balanced" gives a class the weight `rows / (num_classes * rows in the class)`, where rows are counted by their
    sample_weight: King & Zeng (2001).

    Raises:
        TypeError: sample_weight is a masked array.
        ValueError: the number of weights is wrong, or a weight is negative or not finite.
    """
    weights = None
    if sample_weight is not None:
        mlp.refuse_masked("sample_weight", sample_weight)
        weights = np.asarray(sample_weight, np.float64)
        if weights.shape != (len(labels),):
            raise ValueError(f"expected {len(labels)} sample weights, but got {list(weights.shape)}")
        _check_weights(weights)
    class_weight = train_config.class_weight
    if class_weight is not None:
        if class_weight == "balanced":
            rows = np.bincount(labels, weights, minlength=num_classes)
            per_class = np.divide(rows.sum(), num_classes * rows, out=np.zeros(num_classes), where=rows > 0)
        else:
            per_class = np.asarray(class_weight, np.float64)
        if per_class.shape != (num_classes,):
            raise ValueError(f"expected {num_classes} class weights, but got {len(per_class)}")
        weights = per_class[labels] * (1.0 if weights is None else weights)
        _check_weights(weights)
    return weights


def _check_weights(weights: Array) -> None:
    if not (np.isfinite(weights).all() and weights.min() >= 0):
        raise ValueError("weights of examples and classes must be finite and not negative")
