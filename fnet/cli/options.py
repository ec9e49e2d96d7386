"""Command-line options that several commands share: data, network, training."""

import argparse
import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import fnet
from fnet import Dataset, MLPConfig, TrainConfig
from fnet.cli import threads
from fnet.cli.parser import Group, Parser
from fnet.engine import ENGINES
from fnet.nn import ACTIVATIONS
from fnet.params import INITIALIZERS
from fnet.training import OPTIMIZERS, SCHEDULES, Transform

# What each preset changes. Chen & Wu's best model is the default; the others are measured by scripts/ablate_recipe.py.
BEST: dict[str, Any] = {
    "activation": "silu",
    "dropout": 0.2,
    "whitening": 0.5,
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
PRESETS: dict[str, dict[str, Any]] = {"chen-wu": {}, "chen-wu-best": BEST, "chen-wu-large": LARGE}


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


def add_preset_option(group: Group) -> None:
    group.add_argument(
        "--preset", choices=tuple(PRESETS), default="chen-wu", help="the defaults: Chen & Wu's best model, or better"
    )


def add_data_options(parser: Parser) -> None:
    add = parser.add_argument_group("data").add_argument
    add("--data", default="digits", metavar="PATH", help="digits, synthetic, or a folder, .npz or .csv")
    add("--test", metavar="PATH", help="test data, where --data has none")
    add("--label", metavar="NAME", help="the column of a .csv with the label")
    add("--valid-size", type=size, default=0.1, metavar="SIZE", help="share or number of rows")
    add("--valid-split", choices=("last", "random"), default="last", help="which rows")
    add("--whitening", type=float, default=1.0, metavar="P", help="divide by std ** P")


def add_model_options(parser: Parser) -> None:
    add = parser.add_argument_group("network").add_argument
    widths = "of the hidden layers; no width is softmax regression"
    add("--hidden", type=int, nargs="*", default=[256, 256, 256], metavar="WIDTH …", help=widths)
    add("--activation", choices=tuple(ACTIVATIONS), default="relu")
    add("--dropout", type=float, default=0.3, metavar="RATE", help="share dropped")
    add("--input-dropout", type=float, default=0.0, metavar="RATE", help="of features")
    add("--no-batch-norm", dest="batch_norm", action="store_false", help="biases instead")
    add("--dtype", choices=("float32", "float64"), default="float32")
    add("--initializer", choices=INITIALIZERS, default=MLPConfig.initializer)


def add_training_options(parser: Parser) -> None:
    group = parser.add_argument_group("training")
    add = group.add_argument
    default = TrainConfig()
    add("--epochs", type=int, default=default.epochs, metavar="N")
    add("--batch-size", type=int, default=default.batch_size, metavar="N", help="rows per step")
    add("--optimizer", choices=OPTIMIZERS, default=default.optimizer)
    add("--learning-rate", type=float, default=default.learning_rate, metavar="RATE", help="its peak")
    add("--schedule", choices=SCHEDULES, default=default.schedule, help="of the learning rate")
    add("--warmup", type=float, default=default.warmup, metavar="SHARE", help="of the steps")
    add("--momentum", type=float, default=default.momentum, metavar="M", help="of sgd")
    add("--nesterov", action="store_true", help="momentum of sgd")
    add("--weight-decay", type=float, default=0.0, metavar="RATE", help="decoupled")
    add("--decay-weights-only", action="store_true", help="neither biases nor scales")
    add("--clip-norm", type=float, metavar="NORM", help="of the gradients")
    add("--label-smoothing", type=float, default=0.0, metavar="SHARE")
    add("--class-weight", type=_class_weight, metavar="W,W,…", help="one per class, or balanced")
    add("--input-noise", type=float, default=0.0, metavar="STD", help="on scaled features")
    add("--recompute-statistics", action="store_true", help="of batch norm, after each epoch")
    add("--keep", choices=("last", "best"), default=default.keep, help="which epoch's network")
    add("--monitor", choices=("loss", "accuracy"), default=default.monitor, help="measure of best")
    add("--patience", type=int, metavar="N", help="epochs without a better one")
    add("--seed", type=int, default=0, metavar="N")
    add("--engine", choices=ENGINES, default="auto")
    threads.add_option(group)


def add_tensorboard_option(group: Group) -> None:
    group.add_argument("--tensorboard", type=Path, metavar="DIR", help="write a run for TensorBoard there")


def prepare_tensorboard(directory: Path | None) -> None:
    """Check, before anything is trained, that a run can be written to the directory, if there is one.

    Raises:
        ImportError, OSError: a library is missing, or the directory cannot be made.
    """
    if directory is not None:
        from fnet.interop import tensorboard

        tensorboard.check_installed()
        directory.mkdir(parents=True, exist_ok=True)


def parse(parser: Parser, argv: list[str]) -> argparse.Namespace:
    """The options: a preset changes the defaults, and an option on the command line beats the preset."""
    chosen = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chosen.add_argument("--preset", default="chen-wu")
    preset = chosen.parse_known_args(argv)[0].preset
    parser.set_defaults(**PRESETS.get(preset, {}))  # the parser itself refuses an unknown one
    return parser.parse(argv)


def defaults(**changes: Any) -> argparse.Namespace:
    """The options of an empty command line, with the changes given."""
    parser = Parser("", "", "")
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
    standardizer = fnet.fit_standardizer(train.x, power=args.whitening)
    return Data(name, train, valid, test, standardizer)


def model_config(args: argparse.Namespace, data: Data) -> MLPConfig:
    """The architecture that the options describe."""
    return _from_options(MLPConfig, args, sizes=(data.train.x.shape[1], *args.hidden, len(data.classes)))


def train_config(args: argparse.Namespace) -> TrainConfig:
    """The training that the options describe."""
    return _from_options(TrainConfig, args)


def _from_options(config: Any, args: argparse.Namespace, **others: Any) -> Any:
    names = {field.name for field in dataclasses.fields(config)}
    return config(**{name: value for name, value in vars(args).items() if name in names}, **others)


def _load_test(path: str, label: str | None, train: Dataset) -> Dataset:
    test, _ = fnet.data.load(path, label=label if Path(path).suffix.lower() == ".csv" else None)
    classes, own = train.classes or (), test.classes or ()
    names = [own[code] for code in test.y.tolist()]
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
    """A number of rows, or a share of them."""
    return int(text) if text.isdecimal() else float(text)


def _class_weight(text: str) -> str | tuple[float, ...]:
    try:
        return text if text == "balanced" else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected balanced or a number per class, W,W,…, but got {text!r}") from None
