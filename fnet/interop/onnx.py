"""ONNX: a whole model, from raw features to class and probabilities or to numbers, as a graph for any ONNX runtime.

The graph (opset 13, IR version 8) standardizes in float64 and computes in float32::

    features [batch, features] float32  ->  label [batch] int64 or string,  probabilities [batch, classes] float32
    features [batch, features] float32  ->  prediction [batch] or [batch, outputs] float64, in the unit of the targets

The features are float64 if float32 would round one by more than 1/64 of its standard deviation, as it does with
timestamps in milliseconds. Batch norm is folded into the linear layers. Standardization is not: if a mean is large
compared with its standard deviation, `w x / std - w mean / std` loses digits in float32 that `(x - mean) / std` keeps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import fnet
from fnet import mlp
from fnet.checkpoint import write_atomically
from fnet.data import Standardizer, feature_names
from fnet.interop import missing
from fnet.model import Model, checked, to_metadata
from fnet.params import MLPConfig, Params

__all__ = ["save_onnx", "to_onnx"]

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 13, 8
FAR = 2.0**18  # standard deviations from 0; float32 has 24 bits


def save_onnx(path: str | Path, model: Model) -> None:
    """Save a model to an `.onnx` file, see `to_onnx`. The same model gives the same bytes.

    Raises:
        ImportError, ValueError: as for `to_onnx`.
        OSError: the file cannot be written; an old file is intact.
    """
    write_atomically(path, to_onnx(model).SerializeToString(deterministic=True))


def to_onnx(model: Model) -> onnx.ModelProto:
    """Convert a model to an ONNX model that computes `fnet.model.predict` and `fnet.model.predict_proba`.

    The metadata contain, as JSON, the `classes` in the order of the probabilities or the `quantiles` of a regression,
    and `provenance`. The input of a model with an encoder is encoded by `fnet.data.encode`; the metadata then contain
    the names of the `features`. Features that are not finite, which `predict` refuses, give NaN here.

    Raises:
        ImportError: the package onnx is not installed.
        ValueError: the model does not pass `fnet.model.checked`.
    """
    try:
        from onnx import TensorProto, helper
    except ImportError:
        raise missing("ONNX", "onnx", "onnx") from None
    checked("cannot convert to ONNX", model)
    graph = _Graph()
    x = _standardize(graph, model.standardizer)
    networks = [mlp.fold_batch_norm(model.config, *member) for member in model.members]
    logits = [_network(graph, config, params, x) for config, params in networks]
    outputs = _probabilities(graph, model, logits) if model.scale is None else _numbers(graph, model, logits)
    mean, std = model.standardizer
    kind = TensorProto.DOUBLE if (np.abs(mean) > FAR * np.abs(std)).any() else TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("features", kind, ["batch", model.config.sizes[0]])]
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "fnet", inputs, outputs, graph.constants),
        producer_name="fnet",
        producer_version=fnet.__version__,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    metadata = to_metadata(model)
    metadata["quantiles"] = model.config.quantiles
    kept = "classes" if model.scale is None else "quantiles"
    notes = {name: json.dumps(metadata[name], sort_keys=True) for name in (kept, "provenance")}
    if model.encoder is not None:
        notes["features"] = json.dumps(feature_names(model.encoder))
    helper.set_model_props(proto, notes)
    return proto


class _Graph:
    """The nodes and constants of a graph. Each method adds one and returns the name of its (first) output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, op: str, *inputs: str, name: str = "", outputs: int = 1, **attributes: Any) -> str:
        from onnx import helper

        name = name or f"{op.lower()}_{len(self.nodes)}"
        names = [name, *(f"{name}_{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(op, inputs, names, name, **attributes))
        return name

    def constant(self, value: npt.ArrayLike) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name


def _standardize(graph: _Graph, standardizer: Standardizer) -> str:
    """`(x - mean) / std`, computed in float64 and rounded to float32, as by `fnet.standardize`."""
    from onnx import TensorProto

    mean, std = (graph.constant(array.astype(np.float64)) for array in standardizer)
    x = graph.node("Cast", "features", to=TensorProto.DOUBLE)
    x = graph.node("Div", graph.node("Sub", x, mean), std)
    return graph.node("Cast", x, to=TensorProto.FLOAT)


def _probabilities(graph: _Graph, model: Model, logits: Sequence[str]) -> list[onnx.ValueInfoProto]:
    """The outputs of a classifier."""
    from onnx import TensorProto, helper

    if model.temperature != 1:
        logits = [graph.node("Div", z, graph.constant(np.float32(model.temperature))) for z in logits]
    graph.node("Mean", *(graph.node("Softmax", z, axis=1) for z in logits), name="probabilities")
    classes = np.asarray(model.classes)
    names = classes.dtype.kind == "U"
    index = graph.node("ArgMax", "probabilities", axis=1, keepdims=0)
    graph.node("Gather", graph.constant(classes.astype(object if names else np.int64)), index, name="label")
    return [
        helper.make_tensor_value_info("label", TensorProto.STRING if names else TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", model.config.num_outputs]),
    ]


def _numbers(graph: _Graph, model: Model, logits: Sequence[str]) -> list[onnx.ValueInfoProto]:
    """The output of a regression, in float64."""
    from onnx import TensorProto, helper

    config, scale = model.config, model.scale
    assert scale is not None
    z = graph.node("Mean", *logits)
    if config.loss == "pinball":  # the only sort in opset 13 is TopK
        z = graph.node("TopK", z, graph.constant(np.array([config.num_outputs])), axis=1, largest=0, outputs=2)
    y = graph.node("Mul", graph.node("Cast", z, to=TensorProto.DOUBLE), graph.constant(scale.std))
    y = graph.node("Add", y, graph.constant(scale.mean))
    y = graph.node("Exp", y) if scale.log else y
    one = config.num_outputs == 1
    shape = np.array([-1] if one else [-1, config.num_outputs])
    graph.node("Reshape", y, graph.constant(shape), name="prediction")
    sizes = ["batch"] if one else ["batch", config.num_outputs]
    return [helper.make_tensor_value_info("prediction", TensorProto.DOUBLE, sizes)]


def _network(graph: _Graph, config: MLPConfig, params: Params, x: str) -> str:
    """The logits of a network without batch norm."""
    for i, (linear, _) in enumerate(params):
        assert linear.b is not None
        x = graph.node("Gemm", x, *(graph.constant(array.astype(np.float32)) for array in (linear.w, linear.b)))
        if i < len(config.hidden_sizes):
            x = _activation(graph, config.activation, x)
    return x


def _activation(graph: _Graph, name: str, x: str) -> str:
    """An activation of `fnet.nn`; opset 13 lacks silu and gelu."""

    def number(value: float) -> str:
        return graph.constant(np.float32(value))

    match name:
        case "identity":
            return x
        case "silu":
            return graph.node("Mul", x, graph.node("Sigmoid", x))
        case "gelu":  # x/2 (1 + tanh(c x (1 + a x^2)))
            c, a = math.sqrt(2 / math.pi), 0.044715
            u = graph.node("Add", graph.node("Mul", graph.node("Mul", x, x), number(c * a)), number(c))
            t = graph.node("Tanh", graph.node("Mul", u, x))
            return graph.node("Mul", graph.node("Mul", graph.node("Add", t, number(1)), x), number(0.5))
        case "leaky_relu":
            return graph.node("LeakyRelu", x, alpha=0.01)
        case _:
            return graph.node(name.capitalize(), x)  # Relu, Tanh, Sigmoid, Elu, Selu
