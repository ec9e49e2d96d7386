"""Training: configuration, the training step, the loop over epochs, and evaluation."""

from fnet.training.config import OPTIMIZERS, SCHEDULES, TrainConfig, example_weights, learning_rate_schedule
from fnet.training.evaluation import Evaluation, evaluate, recompute_state
from fnet.training.examples import Transform
from fnet.training.fit import EpochRecord, check_configs, final_model, fit, is_finished, run
from fnet.training.step import (
    Best,
    NonFiniteLossError,
    StepMetrics,
    Totals,
    TrainState,
    init_train_state,
    train_state_shapes,
    train_step,
)

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Best",
    "EpochRecord",
    "Evaluation",
    "NonFiniteLossError",
    "StepMetrics",
    "Totals",
    "TrainConfig",
    "TrainState",
    "Transform",
    "check_configs",
    "evaluate",
    "example_weights",
    "final_model",
    "fit",
    "init_train_state",
    "is_finished",
    "learning_rate_schedule",
    "recompute_state",
    "run",
    "train_state_shapes",
    "train_step",
]
