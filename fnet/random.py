"""Random keys, and the draws made from them, in the style of `jax.random`.

A key is data, not a generator: the same key gives the same draw, always. To draw twice, `split` the key, or
`fold_in` a counter, and use each new key once.

Every draw is computed from the raw words of NumPy's SFC64 bit generator, seeded by hashing the key with
`numpy.random.SeedSequence`. NumPy promises that both stay the same in all versions, which it does not promise of
its `Generator` methods. A draw is a new array of the caller's own; of shape (), it is an array without axes.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Key: TypeAlias = npt.NDArray[np.uint32]
Shape: TypeAlias = int | Sequence[int]

# What a new key is made from, besides the old one: kept apart so that split and fold_in never meet.
_SPLIT, _FOLD_IN = 0, 1
_WORD = 0xFFFFFFFF


def key(seed: int) -> Key:
    """The key of a seed: four read-only words of 32 bits.

    >>> key(0)
    array([2968811710, 3677149159,  745650761, 2884920346], dtype=uint32)

    Raises:
        TypeError: the seed is not an integer.
        ValueError: the seed is negative.
    """
    return _words(np.random.SeedSequence(_natural("seed", seed)))


def split(key: Key, num: int = 2) -> tuple[Key, ...]:
    """`num` new keys, independent of each other and of `key`, which should not be used again.

    >>> first, second = split(key(0))

    Raises:
        TypeError, ValueError: `num` is not an integer, or negative; the key is none.
    """
    return tuple(_derived(key, _SPLIT, i) for i in range(_natural("num", num)))


def fold_in(key: Key, data: int) -> Key:
    """A new key from a key and a counter, such as the number of a step.

    >>> bool((fold_in(key(0), 1) == fold_in(key(0), 2)).all())
    False

    Raises:
        TypeError, ValueError: `data` is not an integer, or negative.
    """
    return _derived(key, _FOLD_IN, _natural("data", data))


def bits(key: Key, shape: Shape = (), dtype: npt.DTypeLike = np.uint32) -> npt.NDArray[Any]:
    """Uniform random bits as an unsigned integer `dtype` of 8, 16, 32 or 64 bits.

    >>> bits(key(0), (3,), np.uint8)
    array([ 73, 204, 152], dtype=uint8)

    Raises:
        TypeError, ValueError: a dtype, a shape or a key that is none of these.
    """
    dtype, shape = np.dtype(dtype), _shape(shape)
    if dtype.kind != "u":
        raise TypeError(f"dtype must be an unsigned integer type such as numpy.uint32, not {dtype}")
    size = math.prod(shape)
    words = _bit_generator(key).random_raw(-(-size * dtype.itemsize // 8))
    return words.view(dtype)[:size].reshape(shape)


def uniform(
    key: Key,
    shape: Shape = (),
    dtype: npt.DTypeLike = np.float32,
    minval: float = 0.0,
    maxval: float = 1.0,
) -> npt.NDArray[Any]:
    """Uniform draws from [minval, maxval), both rounded to the dtype: 24 random bits each in float32, 53 in float64.

    >>> uniform(key(0), (2,))
    array([0.52967525, 0.00188667], dtype=float32)

    Raises:
        TypeError: a dtype that is not float32 or float64.
        ValueError: in the dtype, minval is not less than maxval, or their difference is not finite.
    """
    dtype = _floating(dtype)
    if not minval < maxval:
        raise ValueError(f"minval must be less than maxval, but got {minval} and {maxval}")
    low, high = float(minval), float(maxval)
    if not max(-low, high, high - low) <= float(np.finfo(dtype).max):
        raise ValueError(f"maxval - minval must be finite in {dtype}, but got {minval} and {maxval}")
    if dtype.type(minval) == dtype.type(maxval):
        raise ValueError(f"minval and maxval are the same number in {dtype}: {minval} and {maxval}")
    word, drop, keep = ("uint32", 8, 24) if dtype == np.float32 else ("uint64", 11, 53)
    draw = bits(key, shape, word)
    unit = (draw >> draw.dtype.type(drop)).astype(dtype) * dtype.type(2.0**-keep)
    below = np.nextafter(dtype.type(maxval), dtype.type(minval))  # rounding must not give maxval
    return np.asarray(np.minimum(unit * dtype.type(high - low) + dtype.type(low), below))


def normal(key: Key, shape: Shape = (), dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Standard normal draws, by the transform of Box & Muller (1958).

    `sqrt(-2 log u) cos(2 pi v)` and `sqrt(-2 log u) sin(2 pi v)` for u in (0, 1), v in [0, 1).

    >>> normal(key(0), (2,), "float64").round(3)
    array([-1.205,  3.331])

    Raises:
        TypeError: a dtype that is not float32 or float64.
    """
    dtype, shape = _floating(dtype), _shape(shape)
    size = math.prod(shape)
    pairs = -(-size // 2)
    word, width = (np.uint32, 32) if dtype == np.float32 else (np.uint64, 64)
    u, v = bits(key, (2, pairs), word).astype(dtype)
    u += 0.5  # so that u is never 0
    u *= 2.0**-width
    v *= 2.0**-width
    radius = np.sqrt(-2 * np.log(u))
    angle = 2 * math.pi * v
    out = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return out[:size].reshape(shape)


def bernoulli(key: Key, p: float = 0.5, shape: Shape = ()) -> npt.NDArray[np.bool_]:
    """True with probability p.

    >>> bernoulli(key(0), 0.9, (4,))
    array([ True,  True,  True,  True])

    Raises:
        ValueError: p is not in [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p must be a probability in [0, 1], but got {p}")
    return np.asarray(uniform(key, shape, np.float64) < p)


def beta(key: Key, a: float, b: float, shape: Shape = ()) -> npt.NDArray[np.float64]:
    """Draws from the beta distribution, by `numpy.random.Generator.beta`, whose stream NumPy may change one day.

    >>> bool(0 < beta(key(0), 0.4, 0.4) < 1)
    True

    Raises:
        ValueError: a or b is not positive.
    """
    if not (a > 0 and b > 0):
        raise ValueError(f"a and b must be positive, but got {a} and {b}")
    generator = np.random.Generator(_bit_generator(key))
    return np.asarray(generator.beta(a, b, _shape(shape)))


def permutation(key: Key, x: int | npt.ArrayLike) -> npt.NDArray[Any]:
    """The numbers 0 to x - 1 in random order, or the rows of the array x in random order.

    >>> permutation(key(0), 6)
    array([0, 1, 2, 3, 5, 4])

    Raises:
        TypeError, ValueError: x is neither an array nor an integer of at least 0.
    """
    rows = np.asarray(x)
    if rows.ndim == 0:
        return np.argsort(bits(key, _natural("x", x), np.uint64), kind="stable")
    return rows.take(permutation(key, len(rows)), axis=0)


def _bit_generator(key: Key) -> np.random.SFC64:
    # The fastest of NumPy's generators: 26 us for the dropout bits of a step, against 42 us with Philox.
    return np.random.SFC64(np.random.SeedSequence(_checked(key)))  # pyright: ignore[reportArgumentType]


def _words(sequence: np.random.SeedSequence) -> Key:
    words = sequence.generate_state(4).astype(np.uint32, copy=False)
    words.flags.writeable = False
    return words


def _derived(key: Key, use: int, number: int) -> Key:
    """The words of `SeedSequence(key, spawn_key=(use, number))`, which takes three times as long when called so."""
    words = [*_checked(key).tolist(), use, number & _WORD]
    while number := number >> 32:
        words.append(number & _WORD)
    return _words(np.random.SeedSequence(np.array(words, np.uint32)))  # pyright: ignore[reportArgumentType]


def _checked(key: Any) -> Key:
    words = np.asarray(key)
    if words.dtype != np.uint32 or words.shape != (4,):
        raise TypeError(f"key must come from fnet.random.key(seed), split or fold_in, but got {key!r}")
    return words


def _natural(name: str, value: Any) -> int:
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an integer, but got {value!r}")
    try:
        number = value.__index__()
    except (AttributeError, TypeError):
        raise TypeError(f"{name} must be an integer, but got {value!r}") from None
    if number < 0:
        raise ValueError(f"{name} must be 0 or more, but got {number}")
    return number


def _shape(shape: Shape) -> tuple[int, ...]:
    dims = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    return tuple(_natural("shape", dim) for dim in dims)


def _floating(dtype: npt.DTypeLike) -> np.dtype[Any]:
    dtype = np.dtype(dtype)
    if dtype.name not in ("float32", "float64"):
        raise TypeError(f"dtype must be float32 or float64, not {dtype}")
    return dtype
