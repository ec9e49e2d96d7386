"""One training step: the state of a run as one pytree, and the pure function that updates it."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fnet import lbfgs, metrics, mlp, nn, optim, params, random, tree
from fnet.lbfgs import LBFGSState
from fnet.nn import Array
from fnet.optim import AdamState, SGDState
from fnet.params import MLPConfig, Params, State
from fnet.random import Key
from fnet.training.config import TrainConfig, check_pair, learning_rate_schedule

__all__ = [
    "Best",
    "NonFiniteLossError",
    "StepMetrics",
    "Totals",
    "TrainState",
    "init_train_state",
    "train_state_shapes",
    "train_step",
]


OptState: TypeAlias = AdamState | SGDState | LBFGSState
_STATES: dict[str, type[OptState]] = {"adam": AdamState, "sgd": SGDState, "lbfgs": LBFGSState}


@tree.container
class Totals(NamedTuple):
    """Sums over the examples of the epoch so far; with L-BFGS, at the current parameters."""

    loss: np.float64
    score: np.float64  # see `fnet.metrics.example_scores`
    count: np.int64  # pyright: ignore[reportIncompatibleMethodOverride]


NO_TOTALS = Totals(np.float64(0), np.float64(0), np.int64(0))


@tree.container
class Best(NamedTuple):
    """The best epoch so far."""

    params: Params
    state: State
    value: np.float64  # the monitored value, negated if higher is better
    epoch: np.int64  # 0 before the first


@tree.container
class TrainState(NamedTuple):
    """Everything that a run needs to continue, as one pytree."""

    params: Params
    state: State
    opt_state: OptState  # of params
    best: Best | None  # if the train_config needs it
    totals: Totals
    step: np.int64  # steps made
    epoch: np.int64  # epochs finished


@tree.container
class StepMetrics(NamedTuple):
    """The loss and the score of a batch, before the update."""

    loss: float  # mean over the batch
    score: float  # sum over the batch, see `fnet.metrics.example_scores`
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]  # examples


class NonFiniteLossError(FloatingPointError):
    """The training loss is not a finite number. `train_state` is the state before the step."""

    def __init__(self, loss: float, step: int, epoch: int | None, train_state: TrainState) -> None:
        where = f"step {step}" if epoch is None else f"epoch {epoch}, step {step}"
        steps = (
            "" if isinstance(train_state.opt_state, LBFGSState) else "try a smaller learning rate, clip_norm=1.0, and "
        )
        super().__init__(f"the training loss is {loss} at {where}: {steps}look for extreme values in the features")
        self.loss, self.step, self.train_state = loss, step, train_state


def init_train_state(key: Key, config: MLPConfig, train_config: TrainConfig | None = None) -> TrainState:
    """The initial state, with parameters from `fnet.init(key, config)`.

    Raises:
        TypeError, ValueError: the two configurations do not match.
    """
    train_config = train_config or TrainConfig()
    check_pair(config, train_config)
    new_params, state = params.init(key, config)
    opt_init = {"adam": optim.adam_init, "sgd": optim.sgd_init, "lbfgs": lbfgs.lbfgs_init}[train_config.optimizer]
    return _new_train_state(new_params, state, opt_init(new_params), train_config)


def train_state_shapes(config: MLPConfig, train_config: TrainConfig) -> TrainState:
    """A template with the shapes and dtypes of a state, for `fnet.checkpoint.load`; its arrays take no memory."""
    zeros, state = params.param_shapes(config)
    count = np.int64(0)
    match train_config.optimizer:
        case "adam":
            opt_state = AdamState(count, zeros, zeros)
        case "sgd":
            opt_state = SGDState(count, zeros)
        case _:
            opt_state = lbfgs.lbfgs_init(zeros)
    return _new_train_state(zeros, state, opt_state, train_config)


def _new_train_state(params: Params, state: State, opt_state: OptState, train_config: TrainConfig) -> TrainState:
    return TrainState(
        params=params,
        state=state,
        opt_state=opt_state,
        best=Best(params, state, np.float64(math.inf), np.int64(0)) if train_config.tracks_best else None,
        totals=NO_TOTALS,
        step=np.int64(0),
        epoch=np.int64(0),
    )


def train_step(
    config: MLPConfig,
    train_config: TrainConfig,
    train_state: TrainState,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    key: Key,
    sample_weight: npt.ArrayLike | None = None,
) -> tuple[TrainState, StepMetrics]:
    """One update of the parameters from one batch: loss and gradients, clipping, update.

    Args:
        config, train_config: the architecture and the training configuration.
        train_state: from `init_train_state` or the previous step.
        x: features, `[batch, features]`.
        y: labels `[batch]`, or numbers `[batch]` or `[batch, targets]`.
        key: the key for dropout and noise, a new one for each step.
        sample_weight: `[batch]`, not negative.

    Raises:
        NonFiniteLossError: the loss is infinite or not a number; the error has the state before the step.
        TypeError, ValueError: as for `fnet.loss_and_grads`; or the state was made for another optimizer; or the
            optimizer is L-BFGS, whose step needs all examples: use `fnet.fit`.
    """
    check_pair(config, train_config)
    check_opt_state(train_config, train_state)
    if isinstance(train_state.opt_state, LBFGSState):
        raise ValueError("a step of L-BFGS needs the loss of all examples, not of a batch: use fnet.fit")
    if train_config.input_noise:
        noise_key, key = random.split(key)
        x = nn.gaussian_noise(noise_key, mlp.check_features(config, x), train_config.input_noise)
    with np.errstate(over="ignore", invalid="ignore"):  # overflow is detected in the loss
        (loss, aux), grads = mlp.loss_and_grads(
            config,
            train_state.params,
            train_state.state,
            x,
            y,
            key=key,
            label_smoothing=train_config.label_smoothing,
            sample_weight=sample_weight,
        )
    if not math.isfinite(loss):
        raise NonFiniteLossError(loss, int(train_state.step) + 1, None, train_state)
    if train_config.clip_norm is not None:
        grads = optim.clip_by_global_norm(grads, train_config.clip_norm)
    new_params, opt_state = _update(train_config, train_state.params, grads, train_state.opt_state)
    score = float(metrics.example_scores(config.loss, aux.logits, np.asarray(y)).sum())
    step = StepMetrics(loss, score, len(aux.logits))
    total = train_state.totals
    train_state = train_state._replace(
        params=new_params,
        state=aux.state,
        opt_state=opt_state,
        totals=Totals(total.loss + loss * step.count, total.score + score, total.count + step.count),
        step=train_state.step + 1,
    )
    return train_state, step


def _update(
    train_config: TrainConfig, params: Params, grads: Params, opt_state: AdamState | SGDState
) -> tuple[Params, AdamState | SGDState]:
    learning_rate = learning_rate_schedule(train_config)
    mask = _weights_only if train_config.decay_weights_only else None
    if isinstance(opt_state, AdamState):
        return optim.adam_update(
            params,
            grads,
            opt_state,
            learning_rate=learning_rate,
            b1=train_config.b1,
            b2=train_config.b2,
            eps=train_config.eps,
            bias_correction=train_config.bias_correction,
            weight_decay=train_config.weight_decay,
            decay_mask=mask,
        )
    return optim.sgd_update(
        params,
        grads,
        opt_state,
        learning_rate=learning_rate,
        momentum=train_config.momentum,
        nesterov=train_config.nesterov,
        weight_decay=train_config.weight_decay,
        decay_mask=mask,
    )


def _weights_only(params: Params) -> tree.PyTree:
    def is_matrix(p: Array) -> bool:
        return p.ndim > 1

    return tree.map(is_matrix, params)


def check_opt_state(train_config: TrainConfig, train_state: TrainState) -> None:
    """Raise a ValueError where the state has not the optimizer that the train_config asks for."""
    state = _STATES[train_config.optimizer]
    if type(train_state.opt_state) is not state:
        raise ValueError(
            f"optimizer={train_config.optimizer!r} needs an opt_state of {state.__name__}, but train_state has "
            f"{type(train_state.opt_state).__name__}; init_train_state(key, config, train_config) makes one that fits"
        )
