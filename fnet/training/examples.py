"""The training examples of a run: checks, weights, and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fnet import data, losses, mlp
from fnet.data import Dataset
from fnet.engine import Processes
from fnet.nn import Array
from fnet.params import MLPConfig
from fnet.training.config import TrainConfig, example_weights
from fnet.tree import container

__all__ = ["Examples", "Transform", "check_dataset", "checked_targets", "training_examples"]

Transform: TypeAlias = Callable[[Array], Array]


@container
class Examples(NamedTuple):
    """Checked training examples."""

    x: Array  # [rows, features]
    targets: Array  # [rows] labels or [rows, targets] numbers
    weights: Array | None  # [rows], float64
    used: npt.NDArray[np.intp]  # the rows with a weight above 0
    transform: Transform | None
    processes: Processes
    dtype: str

    def batch(self, rows: npt.NDArray[np.intp], *, shared: bool = True) -> tuple[Array, Array, Array | None]:
        """Features, targets, and weights in the mean loss, for the rows of a batch that this process computes."""
        own = self.processes.own(len(rows)) if shared and self.processes.size > 1 else slice(None)
        mine = rows[own]
        x = data.gather(self.x, mine)
        if self.transform is not None:
            x = self.transform(x)
            if x.shape != (len(mine), self.x.shape[1]):
                raise ValueError(f"transform must keep the shape {[len(mine), self.x.shape[1]]}, but gave {[*x.shape]}")
        weights = None
        if self.weights is not None:
            weights = mlp.mean_weights(self.weights.take(rows), len(rows), self.dtype)[own]
        x = np.ascontiguousarray(x, self.dtype)
        if not np.isfinite(np.vdot(x, x)):  # the fastest test, which may overflow
            _check_finite(x, mine)
        return x, self.targets.take(mine, axis=0), weights


def training_examples(
    config: MLPConfig,
    train_config: TrainConfig,
    train: Dataset,
    sample_weight: npt.ArrayLike | None,
    transform: Transform | None,
    processes: Processes,
    min_size: int,
) -> Examples:
    """Check a data set and its weights.

    Raises:
        TypeError, ValueError: the data or weights do not match; there are fewer than `min_size` examples or 2 classes.
    """
    targets = checked_targets("train", config, train)
    weights = example_weights(train_config, targets, config.num_outputs, sample_weight)
    used = np.arange(len(targets)) if weights is None else np.flatnonzero(weights)
    if len(used) < min_size:
        raise ValueError(f"training needs at least {min_size} examples with a weight above 0, but got {len(used)}")
    if config.loss == "cross_entropy" and (targets[used] == targets[used[0]]).all():
        which = "" if weights is None else " with a weight above 0"
        raise ValueError(f"training needs at least 2 classes, but all labels{which} are {targets[used[0]]}")
    return Examples(train.x, targets, weights, used, transform, processes, config.dtype)


def checked_targets(name: str, config: MLPConfig, dataset: Dataset) -> Array:
    """Labels `[rows]` or numbers `[rows, targets]` of a data set, after checking that it matches the config."""
    check_dataset(name, config, dataset)
    if config.loss == "cross_entropy":
        return losses.check_labels(dataset.y, config.num_outputs).astype(np.intp, copy=False)
    return mlp.loss_targets(config, dataset.y, len(dataset.x))


def check_dataset(name: str, config: MLPConfig, dataset: Dataset) -> None:
    """Raise a TypeError or ValueError if the types and shapes of a data set do not match the config."""
    if not isinstance(dataset, Dataset):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{name} must be a Dataset, not {type(dataset).__name__}: fnet.Dataset(x, y) makes one")
    for part, array in (("x", dataset.x), ("y", dataset.y)):
        if not isinstance(array, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"{name}.{part} must be an array, not {type(array).__name__}: use numpy.asarray")
        mlp.refuse_masked(f"{name}.{part}", array)
    x, y = dataset.x, dataset.y
    if x.dtype.kind not in "fiub":
        raise TypeError(f"{name}.x must be numbers, but its dtype is {x.dtype}")
    if x.ndim != 2 or x.shape[1] != config.sizes[0]:
        raise ValueError(
            f"{name}.x must have shape [rows, {config.sizes[0]}] as the config says, but got {list(x.shape)}"
        )
    if len(x) == 0:
        raise ValueError(f"{name}.x has no rows")
    if y.ndim == 0 or len(y) != len(x):
        raise ValueError(f"{name}.y must have as many rows as {name}.x, {len(x)}, but its shape is {list(y.shape)}")


def _check_finite(x: Array, rows: npt.NDArray[np.intp]) -> None:
    """Raise a ValueError that names the row of the data set if the features of a batch are not finite."""
    for i, column in np.argwhere(~np.isfinite(x)):
        raise ValueError(
            f"x must be finite, but row {rows[i]} of the training data has {x[i, column]} in column {column}"
        )
