"""The engine: the training step of floor 1 on fixed memory, in loops of NumPy's or compiled by Numba.

`fnet.fit` runs it. The equations that it computes are in `fnet.nn`, `fnet.losses` and `fnet.optim`; the tests hold it
to them. `step.py` has the step, `numpy_kernels.py` and `numba_kernels.py` its loops.
"""

from fnet.engine.step import ALONE, ENGINES, Engine, Processes, resolve

__all__ = ["ALONE", "ENGINES", "Engine", "Processes", "resolve"]
