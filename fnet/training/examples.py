"""The training examples, checked where they come in, and cut into batches."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fnet import data, losses, mlp
from fnet.data import Dataset
from fnet.engine import Processes
from fnet.nn import Array
from fnet.params import MLPConfig
from fnet.training.config import TrainConfig, example_weights
from fnet.training.evaluation import Transform

__all__ = ["Examples", "checked_targets", "training_examples"]


class Examples(NamedTuple):
    """The training examples, for batches."""

    x: Array  # [rows, features]
    targets: Array  # [rows] labels or [rows, targets] numbers
    weights: Array | None  # [rows], float64
    used: npt.NDArray[np.intp]  # the rows with a weight above 0
    transform: Transform | None
    processes: Processes
    dtype: str

    def batch(self, rows: npt.NDArray[np.intp], *, shared: bool = True) -> tuple[Array, Array, Array | None]:
        """Features, targets, and the share of each example in the mean loss, of the rows that are this process's."""
        own = self.processes.own(len(rows)) if shared else slice(None)
        mine = rows[own]
        x = data.gather(self.x, mine)
        if self.transform is not None:
            x = self.transform(x)
        weights = None
        if self.weights is not None:
            weights = mlp.mean_weights(self.weights.take(rows), len(rows), self.dtype)[own]
        x = np.ascontiguousarray(x, self.dtype)
        if not np.isfinite(np.vdot(x, x)):  # one product, the fastest look at all of them; it may overflow
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
    """The examples of a data set, checked."""
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
    """Labels `[rows]`, or numbers `[rows, targets]`, of a data set that fits the config."""
    if not isinstance(dataset, Dataset):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{name} must be a Dataset, but got a {type(dataset).__name__}: fnet.Dataset(x, y) makes one")
    for part, array in (("x", dataset.x), ("y", dataset.y)):
        if not isinstance(array, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"{name}.{part} must be an array, but got a {type(array).__name__}: use numpy.asarray")
    x, y = dataset.x, dataset.y
    if x.ndim != 2 or x.shape[1] != config.sizes[0]:
        raise ValueError(
            f"{name}.x must have shape [rows, {config.sizes[0]}] as the config says, but got {list(x.shape)}"
        )
    if len(x) == 0 or y.ndim == 0 or len(y) != len(x):
        raise ValueError(f"{name} must have as many labels as rows, but got {list(y.shape)} for {list(x.shape)}")
    if config.loss == "cross_entropy":
        return losses.check_labels(y, config.num_outputs)
    return mlp.loss_targets(config, y, len(x))


def _check_finite(x: Array, rows: npt.NDArray[np.intp]) -> None:
    """Raise a ValueError that names the row of the training data, where the features of a batch are not finite."""
    for i, column in np.argwhere(~np.isfinite(x)):
        raise ValueError(
            f"x must be finite, but row {rows[i]} of the training data has {x[i, column]} in column {column}"
        )
