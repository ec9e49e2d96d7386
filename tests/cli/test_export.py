"""`fnet export` and `fnet inspect`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fnet
from fnet import MLPConfig, model
from fnet.data import Standardizer
from fnet.interop.c_source import to_c
from fnet.interop.safetensors import load_safetensors
from fnet.model import Model
from fnet.testing import assert_trees_equal

from .conftest import Fnet, refused, succeeds


def classifier(members: int = 1, classes: Any = ("ant", "bee", "cat"), provenance: Any = None, **changes: Any) -> Model:
    config = MLPConfig(**{"sizes": (4, 5, 6, 3), **changes})
    networks = tuple(fnet.init(fnet.random.key(i), config) for i in range(members))
    standardizer = Standardizer(np.arange(4, dtype=np.float32), np.ones(4, np.float32))
    return Model(config, networks, standardizer, classes, provenance=provenance or {})


def saved(tmp_path: Path, classifier: Model) -> Path:
    path = tmp_path / "model.npz"
    model.save_model(path, classifier)
    return path


X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


def test_onnx(tmp_path: Path, fnet_command: Fnet) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    path, original = saved(tmp_path, classifier(members=2)), classifier(members=2)
    printed, out = succeeds(fnet_command("export", tmp_path, "--to", "onnx")).out, tmp_path / "model.onnx"
    assert printed == f"exported {path} to {out}\n"
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    label, probabilities = session.run(None, {"features": X})
    np.testing.assert_allclose(probabilities, model.predict_proba(original, X), atol=1e-5)
    assert label.tolist() == model.predict(original, X).tolist()
    assert "nowhere" in refused(
        fnet_command("export", path, "--to", "onnx", "--out", tmp_path / "nowhere" / "model.onnx")
    )


def test_safetensors_and_on_from_there(tmp_path: Path, fnet_command: Fnet) -> None:
    pytest.importorskip("safetensors")
    path, original = saved(tmp_path, classifier(members=2)), classifier(members=2)
    succeeds(fnet_command("export", path, "--to", "safetensors"))
    path.unlink()
    out = tmp_path / "model.safetensors"
    assert_trees_equal(load_safetensors(out).members, original.members)
    pytest.importorskip("onnx")
    succeeds(fnet_command("export", out, "--to", "onnx", "--out", str(tmp_path / "other.onnx")))
    assert (tmp_path / "other.onnx").stat().st_size > 0


def test_torch(tmp_path: Path, fnet_command: Fnet) -> None:
    torch = pytest.importorskip("torch")
    from fnet.interop.torch import sequential

    original = classifier()
    succeeds(fnet_command("export", saved(tmp_path, original), "--to", "torch"))
    module = sequential(original.config)
    module.load_state_dict(torch.load(tmp_path / "model.pt"), strict=True)
    x = fnet.standardize(original.standardizer, X)
    with torch.no_grad():
        logits = module.eval()(torch.as_tensor(x)).numpy()
    np.testing.assert_allclose(
        logits, fnet.predict_logits(original.config, *original.members[0], x), rtol=1e-5, atol=1e-5
    )
    succeeds(fnet_command("export", saved(tmp_path, classifier(members=3)), "--to", "torch"))
    ensemble = torch.nn.ModuleList(sequential(original.config) for _ in range(3))
    ensemble.load_state_dict(torch.load(tmp_path / "model.pt"), strict=True)


def test_python(tmp_path: Path, fnet_command: Fnet) -> None:
    path = saved(tmp_path, classifier(members=2))
    out = tmp_path / "model.py"
    assert succeeds(fnet_command("export", tmp_path, "--to", "python")).out == f"exported {path} to {out}\n"
    np.savetxt(tmp_path / "new.csv", X, delimiter=",")
    command = [sys.executable, "-I", str(out), str(tmp_path / "new.csv"), "--proba"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == succeeds(fnet_command("predict", path, tmp_path / "new.csv", "--proba")).out
    saved(tmp_path, classifier(sizes=(4, 600, 600, 3)))
    printed = succeeds(fnet_command("export", path, "--to", "python")).out
    assert printed == f"exported {path} to {out} and {tmp_path / 'model_weights.npz'}\n"


def test_c(tmp_path: Path, fnet_command: Fnet) -> None:
    path, original = saved(tmp_path, classifier()), classifier()
    succeeds(fnet_command("export", path, "--to", "c"))
    assert (tmp_path / "model.h").read_text() == to_c(original, prefix="model")
    np.save(tmp_path / "rows.npy", X)
    succeeds(fnet_command("export", path, "--to", "c", "--int8", "--calibration", tmp_path / "rows.npy"))
    assert (tmp_path / "model.h").read_text() == to_c(original, prefix="model", int8=True, calibration=X)


def test_8_bits_are_calibrated_on_the_data_of_the_run(tmp_path: Path, fnet_command: Fnet) -> None:
    train, test = fnet.data.digits()
    np.savez(tmp_path / "some.npz", x_train=train.x, y_train=train.y, x_test=test.x, y_test=test.y)
    options = (
        "--epochs",
        "1",
        "--hidden",
        "16",
        "--engine",
        "numpy",
        "--quiet",
        "--no-pictures",
        "--data",
        tmp_path / "some.npz",
    )
    run, header = tmp_path / "run", tmp_path / "run" / "model.h"
    succeeds(fnet_command("train", "--out", run, "--data", tmp_path / "some.npz", *options))
    succeeds(fnet_command("export", run, "--to", "c", "--int8"))
    trained = model.load_model(run / "model.npz")
    expected = to_c(trained, prefix="model", int8=True, calibration=train.x[:1293], test=test)
    assert header.read_text() == expected
    accuracy = json.loads((run / "metrics.json").read_text())["test"]["accuracy"]
    assert f", in float32 {accuracy:.4f}." in expected
    np.savez(tmp_path / "some.npz", x_train=train.x + 1, y_train=train.y)
    assert "have changed since the run; give rows with --calibration DATA" in refused(
        fnet_command("export", run, "--to", "c", "--int8")
    )
    (tmp_path / "some.npz").unlink()
    assert "some.npz" in refused(fnet_command("export", run, "--to", "c", "--int8"))


def test_errors(tmp_path: Path, fnet_command: Fnet, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, classifier())
    assert "none.npz" in refused(fnet_command("export", tmp_path / "none.npz", "--to", "torch"))
    (tmp_path / "bad.npz").write_text("no model")
    assert "bad.npz" in refused(fnet_command("export", tmp_path / "bad.npz", "--to", "onnx"))
    assert "is the model itself" in refused(
        fnet_command("export", path, "--to", "onnx", "--out", tmp_path / "." / "model.npz")
    )
    assert "--int8 is for --to c, but got --to onnx" in refused(fnet_command("export", path, "--to", "onnx", "--int8"))
    assert "--calibration needs --int8" in refused(
        fnet_command("export", path, "--to", "c", "--calibration", "rows.npy")
    )
    for text in (None, "[]", '{"command": 5}', '{"command": "fnet train"}', '{"command": "fnet train --nonsense"}'):
        if text is not None:
            (tmp_path / "config.json").write_text(text)
        assert "give rows with --calibration DATA" in refused(fnet_command("export", path, "--to", "c", "--int8"))
    (tmp_path / "config.json").unlink()
    for name in ("torch", "onnx", "safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("torch", "onnx", "safetensors"):
        assert f"python -m pip install {name}" in refused(fnet_command("export", path, "--to", name))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bad.npz", "model.npz"]


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


def test_inspect(tmp_path: Path, fnet_command: Fnet) -> None:
    saved(tmp_path, classifier(provenance={"seed": 3, "training": {"epochs": [25]}}))
    assert succeeds(fnet_command("inspect", tmp_path)).out == TEXT


def test_inspect_another(tmp_path: Path, fnet_command: Fnet) -> None:
    changes = {"batch_norm": False, "dropout": 0.0, "input_dropout": 0.1, "sizes": (4, 1000, 30)}
    path = saved(tmp_path, classifier(members=2, classes=tuple(range(30)), **changes))
    out = succeeds(fnet_command("inspect", path)).out
    assert "classes      30: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, …\n" in out
    assert "4 -> 1000 -> 30, relu, input dropout 0.1, float32\n" in out
    assert "parameters   70,060 = 2 networks x 35,030\n" in out
    assert "hidden 1   [4, 1000]  [1000]           -       5,000\n" in out
    assert "trained with" not in out
