"""Losses: each function returns the loss of every example and its slope with respect to the outputs.

`NAME_fwd(outputs, targets)` returns the loss `[batch]`, as in Optax, and its slope `[batch, outputs]`. For every loss,
the gradient of a weighted sum over the examples is `loss_bwd(slope, weights)`. The caller takes the mean.

Softmax and cross entropy are computed from `logits - max(logits)`, so that no exponential overflows: Chen & Wu, Eq. (5)
and (6); Goodfellow, Bengio & Courville (2016), section 4.1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fnet.nn import Array

__all__ = [
    "check_labels",
    "huber_fwd",
    "label_targets",
    "log_softmax",
    "loss_bwd",
    "pinball_fwd",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_fwd",
    "softmax_cross_entropy_with_integer_labels",
    "squared_error_fwd",
]


# Classification -------------------------------------------------------------------------------------------------------


def softmax(logits: Array) -> Array:
    """`exp(logits_k) / sum_j exp(logits_j)` over the last axis: Chen & Wu, Eq. (5).

    >>> softmax(np.array([[0.0, 0.0]]))
    array([[0.5, 0.5]])

    Raises:
        TypeError: the logits are not floats.
    """
    # Classes come first: NumPy takes ten times as long to reduce a short last axis (10,000 x 10: 1.8 ms, not 0.13).
    z = np.ascontiguousarray(np.moveaxis(_floats(logits), -1, 0))
    exp = np.exp(z - z.max(axis=0))
    return np.ascontiguousarray(np.moveaxis(exp / exp.sum(axis=0), 0, -1))


def log_softmax(logits: Array) -> Array:
    """`logits_k - log sum_j exp(logits_j)` over the last axis, finite for all finite logits.

    >>> log_softmax(np.array([0.0, 1e4]))
    array([-10000.,      0.])

    Raises:
        TypeError: the logits are not floats.
    """
    logits = _floats(logits)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _floats(logits: npt.ArrayLike) -> Array:
    logits = np.asarray(logits)
    if logits.dtype.kind != "f":
        raise TypeError(f"logits must be floats, but got {logits.dtype}; logits.astype(numpy.float32) converts them")
    return logits


def softmax_cross_entropy(logits: Array, targets: Array) -> Array:
    """`-sum_k targets_k log softmax(logits)_k`: Chen & Wu, Eq. (6).

    >>> softmax_cross_entropy(np.zeros((1, 2)), np.array([[0.5, 0.5]])).round(4)
    array([0.6931])

    Args:
        logits: `[batch, classes]`.
        targets: `[batch, classes]` probabilities.

    Returns:
        The loss of each example, `[batch]`, in the dtype of the logits.

    Raises:
        TypeError: the logits are not floats.
        ValueError: the shapes differ.
    """
    targets = np.asarray(targets, np.asarray(logits).dtype)
    if targets.shape != np.shape(logits):
        raise ValueError(f"targets must have the shape of the logits, {np.shape(logits)}, but got {targets.shape}")
    return softmax_cross_entropy_fwd(logits, targets)[0]


def softmax_cross_entropy_with_integer_labels(logits: Array, labels: npt.NDArray[np.integer]) -> Array:
    """`-log softmax(logits)_label`: the cross entropy with a label in place of probabilities.

    >>> softmax_cross_entropy_with_integer_labels(np.array([[0.0, -np.inf]]), np.array([0]))
    array([0.])

    Args:
        logits: `[batch, classes]`.
        labels: `[batch]` integers from 0 to classes - 1.

    Returns:
        The loss of each example, `[batch]`, in the dtype of the logits.

    Raises:
        TypeError: the logits are not floats, or the labels are not integers.
        ValueError: the labels have another length or are out of range.
    """
    log_p = log_softmax(logits)
    labels = check_labels(labels, log_p.shape[-1])
    if len(labels) != len(log_p):
        raise ValueError(f"got {len(labels)} labels for {len(log_p)} rows of logits")
    return 0 - log_p[np.arange(len(labels)), labels]  # a loss of 0, not -0


def softmax_cross_entropy_fwd(logits: Array, targets: Array) -> tuple[Array, Array]:
    """`softmax_cross_entropy` and its slope `softmax(logits) - targets`, for targets that sum to 1 in each row."""
    log_p = log_softmax(logits)
    terms = np.multiply(targets, log_p, out=np.zeros_like(log_p), where=targets != 0)  # 0 log 0 = 0
    return 0 - terms.sum(axis=-1), np.exp(log_p) - targets  # a loss of 0, not -0


def label_targets(
    labels: npt.NDArray[np.integer], num_classes: int, label_smoothing: float = 0.0, dtype: npt.DTypeLike = "float32"
) -> Array:
    """Labels as probabilities: `(1 - s) one_hot(label) + s / num_classes`, Szegedy et al. (2016), section 7.

    >>> label_targets(np.array([0, 1]), 2, 0.5)
    array([[0.75, 0.25],
           [0.25, 0.75]], dtype=float32)

    Raises:
        TypeError, ValueError: the labels are not integers in [0, num_classes).
    """
    one_hot = (check_labels(labels, num_classes)[:, None] == np.arange(num_classes)).astype(dtype)
    return (1 - label_smoothing) * one_hot + label_smoothing / num_classes


def check_labels(labels: npt.ArrayLike, num_classes: int) -> npt.NDArray[np.integer]:
    """Return the labels as an array, after checking that they are integers `[batch]` in [0, num_classes).

    Raises:
        TypeError, ValueError: they are not.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"labels must be integers, but got {labels.dtype}; "
            "fnet.data.encode_labels converts names, labels.astype(int) converts floats"
        )
    if labels.ndim != 1:
        raise ValueError(f"labels must have shape [batch], but got {list(labels.shape)}")
    if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
        raise ValueError(
            f"labels must be from 0 to {num_classes - 1} for {num_classes} classes, "
            f"but got {labels.min()} to {labels.max()}"
        )
    return labels


# Regression -----------------------------------------------------------------------------------------------------------


def squared_error_fwd(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """`mean_k (outputs_k - targets_k)^2`, and its slope `2 (outputs_k - targets_k) / K` for K targets.

    >>> squared_error_fwd(np.array([[1.0, 3.0]]), np.zeros((1, 2)))
    (array([5.]), array([[1., 3.]]))

    Args:
        outputs, targets: `[batch, targets]`.
    """
    error = outputs - targets
    return np.square(error).mean(axis=-1), error * (2 / error.shape[-1])


def huber_fwd(outputs: Array, targets: Array, delta: float = 1.0) -> tuple[Array, Array]:
    """`mean_k h(outputs_k - targets_k)`, quadratic near 0 and linear beyond delta, and its slope: Huber (1964).

    `h(e) = e^2 / 2` where `|e| <= delta`, else `delta (|e| - delta / 2)`; `h'(e) = clip(e, -delta, delta)`.

    >>> huber_fwd(np.array([[1.0], [3.0]]), np.zeros((2, 1)))[0]
    array([0.5, 2.5])

    Args:
        outputs, targets: `[batch, targets]`.
    """
    error = outputs - targets
    clipped = np.clip(error, -delta, delta)
    return (clipped * (error - 0.5 * clipped)).mean(axis=-1), clipped * (1 / error.shape[-1])


def pinball_fwd(outputs: Array, targets: Array, quantiles: tuple[float, ...]) -> tuple[Array, Array]:
    """`mean_k max(q_k e_k, (q_k - 1) e_k)` with `e_k = target - outputs_k`, and its slope: Koenker & Bassett (1978).

    The outputs that minimize it are the quantiles q of the target, given the features. The slope is `-q_k / K` for
    outputs below the target and `(1 - q_k) / K` above it.

    >>> pinball_fwd(np.array([[1.0], [3.0]]), np.array([[2.0], [2.0]]), (0.9,))[0].round(2)
    array([0.9, 0.1])

    Args:
        outputs: `[batch, quantiles]`.
        targets: `[batch, 1]`.
    """
    q = np.asarray(quantiles, outputs.dtype)
    error = targets - outputs
    slope = np.where(error > 0, -q, 1 - q)
    return -(slope * error).mean(axis=-1), slope * (1 / len(quantiles))


# The gradient of every loss -------------------------------------------------------------------------------------------


def loss_bwd(slope: Array, cotangent: Array) -> Array:
    """`doutputs = slope * dloss`, with the slope of any `_fwd` of this module and dloss `[batch]`."""
    return slope * cotangent[:, None]
