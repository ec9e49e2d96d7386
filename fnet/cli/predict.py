"""Predict the classes of new rows with a model that scripts/train.py wrote.

    python scripts/predict.py MODEL DATA [--out predictions.csv] [--proba]

DATA is a .npy or a .csv of features, standardized here with the statistics of the training data.
"""

import argparse
import csv
import io
import sys
from pathlib import Path

from fnet import data, model, nn
from fnet.checkpoint import write_atomically
from fnet.cli import threads


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("model", type=Path, help="model.npz of a run, or a .safetensors")
    parser.add_argument("data", type=Path, help="features: a .npy, or a .csv with or without header")
    parser.add_argument("--out", type=Path, help="a .csv to write; otherwise it is printed")
    parser.add_argument("--proba", action="store_true", help="add a column of probability a class")
    threads.add_option(parser)
    args = parser.parse_args(argv)
    threads.limit(args.threads)
    try:
        classifier = model.load(args.model)
        x = data.load_features(args.data, classifier.config.sizes[0])
        text = predictions(classifier, x, proba=args.proba)
        if args.out is None:
            sys.stdout.write(text)
        else:
            write_atomically(args.out, text.encode())
            print(f"{len(x)} predictions are in {args.out}")
    except (OSError, ValueError, TypeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def predictions(classifier: model.Model, x: nn.Array, *, proba: bool) -> str:
    """A csv with a prediction a row."""
    probabilities = model.predict_proba(classifier, x)
    header = ["prediction"]
    if proba:
        header += [f"p({name})" for name in classifier.classes]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for row in probabilities:
        cells = [f"{p:.6f}" for p in row] if proba else []
        writer.writerow([classifier.classes[int(row.argmax())], *cells])
    return buffer.getvalue()
