"""Training: one pure step, an evaluation, and a generator of epochs.

Everything that a run needs to go on is in `TrainState`, one pytree. The order of the examples is a function of (key,
epoch) and the noise of a step one of (key, step), so a run that stops at any step goes on as if it had not.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fnet import augment, data, losses, metrics, mlp, nn, optim, schedules, tree
from fnet import random as frandom
from fnet.data import Dataset
from fnet.mlp import MLPConfig, Packed, Params, State, Workspace
from fnet.nn import Array, Reduce
from fnet.optim import AdamState, SGDState
from fnet.random import Key
from fnet.schedules import Schedule

Transform: TypeAlias = Callable[[Array], Array]

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("constant", "cosine", "warmup_cosine", "onecycle")
EVALUATION_CHUNK = 4096  # rows
STATISTICS_ROWS = 8192  # examples from which batch-norm statistics are recomputed


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
        for name in ("epochs", "batch_size", "total_steps", "patience"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a positive integer; got {value!r}")
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
        ):
            value = getattr(self, name)
            if value is not None and not low <= value < high:
                raise ValueError(f"{name} must be {allowed}; got {value!r}")
        for name in ("eps", "clip_norm", "mixup"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive; got {value!r}")
        weights = self.class_weight
        if isinstance(weights, str) and weights != "balanced":
            raise ValueError(f'class_weight must be "balanced", numbers or None; got {weights!r}')
        if weights is not None and not isinstance(weights, str):
            object.__setattr__(self, "class_weight", tuple(float(w) for w in weights))


class Totals(NamedTuple):
    """Sums over the examples of the epoch so far."""

    loss: np.float64
    correct: np.int64
    count: np.int64  # pyright: ignore[reportIncompatibleMethodOverride]


_NO_TOTALS = Totals(np.float64(0), np.int64(0), np.int64(0))


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
    ema: tuple[Params, State] | None  # the moving average, if the config asks for one
    best: Best | None  # if the config asks for it
    totals: Totals
    step: np.int64  # steps made
    epoch: np.int64  # epochs finished


class StepMetrics(NamedTuple):
    """What a training step saw."""

    loss: float  # the mean over the batch, before the update
    correct: int  # examples classified right, in training mode
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]  # examples


class Evaluation(NamedTuple):
    """How a model does on a data set."""

    loss: float  # mean cross entropy
    accuracy: float
    logits: Array  # [rows, classes]


class EpochRecord(NamedTuple):
    """What is known of an epoch; of one that is not finished, so far."""

    epoch: int  # from 1
    step: int  # steps made in the whole run
    finished: bool
    learning_rate: float  # of the last step
    train_loss: float  # mean over the epoch's examples, in training mode, while parameters change
    train_accuracy: float
    valid_loss: float | None
    valid_accuracy: float | None
    seconds: float  # of training in this epoch, evaluation not included, since the process started


class NonFiniteLossError(FloatingPointError):
    """The training loss is not a finite number. `train_state` is the state before the step."""

    def __init__(self, loss: float, step: int, epoch: int | None, train_state: TrainState) -> None:
        where = f"step {step}" if epoch is None else f"epoch {epoch}, step {step}"
        super().__init__(
            f"the training loss is {loss} at {where}: try a smaller learning rate, clip_norm=1.0, "
            "and look for extreme values in the features"
        )
        self.loss, self.step, self.train_state = loss, step, train_state


# One step -------------------------------------------------------------------------------------------------------------


def init_train_state(key: Key, config: MLPConfig, train_config: TrainConfig | None = None) -> TrainState:
    """The state before the first step, with parameters from `fnet.init(key, config)`."""
    train_config = train_config or TrainConfig()
    params, state = mlp.init(key, config)
    init_optimizer = optim.adam_init if train_config.optimizer == "adam" else optim.sgd_init
    tracks_best = train_config.keep == "best" or train_config.patience is not None
    return TrainState(
        params=params,
        state=state,
        opt_state=init_optimizer(mlp.pack(params)),
        ema=(params, state) if train_config.ema_decay is not None else None,
        best=Best(params, state, np.float64(math.inf), np.int64(0)) if tracks_best else None,
        totals=_NO_TOTALS,
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
        TypeError, ValueError: as `fnet.loss_and_grads`.
    """
    labels = targets = np.asarray(y)
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
    grads = mlp.pack(grads) if donate is None else donate.packed_grads
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


# Evaluation -----------------------------------------------------------------------------------------------------------


def evaluate(
    config: MLPConfig,
    params: Params,
    state: State,
    dataset: Dataset,
    *,
    transform: Transform = nn.identity,
) -> Evaluation:
    """Loss, accuracy and logits on a data set, in inference mode.

    Args:
        transform: applied to the features, a chunk of rows at a time, such as
            `functools.partial(fnet.standardize, standardizer)`.

    Raises:
        TypeError, ValueError: data, params or state that do not fit.
    """
    labels = losses.check_labels(dataset.y, config.num_classes)
    config, params = mlp.fold_batch_norm(config, params, state)
    parts = [
        mlp.predict_logits(config, params, (), transform(dataset.x[start : start + EVALUATION_CHUNK]))
        for start in range(0, max(len(labels), 1), EVALUATION_CHUNK)
    ]
    logits = np.concatenate(parts)
    loss = losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    accuracy = metrics.accuracy(logits, labels)
    return Evaluation(float(loss.mean(dtype=np.float64)), accuracy, tree.freeze(logits))


def recompute_state(config: MLPConfig, params: Params, x: Array, *, transform: Transform = nn.identity) -> State:
    """The batch-norm state of given parameters: the mean of the statistics over batches of x, without dropout.

    For parameters whose statistics no training step has seen, such as averaged ones: Izmailov et al. (2018),
    section 3.2.
    """
    config = dataclasses.replace(config, dropout=0.0, input_dropout=0.0)
    zero = tree.map(np.zeros_like, mlp.init(frandom.key(0), config)[1])
    if not zero:
        return ()
    slices = data.batch_slices(len(x), 1024, min_size=2)
    total = zero
    for part in slices:
        # From a state of 0, a step leaves a share of 1 - momentum of the statistics of the batch.
        _, state = mlp.forward(config, params, zero, transform(x[part]), train=True)
        total = tree.map(np.add, total, state)
    scale = 1 / ((1 - nn.BATCH_NORM_MOMENTUM) * len(slices))
    return tree.freeze(tree.map(partial(np.multiply, scale), total))


# Epochs ---------------------------------------------------------------------------------------------------------------


def fit(
    config: MLPConfig,
    train_config: TrainConfig,
    train: Dataset,
    valid: Dataset | None = None,
    *,
    key: Key,
    train_state: TrainState | None = None,
    transform: Transform = nn.identity,
    sample_weight: Array | None = None,
    every: int | None = None,
    stop: Callable[[], bool] | None = None,
    reduce: Reduce = nn.identity,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[tuple[TrainState, EpochRecord]]:
    """Train, and yield the state and a record after each epoch.

    A yielded state can be kept; given back as `train_state` it goes on from there, to the same bits, in the middle of
    an epoch too. `fit` works on a copy of its own, whose memory it reuses from step to step.

    Args:
        config, train_config: the architecture, and how to train it.
        train, valid: the data; validation data are only evaluated, once an epoch.
        key: decides the initial parameters, the order of the examples, and all noise.
        train_state: where to begin; None: `init_train_state`.
        transform: applied to the features of each batch, such as `functools.partial(fnet.standardize, standardizer)`.
        sample_weight: `[rows]` of train, not negative.
        every: yield also after each so many steps, with a record that is not `finished`.
        stop: asked after each step; once it says True, `fit` yields the state as it is and returns.
        reduce, shard: for several processes that share each batch: a sum over them, and (rank, number of processes).

    Raises:
        NonFiniteLossError: the loss is infinite or not a number; `train_state` in it is the last good state.
        TypeError, ValueError: data that do not fit the config, before the first step.
    """
    min_size = 2 if config.batch_norm and config.hidden_sizes else 1
    _check_data(config, train_config, train, valid, min_size)
    slices = data.batch_slices(len(train.y), train_config.batch_size, min_size=min_size)
    if train_config.total_steps is None:
        total_steps = len(slices) * train_config.epochs
        train_config = dataclasses.replace(train_config, total_steps=total_steps)
    weights = example_weights(train_config, train.y, config.num_classes, sample_weight)
    init_key, order_key, step_key = frandom.split(key, 3)
    if train_state is None:
        train_state = init_train_state(init_key, config, train_config)
    own_rows = _shard_of(shard, train_config.batch_size)
    memory = mlp.workspace(config, own_rows.stop - own_rows.start)
    rate = schedule(train_config)
    while not is_finished(train_state, train_config):
        epoch = int(train_state.epoch)
        order = frandom.permutation(frandom.fold_in(order_key, epoch), len(train.y))
        first = int(train_state.step) - epoch * len(slices)
        train_state = _own(train_state)
        if first == 0:
            train_state = train_state._replace(totals=_NO_TOTALS)
        seconds = 0.0
        started = time.perf_counter()
        for i in range(first, len(slices)):
            rows = order[slices[i]]
            try:
                train_state, _ = train_step(
                    config,
                    train_config,
                    train_state,
                    transform(data.gather(train.x, rows)),
                    train.y.take(rows),
                    key=frandom.fold_in(step_key, int(train_state.step)),
                    sample_weight=None if weights is None else weights.take(rows),
                    reduce=reduce,
                    shard=_shard_of(shard, len(rows)),
                    donate=memory,
                )
            except NonFiniteLossError as error:
                step = int(train_state.step) + 1
                raise NonFiniteLossError(error.loss, step, epoch + 1, train_state) from None
            stopping = stop is not None and stop()
            due = every is not None and int(train_state.step) % every == 0
            if i + 1 < len(slices) and (stopping or due):
                seconds += time.perf_counter() - started
                yield _own(train_state), _record(train_state, rate, seconds)
                if stopping:
                    return
                started = time.perf_counter()
        seconds += time.perf_counter() - started
        train_state = _own(train_state)
        train_state = _recompute_statistics(config, train_config, train_state, train, transform)
        train_state = train_state._replace(epoch=train_state.epoch + 1)
        record = _record(train_state, rate, seconds, finished=True)
        if valid is not None:
            params, state = train_state.ema or (train_state.params, train_state.state)
            evaluation = evaluate(config, params, state, valid, transform=transform)
            record = record._replace(valid_loss=evaluation.loss, valid_accuracy=evaluation.accuracy)
            train_state = _keep_best(train_config, train_state, evaluation)
        yield train_state, record
        if stop is not None and stop():
            return


def is_finished(train_state: TrainState, train_config: TrainConfig) -> bool:
    """Whether all epochs are done, or none was better for as long as `patience` allows."""
    epoch, best, patience = int(train_state.epoch), train_state.best, train_config.patience
    if patience is not None and best is not None and epoch - int(best.epoch) >= patience:
        return True
    return epoch >= train_config.epochs


def final_model(train_state: TrainState, train_config: TrainConfig) -> tuple[Params, State]:
    """The parameters and batch-norm state that the run is for: the best, the averaged or the last, as configured."""
    if train_config.keep == "best" and train_state.best is not None and train_state.best.epoch:
        return train_state.best.params, train_state.best.state
    return train_state.ema or (train_state.params, train_state.state)


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


def _own(train_state: TrainState) -> TrainState:
    """A copy of what `train_step` overwrites when it is donated."""
    params, opt_state, ema = tree.map(_copy, (train_state.params, train_state.opt_state, train_state.ema))
    return train_state._replace(params=params, opt_state=opt_state, ema=ema)


def _copy(leaf: Array) -> Array:
    copy = leaf.copy()  # np.copy would make an array of a scalar
    return tree.freeze(copy)


def _record(train_state: TrainState, rate: Schedule, seconds: float, *, finished: bool = False) -> EpochRecord:
    totals, step = train_state.totals, int(train_state.step)
    return EpochRecord(
        epoch=int(train_state.epoch) + (not finished),
        step=step,
        finished=finished,
        learning_rate=rate(step - 1),
        train_loss=float(totals.loss / totals.count),
        train_accuracy=float(totals.correct / totals.count),
        valid_loss=None,
        valid_accuracy=None,
        seconds=seconds,
    )


def _recompute_statistics(
    config: MLPConfig,
    train_config: TrainConfig,
    train_state: TrainState,
    train: Dataset,
    transform: Transform,
) -> TrainState:
    """At the end of an epoch, batch-norm statistics for the parameters as they are, where the config asks for them.

    The running ones are those of the last steps: noisy, and none at all for averaged parameters. Training itself uses
    neither.
    """
    x = train.x[:STATISTICS_ROWS]
    if train_state.ema is not None:
        params, _ = train_state.ema
        state = recompute_state(config, params, x, transform=transform)
        return train_state._replace(ema=(params, state))
    if train_config.recompute_statistics:
        state = recompute_state(config, train_state.params, x, transform=transform)
        return train_state._replace(state=state)
    return train_state


def _keep_best(train_config: TrainConfig, train_state: TrainState, evaluation: Evaluation) -> TrainState:
    if train_state.best is None:
        return train_state
    by_loss = train_config.monitor == "loss"
    score = np.float64(evaluation.loss if by_loss else -evaluation.accuracy)
    if not score < train_state.best.score:
        return train_state
    params, state = train_state.ema or (train_state.params, train_state.state)
    return train_state._replace(best=Best(params, state, score, train_state.epoch))


def _shard_of(shard: tuple[int, int], rows: int) -> slice:
    """The rows of a batch that process `rank` of `size` computes."""
    rank, size = shard
    return slice(rows * rank // size, rows * (rank + 1) // size)


def _check_data(
    config: MLPConfig, train_config: TrainConfig, train: Dataset, valid: Dataset | None, least: int
) -> None:
    if train_config.batch_size < least:
        raise ValueError("batch norm needs batches of at least 2 examples; got batch_size=1")
    for name, dataset in (("train", train), ("valid", valid)):
        if dataset is None:
            continue
        if dataset.x.ndim != 2 or dataset.x.shape[1] != config.sizes[0]:
            raise ValueError(
                f"{name}.x must have shape [rows, {config.sizes[0]}] as the config says, "
                f"but got {list(dataset.x.shape)}"
            )
        if len(losses.check_labels(dataset.y, config.num_classes)) != len(dataset.x):
            raise ValueError(f"{name} has {len(dataset.x)} rows, but {len(dataset.y)} labels")
    if len(train.y) < least:
        raise ValueError(f"training needs at least {least} examples, but got {len(train.y)}")
    if train.y.min() == train.y.max():
        raise ValueError(f"training needs at least 2 classes, but all labels are {train.y[0]}")
    if valid is not None and len(valid.y) == 0:
        raise ValueError("the validation data have no rows")
    monitors = train_config.keep == "best" or train_config.patience is not None
    if monitors and valid is None:
        raise ValueError('keep="best" and patience need validation data')
