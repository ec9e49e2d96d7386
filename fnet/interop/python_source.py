"""Python source: a whole model as one readable file that imports only NumPy.

The file performs the operations of `fnet.model.predict` in the same order, which gives the same bits on the same
machine. Names of classes and columns occur only in constants and in the docstring, escaped by `repr`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import pprint
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fnet import mlp
from fnet.checkpoint import write_atomically
from fnet.data import EncodedColumn
from fnet.data.cells import MISSING
from fnet.interop import python_template as template
from fnet.interop.source_text import (
    about,
    columns_about,
    in_lines,
    networks,
    output_names,
    outputs_about,
    provenance,
    quoted,
)
from fnet.model import Model, checked
from fnet.nn import Array

__all__ = ["python_arrays", "save_python", "to_python"]

MAX_INSIDE = 1 << 20  # bytes of arrays in the file itself


def save_python(path: str | Path, model: Model) -> Path | None:
    """Save a model as Python source, see `to_python`. The same model gives the same bytes.

    Arrays of more than 1 MiB are saved to a second file, `model_weights.npz` for `model.py`.

    Returns:
        The path of the second file, or None.

    Raises:
        ValueError: as for `to_python`.
        OSError: a file cannot be written; an old file is intact.
    """
    path = Path(path)
    arrays = python_arrays(model)
    if sum(array.nbytes for array in arrays.values()) <= MAX_INSIDE:
        write_atomically(path, to_python(model).encode())
        return None
    beside = path.with_name(f"{path.stem}_weights.npz")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    write_atomically(beside, buffer.getvalue())
    write_atomically(path, to_python(model, weights_file=beside.name).encode())
    return beside


def python_arrays(model: Model) -> dict[str, Array]:
    """The arrays for the weights file of `to_python(model, weights_file=...)`, an `.npz`.

    They are `mean` and `std`, `[features]`, and `weights`, `[networks, parameters]`: matrix and bias of each layer.

    Raises:
        ValueError: as for `to_python`.
    """
    checked("cannot write Python source", model)
    flat = [np.concatenate([array.ravel() for layer in network for array in layer]) for network in networks(model)]
    mean, std = (array.astype("<f8") for array in model.standardizer)
    return {"mean": mean, "std": std, "weights": np.stack(flat).astype(np.dtype(model.config.dtype).newbyteorder("<"))}


def to_python(model: Model, *, weights_file: str | None = None) -> str:
    """The source of a module with `predict` and, for a classifier, `predict_proba`, which is also a command.

    The functions take encoded features `[rows, features]`. If the model was trained on a table, they also take columns
    by name, a mapping or a data frame with cells as in the training table, and encode text, dates and missing cells
    like `fnet.data.encode`. The module checks its input like `fnet.model.predict`. As a command, it prints a prediction
    for each row of a table.

    Args:
        weights_file: the name of a file in the folder of the module with `python_arrays(model)`; None puts the arrays
            into the source.

    Raises:
        ValueError: the model does not pass `fnet.model.checked`.
    """
    arrays, config, encoder = python_arrays(model), model.config, model.encoder
    classifies = model.scale is None
    read = template.READ_ARRAY if encoder is None else template.READ_NAMED
    read = template.READ_UNNAMED if encoder is not None and not encoder.named else read
    values = {
        "ACTIVATION": f"\n        x = {_ACTIVATIONS[config.activation]}" if config.activation != "identity" else "",
        "ARGUMENTS": template.ARGUMENTS if classifies else template.ARGUMENT,
        "BY_NAME": "" if encoder is None else '    if hasattr(rows, "keys"):\n        return encode(rows)\n',
        "CHUNK": str(mlp.PREDICT_CHUNK),
        "COMBINE": "\n            ".join(_combine(model)),
        "CONSTANTS": "\n".join(_constants(model)),
        "DOC": _doc(model, weights_file),
        "DTYPE": config.dtype,
        "ENCODE": template.NUMBER if encoder is None else template.ENCODE + template.NUMBER,
        "FEATURES": str(config.sizes[0]),
        "FUNCTION": "predict_proba" if classifies else "predict",
        "IMPORTS": _imports(model, weights_file),
        "LAYERS": template.LAYERS if len(model.members) == 1 else template.NETWORKS,
        "PREDICT": template.PREDICT_CLASS if classifies else "",
        "PRINT": template.PRINT if classifies else template.PRINT_NUMBERS,
        "READ": read,
        "RESULT": "y" if classifies or config.num_outputs > 1 else "y[:, 0]",
        "SOFTMAX": template.SOFTMAX if classifies else "",
        "WEIGHTS": _weights(arrays, weights_file),
        "WHAT": outputs_about(model),
    }
    return _filled(template.MODULE, values | {name: _filled(values[name], values) for name in ("ENCODE", "READ")})


def _filled(text: str, values: dict[str, str]) -> str:
    return re.sub("<([A-Z_]+)>", lambda match: values[match[1]], text)


def _combine(model: Model) -> Iterator[str]:
    """The statements that add the predictions for some rows: the operations of `fnet.model` in the same order."""
    scale = model.scale
    each = "network(z, layers)" if model.temperature == 1 else "network(z, layers) / TEMPERATURE"
    each = each if scale is not None else f"softmax({each})"
    one = each.replace("layers", "LAYERS")
    mean = one if len(model.members) == 1 else f"np.mean([{each} for layers in NETWORKS], axis=0)"
    if scale is None:
        yield f"parts.append({mean})"
        return
    yield f"y = {mean}"
    if model.config.loss == "pinball":
        yield "y = np.sort(y, axis=1)  # quantiles do not cross"
    number = "TARGET_MEAN + TARGET_STD * y.astype(np.float64)"
    yield f"parts.append(np.exp({number}))" if scale.log else f"parts.append({number})"


def _constants(model: Model) -> Iterator[str]:
    scale = model.scale
    yield f"SIZES = {model.config.sizes!r}"
    if scale is None:
        yield f"CLASSES = np.array({_pretty(np.asarray(model.classes).tolist())})"
    else:
        yield f"OUTPUTS = {_pretty(output_names(model.config))}"
        logarithm = "  # of the logarithm" if scale.log else ""
        yield f"TARGET_MEAN = np.array({_pretty(scale.mean.tolist())}){logarithm}"
        yield f"TARGET_STD = np.array({_pretty(scale.std.tolist())})"
    if model.temperature != 1:
        yield f"TEMPERATURE = {float(model.temperature)!r}"
    yield f"MISSING = {{\n{in_lines(map(repr, sorted(MISSING)))}}}"
    yield template.NUMBER_PATTERN
    if model.encoder is not None:
        yield template.DATE_PATTERN
        columns = [f"    {_pretty(_column(column), indent=5)},\n" for _, column, _ in columns_about(model)]
        yield f"COLUMNS = [\n{''.join(columns)}]"
        if not model.encoder.named:
            yield f"NAMES = {_pretty([column.name for column in model.encoder.columns])}"


def _column(column: EncodedColumn) -> tuple[object, ...]:
    if column.kind == "categorical":
        return column.name, "text", column.levels, column.pooled, column.missing
    return column.name, "date" if column.kind == "date" else "number", column.median, column.indicator


def _pretty(value: object, indent: int = 1) -> str:
    return pprint.pformat(value, indent=indent, width=110, compact=True)


def _doc(model: Model, weights_file: str | None) -> str:
    """The docstring, which no name can terminate."""
    classifies, columns = model.scale is None, columns_about(model)
    result = "the class" if classifies else "the number" if model.config.num_outputs == 1 else "the numbers"
    needs = (
        "NumPy and nothing else" if weights_file is None else f"NumPy, and {quoted(weights_file)} in the same folder"
    )
    lines = [about(model), "", f"It needs {needs}.", ""]
    if columns:
        some = ", ".join(f"{name}: [...]" for name, _, _ in columns[:2]) + (", ..." if len(columns) > 2 else "")
        lines.append(f"    predict({{{some}}})  # {result} of each row, from columns by name")
    encoded = "encoded features" if columns else "features"
    lines.append(f"    predict(x)  # {result} of each row, from {encoded} [rows, {model.config.sizes[0]}]")
    if classifies:
        lines.append(f"    predict_proba(x)  # the probabilities of the classes, [rows, {model.config.num_outputs}]")
    proba = " [--proba]" if classifies else ""
    lines.append(f"    python FILE.py TABLE.csv{proba}  # prints a prediction for each row of a table")
    if columns:
        lines += [
            "",
            "The columns, in any order; others are ignored, and missing cells are None, NaN or in MISSING:",
            "",
        ]
        lines += [f"    {name}: {what}" for name, _, what in columns]
    facts = provenance(model)
    lines += ["", "Trained with:", "", *(f"    {fact}" for fact in facts)] if facts else []
    return "\n".join(lines).replace("\\", "\\\\").replace('"', '\\"')


def _imports(model: Model, weights_file: str | None) -> str:
    needed = ["csv", "re", "sys"]
    needed += ["base64", "zlib"] if weights_file is None else ["hashlib", "pathlib"]
    needed += [] if model.encoder is None else ["datetime"]
    return "\n".join(f"import {name}" for name in sorted(needed))


def _weights(arrays: dict[str, Array], weights_file: str | None) -> str:
    if weights_file is not None:
        digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest()
        return _filled(template.BESIDE, {"FILE": repr(weights_file), "DIGEST": digest})
    text = base64.b64encode(zlib.compress(arrays["weights"].tobytes(), 9)).decode()
    values = {
        "MEAN": in_lines(map(repr, arrays["mean"].tolist())),
        "STD": in_lines(map(repr, arrays["std"].tolist())),
        "TEXT": "\n".join(text[i : i + 116] for i in range(0, len(text), 116)),
        "SHAPE": repr(arrays["weights"].shape),
        "TYPE": arrays["weights"].dtype.str,
    }
    return _filled(template.INSIDE, values)


# The same operations as in fnet.nn, in the same order.
_ACTIVATIONS = {
    "identity": "x",
    "relu": "np.maximum(x, 0)",
    "leaky_relu": "x * np.where(x > 0, 1, 0.01).astype(x.dtype)",
    "tanh": "np.tanh(x)",
    "sigmoid": "0.5 * np.tanh(0.5 * x) + 0.5",
    "silu": "x * (0.5 * np.tanh(0.5 * x) + 0.5)",
    "gelu": f"0.5 * x * (1 + np.tanh({math.sqrt(2 / math.pi)!r} * x * (1 + 0.044715 * (x * x))))",
    "elu": "np.maximum(x, 0) + np.expm1(np.minimum(x, 0))",
    "selu": "1.0507009873554805 * (np.maximum(x, 0) + 1.6732632423543772 * np.expm1(np.minimum(x, 0)))",
}
