"""Noise in the training examples, as pure functions of a key."""

from fnet import random as frandom
from fnet.nn import Array
from fnet.random import Key


def mixup(key: Key, x: Array, targets: Array, alpha: float) -> tuple[Array, Array]:
    """Mix each example with another one of the batch, features and targets alike: Zhang et al. (2018).

    `x' = c x + (1 - c) x[p]` and `targets' = c targets + (1 - c) targets[p]`, with one c from Beta(alpha, alpha) and a
    random permutation p of the batch.

    >>> import numpy as np
    >>> x, targets = mixup(frandom.key(0), np.ones((2, 3)), np.eye(2), 0.4)
    >>> targets.sum(axis=1)
    array([1., 1.])

    Args:
        x: `[batch, features]`.
        targets: `[batch, classes]` probabilities, see `fnet.losses.label_targets`.

    Raises:
        ValueError: alpha is not positive, or x and targets differ in length.
    """
    if len(x) != len(targets):
        raise ValueError(f"x has {len(x)} rows, but targets have {len(targets)}")
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, but got {alpha}")
    share_key, order_key = frandom.split(key)
    share = float(frandom.beta(share_key, alpha, alpha))
    order = frandom.permutation(order_key, len(x))
    return _mix(x, order, share), _mix(targets, order, share)


def gaussian_noise(key: Key, x: Array, std: float) -> Array:
    """`x + std * noise`, with standard normal noise: Bishop (1995).

    >>> import numpy as np
    >>> gaussian_noise(frandom.key(0), np.zeros((1, 2)), 0.0)
    array([[0., 0.]])

    Args:
        x: `[batch, features]`, standardized as a rule.
        std: of the noise, in the unit of x.

    Raises:
        ValueError: std is negative.
    """
    if not std >= 0:
        raise ValueError(f"std must be at least 0, but got {std}")
    noise = frandom.normal(key, x.shape, x.dtype)
    noise *= std
    noise += x
    return noise


def _mix(a: Array, order: Array, share: float) -> Array:
    mixed = a.take(order, axis=0)
    mixed *= 1 - share
    mixed += share * a
    return mixed
