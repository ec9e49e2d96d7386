"""A trained classifier as one value and one file: network, standardizer and class names, for raw features.

It may be an ensemble: several networks of one architecture, whose probabilities are averaged (Hansen & Salamon 1990).
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fnet import checkpoint, data, losses, mlp, tree
from fnet import random as frandom
from fnet.data import Classes, Standardizer
from fnet.mlp import MLPConfig, Params, State
from fnet.nn import Array

FORMAT = "fnet classifier 1"
CHUNK = 4096  # rows predicted at a time


class Model(NamedTuple):
    """A classifier of raw features."""

    config: MLPConfig
    members: tuple[tuple[Params, State], ...]  # one network, or those of an ensemble
    standardizer: Standardizer
    classes: Classes
    temperature: float = 1.0  # the logits are divided by it
    provenance: Mapping[str, Any] = {}  # how it was trained, for people; JSON


def predict_proba(model: Model, x: npt.ArrayLike) -> Array:
    """Probabilities `[rows, classes]` of raw features: the mean of `softmax(logits / temperature)` over the members.

    Raises:
        TypeError, ValueError: x is not finite numbers `[rows, features]`.
    """
    x = np.asarray(x)
    networks = [mlp.fold_batch_norm(model.config, *member) for member in model.members]
    parts: list[Array] = []
    for start in range(0, max(len(x) if x.ndim else 1, 1), CHUNK):
        part = data.standardize(model.standardizer, x[start : start + CHUNK] if x.ndim else x)
        logits = [mlp.folded_logits(config, params, part, first_row=start) for config, params in networks]
        parts.append(np.mean([losses.softmax(z / float(model.temperature)) for z in logits], axis=0))
    return np.concatenate(parts)


def predict(model: Model, x: npt.ArrayLike) -> npt.NDArray[Any]:
    """The most probable class of each row of raw features, as the user knows it.

    Raises:
        TypeError, ValueError: as `predict_proba`.
    """
    return np.asarray(model.classes)[predict_proba(model, x).argmax(axis=1)]


def save(path: str | Path, model: Model) -> None:
    """Write a model to a file that `load` and `scripts/predict.py` read; the same model gives the same bytes.

    The file is a checkpoint of fnet, or with the suffix `.safetensors` one of `fnet.interop.safetensors`.

    Raises:
        ValueError: the model is not as `checked` wants it; says what is wrong.
        ImportError: the package safetensors is not installed.
        OSError: the file cannot be written; an old one is still there.
    """
    if Path(path).suffix == ".safetensors":
        from fnet.interop.safetensors import save_safetensors

        save_safetensors(path, model)
        return
    checked(str(path), model)
    checkpoint.save(path, (model.members, model.standardizer), metadata=to_metadata(model))


def load(path: str | Path) -> Model:
    """The model in a file that `save` wrote.

    Raises:
        FileNotFoundError, PermissionError: the file cannot be opened.
        ImportError: the package safetensors is not installed.
        ValueError: it is damaged, or no model.
    """
    if Path(path).suffix == ".safetensors":
        from fnet.interop.safetensors import load_safetensors

        return load_safetensors(path)
    metadata = checkpoint.load_metadata(path)
    model = from_metadata(path, metadata)
    members, standardizer = checkpoint.load(path, (model.members, model.standardizer))
    return checked(str(path), model._replace(members=members, standardizer=standardizer))


def checked(source: str, model: Model) -> Model:
    """The model, if it has a network, arrays that fit its config, finite numbers, variances and divisors in range, and
    a name for each class.

    Raises:
        ValueError: it has not; says where.
    """
    if not model.members:
        raise ValueError(f"{source}: the model has no network")
    for i, (params, state) in enumerate(model.members):
        try:
            mlp.check_params(model.config, params, state)
        except ValueError as error:
            raise ValueError(f"{source}: network {i}: {error}") from None
    for name, array in model.standardizer._asdict().items():
        if array.shape != model.config.sizes[:1]:
            raise ValueError(
                f"{source}: the {name} of the standardizer has shape {list(array.shape)}, but the network has "
                f"{model.config.sizes[0]} features"
            )
    if not 0 < model.temperature < math.inf:
        raise ValueError(f"{source}: the temperature of the model is {model.temperature}")
    if len(model.classes) != model.config.num_classes:
        raise ValueError(f"{source}: the model has {model.config.num_classes} classes, but {len(model.classes)} names")
    for path, leaf in tree.flatten_with_path((model.members, model.standardizer))[0]:
        if not np.isfinite(leaf).all():
            raise ValueError(f"{source}: {path} of the model is not finite")
    if not (model.standardizer.std > 0).all():
        raise ValueError(f"{source}: the standard deviations of the standardizer are not positive")
    if not all((norm.var >= 0).all() for _, state in model.members for norm in state):
        raise ValueError(f"{source}: a running variance of the model is negative")
    return model


def to_metadata(model: Model) -> dict[str, Any]:
    """All of a model but its numbers, for JSON; `from_metadata` is the way back."""
    return {
        "format": FORMAT,
        "config": dataclasses.asdict(model.config),
        "members": len(model.members),
        "classes": [name.item() if isinstance(name, np.generic) else name for name in model.classes],
        "temperature": float(model.temperature),
        "standardizer_dtype": model.standardizer.mean.dtype.name,
        "provenance": dict(model.provenance),
    }


def from_metadata(path: str | Path, metadata: Mapping[str, Any]) -> Model:
    """The model in a file as its metadata describe it, with any numbers in it.

    Raises:
        ValueError: they describe none, or one that the file is too small for.
    """
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is no model of this version: its format is {metadata.get('format')!r}")
    try:
        fields: dict[str, Any] = dict(metadata["config"])
        config = MLPConfig(**fields)
        size, members = Path(path).stat().st_size, int(metadata["members"])
        if members < 1 or members * mlp.num_params(config) * np.dtype(config.dtype).itemsize > size:
            raise ValueError(f"{size} bytes cannot hold {members} networks of {mlp.num_params(config)} parameters")
        member = mlp.init(frandom.key(0), config)
        empty = np.ones(config.sizes[0], metadata["standardizer_dtype"])
        if empty.dtype.kind != "f":
            raise ValueError(f"a standardizer of {empty.dtype}")
        return Model(
            config,
            (member,) * members,
            Standardizer(empty, empty),
            tuple(metadata["classes"]),
            float(metadata["temperature"]),
            dict(metadata["provenance"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is no model: {type(error).__name__} {error}") from None
