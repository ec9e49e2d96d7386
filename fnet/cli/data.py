"""The data of a run, as named on the command line: arrays, or a table with a target."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

import fnet
from fnet import Dataset, metrics
from fnet.cli.presets import PRESETS
from fnet.data import Classes, EncodeNotes, Encoder, Standardizer, TargetScale, arrays
from fnet.data.cells import counted
from fnet.data.tables import where
from fnet.nn import Array
from fnet.training import Transform

__all__ = ["EMBEDDED", "Data", "is_table", "load_data", "source"]

EMBEDDED = ("digits", "synthetic")
DATA_SEED = 2**64  # for data and splits, which do not depend on --seed; no run has this seed
MAX_SPREAD = 100  # the largest ratio of the largest to the median standard deviation of features with the same unit
KINDS = {None: None, "classify": "classification", "regress": "regression"}  # the values of --task
Rows: TypeAlias = slice | npt.NDArray[np.int64]


class Data(NamedTuple):
    """The data of a run."""

    name: str
    train: Dataset  # regression targets in the user's unit
    valid: Dataset | None
    test: Dataset | None
    standardizer: Standardizer
    encoder: Encoder | None = None  # for a table
    target: str | None = None  # the name of the target column of a table
    remarks: tuple[str, ...] = ()  # lines to print; for a table, the first one describes it
    scale: TargetScale | None = None  # for regression

    @property
    def transform(self) -> Transform:
        """The standardization of features."""
        return partial(fnet.standardize, self.standardizer)

    @property
    def classes(self) -> Classes:
        """The names of the classes; () for regression."""
        if self.scale is not None:
            return ()
        return self.train.classes or tuple(range(int(self.train.y.max()) + 1))

    @property
    def predicts(self) -> str:
        """The number of classes or targets, in words."""
        if self.scale is None:
            return f"{len(self.classes):,} classes"
        return f"regression of {counted(len(self.scale.mean), 'target')}"

    def score(self, loss: str) -> str:
        """The name of the score of a network; it says if an RMSE is not in the unit of the target."""
        name = metrics.score_name(loss)
        if name != "rmse" or self.scale is None:
            return name
        return "rmse_standardized" if len(self.scale.std) > 1 else "rmse_log" if self.scale.log else name

    def score_unit(self, loss: str) -> float:
        """The factor that converts the score of a network to the unit of the target or of its logarithm."""
        one = self.scale is not None and len(self.scale.std) == 1 and metrics.score_name(loss) == "rmse"
        return float(self.scale.std[0]) if one and self.scale is not None else 1.0

    def scaled(self, dataset: Dataset) -> Dataset:
        """The data set with scaled regression targets, as the network learns it."""
        if self.scale is None:
            return dataset
        return dataset._replace(y=fnet.data.scale_targets(self.scale, dataset.y, dtype=np.float64))


def is_table(path: str) -> bool:
    """Whether a path is a table: a file of delimited text, or standard input."""
    return path == "-" or (path not in EMBEDDED and arrays.is_table(path) and not Path(path).is_dir())


def source(path: str) -> str | IO[bytes]:
    """The source for `fnet.data.read_table`; the path `-` is standard input."""
    return sys.stdin.buffer if path == "-" else path


def load_data(args: argparse.Namespace) -> Data:
    """Load the training, validation and test data that the options name."""
    if is_table(args.data):
        return _load_table(args)
    for name in ("target", "header", "drop", "keep_columns", "categorical"):
        if getattr(args, name):
            option = "--" + name.removesuffix("_columns")
            raise ValueError(f"{option} is for the columns of a table, but --data {args.data} is not a .csv or .tsv")
    test: Dataset | None
    if args.data in EMBEDDED and args.task == "regress":
        raise ValueError(f"--task regress needs numeric targets, but --data {args.data} has classes")
    if args.data == "digits":
        train, test = fnet.data.digits()
    elif args.data == "synthetic":
        data_key, test_key = fnet.random.split(fnet.random.key(DATA_SEED + 1))
        whole = fnet.data.synthetic(data_key, 60_000)
        train, test = fnet.data.train_test_split(test_key, whole, 10_000)
    else:
        train, test = fnet.data.load(args.data, kind=KINDS[args.task])
    numbers = train.y.dtype.kind == "f"
    if args.test is not None:
        if test is not None:
            raise ValueError(f"{args.data} has its own test data; omit --test")
        test = _load_test(args.test, train)
    remarks = ()
    if numbers:
        targets = train.y.reshape(len(train.y), -1).shape[1]
        remarks = (f"{counted(targets, 'target')}: {fnet.data.describe_numbers(train.y)}",)
    valid, rows = None, slice(None)
    whole = train
    if args.valid_size:
        rows, valid_rows = split(args, whole, "last")
        train, valid = fnet.data.take(whole, rows), fnet.data.take(whole, valid_rows)
    if args.whitening != 1:
        check_whitening(args, train.x)
    standardizer = fnet.fit_standardizer(train.x, whitening=args.whitening)
    scale = fit_scale(args, whole.y, rows, lambda row: f"{args.data}, row {row}")
    return Data(Path(args.data).stem, train, valid, test, standardizer, remarks=remarks, scale=scale)


def check_whitening(args: argparse.Namespace, x: Array) -> None:
    """Refuse partial whitening of arrays with features of very different size, which suggests different units.

    Pixels and the first hundred principal components, for which partial whitening is intended, have standard deviations
    of up to about 50 times the median; age, income and years have 260. The limit is `MAX_SPREAD`, in 4,096 evenly
    spaced rows, without constant features.
    """
    with np.errstate(all="ignore"):  # the standardization refuses non-finite numbers
        std = np.asarray(x[:: -(-len(x) // 4096)], np.float64).std(axis=0)
    std = np.sort(std[std > 0])
    if len(std) and std[-1] > MAX_SPREAD * std[(len(std) - 1) // 2]:
        raise ValueError(
            f"{_whitening_option(args)}, but the features have standard deviations from {std[0]:.4g} over "
            f"{std[(len(std) - 1) // 2]:.4g} (median) to {std[-1]:.4g}, as if in several units: use --whitening 1, or "
            "--preset tabular, or scale the features to one unit"
        )


def _whitening_option(args: argparse.Namespace) -> str:
    """The option, the origin of its value, and its effect."""
    preset = f" (from --preset {args.preset})" if PRESETS[args.preset].get("whitening") == args.whitening else ""
    return f"--whitening {args.whitening:g}{preset} keeps part of the differences of scale between features of one unit"


def fit_scale(args: argparse.Namespace, y: Array, rows: Rows, where: Callable[[int], str]) -> TargetScale | None:
    """The scale of the targets of a regression, from the training rows; `where` names a row in messages."""
    if y.dtype.kind != "f":
        if args.log_target:
            raise ValueError("--log-target is for regression, but the target is classes: see --task regress")
        return None
    lowest = y.reshape(len(y), -1).min(axis=1)
    if args.log_target and lowest.min() <= 0:
        row = int(lowest.argmin())
        raise ValueError(f"{where(row)}: --log-target needs positive targets, but got {lowest[row]:g}")
    return fnet.data.fit_target_scale(y[rows], log=args.log_target)


def _load_test(path: str, train: Dataset) -> Dataset:
    numbers = train.y.dtype.kind == "f"
    test, _ = fnet.data.load(path, kind="regression" if numbers else "classification")
    classes, own = train.classes or (), test.classes or ()
    if test.x.shape[1] != train.x.shape[1]:
        raise ValueError(f"{path}: expected {train.x.shape[1]} features as in training, got {test.x.shape[1]}")
    if numbers:
        if test.y.shape[1:] != train.y.shape[1:]:
            raise ValueError(f"{path}: expected targets {list(train.y.shape)} as in training, got {list(test.y.shape)}")
        return test
    try:
        labels = fnet.data.encode_labels(np.asarray(own)[test.y], classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return Dataset(test.x, labels, classes)


def split(args: argparse.Namespace, dataset: Dataset, default: str) -> tuple[Rows, Rows]:
    """The rows for training and validation. A split of the last rows is made of slices, which keep files mapped."""
    rows = len(dataset.y)
    size = fnet.data.num_rows(args.valid_size, rows)
    if size > rows - 2:
        raise ValueError(f"--valid-size {args.valid_size} leaves fewer than 2 for training; try --valid-size 0")
    if (args.valid_split or default) == "random":
        # The rows do not depend on the seed, so that seeds can be compared.
        key = fnet.random.key(DATA_SEED)
        train, valid = fnet.data.train_test_split(key, dataset._replace(x=np.arange(rows)), size)
        return train.x, valid.x
    first, last = slice(0, rows - size), slice(rows - size, None)
    if dataset.y.dtype.kind == "f":
        steps = np.diff(dataset.y.reshape(rows, -1)[:, 0])
        if (steps >= 0).all() or (steps <= 0).all():
            raise ValueError(
                f"the rows are sorted by the target, so the last {size} are not typical: use --valid-split random"
            )
    elif missing := fnet.data.absent_classes(fnet.data.take(dataset, first)):
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ValueError(
            f"all examples of the classes {list(missing[:5])}{more} are in the last {size} rows, as in sorted data: "
            "use --valid-split random"
        )
    return first, last


# Tables ---------------------------------------------------------------------------------------------------------------


def _load_table(args: argparse.Namespace) -> Data:
    """Load a table. The validation rows are a random sample, since tables are often sorted."""
    header = None if args.header is None else args.header == "yes"
    table = fnet.data.read_table(
        source(args.data), target=args.target, text=(*args.categorical, *args.drop), header=header
    )
    features, target = fnet.data.split_target(table, kind=KINDS[args.task])
    everything = Dataset(np.empty((len(target.values), 0)), target.values, target.classes)
    rows: Rows = slice(None)
    valid_rows: Rows = slice(0)
    if args.valid_size:
        rows, valid_rows = split(args, everything, "random")
    encoder = fnet.data.fit_encoder(
        features,
        np.arange(len(target.values))[rows],
        categorical=args.categorical,
        drop=args.drop,
        keep=args.keep_columns,
    )
    numeric = fnet.data.numeric_features(encoder)
    if args.whitening != 1 and numeric.sum() > 1:
        raise ValueError(
            f"{_whitening_option(args)}, but the columns of a table have their own units: use --whitening 1, or "
            "--preset tabular, which is for tables; features of one unit can be an .npz"
        )
    x, _ = fnet.data.encode(encoder, features)
    everything = everything._replace(x=x)
    train = fnet.data.take(everything, rows)
    valid = fnet.data.take(everything, valid_rows) if args.valid_size else None
    standardizer = fnet.fit_standardizer(train.x, only=numeric)
    remarks = [fnet.data.describe(features, target, encoder), *([target.note] if target.note else [])]
    if valid is not None and target.classes and (missing := fnet.data.absent_classes(valid)):
        remarks.append(f"classes too rare for a validation row (--valid-size): {', '.join(map(repr, missing))}")
    test = None
    if args.test is not None:
        test, notes = encode_rows(args.test, encoder, target.name, target.classes, header)
        remarks += [f"{args.test}: {line}" for line in notes.lines()]
    name = "stdin" if args.data == "-" else Path(args.data).name.partition(".")[0]
    scale = fit_scale(args, target.values, rows, lambda row: where(table, row, target.name))
    return Data(name, train, valid, test, standardizer, encoder, target.name, tuple(remarks), scale)


def encode_rows(
    path: str, encoder: Encoder, target: str, classes: Classes | None, header: bool | None
) -> tuple[Dataset, EncodeNotes]:
    """The features and the target of another table with the same columns, in any order."""
    if not is_table(path):
        raise ValueError(f"{path} is not a .csv or .tsv like the training data")
    text = (*fnet.data.text_columns(encoder), target)
    table = fnet.data.read_table(source(path), text=text, header=header)
    y = fnet.data.labels_of(table, target, classes) if classes else fnet.data.values_of(table, target)
    x, notes = fnet.data.encode(encoder, table)
    return Dataset(x, y, classes), notes._replace(ignored=tuple(name for name in notes.ignored if name != target))
