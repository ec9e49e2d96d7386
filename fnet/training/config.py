"""How to train, as data: the optimizer, its schedule, the weights of the examples, and the regularizers of a run."""

import math
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import numpy.typing as npt

from fnet import schedules
from fnet.nn import Array
from fnet.schedules import Schedule

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("constant", "cosine", "warmup_cosine", "onecycle")
_OPTIONAL = ("total_steps", "clip_norm", "mixup", "ema_decay", "patience")  # numbers that may be None


@dataclass(frozen=True)
class TrainConfig:
    """How to train. The defaults are the report's best model (Table I).

    >>> TrainConfig(optimizer="sgd", learning_rate=0.1).momentum
    0.9

    Raises:
        TypeError, ValueError: a value that is not allowed; says what is.
    """

    epochs: int = 25
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 5e-4  # the peak, where there is a schedule
    schedule: str = "constant"
    warmup: float = 0.3  # the share of steps before the peak, of "warmup_cosine" and "onecycle"
    total_steps: int | None = None  # the length of the schedule; fit sets it from epochs
    momentum: float = 0.9  # of sgd
    nesterov: bool = False  # of sgd
    b1: float = 0.9  # of adam
    b2: float = 0.999  # of adam
    eps: float = 1e-8  # of adam
    bias_correction: bool = True  # of adam
    weight_decay: float = 0.0
    decay_weights_only: bool = False  # not biases, nor scales of batch norms
    clip_norm: float | None = None  # the largest norm of the gradients
    label_smoothing: float = 0.0
    class_weight: str | tuple[float, ...] | None = None  # "balanced", or one weight a class
    mixup: float | None = None  # alpha
    input_noise: float = 0.0  # standard deviation, of standardized features
    ema_decay: float | None = None  # evaluate a moving average of the parameters
    recompute_statistics: bool = False  # batch-norm statistics from fixed parameters, once an epoch
    keep: str = "last"  # which parameters final_model gives: "last", or "best" on the validation data
    monitor: str = "loss"  # what is best: the lowest "loss" or the highest "accuracy"
    patience: int | None = None  # stop after so many epochs without a better one

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
            ("input_noise", 0, math.inf, "a finite number of at least 0"),
            ("label_smoothing", 0, 1, "in [0, 1)"),
            ("momentum", 0, 1, "in [0, 1)"),
            ("warmup", 0, 1, "in [0, 1)"),
            ("b1", 0, 1, "in [0, 1)"),
            ("b2", 0, 1, "in [0, 1)"),
            ("ema_decay", 0, 1, "in [0, 1)"),
            ("eps", math.ulp(0.0), math.inf, "positive"),
            ("clip_norm", math.ulp(0.0), math.inf, "positive"),
            ("mixup", math.ulp(0.0), math.inf, "positive"),
        ):
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            if not isinstance(value, Real) or not low <= float(value) < high:
                raise ValueError(f"{name} must be {allowed}; got {value!r}")
            # A scalar of NumPy would compute in float64 where a number computes in float32: other bits than the same
            # config has when it comes back from JSON.
            object.__setattr__(self, name, float(value))
        if self.schedule == "onecycle" and self.warmup == 0:
            raise ValueError('warmup must be above 0 with schedule="onecycle"; got 0')
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
        """Whether the best epoch is to be known, which needs validation data."""
        return self.keep == "best" or self.patience is not None


def schedule(train_config: TrainConfig) -> Schedule:
    """The learning rate as a function of the number of steps made.

    Raises:
        ValueError: a schedule without its length, `total_steps`.
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
    """`[rows]` weights of the examples: sample_weight times the weight of the class; None where all are alike.

    "balanced" weighs a class by `rows / (num_classes * rows in the class)`: King & Zeng (2001).

    Raises:
        ValueError: not one weight for each class or example, or a weight that is negative or not finite.
    """
    weights = None if sample_weight is None else np.asarray(sample_weight, np.float64)
    if weights is not None and weights.shape != labels.shape:
        raise ValueError(f"expected {len(labels)} sample weights, but got {weights.shape}")
    class_weight = train_config.class_weight
    if class_weight is not None:
        if class_weight == "balanced":
            per_class = len(labels) / (num_classes * np.maximum(np.bincount(labels, minlength=num_classes), 1))
        else:
            per_class = np.asarray(class_weight, np.float64)
        if per_class.shape != (num_classes,):
            raise ValueError(f"expected {num_classes} class weights, but got {len(per_class)}")
        weights = per_class[labels] * (1.0 if weights is None else weights)
    if weights is not None and not (np.isfinite(weights).all() and weights.min() >= 0):
        raise ValueError("weights of examples and classes must be finite and not negative")
    return weights
