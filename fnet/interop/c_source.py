"""C source: a whole model as one C99 header that needs only `math.h`, for devices and for hot loops.

It computes `fnet.model.predict` in float32 or, with `int8`, in 8 bits. It allocates no memory and has no global
variables, so several threads may call it. Names of classes and columns occur only in strings and comments.

Its sums have another order than those of `predict`, so logits are rounded differently; both are about equally far
from the logits in float64. The relative difference of a probability is the difference of its logits: below 1e-5 for a
network trained on the digits, and up to 5e-5 if logits are about 100. Numbers differ by less than 1e-5 of their
standard deviation.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fnet import metrics
from fnet.checkpoint import write_atomically
from fnet.data import Dataset
from fnet.data.encoder import column_features
from fnet.interop import c_template as template
from fnet.interop.c_text import comment, comment_block, filled, strings, table
from fnet.interop.quantization import Quantized, quantize, quantized_prediction
from fnet.interop.source_text import about, columns_about, networks, output_names, provenance
from fnet.model import Model, checked, predict, predict_proba
from fnet.nn import Array

__all__ = ["save_c", "to_c"]


def save_c(
    path: str | Path,
    model: Model,
    *,
    int8: bool = False,
    calibration: npt.ArrayLike | None = None,
    test: Dataset | None = None,
) -> None:
    """Save a model as a C header, see `to_c`; the prefix is the file name. The same model gives the same bytes.

    Raises:
        TypeError, ValueError: as for `to_c`.
        OSError: the file cannot be written; an old file is intact.
    """
    prefix = re.sub(r"\W", "_", Path(path).stem, flags=re.ASCII)
    prefix = prefix if prefix[0].isalpha() else f"model_{prefix}"
    source = to_c(model, prefix=prefix, int8=int8, calibration=calibration, test=test)
    write_atomically(path, source.encode())


def to_c(
    model: Model,
    *,
    prefix: str = "model",
    int8: bool = False,
    calibration: npt.ArrayLike | None = None,
    test: Dataset | None = None,
) -> str:
    """The source of a header with the function `prefix_predict`, which takes features, and `prefix_classes`, the names.

    For a model that was trained on a table, it also has `prefix_predict_columns`, which takes numbers and indices of
    categories, and `prefix_category`, which finds an index. Comments describe the arguments.

    Args:
        prefix: the beginning of all names in the header, so that a program can include several headers.
        int8: whether weights and activations have 8 bits, see `fnet.interop.quantization`.
        calibration: with int8, encoded features `[rows, features]`, such as the training rows, which decide the range
            of the 8 bits.
        test: with int8, encoded examples for a comment about the loss of accuracy; None compares the predictions for
            the calibration rows instead.

    Raises:
        TypeError: int8 and calibration are not given together.
        ValueError: the model does not pass `fnet.model.checked`, or its weights are infinite in float32; the prefix is
            not an identifier; or calibration or test do not match the model.
    """
    checked("cannot write C source", model)
    if not re.fullmatch(r"[A-Za-z]\w*", prefix, re.ASCII):
        raise ValueError(f"prefix must be a C identifier without a leading underscore, but got {prefix!r}")
    if int8 == (calibration is None):
        raise TypeError("int8=True needs calibration=features, such as the training rows; otherwise omit calibration")
    quantized = None if calibration is None else quantize(model, np.asarray(calibration))
    facts = [] if quantized is None else _measured(model, quantized, np.asarray(calibration), test)
    classifies, config = model.scale is None, model.config
    activation = _ACTIVATIONS[config.activation] if config.hidden_sizes else ""
    parts = {
        "ABOUT": comment_block(_about(model, facts)),
        "ACTIVATION": activation and template.ACTIVATION,
        "BODY": "".join(_body(model, activation, quantized)),
        "COLUMNS": "" if model.encoder is None else _columns(model),
        "FEATURES": str(config.sizes[0]),
        "FUNCTION": config.activation,
        "INCLUDE": "" if quantized is None else "#include <stdint.h> /* names of types, and no more */\n",
        "LINEAR": "".join(_linear(config.sizes, quantized)),
        "MACROS": "".join(_macros(model)),
        "NAMES": _names(model),
        "OUTPUTS": str(config.num_outputs),
        "RETURNS": "the position of the most probable" if classifies else "0",
        "TABLES": "\n".join(_tables(model, quantized)),
        "TYPE": "float" if classifies else "double",
        "VALUE": activation,
        "WIDE": template.WIDE,
        "WRITES": "the probability of each class" if classifies else f"the {', '.join(output_names(config))}",
        "P": prefix.upper(),
        "p": prefix,
    }
    return filled(template.HEADER, parts)


# Comments -------------------------------------------------------------------------------------------------------------


def _measured(model: Model, quantized: Quantized, x: Array, test: Dataset | None) -> list[str]:
    """Lines about the 8-bit model and its loss of accuracy."""
    lines = [
        "Weights and activations are in 8 bits, with a step per row of weights, and sums are in 32 bits: Jacob et al.",
        "(2018), arXiv:1712.05877; Krishnamoorthi (2018), arXiv:1806.08342; Nagel et al. (2019), arXiv:1906.04721.",
    ]
    rows = x if test is None else test.x
    found = quantized_prediction(model, quantized, rows)
    if model.scale is None:
        expected = predict_proba(model, rows)
        same = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
        cost = f"the class is the same as in float32 for {100 * same:.2f} % of the {len(rows):,} rows of calibration"
        if test is not None:
            before, after = metrics.accuracy(expected, test.y), metrics.accuracy(found, test.y)
            cost = f"accuracy on {len(rows):,} rows {after:.4f}, in float32 {before:.4f}"
    else:
        expected = predict(model, rows).reshape(found.shape)
        y = expected if test is None else np.reshape(test.y, (len(rows), -1))
        before, after = (float(np.sqrt(np.square(values - y).mean())) for values in (expected, found))
        cost = f"root mean square of the difference to float32 {after:.4g} on the {len(rows):,} rows of calibration"
        if test is not None:
            cost = f"root mean squared error on {len(rows):,} rows {after:.4g}, in float32 {before:.4g}"
    return [*lines, f"Calibrated on {len(x):,} rows; {cost}."]


def _about(model: Model, facts: Sequence[str]) -> Iterator[str]:
    """The comment at the beginning of the header."""
    config, classifies = model.config, model.scale is None
    floats = config.sizes[0] + 2 * max(config.hidden_sizes, default=0) + config.num_outputs + max(config.sizes)
    floats += 0 if model.encoder is None else 2 * config.sizes[0]
    yield from (comment(about(model)), "")
    yield from ('    #include "<p>.h" // in one source file; C99, with -lm', "")
    yield f"    {'float' if classifies else 'double'} outputs[<P>_OUTPUTS];"
    call = "<p>_predict(features, outputs)"
    if model.encoder is not None:
        yield f"    int result = <p>_predict_columns(numbers, categories, outputs); // or {call}"
    else:
        yield f"    int result = {call};"
    if classifies:
        yield "    if (result >= 0) puts(<p>_classes[result]);"
    yield from ("", f"A call takes about {4 * floats:,} bytes of stack, and allocates nothing.")
    yield from ("", *map(comment, facts)) if facts else ()
    how = provenance(model)
    yield from ("", "Trained with:", "", *(f"    {comment(fact)}" for fact in how)) if how else ()


# Parts ----------------------------------------------------------------------------------------------------------------


def _macros(model: Model) -> Iterator[str]:
    if len(model.members) > 1:
        yield f"#define <P>_NETWORKS {len(model.members)}\n"
    if model.encoder is not None:
        categories = sum(column.kind == "categorical" for _, column, _ in columns_about(model))
        yield f"#define <P>_NUMBERS {len(columns_about(model)) - categories}\n"
        yield f"#define <P>_CATEGORIES {categories}\n"


def _names(model: Model) -> str:
    if model.scale is not None:
        return ""
    names = map(str, np.asarray(model.classes).tolist())
    return f"\n/* The classes, in the order of the outputs. */\n{strings('<p>_classes', '<P>_OUTPUTS', names)}"


def _tables(model: Model, quantized: Quantized | None) -> Iterator[str]:
    """The constants: scaling, and the arrays of each layer of all networks."""
    mean, std = model.standardizer if quantized is None else quantized.standardizer
    yield "/* Mean and standard deviation of the features in training. */\n" + table("double", "<p>_mean", [mean])
    yield table("double", "<p>_std", [std])
    scale = model.scale
    if scale is not None:
        yield table("double", "<p>_target_mean", [scale.mean]) + table("double", "<p>_target_std", [scale.std])
    if quantized is None:
        for i, layers in enumerate(zip(*networks(model), strict=True), 1):
            yield table("float", f"<p>_w{i}", [w for w, _ in layers])
            yield table("float", f"<p>_b{i}", [b for _, b in layers])
        return
    for i, layers in enumerate(zip(*quantized.networks, strict=True), 1):
        yield table("int8_t", f"<p>_w{i}", [layer.w for layer in layers])
        yield table("float", f"<p>_scale{i}", [layer.scale for layer in layers])
        yield table("float", f"<p>_b{i}", [layer.b for layer in layers])
        yield table("float", f"<p>_step{i}", [np.array([layer.step for layer in layers])])
        yield table("int", f"<p>_zero{i}", [np.array([layer.zero for layer in layers])])


def _linear(sizes: Sequence[int], quantized: Quantized | None) -> Iterator[str]:
    """A function for each layer width, since compilers vectorize loops of fixed length at any level."""
    if quantized is None:
        yield from (template.LINEAR.replace("<M>", str(m)) for m in dict.fromkeys(sizes[1:]))
    else:
        yield from (template.LINEAR_INT8.replace("<N>", str(n)) for n in dict.fromkeys(sizes[:-1]))


def _body(model: Model, activation: str, quantized: Quantized | None) -> Iterator[str]:
    """The statements of `predict`."""
    config, scale, ensemble = model.config, model.scale, len(model.members) > 1
    sizes, last = config.sizes, "y" if scale is not None and not ensemble else "z"
    width = max(config.hidden_sizes, default=0)
    buffers = [f"{name}[{width}]" for name in "ab"[: len(config.hidden_sizes)]]
    results = ["y[<P>_OUTPUTS]"] * (scale is not None) + ["z[<P>_OUTPUTS]"] * (last == "z")
    sums = ["top", "sum"] if scale is None else []
    counters = [
        "i",
        "refused = 0",
        *["best = 0"] * (scale is None),
        *["m"] * ensemble,
        *["k"] * (config.loss == "pinball"),
    ]
    yield f"    float {', '.join(['x[<P>_FEATURES]', *buffers, *results, *sums])};\n    int {', '.join(counters)};\n"
    yield template.STANDARDIZE
    total = "outputs" if scale is None else "y"
    if ensemble:
        yield f"    for (i = 0; i < <P>_OUTPUTS; i++)\n        {total}[i] = 0;\n"
        yield "    for (m = 0; m < <P>_NETWORKS; m++) {\n"
    indent, index = ("        ", "[m]") if ensemble else ("    ", "")
    source = "x"
    for i, (n, m) in enumerate(itertools.pairwise(sizes), 1):
        out = last if i == len(sizes) - 1 else "ab"[(i - 1) % 2]
        name, count = f"<p>_linear_{m if quantized is None else n}", n if quantized is None else m
        constants = [f"<p>_w{i}{index}", f"<p>_b{i}{index}"]
        if quantized is not None:
            constants.insert(1, f"<p>_scale{i}{index}")
            constants += [f"<p>_step{i}{index or '[0]'}", f"<p>_zero{i}{index or '[0]'}"]
        yield f"{indent}{name}({count}, {', '.join(constants)}, {source}, {out});\n"
        if activation and out != last:
            yield f"{indent}<p>_<FUNCTION>({m}, {out});\n"
        source = out
    if scale is None:
        temperature = float(model.temperature)
        shifted = "z[i] - top" if temperature == 1 else f"(z[i] - top) / {np.float32(temperature)!s}f"
        softmax = template.SOFTMAX.replace("<SHIFTED>", shifted).replace("<ASSIGN>", "+=" if ensemble else "=")
        yield textwrap.indent(softmax, "    ") if ensemble else softmax
    elif ensemble:
        yield f"{indent}for (i = 0; i < <P>_OUTPUTS; i++)\n{indent}    y[i] += z[i];\n"
    if ensemble:
        yield f"    }}\n    for (i = 0; i < <P>_OUTPUTS; i++)\n        {total}[i] /= <P>_NETWORKS;\n"
    if scale is None:
        yield template.ARGMAX
        return
    if config.loss == "pinball":
        yield template.SORT
    j = "i" if len(scale.mean) > 1 else "0"
    number = f"<p>_target_mean[{j}] + <p>_target_std[{j}] * y[i]"
    yield template.UNSCALE.replace("<NUMBER>", f"exp({number})" if scale.log else number)


def _columns(model: Model) -> str:
    """The functions that take the columns of a table."""
    arguments: list[str] = []
    statements: list[str] = []
    texts: list[tuple[str, ...]] = []
    numbers = start = 0
    for name, column, what in columns_about(model):
        if column.kind == "categorical":
            argument = f"categories[{len(texts)}]"
            own, rare = len(column.levels), len(column.pooled)
            call = f"<p>_one_hot(features + {start}, {argument}, {own}, {own + rare}, {int(column.missing)})"
            statements.append(f"    {call}; /* {comment(name)} */\n")
            texts.append((*column.levels, *column.pooled))
        else:
            argument, numbers = f"numbers[{numbers}]", numbers + 1
            value = f"isnan({argument}) ? {column.median!r} : {argument}"
            statements.append(f"    features[{start}] = {value}; /* {comment(name)} */\n")
            if column.indicator:
                statements.append(f"    features[{start + 1}] = isnan({argument}) ? 1 : 0;\n")
        unit = ", in days since 1970-01-01" if column.kind == "date" else ""
        arguments.append(f"   {argument}{unit}: {comment(f'{name}, {what}')}\n")
        start += len(column_features(column))
    statements += ["    (void)numbers;\n"] * (not numbers) + ["    (void)categories;\n"] * (not texts)
    encode = template.ENCODE.replace("<ARGUMENTS>", "".join(arguments)).replace("<STATEMENTS>", "".join(statements))
    if not texts:
        return encode
    tables = [strings(f"<p>_texts{i}", str(len(each)), each) for i, each in enumerate(texts)]
    pointers = ", ".join(f"<p>_texts{i}" for i in range(len(texts)))
    counts = ", ".join(str(len(each)) for each in texts)
    return (
        "\n" + "".join(tables) + template.CATEGORY.replace("<POINTERS>", pointers).replace("<COUNTS>", counts) + encode
    )


# The activations of fnet.nn for x[i]; they preserve NaN.
_ACTIVATIONS = {
    "identity": "",
    "relu": "x[i] < 0 ? 0 : x[i]",
    "leaky_relu": "x[i] < 0 ? 0.01f * x[i] : x[i]",
    "tanh": "tanhf(x[i])",
    "sigmoid": "0.5f * tanhf(0.5f * x[i]) + 0.5f",
    "silu": "x[i] * (0.5f * tanhf(0.5f * x[i]) + 0.5f)",
    "gelu": "0.5f * x[i] * (1 + tanhf(0.7978846f * x[i] * (1 + 0.044715f * (x[i] * x[i]))))",
    "elu": "x[i] < 0 ? expm1f(x[i]) : x[i]",
    "selu": "1.050701f * (x[i] < 0 ? 1.6732632f * expm1f(x[i]) : x[i])",
}
