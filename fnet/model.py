"""A trained model as one value and one file: network, scaling, and class names or the scale of the targets.

A model takes raw features. It may be an ensemble: several networks of one architecture, whose probabilities or numbers
are averaged (Hansen & Salamon 1990).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from fnet import checkpoint, data, losses, mlp, tree
from fnet.data import Classes, Encoder, Standardizer, Table, TargetScale
from fnet.nn import Array
from fnet.params import MLPConfig, Params, State, check_params, num_params, param_shapes

__all__ = [
    "Model",
    "arrays",
    "checked",
    "from_metadata",
    "load_model",
    "outputs",
    "predict",
    "predict_proba",
    "save_model",
    "to_metadata",
]

FORMAT = "fnet model 2"
TEMPERATURES = 1e-6, 1e6
MAX_METADATA = 3 << 20  # bytes; parsed JSON takes up to 20 times as much memory
MAX_NAME = 1000  # characters of a class name; in a NumPy array, every name takes the memory of the longest


@tree.container
class Model(NamedTuple):
    """A trained classifier or regression that takes raw features."""

    config: MLPConfig
    members: tuple[tuple[Params, State], ...]  # one network, or the networks of an ensemble
    standardizer: Standardizer
    classes: Classes  # distinct integers or strings, in the order of the probabilities; () for regression
    temperature: float = 1.0  # divides the logits; 1 for regression
    provenance: Mapping[str, Any] = {}  # how it was trained, for the reader; JSON
    encoder: Encoder | None = None  # turns the columns of a table into features
    target: str | None = None  # the name of the target column in such a table
    scale: TargetScale | None = None  # the scale of the targets of a regression; None for classification


def predict(model: Model, x: npt.ArrayLike | Table) -> npt.NDArray[Any]:
    """Predict the class of each row of raw features, an element of `model.classes`, or the numbers of a regression.

    Numbers are float64 in the unit of the targets: `[rows]`, or `[rows, outputs]` for several targets or quantiles. An
    ensemble averages the outputs of its networks. The quantiles of a row are sorted so that they do not cross:
    Chernozhukov, Fernandez-Val & Galichon (2010).

    Args:
        x: `[rows, features]`. If the model has an encoder, a table or the features that `fnet.data.encode` makes of it.

    Raises:
        TypeError: x does not consist of numbers, is a masked array, or is a data frame for a model with an encoder.
        ValueError: x has another shape or is not finite, or is so large that the network overflows.
    """
    values = outputs(model, x)
    if model.scale is None:
        return np.asarray(model.classes)[values.argmax(axis=1)]
    return values[:, 0] if values.shape[1] == 1 else values


def predict_proba(model: Model, x: npt.ArrayLike | Table) -> Array:
    """Probabilities `[rows, classes]` for raw features: the mean of `softmax(logits / temperature)` over the members.

    Raises:
        TypeError, ValueError: as for `predict`, or the model is a regression.
    """
    if model.scale is not None:
        raise ValueError("the model is a regression, which has no probabilities: use fnet.model.predict")
    return outputs(model, x)


def outputs(model: Model, x: npt.ArrayLike | Table) -> Array:
    """The outputs behind `predict`: probabilities `[rows, classes]` or numbers `[rows, outputs]`.

    Raises:
        TypeError, ValueError: as for `predict`.
    """
    if isinstance(x, Table):
        if model.encoder is None:
            raise ValueError("x is a table, but the model was trained on arrays: it has no encoder")
        x, _ = data.encode(model.encoder, x)
    elif model.encoder is not None and (isinstance(x, Mapping) or hasattr(x, "columns")):
        raise TypeError(
            f"x is a {type(x).__name__}, whose columns would be taken by their positions: fnet.data.from_columns(x) "
            "makes a table of it, whose columns are matched by name"
        )
    x = np.asanyarray(x)  # keeps a masked array, which is refused below
    dtype = model.config.dtype
    networks = [mlp.fold_batch_norm(model.config, *member) for member in model.members]
    parts: list[Array] = []
    with np.errstate(over="ignore", invalid="ignore"):  # non-finite numbers are found below
        for start in range(0, len(x) if x.ndim and len(x) else 1, mlp.PREDICT_CHUNK):
            part = x[start : start + mlp.PREDICT_CHUNK] if x.ndim else x
            part = data.standardize(model.standardizer, part, dtype=dtype)
            part = mlp.check_features(model.config, part, first_row=start)
            parts.append(_mean(model, [mlp.folded_logits(config, params, part) for config, params in networks]))
    values = np.concatenate(parts)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise ValueError(f"row {row} of x overflows in the network: its prediction is not finite")
    return values


def _mean(model: Model, logits: list[Array]) -> Array:
    """The prediction of an ensemble from the outputs of its networks."""
    if model.scale is None:
        return np.mean([losses.softmax(z / float(model.temperature)) for z in logits], axis=0)
    mean = np.mean(logits, axis=0)
    return data.unscale_outputs(model.scale, np.sort(mean, axis=1) if model.config.loss == "pinball" else mean)


# Files ----------------------------------------------------------------------------------------------------------------


def save_model(path: str | Path, model: Model) -> None:
    """Save a model to a file that `load_model` and `fnet predict` read. The same model gives the same bytes.

    The file is a checkpoint of fnet, an `.npz`. For other formats, see `fnet.interop`.

    Raises:
        ValueError: the model does not pass `checked`, or the suffix is `.safetensors`.
        OSError: the file cannot be written; an old file is intact.
    """
    _check_suffix(path, "save_safetensors(path, model)")
    checkpoint.save(path, arrays(checked(str(path), model)), metadata=to_metadata(model))


def load_model(path: str | Path) -> Model:
    """Load the model in a file that `save_model` wrote.

    Raises:
        FileNotFoundError, PermissionError: the file cannot be opened.
        ValueError: the file is damaged or not a model file of fnet, or the suffix is `.safetensors`.
    """
    _check_suffix(path, "load_safetensors(path)")
    stored, metadata = checkpoint.read(path, max_metadata=MAX_METADATA)
    model = from_metadata(path, metadata, len(stored))
    return checked(str(path), model._replace(**checkpoint.restore(path, stored, arrays(model))))


def _check_suffix(path: str | Path, call: str) -> None:
    if Path(path).suffix == ".safetensors":
        raise ValueError(f"{path} is a safetensors file: call fnet.interop.safetensors.{call}")


def arrays(model: Model) -> dict[str, Any]:
    """The fields of a model that hold arrays, as a pytree; `to_metadata` has the others."""
    return {"members": model.members, "standardizer": model.standardizer, "scale": model.scale}


def to_metadata(model: Model) -> dict[str, Any]:
    """The fields of a model that hold no arrays, for JSON; the inverse is `from_metadata`."""
    return {
        "format": FORMAT,
        "config": dataclasses.asdict(model.config),
        "members": len(model.members),
        "classes": [_plain(name) for name in model.classes],
        "temperature": float(model.temperature),
        "standardizer_dtype": model.standardizer.mean.dtype.name,
        "provenance": dict(model.provenance),
        "encoder": None if model.encoder is None else data.encoder_to_json(model.encoder),
        "target": model.target,
    }


def from_metadata(path: str | Path, metadata: Mapping[str, Any], num_arrays: int) -> Model:
    """The model that the metadata in a file describe, with templates in place of its arrays.

    The templates have the right shapes and dtypes, but take no memory. No number in the metadata decides how much
    memory or time is used before it is compared with the size of the file and the number of arrays in it.

    Raises:
        ValueError: the metadata do not describe a model that the file can hold.
    """
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a model file of this version of fnet: its format is {metadata.get('format')!r:.100}, "
            f"but {FORMAT!r} is expected"
        )
    try:
        fields = {name: _typed(metadata, name, kind) for name, kind in _TYPES.items()}
        config, members = MLPConfig(**fields["config"]), fields["members"]
        size, layers = Path(path).stat().st_size, len(config.sizes) - 1
        if members < 1 or members * layers > num_arrays:
            raise ValueError(f"{num_arrays} arrays cannot be {members} networks of {layers} layers")
        num_bytes = members * num_params(config) * np.dtype(config.dtype).itemsize
        if num_bytes > size:
            raise ValueError(f"{size} bytes cannot hold {members} networks of {num_params(config)} parameters")
        if fields["standardizer_dtype"] not in ("float32", "float64"):
            raise ValueError(f"its standardizer_dtype is {fields['standardizer_dtype']!r:.100}; not float32 or float64")
        template = np.broadcast_to(np.ones((), fields["standardizer_dtype"]), config.sizes[:1])
        return Model(
            config,
            (param_shapes(config),) * members,
            Standardizer(template, template),
            tuple(fields["classes"]),
            float(fields["temperature"]),
            fields["provenance"],
            None if fields["encoder"] is None else data.encoder_from_json(fields["encoder"]),
            fields["target"],
            _scale_shapes(config),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is not a model file of fnet: {error!s:.500}") from None


def _scale_shapes(config: MLPConfig) -> TargetScale | None:
    """A template of the scale, with the right shapes and dtypes; None for classification."""
    if config.loss == "cross_entropy":
        return None
    ones = np.broadcast_to(np.ones(()), (config.num_targets,))
    return TargetScale(ones, ones)


_TYPES: dict[str, Any] = {
    "config": dict,
    "members": int,
    "classes": list,
    "temperature": int | float,
    "standardizer_dtype": str,
    "provenance": dict,
    "encoder": (dict, NoneType),
    "target": (str, NoneType),
}


def _typed(metadata: Mapping[str, Any], name: str, kind: Any) -> Any:
    value = metadata.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"its {name} is {value!r:.100}")
    return value


def checked(source: str, model: Model) -> Model:
    """Return the model after checking that it is valid.

    A valid model has at least one network. Its arrays match its config and are finite, with variances and divisors in
    range. A classifier has a name for each class and a temperature from 1e-6 to 1e6; a regression has a scale for each
    target and neither of these. Everything except the arrays takes at most 3 MiB as JSON.

    Raises:
        TypeError: the provenance cannot be written as JSON.
        ValueError: the model is not valid; the message says why.
    """
    config = model.config
    if not model.members:
        raise ValueError(f"{source}: the model has no network")
    for i, (params, state) in enumerate(model.members):
        try:
            check_params(config, params, state)
        except ValueError as error:
            raise ValueError(f"{source}: network {i}: {error}") from None
    for name, array in model.standardizer._asdict().items():
        if array.shape != config.sizes[:1] or array.dtype.name not in ("float32", "float64"):
            raise ValueError(
                f"{source}: the {name} of the standardizer is {array.dtype}{list(array.shape)}, but the network has "
                f"{config.sizes[0]} features"
            )
    if model.encoder is not None and len(data.feature_names(model.encoder)) != config.sizes[0]:
        raise ValueError(
            f"{source}: the encoder makes {len(data.feature_names(model.encoder))} features, but the network has "
            f"{config.sizes[0]}"
        )
    if config.loss == "cross_entropy":
        _check_classes(source, model)
    else:
        _check_scale(source, model)
    if (size := len(json.dumps(to_metadata(model)))) > MAX_METADATA:
        raise ValueError(
            f"{source}: classes, encoder and provenance of the model take {size} bytes as JSON, more than "
            f"{MAX_METADATA}; does a column have a category, or the target a class, for nearly every row?"
        )
    for path, leaf in tree.flatten_with_path(arrays(model))[0]:
        if not np.isfinite(leaf).all():
            raise ValueError(f"{source}: {path} of the model is not finite")
    if not (model.standardizer.std > 0).all():
        raise ValueError(f"{source}: the standard deviations of the standardizer are not positive")
    if not all((norm.var >= 0).all() for _, state in model.members for norm in state):
        raise ValueError(f"{source}: a running variance of the model is negative")
    return model


def _check_scale(source: str, model: Model) -> None:
    """Raise a ValueError unless the model has what a regression needs, and nothing else."""
    loss, scale, like = model.config.loss, model.scale, _scale_shapes(model.config)
    if model.classes or model.temperature != 1:
        raise ValueError(f"{source}: classes and a temperature are for classification, but the loss is {loss!r}")
    if scale is None or like is None:
        raise ValueError(f"{source}: a model with the loss {loss!r} needs a scale: fnet.data.fit_target_scale")
    for name, *pair in zip(scale._fields, scale, like, strict=True):
        array, expected = map(np.asarray, pair)
        if (array.shape, array.dtype) != (expected.shape, expected.dtype):
            raise ValueError(
                f"{source}: the {name} of the scale is {array.dtype}{list(array.shape)}, but the network needs "
                f"{expected.dtype}{list(expected.shape)}"
            )
    if not (scale.std > 0).all():
        raise ValueError(f"{source}: the standard deviations of the scale are not positive")


def _check_classes(source: str, model: Model) -> None:
    """Raise a ValueError unless `predict` can return each class name unchanged and the temperature is valid."""
    names: list[Any] = [_plain(name) for name in model.classes]
    low, high = TEMPERATURES
    if not low <= model.temperature <= high:
        raise ValueError(f"{source}: the temperature of the model is {model.temperature}, not from {low} to {high}")
    if len(names) != model.config.num_outputs:
        raise ValueError(f"{source}: the model has {model.config.num_outputs} classes, but {len(names)} names")
    if model.scale is not None:
        raise ValueError(f"{source}: the model is a classifier, but has a scale of targets")
    problem = None
    if {type(name) for name in names} not in ({int}, {bool}, {str}):
        problem = "are not all integers or all strings"
    elif len(set(names)) < len(names):
        problem = "are not distinct"
    elif isinstance(names[0], int):
        if not -(2**63) <= min(names) <= max(names) < 2**63:
            problem = "are integers of more than 64 bits; make them strings"
    elif any(name.endswith("\0") or len(name) > MAX_NAME for name in names):
        problem = f"are strings of more than {MAX_NAME} characters, or end in a NUL character, which NumPy drops"
    else:
        try:
            "".join(names).encode()
        except UnicodeEncodeError:
            problem = "are strings that UTF-8 cannot encode"
    if problem is not None:
        raise ValueError(f"{source}: the classes {problem}: {names!r:.100}")


def _plain(name: Any) -> Any:
    return cast(Any, name.item()) if isinstance(name, np.generic) else name
