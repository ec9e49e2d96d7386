"""The engine: the training step in preallocated memory, with NumPy or with loops compiled by Numba.

`fnet.fit` runs it. Its equations are in `fnet.nn`, `fnet.losses` and `fnet.optim`, and the tests compare it with them.
The step is in `step.py`, the kernels are in `numpy_kernels.py` and `numba_kernels.py`.
"""

from fnet.engine.step import ALONE, ENGINES, Engine, Processes, resolve

__all__ = ["ALONE", "ENGINES", "Engine", "Processes", "resolve"]
