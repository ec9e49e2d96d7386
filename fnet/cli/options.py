"""Command-line options that several scripts share: data, architecture, training."""

import argparse
import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import fnet
from fnet import Dataset, MLPConfig, TrainConfig
from fnet.cli import threads
from fnet.interop import tensorboard
from fnet.mlp import INITIALIZERS
from fnet.nn import ACTIVATION_NAMES
from fnet.training import OPTIMIZERS, SCHEDULES, Transform

# What each preset changes. The report's is the default; the others are measured by scripts/ablate_recipe.py.
BEST: dict[str, Any] = {
    "activation": "silu",
    "dropout": 0.2,
    "power": 0.5,
    "schedule": "warmup_cosine",
    "warmup": 0.25,
    "learning_rate": 2e-3,
    "batch_size": 128,
    "input_noise": 0.35,
    "recompute_statistics": True,
    "calibrate": "if possible",  # without validation data it is not
}
LARGE: dict[str, Any] = {
    **BEST,
    "hidden": [1024, 1024, 1024],
    "dropout": 0.5,
    "batch_size": 256,
    "input_noise": 0.5,
    "epochs": 90,
}
PRESETS: dict[str, dict[str, Any]] = {"report": {}, "best": BEST, "large": LARGE}


class Data(NamedTuple):
    """The data of a run."""

    name: str
    train: Dataset
    valid: Dataset | None
    test: Dataset | None
    standardizer: fnet.Standardizer

    @property
    def transform(self) -> Transform:
        """The standardization of features."""
        return partial(fnet.standardize, self.standardizer)

    @property
    def classes(self) -> tuple[int | str, ...]:
        """The names of the classes."""
        return self.train.classes or tuple(range(int(self.train.y.max()) + 1))


def add_data_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        default="digits",
        metavar="digits|synthetic|PATH",
        help="the embedded digits (default), generated data, or a folder, .npz or .csv",
    )
    group.add_argument("--label", metavar="NAME", help="the column of a .csv that holds the label")
    group.add_argument("--test", metavar="PATH", help="test data, where --data has none")
    group.add_argument(
        "--valid-size",
        type=size,
        default=0.1,
        metavar="SIZE",
        help="validation rows taken from the training data: a share, a number, or 0 (default 0.1)",
    )
    group.add_argument(
        "--valid-split",
        choices=("last", "random"),
        default="last",
        help="the last rows (default), or a random stratified sample; the same for every seed",
    )
    group.add_argument("--power", type=float, default=1.0, help="divide features by std ** POWER (default 1)")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network")
    group.add_argument(
        "--hidden",
        type=int,
        nargs="*",
        default=[256, 256, 256],
        metavar="WIDTH",
        help="widths of the hidden layers (default 256 256 256); none: softmax regression",
    )
    group.add_argument("--activation", choices=ACTIVATION_NAMES, default="relu")
    group.add_argument("--dropout", type=float, default=0.3, help="the share dropped (default 0.3)")
    group.add_argument("--input-dropout", type=float, default=0.0)
    group.add_argument("--no-batch-norm", dest="batch_norm", action="store_false")
    group.add_argument("--initializer", choices=INITIALIZERS, default=MLPConfig.initializer)
    group.add_argument("--dtype", choices=("float32", "float64"), default="float32")


def add_training_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument("--epochs", type=int, default=25)
    group.add_argument("--batch-size", type=int, default=64)
    group.add_argument("--optimizer", choices=OPTIMIZERS, default="adam")
    group.add_argument("--learning-rate", type=float, default=TrainConfig.learning_rate)
    group.add_argument("--schedule", choices=SCHEDULES, default="constant", help="of the learning rate")
    group.add_argument(
        "--warmup", type=float, default=TrainConfig.warmup, help="share of the steps; warmup_cosine, onecycle"
    )
    group.add_argument("--momentum", type=float, default=TrainConfig.momentum, help="of sgd")
    group.add_argument("--nesterov", action="store_true", help="of sgd")
    group.add_argument("--weight-decay", type=float, default=0.0)
    group.add_argument("--decay-weights-only", action="store_true", help="not biases and batch-norm scales")
    group.add_argument("--clip-norm", type=float, metavar="NORM")
    group.add_argument("--label-smoothing", type=float, default=0.0)
    group.add_argument("--class-weight", type=_class_weight, metavar="balanced|W,W,…", help="weights of the classes")
    group.add_argument(
        "--mixup", type=float, metavar="ALPHA", help="mix pairs of examples, by shares from beta(ALPHA, ALPHA)"
    )
    group.add_argument("--input-noise", type=float, default=0.0, metavar="STD", help="added to the scaled features")
    group.add_argument("--ema-decay", type=float, metavar="DECAY", help="average the parameters over the steps")
    group.add_argument("--recompute-statistics", action="store_true", help="of batch norms")
    group.add_argument("--keep", choices=("last", "best"), default="last", help="which epoch's network")
    group.add_argument("--monitor", choices=("loss", "accuracy"), default="loss", help="what the best epoch is best in")
    group.add_argument("--patience", type=int, metavar="EPOCHS", help="stop when so many were no better")
    group.add_argument("--seed", type=int, default=0)
    threads.add_option(group)


def add_tensorboard_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tensorboard",
        type=Path,
        metavar="DIR",
        help="write curves, hyper-parameters and confusion matrix for TensorBoard, a subfolder of DIR a run",
    )


def prepare_tensorboard(directory: Path | None) -> None:
    """Before anything is trained: that a run can be written to the directory, if there is one.

    Raises:
        ImportError, OSError: a library is missing, or the directory cannot be made.
    """
    if directory is not None:
        tensorboard.check_installed()
        directory.mkdir(parents=True, exist_ok=True)


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The options, where a preset changes the defaults and what is written out beats the preset."""
    preset, _ = parser.parse_known_args(argv)
    parser.set_defaults(**PRESETS[getattr(preset, "preset", "report")])
    return parser.parse_args(argv)


def defaults(**changes: Any) -> argparse.Namespace:
    """The options as they are without any on the command line, but for the changes given."""
    parser = argparse.ArgumentParser()
    for add in (add_data_options, add_model_options, add_training_options):
        add(parser)
    parser.set_defaults(**changes)
    return parser.parse_args([])


def load_data(args: argparse.Namespace) -> Data:
    """Training, validation and test data as the options say."""
    test: Dataset | None
    if args.label is not None and args.data in ("digits", "synthetic"):
        raise ValueError(f"--label {args.label} names a column of a .csv, but --data is {args.data}")
    if args.data == "digits":
        name, (train, test) = "digits", fnet.data.digits()
    elif args.data == "synthetic":
        name = "synthetic"
        whole = fnet.data.synthetic(fnet.random.key(0), 60_000)
        train, test = fnet.data.train_test_split(fnet.random.key(1), whole, 10_000)
    else:
        name = Path(args.data).stem
        train, test = fnet.data.load(args.data, label=args.label)
    if args.test is not None:
        if test is not None:
            raise ValueError(f"{args.data} has a test split of its own; leave --test out")
        test = _load_test(args.test, args.label, train)
    valid = None
    if args.valid_size:
        train, valid = _split(args, train)
    standardizer = fnet.fit_standardizer(train.x, power=args.power)
    return Data(name, train, valid, test, standardizer)


def model_config(args: argparse.Namespace, data: Data) -> MLPConfig:
    return MLPConfig(
        sizes=(data.train.x.shape[1], *args.hidden, len(data.classes)),
        activation=args.activation,
        batch_norm=args.batch_norm,
        dropout=args.dropout,
        input_dropout=args.input_dropout,
        initializer=args.initializer,
        dtype=args.dtype,
    )


def train_config(args: argparse.Namespace) -> TrainConfig:
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    return TrainConfig(**{name: value for name, value in vars(args).items() if name in names})


def _load_test(path: str, label: str | None, train: Dataset) -> Dataset:
    test, _ = fnet.data.load(path, label=label if Path(path).suffix.lower() == ".csv" else None)
    classes = train.classes or ()
    names = [(test.classes or ())[code] for code in test.y]
    if test.x.shape[1] != train.x.shape[1]:
        raise ValueError(f"{path}: expected {train.x.shape[1]} features as in training, got {test.x.shape[1]}")
    try:
        return Dataset(test.x, fnet.data.encode_labels(names, classes), classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _split(args: argparse.Namespace, train: Dataset) -> tuple[Dataset, Dataset]:
    if args.valid_split == "random":
        # The same rows for every seed, so that seeds can be compared.
        return fnet.data.train_test_split(fnet.random.key(0), train, args.valid_size)
    size = fnet.data.num_rows(args.valid_size, len(train.y))
    first = fnet.data.take(train, slice(0, len(train.y) - size))
    last = fnet.data.take(train, slice(len(train.y) - size, None))
    codes = sorted(set(train.y.tolist()) - set(first.y.tolist()))
    missing = codes if train.classes is None else [train.classes[code] for code in codes]
    if missing:
        raise ValueError(
            f"all examples of the classes {missing} are among the last {size} rows, as in sorted data: "
            "use --valid-split random"
        )
    return first, last


def size(text: str) -> float | int:
    return int(text) if text.isdecimal() else float(text)


def _class_weight(text: str) -> str | tuple[float, ...]:
    try:
        return text if text == "balanced" else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected balanced or a number a class, W,W,…, but got {text!r}") from None
