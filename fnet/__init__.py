"""Multi-layer perceptrons in NumPy alone, written as JAX code is: pure functions of immutable pytrees."""

from types import ModuleType

from fnet import checkpoint, data, losses, metrics, model, nn, random, schedules, testing, tree
from fnet.data import Dataset, fit_standardizer, standardize
from fnet.lbfgs import lbfgs_init, lbfgs_update
from fnet.mlp import (
    fold_batch_norm,
    forward,
    loss_and_grads,
    predict,
    predict_logits,
    predict_proba,
)
from fnet.model import Model, load_model, save_model
from fnet.optim import (
    AdamState,
    SGDState,
    adam_init,
    adam_update,
    clip_by_global_norm,
    ema_update,
    sgd_init,
    sgd_update,
)
from fnet.params import MLPConfig, Params, State, init, num_params
from fnet.training import (
    NonFiniteLossError,
    TrainConfig,
    TrainState,
    evaluate,
    final_model,
    fit,
    init_train_state,
    run,
    train_step,
)

__version__ = "0.2.0"

__all__ = [
    "AdamState",
    "Dataset",
    "MLPConfig",
    "Model",
    "NonFiniteLossError",
    "Params",
    "SGDState",
    "State",
    "TrainConfig",
    "TrainState",
    "adam_init",
    "adam_update",
    "checkpoint",
    "clip_by_global_norm",
    "data",
    "ema_update",
    "evaluate",
    "final_model",
    "fit",
    "fit_standardizer",
    "fold_batch_norm",
    "forward",
    "init",
    "init_train_state",
    "lbfgs_init",
    "lbfgs_update",
    "load_model",
    "loss_and_grads",
    "losses",
    "metrics",
    "model",
    "nn",
    "num_params",
    "predict",
    "predict_logits",
    "predict_proba",
    "random",
    "run",
    "save_model",
    "schedules",
    "sgd_init",
    "sgd_update",
    "standardize",
    "testing",
    "train_step",
    "tree",
]

for _module in [value for value in globals().values() if isinstance(value, ModuleType)]:
    vars(_module)["__dir__"] = _module.__all__.copy  # without the names that it imports
__dir__ = __all__.copy
