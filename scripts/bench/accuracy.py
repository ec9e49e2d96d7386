"""fnet's MLPClassifier and scikit-learn's: `python accuracy.py JSON` prints the rows of a table as JSON."""

import json
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier as Theirs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fnet.interop.sklearn import MLPClassifier as Ours

CONTENDERS: dict[str, Callable[..., Any]] = {"scikit-learn": Theirs, "fnet": Ours}
RAW_CONTENDERS = {**CONTENDERS, "fnet, standardize=True": partial(Ours, standardize=True)}


def compare(data: list[str], repeats: int, raw: bool) -> list[list[str]]:
    """A header and a row per data set; all contenders are compared with the first."""
    contenders = RAW_CONTENDERS if raw else CONTENDERS
    first, *others = contenders
    differences, times = [f"{name} - {first}" for name in others], [f"{name}, s/fit" for name in contenders]
    rows = [["data", "rows", *contenders, *differences, *times]]
    for name in data:
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        scores, seconds = {}, {}
        for contender, make in contenders.items():
            started = time.perf_counter()
            scores[contender] = np.array([score(make, x, y, seed, raw=raw) for seed in range(repeats)])
            seconds[contender] = (time.perf_counter() - started) / (5 * repeats)
        accuracies = [mean_and_error(scores[contender]) for contender in contenders]
        gains = [mean_and_error(scores[other] - scores[first], sign="+") for other in others]
        rows.append([name, str(len(y)), *accuracies, *gains, *(f"{seconds[c]:.2f}" for c in contenders)])
    return rows


def score(make: Callable[..., Any], x: Any, y: Any, seed: int, *, raw: bool) -> float:
    """The mean accuracy of 5 folds, in percent."""
    estimator = make(random_state=seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # scikit-learn's default is 200 iterations at most
        pipeline = estimator if raw else make_pipeline(StandardScaler(), estimator)
        options: dict[str, Any] = {"cv": folds, "error_score": "raise"}
        return 100 * cross_val_score(pipeline, x, y, **options).mean()


def mean_and_error(values: np.ndarray, sign: str = "") -> str:
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{values.mean():{sign}.2f} ± {error:.2f}"


if __name__ == "__main__":
    print(json.dumps(compare(**json.loads(sys.argv[1]))))
