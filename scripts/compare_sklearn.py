"""Compare MLPClassifier with scikit-learn's, each with its defaults, and print a Markdown table.

    python scripts/compare_sklearn.py [--repeats 10] [--raw]

Accuracy is the mean of repeated stratified 5-fold cross-validation, in percent, with its standard error over the
repeats; the difference is of the same folds and seeds. A StandardScaler stands in front; with --raw none does, and
fnet is there twice, the second time with standardize=True.
"""

import _threads  # noqa: I001  # before NumPy

import argparse
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

DATASETS = {
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or ""), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10, metavar="N", help="of cross-validation (default 10)")
    parser.add_argument("--data", nargs="+", choices=tuple(DATASETS), default=tuple(DATASETS))
    parser.add_argument("--raw", action="store_true", help="no StandardScaler in front")
    _threads.add_option(parser)
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error(f"--repeats must be at least 1, but got {args.repeats}")
    contenders: dict[str, Callable[..., Any]] = {"scikit-learn": Theirs, "fnet": Ours}
    if args.raw:
        contenders["fnet, standardize=True"] = partial(Ours, standardize=True)
    print(table(contenders, args.data, args.repeats, raw=args.raw))
    return 0


def table(contenders: dict[str, Callable[..., Any]], names: list[str], repeats: int, *, raw: bool) -> str:
    """A row a data set; all contenders are compared with the first."""
    first, *others = contenders
    header = [
        "data",
        "rows",
        *contenders,
        *(f"{name} - {first}" for name in others),
        *(f"{n}, s/fit" for n in contenders),
    ]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for name in names:
        x, y = DATASETS[name](return_X_y=True)
        scores, seconds = {}, {}
        for contender, make in contenders.items():
            started = time.perf_counter()
            scores[contender] = np.array([score(make, x, y, seed, raw=raw) for seed in range(repeats)])
            seconds[contender] = (time.perf_counter() - started) / (5 * repeats)
        lines.append(
            [
                name,
                str(len(y)),
                *(mean_and_error(scores[contender]) for contender in contenders),
                *(mean_and_error(scores[other] - scores[first], sign="+") for other in others),
                *(f"{seconds[contender]:.2f}" for contender in contenders),
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def score(make: Callable[..., Any], x: Any, y: Any, seed: int, *, raw: bool) -> float:
    """The mean accuracy of 5 folds, in percent."""
    estimator = make(random_state=seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # scikit-learn's default is 200 iterations at most
        return (
            100
            * cross_val_score(estimator if raw else make_pipeline(StandardScaler(), estimator), x, y, cv=folds).mean()
        )


def mean_and_error(values: np.ndarray, sign: str = "") -> str:
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{values.mean():{sign}.2f} ± {error:.2f}"


if __name__ == "__main__":
    raise SystemExit(main())
