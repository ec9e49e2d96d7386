"""fnet.interop.onnx: the graph is valid, and onnxruntime computes what fnet does."""

import json
import sys

import numpy as np
import pytest

import fnet
from fnet import MLPConfig, model, tree
from fnet.data import EncodedColumn, Encoder, Standardizer
from fnet.interop.onnx import save_onnx, to_onnx
from fnet.model import Model
from fnet.nn import ACTIVATIONS
from fnet.params import Layer

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ROWS = 10_000
DEPTHS = tuple((7, 6, 5, 6, 4)[:depth] for depth in range(6))


def classifier(
    *,
    members=1,
    classes=(2, 3, 5),
    offset=0.0,
    temperature=1.0,
    standardizer_dtype="float32",
    provenance=None,
    **changes,
):
    config = MLPConfig(**{"sizes": (5, 8, 3), **changes})
    rng = np.random.default_rng(0)

    def draw(leaf):
        limit = 2 if leaf.ndim == 2 else 0.5
        return (leaf + rng.uniform(-limit, limit, leaf.shape)).astype(leaf.dtype)

    def network(i):
        """Random, with logits of mean 0 and standard deviation 2, so that every class is predicted."""
        params, state = tree.map(draw, fnet.init(fnet.random.key(i), config))
        z = fnet.predict_logits(config, params, state, 2 * rng.normal(size=(1000, config.sizes[0])))
        w, b = params[-1].linear
        scale = 2 / z.std(axis=0)
        last = Layer(fnet.nn.Linear(w * scale, (b - z.mean(axis=0)) * scale), None)
        return (*params[:-1], last), state

    networks = tuple(network(i) for i in range(members))
    mean, std = offset + rng.normal(size=config.sizes[0]), rng.uniform(0.5, 2, config.sizes[0])
    standardizer = Standardizer(mean.astype(standardizer_dtype), std.astype(standardizer_dtype))
    return Model(config, networks, standardizer, classes, temperature, provenance or {})


def features(classifier, rows=ROWS):
    noise = np.random.default_rng(1).normal(size=(rows, classifier.config.sizes[0]))
    return (classifier.standardizer.mean + 2 * classifier.standardizer.std * noise).astype(np.float32)


def run(proto, x):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["label", "probabilities"], {"features": x})


def check(classifier, x=None, atol=2e-5):
    """The graph against `fnet.model`: probabilities, and labels wherever no two classes tie."""
    proto = to_onnx(classifier)
    onnx.checker.check_model(proto, full_check=True)
    x = features(classifier) if x is None else x
    label, probabilities = run(proto, x)
    expected = model.predict_proba(classifier, x)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=atol)
    first, second = np.sort(expected, axis=1)[:, :-3:-1].T
    clear = first - second > 2 * atol
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(label[clear], model.predict(classifier, x)[clear])
    assert len(set(label.tolist())) > 1
    return label


@pytest.mark.parametrize("hidden", DEPTHS, ids=len)
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_architectures(activation, batch_norm, hidden):
    check(classifier(sizes=(5, *hidden, 3), activation=activation, batch_norm=batch_norm))


@pytest.mark.parametrize("classes", [("ant", "bee", "größer"), (-(2**63), 2**63 - 1, 0)], ids=str)
def test_classes(classes):
    label = check(classifier(classes=classes))
    assert label.dtype == (object if isinstance(classes[0], str) else np.int64)
    assert set(label.tolist()) <= set(classes)
    proto = to_onnx(classifier(classes=classes, provenance={"seed": 3}))
    notes = {note.key: json.loads(note.value) for note in proto.metadata_props}
    assert notes == {"classes": list(classes), "provenance": {"seed": 3}}
    to_onnx(classifier(classes=tuple(np.array([2, 3, 5]))))


def test_ensemble_and_temperature():
    check(classifier(members=3, temperature=2.5))
    check(classifier(members=1, temperature=0.3))


def test_float64():
    check(classifier(dtype="float64", standardizer_dtype="float64"))


@pytest.mark.parametrize("standardizer_dtype", ["float32", "float64"])
def test_features_far_from_zero(standardizer_dtype):
    check(classifier(offset=1e5, standardizer_dtype=standardizer_dtype))


def test_features_that_float32_cannot_tell_apart_are_float64():
    some = classifier(standardizer_dtype="float64")
    mean, std = some.standardizer.mean.copy(), some.standardizer.std.copy()
    mean[2], std[2] = 1.7e12, 3e5  # a time in milliseconds
    some = some._replace(standardizer=Standardizer(mean, std))
    x = mean + 2 * std * np.random.default_rng(1).normal(size=(ROWS, 5))
    check(some, x)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument, match=r"expected: .tensor.double"):
        run(to_onnx(some), x.astype(np.float32))


def test_the_features_of_a_table_are_named_in_their_order():
    encoder = Encoder(
        (
            EncodedColumn("age", "numeric", indicator=True),
            EncodedColumn("sex", "categorical", "", levels=("f", "m", "x")),
        )
    )
    notes = {
        note.key: json.loads(note.value) for note in to_onnx(classifier()._replace(encoder=encoder)).metadata_props
    }
    assert notes["features"] == ["age", "age (missing)", "sex=f", "sex=m", "sex=x"]


def test_any_number_of_rows():
    for rows in (1, 2, 1000):
        some = classifier()
        x = features(some, rows)
        np.testing.assert_allclose(run(to_onnx(some), x)[1], model.predict_proba(some, x), atol=1e-5)


def test_versions():
    proto = to_onnx(classifier())
    assert (proto.ir_version, [(o.domain, o.version) for o in proto.opset_import]) == (8, [("", 13)])
    assert (proto.producer_name, proto.producer_version) == ("fnet", fnet.__version__)


def test_save(tmp_path):
    path = tmp_path / "model.onnx"
    save_onnx(path, classifier())
    first = path.read_bytes()
    save_onnx(path, classifier())
    assert path.read_bytes() == first
    assert onnx.load(path) == to_onnx(classifier())


def test_errors(monkeypatch):
    wrong = classifier()._replace(config=MLPConfig(sizes=(5, 9, 3)))
    with pytest.raises(ValueError, match="params"):
        to_onnx(wrong)
    for wide in (2**63, 2**64 - 1, 2**70):
        with pytest.raises(ValueError, match="the classes are integers of more than 64 bits; make them strings"):
            to_onnx(classifier(classes=(0, 1, wide)))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="ONNX needs onnx: python -m pip install onnx"):
        to_onnx(classifier())
