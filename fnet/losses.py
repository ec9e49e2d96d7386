"""Softmax and cross entropy. Losses are per example, as in Optax; the caller takes the mean.

Classes are on the last axis of the logits, which are floats. All are computed from `logits - max(logits)`, so that no
exponential overflows: the report's Eq. (5) and (6), and Goodfellow, Bengio & Courville (2016), section 4.1.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fnet.nn import Array


def softmax(logits: Array) -> Array:
    """`exp(logits_k) / sum_j exp(logits_j)`, the report's Eq. (5).

    >>> softmax(np.array([[0.0, 0.0]]))
    array([[0.5, 0.5]])

    Raises:
        TypeError, ValueError: logits that are not floats `[..., classes]`.
    """
    logits = _check_logits(logits)
    out = np.exp(logits - logits.max(axis=-1, keepdims=True))
    out /= out.sum(axis=-1, keepdims=True)
    return out


def log_softmax(logits: Array) -> Array:
    """`logits_k - log sum_j exp(logits_j)`, finite for all finite logits.

    >>> log_softmax(np.array([0.0, 1e4]))
    array([-10000.,      0.])

    Raises:
        TypeError, ValueError: as `softmax`.
    """
    logits = _check_logits(logits)
    shifted = logits - np.maximum.reduce(logits, axis=-1, keepdims=True)
    shifted -= np.log(np.add.reduce(np.exp(shifted), axis=-1, keepdims=True))
    return shifted


def softmax_cross_entropy(logits: Array, targets: Array) -> Array:
    """`-sum_k targets_k log softmax(logits)_k`, the report's Eq. (6).

    Args:
        logits: `[batch, classes]`.
        targets: `[batch, classes]` probabilities.

    Returns:
        The loss of each example, `[batch]`, in the dtype of the logits.

    Raises:
        TypeError, ValueError: as `softmax`; the shapes differ.
    """
    logits, targets = _check_logits(logits), np.asarray(targets)
    if targets.dtype.kind not in "fiub":
        raise TypeError(f"targets must be numbers, but got {targets.dtype}")
    return softmax_cross_entropy_fwd(logits, targets.astype(logits.dtype, copy=False))[0]


def softmax_cross_entropy_with_integer_labels(
    logits: Array, labels: npt.NDArray[np.integer], *, label_smoothing: float = 0.0
) -> Array:
    """The cross entropy with the labels as targets, smoothed where `label_smoothing` > 0.

    >>> softmax_cross_entropy_with_integer_labels(np.zeros((1, 2)), np.array([1])).round(4)
    array([0.6931])

    Args:
        logits: `[batch, classes]`.
        labels: `[batch]` integers from 0 to classes - 1.
        label_smoothing: see `label_targets`.

    Raises:
        TypeError, ValueError: as `softmax`; labels that are not integers, of another length or out of range.
    """
    logits = _check_logits(logits)
    targets = label_targets(labels, logits.shape[-1], label_smoothing, logits.dtype)
    return softmax_cross_entropy(logits, targets)


def label_targets(
    labels: npt.NDArray[np.integer],
    num_classes: int,
    label_smoothing: float = 0.0,
    dtype: npt.DTypeLike = np.float32,
) -> Array:
    """Labels as probabilities: `(1 - s) one_hot(label) + s / num_classes`, Szegedy et al. (2016), section 7.

    >>> label_targets(np.array([0, 1]), 2, 0.5)
    array([[0.75, 0.25],
           [0.25, 0.75]], dtype=float32)

    Raises:
        TypeError, ValueError: labels that are not integers in [0, num_classes), smoothing outside [0, 1].
    """
    labels = check_labels(labels, num_classes)
    targets = np.equal(labels[:, None], np.arange(num_classes)).astype(dtype)
    return smooth_targets(targets, label_smoothing)


def smooth_targets(targets: Array, label_smoothing: float) -> Array:
    """Targets mixed with the uniform distribution: `(1 - s) targets + s / num_classes`.

    >>> smooth_targets(np.array([1.0, 0.0]), 0.5)
    array([0.75, 0.25])

    Raises:
        ValueError: smoothing outside [0, 1].
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1], but got {label_smoothing}")
    if label_smoothing == 0:
        return targets
    label_smoothing = float(label_smoothing)  # a float64 of NumPy would make the targets float64
    return (1 - label_smoothing) * targets + label_smoothing / targets.shape[-1]


def check_labels(labels: npt.ArrayLike, num_classes: int) -> npt.NDArray[np.integer]:
    """The labels as an array, if they are integers `[batch]` in [0, num_classes).

    Raises:
        TypeError, ValueError: they are not; says what they are.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"labels must be integers, but got {labels.dtype}; "
            "fnet.data.load turns names into integers, labels.astype(int) turns floats"
        )
    if labels.ndim != 1:
        raise ValueError(f"labels must have shape [batch], but got {labels.shape}")
    if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
        raise ValueError(
            f"labels must be from 0 to {num_classes - 1} for {num_classes} classes, "
            f"but got {labels.min()} to {labels.max()}"
        )
    return labels


def _check_logits(logits: npt.ArrayLike) -> Array:
    logits = np.asarray(logits)
    if logits.dtype.kind != "f":
        raise TypeError(f"logits must be floats, but got {logits.dtype}; logits.astype(numpy.float32) turns integers")
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have shape [..., classes], but got {list(logits.shape)}")
    return logits


class CrossEntropyResiduals(NamedTuple):
    """What `softmax_cross_entropy_bwd` needs."""

    log_probabilities: Array  # [batch, classes]
    targets: Array  # [batch, classes]


def softmax_cross_entropy_fwd(logits: Array, targets: Array) -> tuple[Array, CrossEntropyResiduals]:
    """`softmax_cross_entropy` and what its gradient needs.

    Raises:
        TypeError, ValueError: as `softmax`; the shapes differ.
    """
    if logits.shape != targets.shape:
        raise ValueError(f"targets must have the shape of the logits, {logits.shape}, but got {targets.shape}")
    log_probabilities = log_softmax(logits)
    loss = np.vecdot(targets, log_probabilities)
    return np.negative(loss), CrossEntropyResiduals(log_probabilities, targets)


def softmax_cross_entropy_bwd(residuals: CrossEntropyResiduals, cotangent: Array) -> Array:
    """`dlogits = (softmax(logits) * sum_k targets_k - targets) * dloss`, with dloss `[batch]`."""
    log_probabilities, targets = residuals
    dlogits = np.exp(log_probabilities)
    dlogits *= np.add.reduce(targets, axis=-1, keepdims=True)
    dlogits -= targets
    dlogits *= cotangent[..., None]
    return dlogits
