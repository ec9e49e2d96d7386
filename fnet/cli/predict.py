"""`fnet predict`: predict the classes, or the numbers, of new rows with a trained model."""

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


def main(argv: list[str]) -> None:
    """Predict as the command line says."""
    parser = Parser("predict", "MODEL DATA [OPTION…]", "Predict the class or number of each row, as CSV.")
    group = parser.add_argument_group("arguments")
    add = group.add_argument
    add_model_argument(group)
    add(
        "data",
        metavar="DATA",
        help="a table with the columns of training in any order, or a .npy; - is stdin",
    )
    add("--header", choices=("yes", "no"), help="is the first row of the table names")
    add("--id", metavar="NAME", help="copy this column of the table")
    add("--proba", action="store_true", help="add a column of probabilities per class")
    add("--out", type=Path, metavar="FILE", help="a .csv to write; otherwise it is printed")
    threads.add_option(group)
    add_help(group)
    args = parser.parse(argv)
    threads.limit(args.threads)
    model = load_model(args.model)
    if args.proba and model.scale is not None:
        raise ValueError("--proba adds probabilities of classes, but the model predicts numbers: leave it out")
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
    """The features that are to be predicted, and the table that they come from, if the model was trained on one."""
    encoder = model.encoder
    if encoder is None:
        if args.id is not None:
            raise ValueError(f"--id {args.id} names a column of a table, but the model was trained on arrays")
        return None, data.load_features(source(args.data), model.config.sizes[0])
    if not is_table(args.data):
        raise ValueError(f"expected a table with the columns of training, a .csv or .tsv, but got {args.data}")
    header = None if args.header is None else args.header == "yes"
    extra = [name for name in (args.id, model.target) if name is not None]
    table = data.read_table(source(args.data), text=(*data.text_columns(encoder), *extra), header=header)
    if args.id is not None:
        column_named(table, args.id)  # refuses a name that no column has
    x, notes = data.encode(encoder, table)
    for line in notes._replace(ignored=tuple(name for name in notes.ignored if name not in extra)).lines():
        say("note", line)
    return table, x


def rows(args: argparse.Namespace, model: Model, table: Table | None, predicted: Array) -> Iterator[list[Any]]:
    """The header, and a row per prediction."""
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
    """Say how good the predictions are, where the table has the column that is predicted."""
    assert model.target is not None
    try:
        numbers = model.scale is not None
        y = data.values_of(table, model.target) if numbers else data.labels_of(table, model.target, model.classes)
    except ValueError as error:
        say("note", f"not scored: {error}")
        return
    words = scores.said(model.config, scores.score(model.config, predicted, y), scores.unit(model.target))
    say("note", f"column {model.target!r} is known: {', '.join(reversed(words))} on {len(y):,} rows")
