"""Command-line options that commands share: data, network and training. Presets change the defaults."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from fnet import MLPConfig, TrainConfig
from fnet.cli import threads
from fnet.cli.data import Data, is_table
from fnet.cli.parser import Group, Parser, add_help, one_of
from fnet.cli.presets import LBFGS, PRESETS, QUANTILES, DataFacts, Decided
from fnet.engine import ENGINES
from fnet.nn import ACTIVATIONS
from fnet.params import DTYPES, INITIALIZERS, LOSSES
from fnet.training import OPTIMIZERS, SCHEDULES

__all__ = [
    "add_data_options",
    "add_model_options",
    "add_run_options",
    "add_training_options",
    "defaults",
    "given",
    "model_config",
    "parse",
    "prepare_tensorboard",
    "settled",
    "size",
    "train_config",
]


def add_run_options(group: Group) -> None:
    """Add the options that do not concern data, network or training."""
    add = group.add_argument
    add("--preset", **one_of(*PRESETS))
    add("--seed", type=int, default=0, metavar="N")
    add("--engine", **one_of(*ENGINES), default="auto")
    threads.add_option(group)
    add("--tensorboard", type=Path, metavar="DIR", help="write TensorBoard files")
    add("--quiet", action="store_true", help="print errors only")
    add_help(group)


def add_data_options(parser: Parser) -> None:
    add = parser.add_argument_group("data").add_argument
    add(
        "--data", default="digits", metavar="PATH", help="digits, synthetic, a folder, .npz, .csv, .tsv, or - for stdin"
    )
    add("--target", "--label", metavar="NAME", help="column to predict")
    add("--task", choices=("classify", "regress"), help="detected by default")
    add("--test", metavar="PATH", help="test data")
    add("--header", choices=("yes", "no"), help="first row has names")
    add("--drop", nargs="+", action="extend", default=[], metavar="NAME …", help="columns to leave out")
    keep = "columns not to drop"
    add("--keep", dest="keep_columns", nargs="+", action="extend", default=[], metavar="NAME …", help=keep)
    add("--categorical", nargs="+", action="extend", default=[], metavar="NAME …", help="numbers as categories")
    add("--valid-size", type=size, default=0.1, metavar="SIZE", help="fraction or rows")
    add("--valid-split", **one_of("last", "random"))
    add("--whitening", type=float, default=1.0, metavar="P", help="divide by std ** P")
    add("--log-target", action="store_true", help="predict its logarithm")


def add_model_options(parser: Parser) -> None:
    add = parser.add_argument_group("network").add_argument
    widths = "of the hidden layers; none for softmax or linear regression"
    add("--hidden", type=int, nargs="*", default=[256, 256, 256], metavar="WIDTH …", help=widths)
    add("--activation", **one_of(*ACTIVATIONS), default="relu")
    add("--dropout", type=float, default=0.3, metavar="RATE", help="of hidden units")
    add("--input-dropout", type=float, default=0.0, metavar="RATE", help="of features")
    add("--no-batch-norm", dest="batch_norm", action="store_false", help="use biases instead")
    add("--dtype", **one_of(*DTYPES), default="float32")
    add("--loss", **one_of(*LOSSES[1:]))
    add("--quantiles", type=float, nargs="+", default=[], metavar="Q …", help="such as 0.1 0.5 0.9")
    add("--huber-delta", type=float, default=MLPConfig.huber_delta, metavar="D", help="in standard deviations")
    add("--initializer", choices=INITIALIZERS, default=MLPConfig.initializer)


def add_training_options(parser: Parser) -> None:
    add = parser.add_argument_group("training").add_argument
    default = TrainConfig()
    add("--epochs", type=int, default=default.epochs, metavar="N")
    add("--batch-size", type=int, default=default.batch_size, metavar="N", help="rows per step")
    add("--optimizer", **one_of(*OPTIMIZERS), default=default.optimizer)
    add("--learning-rate", type=float, default=default.learning_rate, metavar="RATE", help="peak")
    add("--schedule", **one_of(*SCHEDULES), default=default.schedule)
    add("--warmup", type=float, default=default.warmup, metavar="FRACTION", help="of steps")
    add("--momentum", type=float, default=default.momentum, metavar="M", help="of sgd")
    add("--nesterov", action="store_true", help="Nesterov momentum")
    add("--weight-decay", type=float, default=0.0, metavar="RATE", help="decoupled; lbfgs: L2")
    add("--decay-weights-only", action="store_true", help="not biases or scales")
    add("--tolerance", type=float, default=default.tolerance, metavar="G", help="of lbfgs")
    add("--clip-norm", type=float, metavar="NORM", help="of all gradients")
    add("--label-smoothing", type=float, default=0.0, metavar="S")
    add("--class-weight", type=_class_weight, metavar="W,W,…", help="or balanced")
    add("--input-noise", type=float, default=0.0, metavar="STD", help="on scaled features")
    add("--recompute-statistics", action="store_true", help="of batch norm")
    add("--patience", type=int, metavar="N", help="stop after N epochs without improvement")
    add("--monitor", **one_of("loss", "accuracy"), default=default.monitor)
    best = "not the last epoch"
    add("--keep-best", dest="keep", action="store_const", const="best", default=default.keep, help=best)


def prepare_tensorboard(directory: Path | None) -> None:
    """Check before training that a run can be written to the directory, if one is given.

    Raises:
        ImportError, OSError: a library is missing, or the directory cannot be created.
    """
    if directory is not None:
        from fnet.interop import tensorboard

        tensorboard.check_installed()
        directory.mkdir(parents=True, exist_ok=True)


def parse(parser: Parser, argv: list[str]) -> argparse.Namespace:
    """Parse options: a preset changes the defaults, and options on the command line override it."""
    chosen = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chosen.add_argument("--preset")
    chosen.add_argument("--data", default="digits")
    chosen.add_argument("--optimizer")
    known = chosen.parse_known_args(argv)[0]
    preset = known.preset or ("tabular" if is_table(known.data) else "chen-wu")
    parser.set_defaults(preset=preset, **PRESETS.get(preset, {}))  # the parser refuses an unknown preset
    if known.optimizer == "lbfgs":
        parser.set_defaults(**LBFGS)
    if given(argv, "--quantiles"):
        parser.set_defaults(**QUANTILES)
    return parser.parse(argv)


def given(argv: list[str], option: str) -> bool:
    """Whether the command line has the option."""
    return any(argument.partition("=")[0] == option for argument in argv)


def defaults(**changes: Any) -> argparse.Namespace:
    """The default options, with changes."""
    parser = Parser("", "", "")
    for add in (add_data_options, add_model_options, add_training_options):
        add(parser)
    parser.set_defaults(**changes)
    return parser.parse_args([])


def settled(args: argparse.Namespace, data: Data) -> argparse.Namespace:
    """The options, with values for those that the preset leaves to the data."""
    rows, folds = len(data.train.y), getattr(args, "folds", None)
    known = DataFacts(rows - rows // max(folds, 2) if folds else rows, data.scale is None)
    values = {name: value.value(known) if isinstance(value, Decided) else value for name, value in vars(args).items()}
    return argparse.Namespace(**values)


def model_config(args: argparse.Namespace, data: Data) -> MLPConfig:
    """The architecture that the options describe, for the kind of target in the data.

    Raises:
        ValueError: options do not match the data or each other.
    """
    if data.scale is None:
        unset: dict[str, Any] = {"loss": None, "quantiles": [], "huber_delta": MLPConfig.huber_delta}
        for name, default in unset.items():
            if getattr(args, name) != default:
                option = "--" + name.replace("_", "-")
                raise ValueError(f"{option} is for regression, but the target is classes: see --task regress")
        loss, outputs = "cross_entropy", len(data.classes)
    else:
        targets = len(data.scale.mean)
        loss, outputs = args.loss or ("pinball" if args.quantiles else "squared_error"), len(args.quantiles) or targets
        if args.quantiles and targets > 1:
            raise ValueError(f"--quantiles needs a single target, but there are {targets}")
        if loss == "pinball" and not args.quantiles:
            raise ValueError("--loss pinball needs --quantiles, such as --quantiles 0.1 0.5 0.9")
    return _from_options(MLPConfig, args, sizes=(data.train.x.shape[1], *args.hidden, outputs), loss=loss)


def train_config(args: argparse.Namespace) -> TrainConfig:
    """The training that the options describe."""
    return _from_options(TrainConfig, args)


def _from_options(config: Any, args: argparse.Namespace, **others: Any) -> Any:
    names = {field.name for field in dataclasses.fields(config)}
    return config(**{name: value for name, value in vars(args).items() if name in names} | others)


def size(text: str) -> float | int:
    """A number or a fraction of rows."""
    return int(text) if text.isdecimal() else float(text)


def _class_weight(text: str) -> str | tuple[float, ...]:
    try:
        return text if text == "balanced" else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected balanced or a number per class, W,W,…, but got {text!r}") from None
