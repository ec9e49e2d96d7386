"""The loss of all examples as a function of the parameters, and its minimization by L-BFGS."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

from fnet import random, tree
from fnet.engine import Engine
from fnet.lbfgs import Evaluated, LBFGSState, begun, flat_update
from fnet.nn import Array
from fnet.params import MLPConfig, Params, State
from fnet.training.examples import Examples

__all__ = ["FullBatch", "check_fixed_loss"]

KEPT = 2**26  # bytes of features that are gathered and scaled once; more features are processed at each evaluation

Batch: TypeAlias = tuple[Array, Array, Array | None]  # from `Examples.batch`
Chunk: TypeAlias = tuple[float, int, Batch]  # share of the loss, number of examples, batch


def check_fixed_loss(config: MLPConfig) -> None:
    """Raise a ValueError unless the loss of a network is a function of only its parameters and the examples."""
    names = ("batch_norm", "dropout", "input_dropout") if config.hidden_sizes else ("input_dropout",)
    for name in names:
        if value := getattr(config, name):
            raise ValueError(
                f'optimizer="lbfgs" needs a loss without noise that is independent of batches: '
                f"batch_norm=False, dropout=0.0 and input_dropout=0.0; got {name}={value}"
            )


class FullBatch:
    """A network in training by L-BFGS, in the memory of an engine.

    With the mean loss f_c of each chunk of examples, its share w_c of the total weight, and the weight decay alpha, it
    minimizes::

        sum_c w_c f_c(p) + alpha / 2 |p|^2
    """

    def __init__(self, engine: Engine, examples: Examples, chunks: Sequence[slice]) -> None:
        config, train_config = engine.config, engine.train_config
        self.engine, self.examples = engine, examples
        self.rows = [examples.used[part] for part in chunks]
        weights = np.ones(len(examples.targets)) if examples.weights is None else examples.weights
        self.shares = [float(weights[rows].sum() / weights[examples.used].sum()) for rows in self.rows]
        self.kept: list[Chunk] | None = None
        self.keeps = len(examples.used) * config.sizes[0] * np.dtype(config.dtype).itemsize <= KEPT

        self.total = engine.moments[0]  # sum over the chunks, in memory like that of the gradient
        leaves, self.treedef = tree.flatten(engine.params.params)
        ends = [0, *itertools.accumulate(leaf.size for leaf in leaves)]
        self.parts = [(slice(*ends), leaf.shape) for ends, leaf in zip(itertools.pairwise(ends), leaves, strict=True)]
        self.params, self.grads = (
            [leaf.reshape(-1) for leaf in each] for each in (leaves, tree.leaves(self.total.params))
        )
        self.decay = np.full(ends[-1], train_config.weight_decay)
        if train_config.decay_weights_only:
            for part, shape in self.parts:
                self.decay[part] *= len(shape) > 1
        self.x = np.zeros(ends[-1], config.dtype)
        self.state: State = ()
        self.opt_state: LBFGSState | None = None
        self.key = random.key(0)  # unused, since there is no noise
        self.scores: list[tuple[Array, float, float]] = []  # gradient, loss and sum of scores of the last evaluations

    def load(self, params: Params, state: State, opt_state: LBFGSState) -> None:
        """Start from a state. A state that is not from `unload` is evaluated, as it may come from other examples."""
        if opt_state is self.opt_state:
            return
        self.x, self.state, self.opt_state = tree.ravel(params)[0], state, opt_state
        if opt_state.evaluations:
            self.opt_state = begun(opt_state, self.evaluate(self.x))

    def unload(self) -> tuple[Params, State, LBFGSState]:
        """The state, with read-only arrays."""
        assert self.opt_state is not None
        params = tree.unflatten(self.treedef, [self.x[part].reshape(shape) for part, shape in self.parts])
        return params, self.state, self.opt_state

    def step(self) -> tuple[float, float]:
        """One iteration; returns the loss without weight decay, and the sum of the scores, for the new parameters.

        If the loss is not finite, nothing is updated.
        """
        assert self.opt_state is not None
        x, opt_state = flat_update(self.evaluate, self.x, self.opt_state)
        self.scores = [found for found in self.scores if found[0] is opt_state.grads]
        _, loss, score = self.scores[0]
        if math.isfinite(loss):
            self.x, self.opt_state = x, opt_state
        return loss, score

    def evaluate(self, x: Array) -> Evaluated:
        """The objective and its gradient."""
        engine, total = self.engine, self.total.array
        for leaf, (part, _) in zip(self.params, self.parts, strict=True):
            leaf[:] = x[part]
        total[:] = 0
        loss = score = 0.0
        for share, count, batch in self._chunks():
            mean, scores = engine.step(*batch, self.key, 0, count)
            loss, score = loss + share * mean, score + scores
            if not math.isfinite(mean):
                break
            total += np.multiply(engine.grads.array, share, out=engine.grads.array)
        grads, value = np.concatenate(self.grads), loss
        if engine.train_config.weight_decay:
            pull = self.decay * x
            value += 0.5 * float(pull @ x)
            grads += pull.astype(grads.dtype)
        self.scores.append((grads, loss, score))
        return tree.freeze(Evaluated(x, value, grads))

    def _chunks(self) -> Iterable[Chunk]:
        if self.kept is not None:
            return self.kept
        chunks = (
            (share, len(rows), self.examples.batch(rows)) for share, rows in zip(self.shares, self.rows, strict=True)
        )
        if self.keeps:
            self.kept = list(chunks)
        return self.kept or chunks
