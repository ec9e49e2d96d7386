"""Export a classifier to a format that other tools read.

    python scripts/export.py MODEL --to onnx|safetensors|torch [--out FILE]

MODEL is the model.npz that scripts/train.py writes, or a .safetensors. ONNX and safetensors hold the whole classifier.
For PyTorch it is the state dict of fnet.interop.torch.sequential(config), of networks whose features are standardized
before; for an ensemble that of an nn.ModuleList of them.
"""

import argparse
import io
import sys
from pathlib import Path

from fnet import model
from fnet.checkpoint import write_atomically
from fnet.interop.onnx import save_onnx
from fnet.interop.safetensors import save_safetensors
from fnet.interop.torch import to_torch_state_dict
from fnet.model import Model


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or ""), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model.npz of a run, or a .safetensors")
    parser.add_argument("--to", choices=tuple(WRITERS), required=True, help="the format")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: beside MODEL, with the suffix of the format")
    args = parser.parse_args(argv)
    suffix, write = WRITERS[args.to]
    out = args.out or args.model.with_suffix(suffix)
    try:
        if out.resolve() == args.model.resolve():
            raise ValueError(f"{out} is the model itself; choose another file with --out")
        write(out, model.load(args.model))
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"exported {args.model} to {out}")
    return 0


def save_torch(path: Path, classifier: Model) -> None:
    """Write the state dict of the network, or of an `nn.ModuleList` of the networks."""
    try:
        import torch
    except ImportError:
        raise ImportError("--to torch needs the package torch: python -m pip install torch") from None
    tensors = {
        name if len(classifier.members) == 1 else f"{i}.{name}": torch.as_tensor(array)
        for i, member in enumerate(classifier.members)
        for name, array in to_torch_state_dict(classifier.config, *member).items()
    }
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    write_atomically(path, buffer.getvalue())


WRITERS = {
    "onnx": (".onnx", save_onnx),
    "safetensors": (".safetensors", save_safetensors),
    "torch": (".pt", save_torch),
}
