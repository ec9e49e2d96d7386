"""Memory that the processor reads and writes at full speed."""

import math

import numpy as np
import numpy.typing as npt

from fnet.nn import Array

CACHE_LINE = 64  # bytes


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """As `numpy.empty`, but beginning at a cache line.

    NumPy's own arrays begin 16 bytes into one. Vectors of 64 bytes, as wide as a cache line, then straddle two, and a
    product of two 64 x 256 arrays into a third takes 3.5 us instead of 1.8.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + CACHE_LINE, np.uint8)
    start = -memory.__array_interface__["data"][0] % CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def empty_like(array: Array) -> Array:
    """`empty` of the shape and dtype of an array."""
    return empty(array.shape, array.dtype)
