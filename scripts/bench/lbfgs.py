"""fnet's MLPClassifier beside scikit-learn's, both with L-BFGS: `python lbfgs.py JSON`; prints a table as JSON."""

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from report import ratios, spread
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier as Theirs
from sklearn.preprocessing import StandardScaler

from fnet.interop.sklearn import MLPClassifier as Ours

ALPHA = 1e-4  # scikit-learn's default
ITERATIONS = 200  # at most, its default too


def compare(data: str, repeats: int) -> list[list[tuple[Any, ...]]]:
    """The rows of a table, the rows of fnet-numba with limits for its seconds and its loss, those of scikit-learn."""
    x, y = getattr(datasets, f"load_{data}")(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    rows: list[list[tuple[Any, ...]]] = []
    for dtype in ("float64", "float32"):
        found = fit(x.astype(dtype), y, repeats)
        what = f"{data}, {dtype}"
        lowest, theirs = statistics.fmean(found["scikit-learn"]["loss"]), found["scikit-learn"]["seconds"]
        for name, own in found.items():
            loss, iterations = statistics.fmean(own["loss"]), statistics.fmean(own["iterations"])
            ratio = ratios(own["seconds"], theirs)
            rows.append([(what, name, f"{loss:.3g}", f"{iterations:.1f}", spread(own["seconds"]), spread(ratio))])
            if name == "fnet-numba":
                rows[-1] += [(f"{what}: seconds / scikit-learn's", statistics.median(ratio), 1)]
                rows[-1] += [(f"{what}: loss / scikit-learn's", loss / lowest, 1)]
    return rows


def fit(x: np.ndarray, y: np.ndarray, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Of each contender, for each seed, what it minimizes at its end, its iterations, and its seconds; in turns."""
    ours = partial(Ours, weight_decay=ALPHA / len(x))
    contenders: dict[str, Callable[..., Any]] = {
        "scikit-learn": partial(Theirs, alpha=ALPHA),
        "fnet-numba": partial(ours, engine="numba"),
        "fnet-numpy": partial(ours, engine="numpy"),
    }
    found = {name: {"loss": [], "iterations": [], "seconds": []} for name in contenders}
    for make in contenders.values():  # compiles
        _fit(make(solver="lbfgs", max_iter=2), x, y)
    for seed in range(repeats):
        names = [*contenders]
        for name in names[seed % 3 :] + names[: seed % 3]:
            estimator = contenders[name]((100,), solver="lbfgs", max_iter=ITERATIONS, random_state=seed)
            started = time.perf_counter()
            _fit(estimator, x, y)
            found[name]["seconds"].append(time.perf_counter() - started)
            found[name]["loss"].append(minimized(estimator, x, y))
            found[name]["iterations"].append(estimator.n_iter_)
    return found


def _fit(estimator: Any, x: np.ndarray, y: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # that the iterations were too few
        estimator.fit(x, y)


def minimized(estimator: Any, x: np.ndarray, y: np.ndarray) -> float:
    """The mean cross entropy and the decay of the weights."""
    if isinstance(estimator, Ours):
        ((params, _),) = estimator.model_.members
        weights = [layer.linear.w for layer in params]
    else:
        weights = estimator.coefs_
    entropy = -estimator.predict_log_proba(x)[np.arange(len(y)), y].mean(dtype=np.float64)
    return float(entropy + ALPHA / (2 * len(x)) * sum(np.sum(w.astype(np.float64) ** 2) for w in weights))


if __name__ == "__main__":
    print(json.dumps(compare(**json.loads(sys.argv[1]))))
