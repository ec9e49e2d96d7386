"""`fnet export`: write a model in a format for other tools, or as Python or C source.

All formats hold the whole model, except PyTorch: its file is the state dict of `fnet.interop.torch.sequential(config)`,
or of an `nn.ModuleList` of these for an ensemble, without the scaling of features and targets.
"""

import argparse
import io
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fnet import Dataset, data
from fnet.checkpoint import write_atomically
from fnet.cli import predict, train
from fnet.cli.data import load_data
from fnet.cli.folder import add_model_argument, load_model, model_file
from fnet.cli.output import visible
from fnet.cli.parser import Parser, add_help
from fnet.interop.c_source import save_c
from fnet.interop.onnx import save_onnx
from fnet.interop.python_source import save_python
from fnet.interop.safetensors import save_safetensors
from fnet.interop.torch import to_torch_state_dict
from fnet.model import Model
from fnet.nn import Array

__all__ = ["main"]

MAX_CALIBRATION = 10_000  # rows


def main(argv: list[str]) -> None:
    """Export as the command line says."""
    usage = "MODEL --to FORMAT [--int8] [--out FILE]"
    parser = Parser("export", usage, "Write a model in a format for other tools, or as source code.")
    group = parser.add_argument_group("arguments")
    add = group.add_argument
    add_model_argument(group)
    add("--to", choices=tuple(WRITERS), required=True, help="torch: state dict, without scaling")
    add("--out", type=Path, metavar="FILE", help="output file (beside MODEL, with the suffix of the format)")
    add("--int8", action="store_true", help="with --to c: 8-bit weights and activations")
    add("--calibration", metavar="DATA", help="rows for --int8 (the training rows), as for fnet predict")
    add_help(group)
    args = parser.parse(argv)
    if args.int8 and args.to != "c":
        raise ValueError(f"--int8 is for --to c, but got --to {args.to}")
    if args.calibration is not None and not args.int8:
        raise ValueError("--calibration needs --int8")
    source = model_file(args.model)
    suffix, write = WRITERS[args.to]
    out = args.out or source.with_suffix(suffix)
    if out.resolve() == source.resolve():
        raise ValueError(f"{out} is the model itself; choose another file with --out")
    model = load_model(source)
    beside = None
    if args.int8:
        calibration, test = _rows(args.calibration, source.parent / "config.json", model)
        save_c(out, model, int8=True, calibration=calibration, test=test)
    else:
        beside = write(out, model)
    print(f"exported {visible(source)} to {visible(out)}" + (f" and {visible(beside)}" if beside else ""))


def _rows(given: str | None, config: Path, model: Model) -> tuple[Array, Dataset | None]:
    """The features to calibrate the 8-bit model with, and the examples to measure its accuracy, if any."""
    if given is not None:
        _, x = predict.read(argparse.Namespace(data=given, header=None, id=None), model)
        return _some(x), None
    hint = "give rows with --calibration DATA"
    try:
        run = json.loads(config.read_text(encoding="utf-8"))
        args = train.parse_args(shlex.split(run["command"])[2:])
        digest = run["data"]["train"]["sha256"]
    except (OSError, ValueError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"the data of the run are unknown: {config}: {error}; {hint}") from None
    if args.data == "-":
        raise ValueError(f"the run read its data from standard input; {hint}")
    found = load_data(args)
    if data.fingerprint(found.train) != digest:
        raise ValueError(f"the data in {args.data} have changed since the run; {hint}")
    return _some(found.train.x), found.valid if found.test is None else found.test


def _some(x: Array) -> Array:
    """At most MAX_CALIBRATION rows, evenly spaced."""
    return np.asarray(x[:: -(-len(x) // MAX_CALIBRATION)])


def save_torch(path: Path, classifier: Model) -> None:
    """Write the state dict of the network, or of an `nn.ModuleList` of the networks."""
    try:
        import torch
    except ImportError:
        raise ImportError("--to torch needs torch: python -m pip install torch") from None
    tensors = {
        name if len(classifier.members) == 1 else f"{i}.{name}": torch.as_tensor(array)
        for i, member in enumerate(classifier.members)
        for name, array in to_torch_state_dict(classifier.config, *member).items()
    }
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    write_atomically(path, buffer.getvalue())


WRITERS: dict[str, tuple[str, Callable[[Path, Model], Path | None]]] = {
    "c": (".h", save_c),
    "onnx": (".onnx", save_onnx),
    "python": (".py", save_python),
    "safetensors": (".safetensors", save_safetensors),
    "torch": (".pt", save_torch),
}
