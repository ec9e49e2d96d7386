"""scripts/export.py, inspect_model.py and compare_sklearn.py."""

import sys

import export
import inspect_model
import numpy as np
import pytest

import fnet
from fnet import MLPConfig, Standardizer, model
from fnet.model import Model
from fnet.testing import assert_trees_equal


def classifier(members=1, classes=("ant", "bee", "cat"), provenance=None, **changes):
    config = MLPConfig(**{"sizes": (4, 5, 6, 3), **changes})
    networks = tuple(fnet.init(fnet.random.key(i), config) for i in range(members))
    standardizer = Standardizer(np.arange(4, dtype=np.float32), np.ones(4, np.float32))
    return Model(config, networks, standardizer, classes, provenance=provenance or {})


def saved(tmp_path, classifier):
    path = tmp_path / "model.npz"
    model.save(path, classifier)
    return path


X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


def test_onnx(tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    path, original = saved(tmp_path, classifier(members=2)), classifier(members=2)
    assert export.main([str(path), "--to", "onnx"]) == 0
    out = tmp_path / "model.onnx"
    assert capsys.readouterr().out == f"exported {path} to {out}\n"
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    label, probabilities = session.run(None, {"features": X})
    np.testing.assert_allclose(probabilities, model.predict_proba(original, X), atol=1e-5)
    assert label.tolist() == model.predict(original, X).tolist()
    assert "nowhere" in refused(capsys, path, "--to", "onnx", "--out", tmp_path / "nowhere" / "model.onnx")


def test_safetensors_and_on_from_there(tmp_path):
    pytest.importorskip("safetensors")
    path, original = saved(tmp_path, classifier(members=2)), classifier(members=2)
    assert export.main([str(path), "--to", "safetensors"]) == 0
    path.unlink()
    out = tmp_path / "model.safetensors"
    assert_trees_equal(model.load(out).members, original.members)
    pytest.importorskip("onnx")
    assert export.main([str(out), "--to", "onnx", "--out", str(tmp_path / "other.onnx")]) == 0
    assert (tmp_path / "other.onnx").stat().st_size > 0


def test_torch(tmp_path):
    torch = pytest.importorskip("torch")
    from fnet.interop.torch import sequential

    original = classifier()
    assert export.main([str(saved(tmp_path, original)), "--to", "torch"]) == 0
    module = sequential(original.config)
    module.load_state_dict(torch.load(tmp_path / "model.pt"), strict=True)
    x = fnet.standardize(original.standardizer, X)
    with torch.no_grad():
        logits = module.eval()(torch.as_tensor(x)).numpy()
    np.testing.assert_allclose(
        logits, fnet.predict_logits(original.config, *original.members[0], x), rtol=1e-5, atol=1e-5
    )
    assert export.main([str(saved(tmp_path, classifier(members=3))), "--to", "torch"]) == 0
    ensemble = torch.nn.ModuleList(sequential(original.config) for _ in range(3))
    ensemble.load_state_dict(torch.load(tmp_path / "model.pt"), strict=True)


def refused(capsys, *argv):
    """The one line that says why."""
    assert export.main([str(argument) for argument in argv]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_errors(tmp_path, capsys, monkeypatch):
    path = saved(tmp_path, classifier())
    assert "none.npz" in refused(capsys, tmp_path / "none.npz", "--to", "torch")
    (tmp_path / "bad.npz").write_text("no model")
    assert "bad.npz" in refused(capsys, tmp_path / "bad.npz", "--to", "onnx")
    assert "is the model itself" in refused(capsys, path, "--to", "onnx", "--out", tmp_path / "." / "model.npz")
    for name in ("torch", "onnx", "safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("torch", "onnx", "safetensors"):
        assert f"the package {name}:" in refused(capsys, path, "--to", name)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bad.npz", "model.npz"]
    with pytest.raises(SystemExit) as exit_:
        export.main([str(path), "--to", "h5"])
    assert exit_.value.code == 2


TEXT = """\
features     4, standardized in float32
classes      3: 'ant', 'bee', 'cat'
network      4 -> 5 -> 6 -> 3, relu, batch norm, dropout 0.3, float32
parameters   93
temperature  1

layer     weights  bias  batch norm  parameters
hidden 1   [4, 5]     -     2 x [5]          30
hidden 2   [5, 6]     -     2 x [6]          42
output     [6, 3]   [3]           -          21
total                                        93

trained with
seed             3
training.epochs  [25]
"""


def test_inspect(tmp_path, capsys):
    path = saved(tmp_path, classifier(provenance={"seed": 3, "training": {"epochs": [25]}}))
    assert inspect_model.main([str(path)]) == 0
    assert capsys.readouterr().out == TEXT


def test_inspect_another(tmp_path, capsys):
    changes = {"batch_norm": False, "dropout": 0.0, "input_dropout": 0.1, "sizes": (4, 1000, 30)}
    path = saved(tmp_path, classifier(members=2, classes=tuple(range(30)), **changes))
    assert inspect_model.main([str(path)]) == 0
    out = capsys.readouterr().out
    assert "classes      30: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, …\n" in out
    assert "4 -> 1000 -> 30, relu, input dropout 0.1, float32\n" in out
    assert "parameters   70,060 = 2 networks x 35,030\n" in out
    assert "hidden 1   [4, 1000]  [1000]           -       5,000\n" in out
    assert "trained with" not in out


def test_inspect_errors(tmp_path, capsys):
    assert inspect_model.main([str(tmp_path / "none.npz")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_compare_sklearn(capsys):
    pytest.importorskip("sklearn")
    import compare_sklearn

    assert compare_sklearn.main(["--repeats", "1", "--data", "iris", "--raw"]) == 0
    header, rule, row = capsys.readouterr().out.splitlines()
    assert header.startswith("| data | rows | scikit-learn | fnet | fnet, standardize=True |")
    assert rule.startswith("| --- | ---: |")
    assert row.startswith("| iris | 150 | 9")
    assert header.count("|") == row.count("|") == rule.count("|")
