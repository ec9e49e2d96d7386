"""fnet.interop.c_source: the header compiles without a warning and computes what fnet does; names stay in strings."""

import dataclasses
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_compiler import SANITIZED, c_number, c_rows, compiled, loaded, needs_cc
from exported import HOSTILE, REGRESSIONS, classifier, columns, digits, features, named, of_table

import fnet
from fnet import MLPConfig, data, model, tree
from fnet.data import Standardizer
from fnet.interop.c_source import save_c, to_c
from fnet.model import Model
from fnet.nn import ACTIVATIONS

pytestmark = needs_cc
ROWS = 2000


def check(folder: Path, models: dict[str, Model]) -> None:
    """Probabilities as near to those in float64 as fnet's in float32, and the same classes wherever two do not tie."""
    for prefix, predict in loaded(folder, models).items():
        some = models[prefix]
        x = features(some, ROWS)
        positions, outputs = predict(x)
        expected, exact = (model.predict_proba(in_dtype(some, dtype), x) for dtype in ("float32", "float64"))
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5, err_msg=prefix)
        counts = exact > 1e-30
        found, rounding = (np.abs(each[counts] / exact[counts] - 1).max() for each in (outputs, expected))
        assert found < max(2 * rounding, 2e-6), prefix
        first, second = np.sort(expected, axis=1)[:, :-3:-1].T
        clear = first - second > 2e-5
        assert clear.mean() > 0.99
        np.testing.assert_array_equal(positions[clear], expected.argmax(axis=1)[clear])
        assert len(set(positions.tolist())) > 1


def in_dtype(some: Model, dtype: str) -> Model:
    members = tree.map(lambda leaf: leaf.astype(dtype), some.members)
    return some._replace(config=dataclasses.replace(some.config, dtype=dtype), members=members)


def test_probabilities_of_a_trained_network_are_those_of_fnet_to_a_relative_1e_5(tmp_path: Path) -> None:
    some, train, test = digits()
    predict = loaded(tmp_path, {"some": some})["some"]
    x = np.concatenate([train.x, test.x])
    expected = model.predict_proba(some, x)
    positions, outputs = predict(x)
    assert expected.min() < 1e-6
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-30)
    np.testing.assert_array_equal(positions, expected.argmax(axis=1))


def test_each_activation_with_and_without_batch_norm(tmp_path: Path) -> None:
    check(
        tmp_path,
        {
            f"{activation}_{batch_norm}": classifier(activation=activation, batch_norm=batch_norm)
            for activation in ACTIVATIONS
            for batch_norm in (True, False)
        },
    )


def test_each_depth_ensembles_temperatures_and_float64(tmp_path: Path) -> None:
    depths = {f"depth{len(hidden)}": classifier(sizes=(5, *hidden, 3)) for hidden in ((), (6,), (6, 1, 9, 4, 8))}
    others = {
        "ensemble": classifier(members=3, temperature=1.7),
        "cold": classifier(temperature=0.3, dtype="float64"),
        "numbers": classifier(classes=(-(2**63), 2**63 - 1, 0)),
    }
    check(tmp_path, depths | others)


def test_numbers(tmp_path: Path) -> None:
    for prefix, predict in loaded(tmp_path, REGRESSIONS).items():
        some = REGRESSIONS[prefix]
        x = features(some, ROWS)
        found, outputs = predict(x)
        assert set(found.tolist()) == {0}
        expected = model.predict(some, x).reshape(outputs.shape)
        std = np.abs(expected) if prefix == "logarithm" else expected.std(axis=0)
        assert (np.abs(outputs - expected) <= 1e-5 * std).all()
        assert prefix not in ("quantiles", "ensemble") or (np.diff(outputs, axis=1) >= 0).all()
        assert predict([[np.nan] * 5])[0] == -1


def test_what_is_not_finite_is_refused(tmp_path: Path) -> None:
    predict = loaded(tmp_path, {"some": classifier(), "saturating": classifier(activation="tanh")})
    for x in ([np.nan] * 5, [1, 2, np.inf, 4, 5], [1e300] * 5):
        assert predict["some"]([x])[0] == predict["saturating"]([x])[0] == -1
    assert predict["some"]([[1, 2, 3, 4, 5]])[0] >= 0
    linear = classifier(activation="identity", batch_norm=False, dtype="float64", sizes=(5, 3))
    w, b = linear.members[0][0][0].linear
    for factor, refused in ((1e38, True), (1e3, False)):
        layer = linear.members[0][0][0]._replace(linear=fnet.nn.Linear(w * factor, b))
        large = linear._replace(members=(((layer,), ()),))
        (tmp_path / f"{refused}").mkdir()
        assert (loaded(tmp_path / f"{refused}", {"large": large})["large"]([[90] * 5])[0] == -1) == refused
    with pytest.raises(ValueError, match="infinite in float32"):
        to_c(linear._replace(members=((((layer._replace(linear=fnet.nn.Linear(w * 1e39, b))),), ()),)))


# Tables ---------------------------------------------------------------------------------------------------------------


def test_columns_are_encoded_as_in_training_under_sanitizers(tmp_path: Path) -> None:
    table = columns(300)
    some, encoder, _ = of_table(data.from_columns(table, target="label"), categorical=("code",), keep=("yes",))
    table["city"][:2], table["many"][0] = ["unseen", None], None
    read = data.from_columns(table)
    x, _ = data.encode(encoder, read)
    save_c(tmp_path / "some.h", some)
    used = [column for column in encoder.columns if column.kind != "dropped"]
    numbers = [column for column in used if column.kind != "categorical"]
    texts = [column for column in used if column.kind == "categorical"]
    header = (tmp_path / "some.h").read_text()
    assert f"#define SOME_NUMBERS {len(numbers)}\n#define SOME_CATEGORIES {len(texts)}\n" in header
    assert "numbers[1], in days since 1970-01-01: 'since', date; where missing the median, " in header
    alone = [data.Encoder((column._replace(indicator=False, median=-1e9),)) for column in numbers]
    values = np.concatenate([data.encode(each, read)[0] for each in alone], axis=1)
    given = [", ".join(c_number(np.nan if value == -1e9 else value) for value in row) for row in values.tolist()]
    written = [", ".join(_c_text(table[column.name][row]) for column in texts) for row in range(len(x))]
    program = compiled(
        tmp_path,
        '#include <stdio.h>\n#include "some.h"\n'
        f"static const double numbers[][SOME_NUMBERS] = {{{c_rows(given)}}};\n"
        f"static const char *const texts[][SOME_CATEGORIES] = {{{c_rows(written)}}};\n"
        "int main(void)\n{\n    double features[SOME_FEATURES];\n    float outputs[SOME_OUTPUTS];\n"
        f"    int categories[SOME_CATEGORIES], i, row;\n    for (row = 0; row < {len(x)}; row++) {{\n"
        "    for (i = 0; i < SOME_CATEGORIES; i++)\n        categories[i] = some_category(i, texts[row][i]);\n"
        "    some_encode(numbers[row], categories, features);\n"
        '    for (i = 0; i < SOME_FEATURES; i++)\n        printf("%.17g ", features[i]);\n'
        '    printf("%d ", some_predict_columns(numbers[row], categories, outputs));\n'
        '    for (i = 0; i < SOME_OUTPUTS; i++)\n        printf("%.9g ", outputs[i]);\n    puts("");\n    }\n'
        "    return 0;\n}\n",
        *SANITIZED,
    )
    out = np.loadtxt(subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines())
    np.testing.assert_array_equal(out[:, : x.shape[1]], x)
    finite = np.abs(x).max(axis=1) < 1e6
    assert finite.any()
    assert (out[~finite, x.shape[1]] == -1).all()
    expected = model.predict_proba(some, x[finite])
    np.testing.assert_allclose(out[finite, x.shape[1] + 1 :], expected, atol=1e-5)
    np.testing.assert_array_equal(out[finite, x.shape[1]], expected.argmax(axis=1))


def _c_text(cell: Any) -> str:
    """A cell of the tests, which is plain text or a number, as C."""
    if cell is None or cell in ("", "NA"):
        return "0"
    return f'"{int(float(cell)) if isinstance(cell, int | float) and not isinstance(cell, bool) else cell}"'


# Strangers' names -----------------------------------------------------------------------------------------------------


def test_names_cannot_leave_their_strings_and_comments(tmp_path: Path) -> None:
    headers = ""
    prints = ""
    orders = (HOSTILE, HOSTILE[::-1], HOSTILE[3:] + HOSTILE[:3])
    for i, names in enumerate(orders):
        save_c(tmp_path / f"m{i}.h", named(names))
        headers += f'#include "m{i}.h"\n'
        prints += f"    for (i = 0; i < {len(names)}; i++)\n        puts(m{i}_classes[i]), puts(m{i}_texts[0][i]);\n"
        prints += f'    printf("%d\\n", m{i}_category(0, m{i}_texts[0][3]));\n'
    source = f"#include <stdio.h>\n{headers}int main(void)\n{{\n    int i;\n{prints}    return 0;\n}}\n"
    done = subprocess.run([compiled(tmp_path, source, *SANITIZED)], capture_output=True, check=True)
    expected = "".join("".join(f"{name.partition(chr(0))[0]}\n" * 2 for name in names) + "3\n" for names in orders)
    assert done.stdout.decode() == expected
    plain = named(tuple(f"name {i}" for i in range(len(HOSTILE))))
    assert tokens(to_c(named(HOSTILE))) == tokens(to_c(plain))
    expected_tokens = tokens(to_c(classifier(classes=("a", "b"))))
    for name in HOSTILE:
        assert tokens(to_c(classifier(target=name, classes=(name, "b")))) == expected_tokens


def tokens(source: str) -> list[str]:
    """A source without what stands in strings and comments; the columns' own comments and all lines are kept."""
    assert "\\\n" not in source
    assert "??" not in source
    return re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', '""', source, flags=re.DOTALL).split()


def test_several_models_fit_in_one_program_and_a_header_may_come_twice(tmp_path: Path) -> None:
    names = ("one.h", "two 2.h", "3-three.h", "größer.h")
    for name in names:
        save_c(tmp_path / name, classifier())
    found = [re.findall(r"^#ifndef (\w+)_H$", (tmp_path / name).read_text(), re.M)[0].lower() for name in names]
    assert found == ["one", "two_2", "model_3_three", "gr__er"]
    source = "".join(f'#include "{name}"\n' for name in names * 2)
    compiled(tmp_path, f"{source}int main(void)\n{{\n    return 0;\n}}\n")


# Errors ---------------------------------------------------------------------------------------------------------------


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    some = classifier(members=2, provenance={"seed": 1})
    assert to_c(some) == to_c(some)
    options: dict[str, Any] = {"int8": True, "calibration": features(some, 100)}
    assert to_c(some, **options) == to_c(some, **options)
    save_c(tmp_path / "some.h", some)
    assert (tmp_path / "some.h").read_text() == to_c(some, prefix="some")


def test_wrong_arguments_are_refused() -> None:
    some = classifier()
    with pytest.raises(ValueError, match="cannot write C source: the model has 3 classes, but 2 names"):
        to_c(some._replace(classes=("a", "b")))
    for prefix in ("", "3d", "a b", "größe", "a\n"):
        with pytest.raises(ValueError, match="prefix must be a C identifier"):
            to_c(some, prefix=prefix)
    with pytest.raises(TypeError, match="int8=True needs calibration=features"):
        to_c(some, int8=True)
    with pytest.raises(TypeError, match="int8=True needs calibration=features"):
        to_c(some, calibration=features(some, 10))
    with pytest.raises(ValueError, match=r"\[rows, 5\]"):
        to_c(some, int8=True, calibration=np.zeros((3, 4)))
    config, ones = MLPConfig(sizes=(70_000, 2)), np.ones(70_000)
    wide = Model(config, (fnet.init(fnet.random.key(0), config),), Standardizer(ones, ones), (0, 1))
    with pytest.raises(ValueError, match="8 bits support layers with up to 66311 inputs"):
        to_c(wide, int8=True, calibration=np.zeros((1, 70_000)))
