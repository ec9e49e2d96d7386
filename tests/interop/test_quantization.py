"""fnet.interop.quantization: what 8 bits cost, and that C computes what the equations say."""

import re
import subprocess
from pathlib import Path

import numpy as np
from c_compiler import SANITIZED, c_number, c_rows, compiled, loaded, needs_cc
from exported import REGRESSIONS, classifier, digits, features

import fnet
from fnet import Dataset, model
from fnet.interop.c_source import save_c, to_c
from fnet.interop.quantization import quantize, quantized_prediction
from fnet.nn import ACTIVATIONS

ROWS = 2000


@needs_cc
def test_8_bits_keep_the_accuracy_on_the_digits(tmp_path: Path) -> None:
    some, train, test = digits()
    (tmp_path / "8").mkdir()
    predict = loaded(tmp_path, {"full": some})["full"]
    predict8 = loaded(tmp_path / "8", {"small": some}, int8=True, calibration=train.x, test=test)["small"]
    accuracy, accuracy8 = (float((call(test.x)[0] == test.y).mean()) for call in (predict, predict8))
    assert accuracy > 0.9
    assert accuracy8 >= accuracy - 0.005
    header = (tmp_path / "8" / "small.h").read_text()
    assert f"Calibrated on 1,437 rows; accuracy on 360 rows {accuracy8:.4f}, in float32 {accuracy:.4f}." in header
    assert len(header) < 0.45 * (tmp_path / "full.h").stat().st_size
    assert re.search(r"Jacob et al\.\s+\*\s+\(2018\)", header)


@needs_cc
def test_8_bits_in_c_are_those_of_the_equations(tmp_path: Path) -> None:
    models = {name: classifier(sizes=(5, 12, 9, 3), activation=name) for name in ACTIVATIONS}
    models["ensemble"] = classifier(sizes=(5, 12, 9, 3), members=2, temperature=2.0)
    x = features(models["relu"], ROWS)
    predict = loaded(tmp_path, models, int8=True, calibration=x)
    for prefix, some in models.items():
        expected = quantized_prediction(some, quantize(some, x), x)
        positions, outputs = predict[prefix](x)
        close = np.abs(outputs - expected).max(axis=1) < 1e-5  # exp and tanh may round otherwise, and q with them
        assert close.mean() > 0.98
        np.testing.assert_allclose(outputs, expected, atol=0.05)
        assert (positions == expected.argmax(axis=1)).mean() > 0.99
        full = model.predict_proba(some, x)
        assert np.abs(expected - full).mean() < 0.03
        assert (expected != full).any()


@needs_cc
def test_8_bits_under_sanitizers(tmp_path: Path) -> None:
    some = classifier(members=2)
    x = features(some, 200)
    save_c(tmp_path / "some.h", some, int8=True, calibration=x[:50])
    far = np.concatenate([x, 1e30 * x, [[np.nan] * 5, [np.inf] * 5, [1e300] * 5]])
    rows = c_rows(", ".join(map(c_number, row)) for row in far.tolist())
    source = (
        '#include <stdio.h>\n#include "some.h"\n'
        f"static const double rows[{len(far)}][5] = {{\n{rows}}};\n"
        "int main(void)\n{\n    float outputs[SOME_OUTPUTS];\n    int i;\n"
        f'    for (i = 0; i < {len(far)}; i++)\n        printf("%d\\n", some_predict(rows[i], outputs));\n'
        "    return 0;\n}\n"
    )
    program = compiled(tmp_path, source, *SANITIZED)
    found = [int(line) for line in subprocess.run([program], capture_output=True, check=True).stdout.split()]
    assert found[-3:] == [-1, -1, -1]
    assert set(found[:-3]) <= {0, 1, 2}


def test_8_bits_of_constant_features_and_zero_weights() -> None:
    some = classifier()
    zeros = some._replace(members=tuple((fnet.tree.map(np.zeros_like, p), s) for p, s in some.members))
    for each, x in ((zeros, features(some, 10)), (some, np.tile(some.standardizer.mean, (3, 1)))):
        quantized = quantize(each, x)
        np.testing.assert_allclose(quantized_prediction(each, quantized, x), model.predict_proba(each, x), atol=0.02)


@needs_cc
def test_numbers_in_8_bits(tmp_path: Path) -> None:
    x = features(REGRESSIONS["number"], ROWS)
    for prefix, predict in loaded(tmp_path, REGRESSIONS, int8=True, calibration=x).items():
        some = REGRESSIONS[prefix]
        found, outputs = predict(x)
        assert set(found.tolist()) == {0}
        expected, full = quantized_prediction(some, quantize(some, x), x), model.predict(some, x).reshape(outputs.shape)
        np.testing.assert_allclose(outputs, expected, rtol=1e-2, atol=1e-2 * full.std())
        assert np.corrcoef(outputs.ravel(), full.ravel())[0, 1] > 0.99
        error = np.sqrt(np.square(expected - full).mean())
        header = (tmp_path / f"{prefix}.h").read_text()
        assert f"root mean square of the difference to float32 {error:.4g} on the 2,000 rows of calibration." in header
    some = REGRESSIONS["number"]
    y = model.predict(some, x) + 1
    assert "root mean squared error on 2,000 rows " in to_c(some, int8=True, calibration=x, test=Dataset(x, y))
