"""A regression as one value and one file, in the unit of its targets, in every format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import library

import fnet
from fnet import MLPConfig, checkpoint, data, model, random, tree
from fnet.data import Standardizer, TargetScale
from fnet.model import Model
from fnet.testing import assert_trees_equal

KEY = random.key(0)
KINDS: list[dict[str, Any]] = [
    {},
    {"sizes": (4, 8, 3), "loss": "huber", "huber_delta": 0.5, "members": 3},
    {"sizes": (4, 8, 3), "loss": "pinball", "quantiles": (0.1, 0.5, 0.9), "members": 2},
    {"log": True, "members": 2},
    {"sizes": (4, 8, 2), "loss": "pinball", "quantiles": (0.1, 0.9), "log": True, "dtype": "float64"},
    {"sizes": (4, 1), "dtype": "float64"},
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


def regression(members: int = 1, log: bool = False, **changes: Any) -> Model:
    """A model whose numbers are thousands of some unit, and whose quantiles cross in some rows."""
    config = MLPConfig(**{"sizes": (4, 8, 1), "loss": "squared_error", "batch_norm": True, **changes})
    networks = tuple(fnet.init(random.fold_in(KEY, i), config) for i in range(members))
    if config.loss != "pinball":
        networks = tree.map(lambda leaf: leaf + 0.1, networks)
    mean, std = (np.log(3000.0), 0.5) if log else (3000.0, 1234.5)
    scale = TargetScale(np.full(config.num_targets, mean), np.full(config.num_targets, std), np.bool(log))
    return Model(config, networks, Standardizer(np.arange(4.0), np.full(4, 2.0)), (), target="y [m]", scale=scale)


X = np.arange(4) + 2 * random.normal(random.key(1), (500, 4), np.float64)


# Predictions ----------------------------------------------------------------------------------------------------------


@each_kind
def test_numbers_are_the_mean_over_the_members_in_the_unit_of_the_targets(kind: dict[str, Any]) -> None:
    given = regression(**kind)
    assert given.scale is not None
    z = (X - given.standardizer.mean) / given.standardizer.std
    outputs = np.mean([fnet.predict_logits(given.config, *member, z) for member in given.members], axis=0)
    if given.config.loss == "pinball":
        assert (np.diff(outputs, axis=1) < 0).any(), "the quantiles should cross"
        outputs = np.sort(outputs, axis=1)
    expected = given.scale.mean + given.scale.std * outputs
    expected = np.exp(expected) if given.scale.log else expected
    got = model.predict(given, X)
    assert (got.shape, got.dtype) == ((500,) if given.config.num_outputs == 1 else expected.shape, np.float64)
    np.testing.assert_allclose(got.reshape(500, -1), expected, rtol=1e-5)
    np.testing.assert_array_equal(model.outputs(given, X), got.reshape(500, -1))


def test_numbers_have_no_probabilities() -> None:
    with pytest.raises(ValueError, match=r"a regression, which has no probabilities: use fnet\.model\.predict"):
        model.predict_proba(regression(), X)


def test_a_number_beyond_float64_is_an_error() -> None:
    given = regression(log=True)
    assert given.scale is not None
    given = given._replace(scale=given.scale._replace(std=np.array([1e300])))
    with pytest.raises(ValueError, match=r"row \d of x overflows in the network"):
        model.predict(given, X)


# Formats --------------------------------------------------------------------------------------------------------------


@each_kind
def test_npz_and_safetensors_hold_the_whole_model(kind: dict[str, Any], tmp_path: Path) -> None:
    given = regression(**kind)
    model.save_model(tmp_path / "model.npz", given)
    copies = [model.load_model(tmp_path / "model.npz")]
    if library("safetensors"):
        from fnet.interop.safetensors import load_safetensors, save_safetensors

        save_safetensors(tmp_path / "model.safetensors", given)
        copies.append(load_safetensors(tmp_path / "model.safetensors"))
    for back in copies:
        assert_trees_equal(model.arrays(back), model.arrays(given))
        assert (back.config, back.classes, back.target) == (given.config, (), "y [m]")
        assert model.predict(back, X).tobytes() == model.predict(given, X).tobytes()


@each_kind
def test_onnx_computes_the_numbers(kind: dict[str, Any]) -> None:
    onnx, runtime = library("onnx"), library("onnxruntime")
    from fnet.interop.onnx import to_onnx

    given, x = regression(**kind), X.astype(np.float32)
    proto = to_onnx(given)
    onnx.checker.check_model(proto, full_check=True)
    session = runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"features": x})
    expected = model.predict(given, x)
    assert (got.shape, got.dtype) == (expected.shape, np.float64)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    notes = {entry.key: json.loads(entry.value) for entry in proto.metadata_props}
    assert notes == {"quantiles": list(given.config.quantiles), "provenance": {}}


@each_kind
def test_torch_computes_the_numbers(kind: dict[str, Any]) -> None:
    torch = library("torch")
    from fnet.interop.torch import sequential, to_torch_state_dict

    given = regression(**kind)._replace(members=regression(**kind).members[:1])
    assert given.scale is not None
    module = sequential(given.config)
    state_dict = to_torch_state_dict(given.config, *given.members[0])
    module.load_state_dict({name: torch.as_tensor(array) for name, array in state_dict.items()}, strict=True)
    with torch.no_grad():
        x = data.standardize(given.standardizer, X, dtype=given.config.dtype)
        numbers = data.unscale_outputs(given.scale, module.eval()(torch.as_tensor(x)).numpy())
    numbers = np.sort(numbers, axis=1) if given.config.loss == "pinball" else numbers
    np.testing.assert_allclose(numbers, model.predict(given, X).reshape(numbers.shape), rtol=1e-5)


# What is refused ------------------------------------------------------------------------------------------------------


def scaled(**changes: Any) -> Model:
    given = regression()
    assert given.scale is not None
    return given._replace(scale=given.scale._replace(**changes))


ONE = np.ones(1)
CLASSIFIER = Model(MLPConfig(sizes=(4, 8, 2)), (), Standardizer(np.zeros(4), np.ones(4)), ("a", "b"))
CLASSIFIER = CLASSIFIER._replace(members=(fnet.init(KEY, CLASSIFIER.config),))
BAD_MODELS = [
    (scaled(std=0 * ONE), "the standard deviations of the scale are not positive"),
    (scaled(std=-ONE), "the standard deviations of the scale are not positive"),
    (scaled(std=np.inf * ONE), r"\['scale'\]\.std of the model is not finite"),
    (scaled(mean=np.nan * ONE), r"\['scale'\]\.mean of the model is not finite"),
    (scaled(mean=np.ones(2)), r"the mean of the scale is float64\[2\], but .* float64\[1\]|mean is float64\[2\]"),
    (scaled(std=np.ones(1, np.float32)), r"the std of the scale is float32\[1\], but|std is float32\[1\]"),
    (scaled(log=np.ones(1, bool)), r"the log of the scale is bool\[1\], but|log is bool\[1\]"),
    (scaled(log=np.int64(1)), r"the log of the scale is int64\[\], but|log is int64\[\]"),
    (regression()._replace(classes=("a",)), "classes and a temperature are for classification, but the loss is"),
    (regression()._replace(temperature=2.0), "classes and a temperature are for classification, but the loss is"),
    (regression()._replace(scale=None), "needs a scale: fnet.data.fit_target_scale|missing"),
    (CLASSIFIER._replace(scale=TargetScale(ONE, ONE)), "a classifier, but has a scale|not expected"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_MODELS, ids=[message for _, message in BAD_MODELS])
def test_a_scale_that_is_not_sound_is_neither_saved_nor_loaded(bad: Model, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    with pytest.raises(ValueError, match=rf"model\.npz: .*({message})"):
        model.save_model(path, bad)
    assert not path.exists()
    checkpoint.save(path, model.arrays(bad), metadata=model.to_metadata(bad))
    with pytest.raises(ValueError, match=rf"model\.npz.*({message})"):
        model.load_model(path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"loss": "cross_entropy", "sizes": [4, 8, 2]}, "holds another tree|classes"),
        ({"loss": "absolute_error"}, "loss must be one of"),
        ({"loss": "pinball"}, "quantiles must be 1 increasing numbers"),
        ({"loss": "pinball", "quantiles": [1.5]}, "quantiles must be 1 increasing numbers"),
        ({"loss": "pinball", "quantiles": "0.5"}, "quantiles|could not convert"),
        ({"loss": "huber", "huber_delta": -1}, "huber_delta must be a positive number"),
        ({"quantiles": [0.5]}, "quantiles apply only to"),
        ({"sizes": [4, 8, 10**9]}, "cannot hold 1 networks"),
    ],
    ids=str,
)
def test_a_config_that_says_something_else_of_the_outputs(config: Any, message: str, tmp_path: Path) -> None:
    path, given = tmp_path / "model.npz", regression()
    metadata = model.to_metadata(given)
    metadata["config"] = {**metadata["config"], **config}
    checkpoint.save(path, model.arrays(given), metadata=metadata)
    with pytest.raises(ValueError, match=rf"model\.npz.*({message})"):
        model.load_model(path)
