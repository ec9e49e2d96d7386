"""One step of training: the state of a run as one pytree, and the pure function that updates it."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fnet import augment, losses, mlp, nn, optim, tree
from fnet import random as frandom
from fnet.mlp import MLPConfig, Packed, Params, State, Workspace
from fnet.nn import Reduce
from fnet.optim import AdamState, SGDState
from fnet.random import Key
from fnet.training.config import TrainConfig, schedule


class Totals(NamedTuple):
    """Sums over the examples of the epoch so far."""

    loss: np.float64
    correct: np.int64
    count: np.int64  # pyright: ignore[reportIncompatibleMethodOverride]


NO_TOTALS = Totals(np.float64(0), np.int64(0), np.int64(0))


class Best(NamedTuple):
    """The best epoch so far."""

    params: Params
    state: State
    score: np.float64  # the monitored value, negative where higher is better
    epoch: np.int64  # 0: none yet


class TrainState(NamedTuple):
    """Everything that a run needs to go on, in one pytree."""

    params: Params
    state: State
    opt_state: AdamState | SGDState  # of the packed parameters, see `fnet.mlp.Packed`
    ema: tuple[Params, State] | None  # the moving average, if asked for; its State is as of the last whole epoch
    best: Best | None  # if the config asks for it
    totals: Totals
    step: np.int64  # steps made
    epoch: np.int64  # epochs finished


class StepMetrics(NamedTuple):
    """What a training step saw."""

    loss: float  # the mean over the batch, before the update
    correct: int  # examples classified right, in training mode
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]  # examples


class NonFiniteLossError(FloatingPointError):
    """The training loss is not a finite number. `train_state` is the state before the step."""

    def __init__(self, loss: float, step: int, epoch: int | None, train_state: TrainState) -> None:
        where = f"step {step}" if epoch is None else f"epoch {epoch}, step {step}"
        super().__init__(
            f"the training loss is {loss} at {where}: try a smaller learning rate, clip_norm=1.0, "
            "and look for extreme values in the features"
        )
        self.loss, self.step, self.train_state = loss, step, train_state


def init_train_state(key: Key, config: MLPConfig, train_config: TrainConfig | None = None) -> TrainState:
    """The state before the first step, with parameters from `fnet.init(key, config)`."""
    train_config = train_config or TrainConfig()
    params, state = mlp.init(key, config)
    init_optimizer = optim.adam_init if train_config.optimizer == "adam" else optim.sgd_init
    return TrainState(
        params=params,
        state=state,
        opt_state=init_optimizer(mlp.pack(params)),
        # A copy: a donated step writes to it, and `best` is to stay.
        ema=(tree.freeze(tree.map(np.copy, params)), state) if train_config.ema_decay is not None else None,
        best=Best(params, state, np.float64(math.inf), np.int64(0)) if train_config.tracks_best else None,
        totals=NO_TOTALS,
        step=np.int64(0),
        epoch=np.int64(0),
    )


def check_train_state(train_config: TrainConfig, train_state: TrainState) -> None:
    """Raise a ValueError where a state has not got the optimizer or the moving average that the config asks for."""
    state = AdamState if train_config.optimizer == "adam" else SGDState
    if type(train_state.opt_state) is not state:
        raise ValueError(
            f"optimizer={train_config.optimizer!r} needs an opt_state of {state.__name__}, but train_state has got "
            f"{type(train_state.opt_state).__name__}; init_train_state(key, config, train_config) makes one that fits"
        )
    if (train_state.ema is None) != (train_config.ema_decay is None):
        got = "none" if train_state.ema is None else "one"
        raise ValueError(
            f"ema_decay={train_config.ema_decay}, but of a moving average train_state has got {got}; "
            "init_train_state(key, config, train_config) makes one that fits"
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
    reduce: Reduce = nn.identity,
    shard: slice = slice(None),
    donate: Workspace | None = None,
) -> tuple[TrainState, StepMetrics]:
    """One update of the parameters from one batch.

    Args:
        config, train_config: the architecture, and how to train it.
        train_state: from `init_train_state` or the last step.
        x, y: the batch: features `[batch, features]` and labels `[batch]`.
        key: for dropout, noise and mixup; a new one for each step.
        sample_weight: `[batch]`, not negative.
        reduce, shard: for a batch shared among processes, see `fnet.loss_and_grads`; loss and gradients travel in one
            flat array.
        donate: memory to compute in, from `fnet.workspace`. The memory of `train_state` is then reused too: it must not
            be used afterwards.

    Raises:
        NonFiniteLossError: the loss is infinite or not a number; nothing is updated then.
        TypeError, ValueError: as `fnet.loss_and_grads`; y is not `[batch]`; a state that another train config made.
    """
    check_train_state(train_config, train_state)
    labels = targets = np.asarray(y)
    if labels.ndim != 1:
        raise ValueError(f"y must be labels [batch], but got {list(labels.shape)}; fnet.loss_and_grads takes targets")
    dropout_key = key
    if train_config.input_noise or train_config.mixup:
        dropout_key, noise_key, mixup_key = frandom.split(key, 3)
        x = mlp.check_features(config, x)
        if train_config.input_noise:
            x = augment.gaussian_noise(noise_key, x, train_config.input_noise)
        if train_config.mixup:
            targets = losses.label_targets(labels, config.num_classes, dtype=config.dtype)
            x, targets = augment.mixup(mixup_key, x, targets, train_config.mixup)
    # A loss that overflows is found below, and says more than NumPy's warning.
    with np.errstate(over="ignore", invalid="ignore"):
        (loss, aux), grads = mlp.loss_and_grads(
            config,
            train_state.params,
            train_state.state,
            x,
            targets,
            key=dropout_key,
            label_smoothing=train_config.label_smoothing,
            sample_weight=sample_weight,
            reduce=reduce,
            shard=shard,
            donate=donate,
        )
    correct = int(np.count_nonzero(aux.logits.argmax(axis=1) == labels[shard]))
    # A batch of another size than the workspace has got gradients of its own.
    grads = donate.packed_grads if donate is not None and grads is donate.grads else mlp.pack(grads)
    if reduce is not nn.identity:
        flat, unravel = tree.ravel((grads, np.float64(loss), np.float64(correct)))
        grads, loss, correct = unravel(reduce(flat))
        loss, correct = float(loss), round(float(correct))
    if not math.isfinite(loss):
        raise NonFiniteLossError(loss, int(train_state.step) + 1, None, train_state)
    if train_config.clip_norm is not None:
        grads = optim.clip_by_global_norm(grads, train_config.clip_norm)
    packed = mlp.pack(train_state.params) if donate is None else _packed_in(donate, train_state.params)
    packed, opt_state = _update(train_config, packed, grads, train_state.opt_state, donate=donate is not None)
    params = tree.freeze(mlp.unpack(config, packed)) if donate is None else donate.params
    ema = train_state.ema
    if ema is not None and train_config.ema_decay is not None:
        decay = train_config.ema_decay
        ema = (optim.ema_update(ema[0], params, decay=decay, donate=donate is not None), ema[1])
    count = len(labels)
    before = train_state.totals
    totals = Totals(before.loss + loss * count, before.correct + correct, before.count + count)
    train_state = train_state._replace(
        params=params,
        state=aux.state,
        opt_state=opt_state,
        ema=ema,
        totals=totals,
        step=train_state.step + 1,
    )
    return train_state, StepMetrics(loss, correct, count)


def _update(
    train_config: TrainConfig, params: Packed, grads: Packed, opt_state: AdamState | SGDState, *, donate: bool
) -> tuple[Packed, AdamState | SGDState]:
    learning_rate = schedule(train_config)
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
            donate=donate,
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
        donate=donate,
    )


def _weights_only(packed: Packed) -> Packed:
    return Packed(np.True_, np.False_)  # pyright: ignore[reportArgumentType]  # a tree of bools


def _packed_in(memory: Workspace, params: Params) -> Packed:
    """The parameters packed in a workspace, where they are already after the first step with it."""
    if params is not memory.params:
        for packed, part in zip(memory.packed_params, mlp.pack(params), strict=True):
            packed.flags.writeable = True
            np.copyto(packed, part)
    return memory.packed_params
