"""`fnet export`: write a model in a format that other tools read.

ONNX and safetensors hold the whole model. For PyTorch it is the state dict of `fnet.interop.torch.sequential(config)`,
of networks whose features are standardized before, and whose numbers are in their scale, see `fnet.interop.torch`; for
an ensemble that of an `nn.ModuleList` of them.
"""

import io
from pathlib import Path

from fnet.checkpoint import write_atomically
from fnet.cli.folder import add_model_argument, load_model, model_file
from fnet.cli.output import visible
from fnet.cli.parser import Parser, add_help
from fnet.interop.onnx import save_onnx
from fnet.interop.safetensors import save_safetensors
from fnet.interop.torch import to_torch_state_dict
from fnet.model import Model


def main(argv: list[str]) -> None:
    """Export as the command line says."""
    parser = Parser("export", "MODEL --to FORMAT [--out FILE]", "Write a model in a format that other tools read.")
    group = parser.add_argument_group("arguments")
    add = group.add_argument
    add_model_argument(group)
    add("--to", choices=tuple(WRITERS), required=True, help="torch is the state dict, without the scaling")
    add("--out", type=Path, metavar="FILE", help="beside MODEL, with the suffix of the format, if it is not given")
    add_help(group)
    args = parser.parse(argv)
    source = model_file(args.model)
    suffix, write = WRITERS[args.to]
    out = args.out or source.with_suffix(suffix)
    if out.resolve() == source.resolve():
        raise ValueError(f"{out} is the model itself; choose another file with --out")
    write(out, load_model(source))
    print(f"exported {visible(source)} to {visible(out)}")


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


WRITERS = {
    "onnx": (".onnx", save_onnx),
    "safetensors": (".safetensors", save_safetensors),
    "torch": (".pt", save_torch),
}
