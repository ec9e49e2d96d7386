"""Random keys and draws from them, in the style of `jax.random`.

A key is data, not a generator: the same key gives the same draw, always. To draw twice, `split` the key, or
`fold_in` a counter, and use each new key once. A draw is a new, writable array; a draw of shape () is a 0-d array.

Everything is computed from the raw words of NumPy's SFC64 bit generator, which NumPy promises to keep the same in all
versions (it does not promise this for its `Generator` methods). SFC64 is seeded with three words: the two words of the
key, and one for the purpose: draw, split, or fold-in with its number. This is sound for these reasons:

- The state of SFC64 is these words and a counter, and each step maps distinct states to distinct states. The
  streams of distinct keys or purposes therefore share no state within 2^64 words.
- The words of nearby keys and neighbouring steps are unrelated after the first 18, which the author of SFC64 discards
  after seeding with three words (C. Doty-Humphrey, PractRand, `src/RNGs/sfc.cpp`). NumPy discards 12, this module 6
  more.
- A new key is the first 128 bits of its stream: among a billion keys, two are equal with a probability of 2e-21.

It is not a cryptographic generator.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.random.bit_generator import ISeedSequence

__all__ = ["Key", "bernoulli", "bits", "fold_in", "key", "normal", "permutation", "split", "uniform"]

Key: TypeAlias = npt.NDArray[np.uint64]
Shape: TypeAlias = int | Sequence[int]

# The third word: a purpose in two bits, a number in the other 62.
DRAW, SPLIT, FOLD_IN, FOLD_IN_PART = range(4)
_NUMBER_BITS = 62
_DISCARDED = 6  # words, after NumPy's 12
_UINT64 = np.dtype(np.uint64)


def key(seed: int) -> Key:
    """Make a key from a seed: two read-only 64-bit words from `numpy.random.SeedSequence`.

    >>> key(0)
    array([15793235383387715774, 12390638538380655177], dtype=uint64)

    Raises:
        TypeError: the seed is not an integer.
        ValueError: the seed is negative.
    """
    words = np.random.SeedSequence(_natural("seed", seed)).generate_state(2, np.uint64)
    return _read_only(np.asarray(words, np.uint64))


def split(key: Key, num: int = 2) -> tuple[Key, ...]:
    """`num` new keys, independent of each other and of `key`, which should not be used again.

    >>> first, second = split(key(0))

    Raises:
        TypeError, ValueError: `num` is not an integer or is negative; `key` is not a key.
    """
    num = _natural("num", num)
    return tuple(_read_only(_words(_sfc64(key, SPLIT), 2 * num)).reshape(num, 2))


def fold_in(key: Key, data: int) -> Key:
    """A new key from a key and a number of any size, such as the number of a step.

    >>> bool((fold_in(key(0), 1) == fold_in(key(0), 2)).all())
    False

    Raises:
        TypeError, ValueError: `data` is not an integer or is negative; `key` is not a key.
    """
    data = _natural("data", data)
    while data >> _NUMBER_BITS:
        key = _words(_sfc64(key, FOLD_IN_PART, data % 2**_NUMBER_BITS), 2)
        data >>= _NUMBER_BITS
    return _read_only(_words(_sfc64(key, FOLD_IN, data), 2))


def bits(key: Key, shape: Shape = (), dtype: npt.DTypeLike = "uint32") -> npt.NDArray[Any]:
    """Uniform random bits as an unsigned integer `dtype` of 8, 16, 32 or 64 bits.

    >>> bits(key(0), (3,), np.uint8)
    array([103, 138, 221], dtype=uint8)

    Raises:
        TypeError, ValueError: `dtype` is another type, `shape` is not a shape, or `key` is not a key.
    """
    dtype, shape = np.dtype(dtype), _shape(shape)
    if dtype.kind != "u":
        raise TypeError(f"dtype must be an unsigned integer type such as numpy.uint32, not {dtype}")
    size = math.prod(shape)
    words = _words(_bit_generator(key), -(-size * dtype.itemsize // 8))
    return words.view(dtype)[:size].reshape(shape)


def uniform(
    key: Key,
    shape: Shape = (),
    dtype: npt.DTypeLike = "float32",
    minval: float = 0.0,
    maxval: float = 1.0,
) -> npt.NDArray[Any]:
    """Uniform draws from [minval, maxval), both rounded to the dtype: 24 random bits each in float32, 53 in float64.

    >>> uniform(key(0), (2,))
    array([0.19478667, 0.12646502], dtype=float32)

    Raises:
        TypeError: the dtype is not float32 or float64.
        ValueError: minval is not less than maxval in the dtype, or their difference is not finite.
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


def normal(key: Key, shape: Shape = (), dtype: npt.DTypeLike = "float32") -> npt.NDArray[Any]:
    """Standard normal draws, by the transform of Box & Muller (1958).

    `sqrt(-2 log u) cos(2 pi v)` and `sqrt(-2 log u) sin(2 pi v)` for u in (0, 1], v in [0, 1].

    >>> normal(key(0), (2,), "float64").round(3)
    array([ 0.061, -2.033])

    Raises:
        TypeError: the dtype is not float32 or float64.
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


def permutation(key: Key, x: int | npt.ArrayLike) -> npt.NDArray[Any]:
    """The numbers 0 to x - 1 in random order, or the rows of the array x in random order.

    >>> permutation(key(0), 6)
    array([4, 0, 5, 2, 1, 3])

    Raises:
        TypeError, ValueError: x is neither an array nor an integer of at least 0.
    """
    rows = np.asarray(x)
    if rows.ndim:
        return rows.take(permutation(key, len(rows)), axis=0)
    num = _natural("x", x)
    # High bits random, low bits the number: no two words are equal, so every sorting algorithm gives the same order.
    width = num.bit_length()
    words = bits(key, num, np.uint64)
    words >>= np.uint64(width)
    words <<= np.uint64(width)
    words |= np.arange(num, dtype=np.uint64)
    words.sort()
    words &= np.uint64(2**width - 1)
    return words.astype(np.intp)


class _Seed(ISeedSequence):
    """A seed sequence that passes three words to SFC64 unchanged, where `SeedSequence` would hash them."""

    def __init__(self, words: npt.NDArray[np.uint64]) -> None:
        self.words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> npt.NDArray[np.uint64]:
        return self.words


def _bit_generator(key: Key) -> np.random.SFC64:
    """The generator of every draw; `fnet.testing.check_key_reuse` replaces it to watch keys."""
    return _sfc64(key, DRAW)


def _sfc64(key: Key, purpose: int, number: int = 0) -> np.random.SFC64:
    words = np.empty(3, np.uint64)
    words[:2] = _checked(key)
    words[2] = number << 2 | purpose  # last, because SFC64 mixes in its first word most slowly
    return np.random.SFC64(_Seed(words))  # pyright: ignore[reportArgumentType]


def _words(generator: np.random.SFC64, size: int) -> npt.NDArray[np.uint64]:
    return generator.random_raw(_DISCARDED + size)[_DISCARDED:]


def _read_only(words: Key) -> Key:
    words.flags.writeable = False
    return words


def _checked(key: Any) -> Key:
    words = np.asarray(key)
    if words.dtype != _UINT64 or words.shape != (2,):
        raise TypeError(f"key must come from fnet.random.key(seed), split or fold_in, but got {key!r}")
    return words


def _natural(name: str, value: Any) -> int:
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name} must be an integer, but got {value!r}")
    if number < 0:
        raise ValueError(f"{name} must be 0 or more, but got {number}")
    return number


def _shape(shape: Shape) -> tuple[int, ...]:
    dims = shape if isinstance(shape, tuple) else tuple(shape) if isinstance(shape, Sequence) else (shape,)
    return tuple([_natural("shape", dim) for dim in dims])


def _floating(dtype: npt.DTypeLike) -> np.dtype[Any]:
    dtype = np.dtype(dtype)
    if dtype.type not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, not {dtype}")
    return dtype
