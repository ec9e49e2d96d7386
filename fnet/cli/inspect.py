"""`fnet inspect`: show the architecture, the layers and the outputs of a model, and how it was trained."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import fnet
from fnet import tree
from fnet.cli.folder import add_model_argument, load_model
from fnet.cli.output import visible
from fnet.cli.parser import Parser, add_help
from fnet.model import Model
from fnet.params import MLPConfig, Params

__all__ = ["main"]

MAX_CLASSES = 20  # names shown


def main(argv: list[str]) -> None:
    """Describe the model that the command line names."""
    parser = Parser("inspect", "MODEL", "Show the architecture of a model and how it was trained.")
    group = parser.add_argument_group("arguments")
    add_model_argument(group)
    add_help(group)
    text = describe(load_model(parser.parse(argv).model))
    print("\n".join(map(visible, text.split("\n"))))


def describe(classifier: Model) -> str:
    """Describe a model."""
    config, members = classifier.config, len(classifier.members)
    count = fnet.num_params(config)
    total = f"{count:,}" if members == 1 else f"{members * count:,} = {members} networks x {count:,}"
    facts = {
        "features": f"{config.sizes[0]:,}, standardized in {classifier.standardizer.mean.dtype}",
        **predicted(classifier),
        "network": architecture(config),
        "parameters": total,
    }
    if classifier.scale is None:
        facts["temperature"] = f"{classifier.temperature:g}"
    parts = [columns(facts.items()), layer_table(config, classifier.members[0][0])]
    if classifier.provenance:
        parts.append("trained with\n" + columns(flatten(classifier.provenance)))
    return "\n\n".join(parts)


def architecture(config: MLPConfig) -> str:
    parts = [" -> ".join(str(size) for size in config.sizes), config.activation]
    parts += ["batch norm"] * config.batch_norm
    parts += [f"dropout {config.dropout:g}"] * bool(config.dropout)
    parts += [f"input dropout {config.input_dropout:g}"] * bool(config.input_dropout)
    return ", ".join([*parts, config.dtype])


def predicted(model: Model) -> dict[str, str]:
    """The outputs of a model."""
    config, scale = model.config, model.scale
    if scale is None:
        return {"classes": f"{config.num_outputs:,}: {class_names(model)}"}
    name = "target" if model.target is None else f"target {model.target!r}"
    centres = ", ".join(f"{mean:.6g} ± {std:.6g}" for mean, std in zip(scale.mean, scale.std, strict=True))
    quantiles = f" {', '.join(f'{q:g}' for q in config.quantiles)}" if config.quantiles else ""
    delta = f" beyond {config.huber_delta:g}" if config.loss == "huber" else ""
    return {
        "numbers": f"{name}, {'its logarithm ' if scale.log else ''}standardized by {centres}",
        "loss": f"{config.loss}{delta}{quantiles}",
    }


def class_names(classifier: Model) -> str:
    names = [repr(name) for name in classifier.classes[:MAX_CLASSES]]
    return ", ".join(names + ["…"] * (len(classifier.classes) > MAX_CLASSES))


def layer_table(config: MLPConfig, params: Params) -> str:
    """A line per layer, with the shapes of its arrays and the number of parameters."""
    header = ("layer", "weights", "bias", "batch norm", "parameters")
    rows = [
        (
            f"hidden {i}" if i <= len(config.hidden_sizes) else "output",
            str(list(linear.w.shape)),
            "-" if linear.b is None else str(list(linear.b.shape)),
            "-" if norm is None else f"2 x {list(norm.scale.shape)}",
            f"{sum(leaf.size for leaf in tree.leaves((linear, norm))):,}",
        )
        for i, (linear, norm) in enumerate(params, 1)
    ]
    rows.append(("total", "", "", "", f"{fnet.num_params(config):,}"))
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [
        row[0].ljust(widths[0])
        + "".join("  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in (header, *rows)
    ]
    return "\n".join(lines)


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested JSON objects with their paths."""
    if isinstance(value, Mapping):
        for name, child in cast(Mapping[str, Any], value).items():
            yield from flatten(child, f"{path}.{name}" if path else name)
    else:
        yield path, repr(value)


def columns(pairs: Iterable[tuple[str, str]]) -> str:
    pairs = list(pairs)
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in pairs)
