"""`fnet predict`: predict classes or numbers for new rows with a trained model."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fnet import data
from fnet.checkpoint import write_atomically
from fnet.cli import scores, threads
from fnet.cli.data import is_table, source
from fnet.cli.folder import add_model_argument, load_model
from fnet.cli.output import csv_text, say, visible
from fnet.cli.parser import Parser, add_help
from fnet.data import Table
from fnet.data.tables import column_named, texts
from fnet.interop.source_text import output_names
from fnet.model import Model, outputs
from fnet.nn import Array

__all__ = ["main", "read"]


def main(argv: list[str]) -> None:
    """Predict as the command line says."""
    parser = Parser("predict", "MODEL DATA [OPTION…]", "Predict the class or number of each row, as CSV.")
    group = parser.add_argument_group("arguments")
    add = group.add_argument
    add_model_argument(group)
    add(
        "data",
        metavar="DATA",
        help="a table with the columns of the training data in any order, or .npy; - for stdin",
    )
    add("--header", choices=("yes", "no"), help="whether the first row of the table has column names")
    add("--id", metavar="NAME", help="column of the table to copy")
    add("--proba", action="store_true", help="add the probability of each class")
    add("--out", type=Path, metavar="FILE", help=".csv to write (standard output)")
    threads.add_option(group)
    add_help(group)
    args = parser.parse(argv)
    threads.limit(args.threads)
    model = load_model(args.model)
    if args.proba and model.scale is not None:
        raise ValueError("--proba needs a classifier, but the model is a regression: omit it")
    table, x = read(args, model)
    predicted = outputs(model, x)
    text = csv_text(rows(args, model, table, predicted))
    if args.out is not None:
        write_atomically(args.out, text.encode())
        print(f"{len(predicted):,} predictions are in {visible(args.out)}")
        scores.warn_of_formulas(model.classes)
    elif sys.stdout.isatty():
        print("\n".join(map(visible, text.split("\n")[:-1])))
    else:
        sys.stdout.write(text)
    if table is not None and any(column.name == model.target for column in table.columns):
        score(model, table, predicted)


def read(args: argparse.Namespace, model: Model) -> tuple[Table | None, Array]:
    """Read features, and the table that they come from if the model was trained on a table."""
    encoder = model.encoder
    if encoder is None:
        if args.id is not None:
            raise ValueError(f"--id {args.id} names a column of a table, but the model was trained on arrays")
        return None, data.load_features(source(args.data), model.config.sizes[0])
    if not is_table(args.data):
        raise ValueError(f"expected a .csv or .tsv with the columns of the training data, but got {args.data}")
    header = None if args.header is None else args.header == "yes"
    extra = [name for name in (args.id, model.target) if name is not None]
    table = data.read_table(source(args.data), text=(*data.text_columns(encoder), *extra), header=header)
    if args.id is not None:
        column_named(table, args.id)  # raises an error if no column has the name
    x, notes = data.encode(encoder, table)
    for line in notes._replace(ignored=tuple(name for name in notes.ignored if name not in extra)).lines():
        say("note", line)
    return table, x


def rows(args: argparse.Namespace, model: Model, table: Table | None, predicted: Array) -> Iterator[list[Any]]:
    """The header and a row for each prediction."""
    names, ids = list[str](), [list[str]()] * len(predicted)
    if table is not None and args.id is not None:
        codes, levels = texts(column_named(table, args.id))
        names, ids = [args.id], [[*levels, ""][code : code + 1 or None] for code in codes.tolist()]
    if model.scale is not None:
        yield [*names, *output_names(model.config)]
        for own, row in zip(ids, predicted, strict=True):
            yield [*own, *scores.prediction_cells(row)]
        return
    yield [*names, "prediction", *(f"p({name})" for name in model.classes if args.proba)]
    for own, row in zip(ids, predicted, strict=True):
        yield [*own, model.classes[int(row.argmax())], *(f"{p:.6f}" for p in row if args.proba)]


def score(model: Model, table: Table, predicted: Array) -> None:
    """Print the scores of the predictions if the table has the target."""
    assert model.target is not None
    try:
        numbers = model.scale is not None
        y = data.values_of(table, model.target) if numbers else data.labels_of(table, model.target, model.classes)
    except ValueError as error:
        say("note", f"not scored: {error}")
        return
    words = scores.said(model.config, scores.score(model.config, predicted, y), scores.unit(model.target))
    say("note", f"column {model.target!r} is present: {', '.join(reversed(words))} on {len(y):,} rows")
