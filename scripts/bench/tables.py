"""`fnet train` on a table beside others, by cross-validation: `python tables.py JSON`; prints a summary as JSON.

Each fold is written to a file, and fnet is what `fnet train --data FILE --target NAME` makes of it with no other
option, hence with the preset `tabular`: its options, job and model are those of `fnet.cli`. Several targets are an
.npz.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn import datasets, metrics
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import fnet
from fnet import model
from fnet.cli import results, train
from fnet.cli.job import make_job, member_data
from fnet.interop import sklearn as ours

ROWS = {"diamonds": 6000, "friedman": 1000, "oscillator": 1000}  # of a table that could have any number
WITH_QUANTILES = "diamonds-price"

FIRST_SEED = 1000  # of the folds; the preset was chosen on others


class Problem(NamedTuple):
    frame: pd.DataFrame
    targets: tuple[str, ...]  # the columns to predict
    classes: bool  # whether they are classes, or numbers


class Fold(NamedTuple):
    x: pd.DataFrame
    y: np.ndarray  # [rows] or [rows, targets]
    test_x: pd.DataFrame
    argv: list[str]  # of `fnet train`, for x and y


Predict = Callable[[], np.ndarray]  # of the test rows: the probabilities of the sorted classes, or the numbers
Contender = Callable[[Fold, int], Predict]  # trains


# The tables -----------------------------------------------------------------------------------------------------------


def load(name: str) -> Problem:
    """A raw table; a sample of rows of a large table."""
    match name:
        case "penguins":
            return Problem(_penguins(), ("species",), True)
        case "penguins-mass":
            return Problem(_penguins().dropna(subset="body_mass_g"), ("body_mass_g",), False)
        case "diamonds":
            return Problem(_diamonds(), ("cut",), True)
        case "diamonds-price":
            return Problem(_diamonds(), ("price",), False)
        case "friedman":  # Friedman (1991)
            x, y = datasets.make_friedman1(ROWS[name], noise=1.0, random_state=0)
            return Problem(pd.DataFrame(x).add_prefix("x").assign(y=y), ("y",), False)
        case "oscillator":
            return Problem(oscillator(ROWS[name]), ("margin",), False)
        case _:
            data = getattr(datasets, f"load_{name}")(as_frame=True)
            targets = tuple(np.atleast_1d(data.target.columns if data.target.ndim > 1 else data.target.name))
            return Problem(data.frame, targets, data.frame[targets[0]].dtype.kind == "i")


def _penguins() -> pd.DataFrame:
    return importlib.import_module("palmerpenguins").load_penguins()


def _diamonds() -> pd.DataFrame:
    diamonds = importlib.import_module("plotnine.data").diamonds
    return diamonds.sample(ROWS["diamonds"], random_state=0, ignore_index=True)


def oscillator(rows: int) -> pd.DataFrame:
    """A mass on two springs under a rectangular pulse, and its distance from yielding, `3 r - max |displacement|`.

    The oscillator and the distributions are those on which methods for surrogates are compared: Echard, Gayton &
    Lemaire (2011), "AK-MCS", Structural Safety 33, 145-154.
    """
    normal = np.random.default_rng(0).normal
    c1, c2, m, r, t1, force = (
        normal(mean, std, rows) for mean, std in ((1, 0.1), (0.1, 0.01), (1, 0.05), (0.5, 0.05), (1, 0.2), (1, 0.2))
    )
    frequency = np.sqrt((c1 + c2) / m)
    margin = 3 * r - np.abs(2 * force / (m * frequency**2) * np.sin(frequency * t1 / 2))
    return pd.DataFrame({"c1": c1, "c2": c2, "m": m, "r": r, "t1": t1, "force": force, "margin": margin})


def folds(problem: Problem, seeds: Sequence[int], folder: Path) -> Iterator[tuple[int, Fold, np.ndarray]]:
    """2 folds for each seed: the seed, the fold and the data."""
    x, y = problem.frame.drop(columns=list(problem.targets)), problem.frame[list(problem.targets)].to_numpy()
    y = y if y.shape[1] > 1 else y[:, 0].astype(str if problem.classes else float)
    splitter = StratifiedKFold if problem.classes else KFold
    for seed in seeds:
        for rows, test in splitter(2, shuffle=True, random_state=seed).split(x, y):
            if len(problem.targets) == 1:
                path = folder / "rows.csv"
                problem.frame.iloc[rows].to_csv(path, index=False)
                argv = ["--data", str(path), "--target", *problem.targets]
            else:
                path = folder / "rows.npz"
                np.savez(path, x=x.to_numpy()[rows], y=y[rows])
                argv = ["--data", str(path), "--preset", "tabular", "--valid-split", "random"]
            yield seed, Fold(x.iloc[rows], y[rows], x.iloc[test], argv), y[test]


# The contenders -------------------------------------------------------------------------------------------------------


def train_fnet(fold: Fold, seed: int, *options: str) -> Predict:
    """The training of `fnet train`, without options and files."""
    job = make_job(train.parse_args([*fold.argv, "--seed", str(seed), *options]))
    epochs = fnet.fit(
        job.config,
        job.train_config,
        *member_data(job, 0),
        key=fnet.random.key(job.seed),
        engine=job.engine,
        transform=job.data.transform,
    )
    states, records = zip(*epochs, strict=True)
    trained = results.make_model(job, [results.Trained(states[-1], list(records))])
    predict = model.predict_proba if job.data.classes else model.predict
    table = fold.test_x if job.data.encoder is None else fnet.data.from_columns(fold.test_x)
    return lambda: predict(trained, table)


def train_sklearn(fold: Fold, seed: int, estimator: Callable[..., Any]) -> Predict:
    """An estimator with default options behind imputation, one-hot encoding and scaling, also of numeric targets."""
    numeric = make_pipeline(SimpleImputer(), StandardScaler())
    text = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    columns = make_column_transformer(
        (numeric, make_column_selector(dtype_include="number")),
        (text, make_column_selector(dtype_exclude="number")),
    )
    return _fit(make_pipeline(columns, estimator(random_state=seed)), fold.x, fold.y, fold.test_x)


def train_with_categories(fold: Fold, seed: int, estimator: Callable[..., Any]) -> Predict:
    """An estimator that handles missing cells, categories and scaling itself."""
    text = fold.x.select_dtypes(exclude="number")
    x, test_x = (rows.astype(dict.fromkeys(text, "category")) for rows in (fold.x, fold.test_x))
    contender = estimator(random_state=seed)
    return _fit(contender if fold.y.ndim == 1 else MultiOutputRegressor(contender), x, fold.y, test_x)


def _fit(estimator: Any, x: pd.DataFrame, y: np.ndarray, test_x: pd.DataFrame) -> Predict:
    if y.dtype.kind == "f":
        estimator = TransformedTargetRegressor(estimator, transformer=StandardScaler())
    fitted = estimator.fit(x, y)
    return lambda: (fitted.predict if y.dtype.kind == "f" else fitted.predict_proba)(test_x)


def _realmlp(random_state: int) -> Any:
    pytabkit = importlib.import_module("pytabkit")
    return pytabkit.RealMLP_TD_S_Classifier(device="cpu", n_threads=1, random_state=random_state)


_SKLEARN = {True: MLPClassifier, False: MLPRegressor}
_OURS = {True: ours.MLPClassifier, False: ours.MLPRegressor}
_BOOSTING = {True: HistGradientBoostingClassifier, False: HistGradientBoostingRegressor}


def contenders(*, classes: bool) -> dict[str, Contender]:
    """The contenders for a kind of target; all are compared with the first."""
    found: dict[str, Contender] = {
        _SKLEARN[classes].__name__: partial(train_sklearn, estimator=_SKLEARN[classes]),
        "fnet train": train_fnet,
        f"fnet's {_OURS[classes].__name__}": partial(train_sklearn, estimator=_OURS[classes]),
        _BOOSTING[classes].__name__: partial(train_with_categories, estimator=_BOOSTING[classes]),
    }
    if classes and importlib.util.find_spec("pytabkit"):
        version = importlib.metadata.version("pytabkit")
        found[f"RealMLP_TD_S_Classifier of pytabkit {version}"] = partial(train_sklearn, estimator=_realmlp)
    return found


# The comparison -------------------------------------------------------------------------------------------------------


def compare(data: str, repeats: int) -> dict[str, Any]:
    """The rows of a table of means, with standard errors of the differences in each fold, and the numbers with limits.

    Of `fnet train` and of fnet's estimator, `worse` is by how much they are worse than scikit-learn's network in log
    loss or R², and its standard error; `on average` is by how much in the percentage of errors or R².
    """
    problem = load(data)
    measures = ["log loss", "error, %"] if problem.classes else ["R²"]
    scores = cross_validate(problem, repeats)
    first = next(iter(scores))
    rows = [[data, "contender", *(cell for measure in measures for cell in (measure, "difference")), "seconds"]]
    for name, own in scores.items():
        difference = own - scores[first]
        cells = [f"{data}, {len(problem.frame):,} rows" if name == first else "", name]
        for i in range(len(measures)):
            mean, error = difference[:, i].mean(), _standard_error(difference[:, i])
            places = max(0, 1 - math.floor(math.log10(error))) if error else 4
            cells += [f"{own[:, i].mean():.4g}", "" if name == first else f"{mean:+.{places}f} ± {error:.{places}f}"]
        rows.append([*cells, f"{own[:, -1].mean():.3f}"])
    answer: dict[str, Any] = {"rows": rows, "fnet": {}}
    if data == WITH_QUANTILES:
        answer["coverage"] = coverage(problem, repeats)
    for name in [name for name in scores if name.startswith("fnet")]:
        difference = scores[name] - scores[first]
        sign = 1 if problem.classes else -1
        answer["fnet"][name] = {
            "worse": [sign * difference[:, 0].mean(), _standard_error(difference[:, 0])],
            "on average": difference[:, 1].mean() if problem.classes else -difference[:, 0].mean(),
            "seconds": scores[name][:, -1].mean() / scores[first][:, -1].mean(),
        }
    return answer


def coverage(problem: Problem, repeats: int) -> list[float]:
    """Of each fold, the share of test rows in the interval of `fnet train --quantiles 0.1 0.9`, which should be 0.8."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            fnet.metrics.coverage(truth, train_fnet(fold, seed, "--quantiles", "0.1", "0.9")())
            for seed, fold, truth in folds(problem, range(FIRST_SEED, FIRST_SEED + repeats), Path(folder))
        ]


def cross_validate(problem: Problem, repeats: int) -> dict[str, np.ndarray]:
    """The scores and seconds of each contender, `[folds, scores + 1]`, in turns with a changing order."""
    trainers = contenders(classes=problem.classes)
    scores: dict[str, list[list[float]]] = {name: [] for name in trainers}
    with tempfile.TemporaryDirectory() as folder:
        for i, (seed, fold, truth) in enumerate(folds(problem, range(FIRST_SEED, FIRST_SEED + repeats), Path(folder))):
            if i == 0:  # compiles and imports what is not yet
                for train_it in trainers.values():
                    train_it(fold, seed)
            names = [*trainers]
            for name in names[i % len(names) :] + names[: i % len(names)]:
                started = time.process_time()
                predict = trainers[name](fold, seed)
                seconds = time.process_time() - started
                scores[name].append([*score(truth, predict()), seconds])
    return {name: np.array(values) for name, values in scores.items()}


def score(truth: np.ndarray, predicted: np.ndarray) -> list[float]:
    """Mean cross entropy and percentage of errors of probabilities; R² of numbers."""
    if truth.dtype.kind == "f":
        return [float(metrics.r2_score(truth, predicted))]
    classes = np.unique(truth)
    error = 100 * np.mean(classes[predicted.argmax(axis=1)] != truth)
    return [float(metrics.log_loss(truth, predicted.astype(np.float64), labels=classes)), float(error)]


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # scikit-learn's default is 200 epochs at most
        print(json.dumps(compare(**json.loads(sys.argv[1]))))
