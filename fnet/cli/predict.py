"""`fnet predict`: predict the classes of new rows with a trained model."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fnet import data, model
from fnet.checkpoint import write_atomically
from fnet.cli import threads
from fnet.cli.folder import add_model_argument, model_file
from fnet.cli.output import csv_text, visible
from fnet.cli.parser import Parser, add_help
from fnet.cli.results import warn_of_formulas
from fnet.nn import Array


def main(argv: list[str]) -> None:
    """Predict as the command line says."""
    parser = Parser("predict", "MODEL DATA [OPTION…]", "Predict the class of each row, as CSV.")
    group = parser.add_argument_group("arguments")
    add = group.add_argument
    add_model_argument(group)
    add("data", metavar="DATA", help="features that are not scaled: a .npy or .csv, or - for CSV on standard input")
    add("--out", type=Path, metavar="FILE", help="a .csv to write; otherwise it is printed")
    add("--proba", action="store_true", help="add a column of probabilities per class")
    threads.add_option(group)
    add_help(group)
    args = parser.parse(argv)
    threads.limit(args.threads)
    classifier = model.load(model_file(args.model))
    x = data.load_features(args.data, classifier.config.sizes[0])
    text = csv_text(prediction_rows(classifier, x, proba=args.proba))
    if args.out is not None:
        write_atomically(args.out, text.encode())
        print(f"{len(x):,} predictions are in {visible(args.out)}")
        warn_of_formulas(classifier.classes)
    elif sys.stdout.isatty():
        print("\n".join(map(visible, text.split("\n")[:-1])))
    else:
        sys.stdout.write(text)


def prediction_rows(classifier: model.Model, x: Array, *, proba: bool) -> Iterator[list[Any]]:
    """The header, and a row per prediction."""
    yield ["prediction", *(f"p({name})" for name in classifier.classes if proba)]
    for row in model.predict_proba(classifier, x):
        yield [classifier.classes[int(row.argmax())], *(f"{p:.6f}" for p in row if proba)]
