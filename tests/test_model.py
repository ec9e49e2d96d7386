"""A classifier as one value and one file."""

import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

import fnet
from fnet import MLPConfig, checkpoint, data, losses, mlp, model, tree
from fnet import random as frandom
from fnet.data import EncodedColumn, Encoder, Standardizer, npy
from fnet.model import Model
from fnet.testing import assert_trees_equal

KEY = frandom.key(0)


def classifier(
    members: int = 1, classes: Any = ("ant", "bee", "cat"), standardizer_dtype: str = "float32", **changes: Any
) -> Model:
    """A model with statistics, scales and biases that are not those of the start."""
    config = MLPConfig(**{"sizes": (4, 5, 6, 3), **changes})
    leaves, treedef = tree.flatten(tuple(fnet.init(frandom.key(i), config) for i in range(members)))
    keys = frandom.split(KEY, len(leaves))
    networks = tree.unflatten(
        treedef,
        [leaf + frandom.uniform(key, leaf.shape, leaf.dtype, 0.1, 0.5) for key, leaf in zip(keys, leaves, strict=True)],
    )
    mean, std = frandom.uniform(KEY, (2, config.sizes[0]), "float64", 0.5, 2).astype(standardizer_dtype)
    return Model(config, networks, Standardizer(mean, std), classes, 1.5, {"note": "größer", "epochs": [3, None]})


ENCODER = Encoder(
    (
        EncodedColumn("age", "numeric", median=30.0, indicator=True),
        EncodedColumn("id", "dropped", "all distinct"),
        EncodedColumn("sex", "categorical", levels=("f", "m")),
    )
)


def features(rows: int = 9) -> Any:
    return frandom.normal(KEY, (rows, 4), "float64")


# Predictions


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("members", [1, 3])
def test_probabilities_are_the_mean_over_the_members(members: int, batch_norm: bool) -> None:
    given, x = classifier(members, batch_norm=batch_norm), features()
    z = (x - given.standardizer.mean) / given.standardizer.std
    logits = [fnet.predict_logits(given.config, *member, z) for member in given.members]
    expected = np.mean([losses.softmax(each / 1.5) for each in logits], axis=0)
    got = model.predict_proba(given, x)
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    np.testing.assert_allclose(got.sum(axis=1), 1, rtol=1e-6)
    assert got.dtype == np.float32
    assert model.predict(given, x).tolist() == [given.classes[i] for i in expected.argmax(axis=1)]


def test_a_table_is_encoded() -> None:
    given = classifier()._replace(encoder=ENCODER)
    table = data.from_columns({"sex": ["m", "x", "f"], "other": [1, 2, 3], "age": [40, None, 20]})
    x = [[40, 0, 0, 1], [30, 1, 0, 0], [20, 0, 1, 0]]
    np.testing.assert_array_equal(model.predict_proba(given, table), model.predict_proba(given, x))
    with pytest.raises(ValueError, match="x is a table, but the model was trained on arrays"):
        model.predict(classifier(), table)
    with pytest.raises(ValueError, match="no column is named"):
        model.predict(given, data.from_columns({"sex": ["m"]}))
    for frame in ({"age": [40]}, Mock(columns=["age"])):
        with pytest.raises(TypeError, match=r"by their positions: fnet\.data\.from_columns\(x\) makes a table of it"):
            model.predict(given, frame)


def test_temperature_changes_confidence_alone() -> None:
    given, x = classifier(), features(50)
    hot, cold = given._replace(temperature=100.0), given._replace(temperature=0.01)
    assert model.predict(hot, x).tolist() == model.predict(cold, x).tolist()
    assert model.predict_proba(hot, x).max() < 0.4 < 0.9 < model.predict_proba(cold, x).max(axis=1).mean()


def test_many_rows_are_predicted_in_parts() -> None:
    given, x = classifier(), features(mlp.PREDICT_CHUNK + 1)
    whole = model.predict_proba(given, x)
    assert whole.shape == (mlp.PREDICT_CHUNK + 1, 3)
    np.testing.assert_allclose(whole[-1:], model.predict_proba(given, x[-1:]), rtol=1e-5)
    np.testing.assert_allclose(whole[:5], model.predict_proba(given, x[:5].tolist()), rtol=1e-5)


@pytest.mark.parametrize(("classes", "kind"), [((7, -1, 3), "i"), (("x", "yes", ""), "U")])
def test_predictions_are_the_names_of_the_classes(classes: tuple[Any, ...], kind: str) -> None:
    predicted = model.predict(classifier(classes=classes), features(200))
    assert predicted.dtype.kind == kind
    assert set(predicted.tolist()) <= set(classes)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 3)), ValueError, r"x must have shape \[rows, 4\], but got \[2, 3\]"),
        (np.zeros(4), ValueError, r"x must have shape \[rows, 4\], but got \[4\]"),
        (3.0, ValueError, r"x must have shape \[rows, 4\], but got \[\]"),
        (np.zeros((0, 4)), ValueError, "x has no rows"),
        ([[1.0, 2.0, np.nan, 4.0]], ValueError, r"x must be finite in float\d\d, but x\[0, 2\] is nan"),
        ([["a"] * 4], TypeError, "x must be numbers, but got dtype <U1"),
        ([[None] * 4], TypeError, "x must be numbers, but got dtype object"),
        ([[1j] * 4], TypeError, "x must be numbers, but got dtype complex128"),
        (np.ma.masked_greater(np.ones((2, 4)), 0), TypeError, "x is a masked array"),
        (np.array([[0, 0, 0, 0], [0, 1e308, 0, 0]]), ValueError, r"in float\d\d, but x\[1, 1\] is inf"),
    ],
)
def test_bad_features(x: Any, error: type[Exception], message: str) -> None:
    for use in (model.predict, model.predict_proba):
        with pytest.raises(error, match=message):
            use(classifier(), x)


# Files


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"members": 11, "classes": (7, -1, 3)},
        {"batch_norm": False, "input_dropout": 0.1, "activation": "gelu", "standardizer_dtype": "float64"},
        {"sizes": (4, 3), "dtype": "float64"},
        {"encoder": ENCODER, "target": "class"},
    ],
    ids=str,
)
def test_round_trip(changes: dict[str, Any], tmp_path: Path) -> None:
    table = {name: changes[name] for name in ("encoder", "target") if name in changes}
    changes = {name: value for name, value in changes.items() if name not in table}
    path, given = tmp_path / "model.npz", classifier(**changes)._replace(**table)
    model.save_model(path, given)
    first = path.read_bytes()
    back = model.load_model(str(path))
    assert_trees_equal((back.members, back.standardizer), (given.members, given.standardizer))
    assert back._replace(members=(), standardizer=()) == given._replace(members=(), standardizer=())  # pyright: ignore
    assert not any(leaf.flags.writeable for leaf in tree.leaves((back.members, back.standardizer)))
    assert model.predict_proba(back, features()).tobytes() == model.predict_proba(given, features()).tobytes()
    model.save_model(path, back)
    assert path.read_bytes() == first


def test_numpy_scalars_are_saved_as_numbers(tmp_path: Path) -> None:
    numbers: dict[str, Any] = {"sizes": np.array([4, 5, 3]), "dropout": np.float32(0.5), "batch_norm": np.True_}
    config = MLPConfig(**numbers)
    assert [type(value) for value in (*config.sizes, config.dropout, config.batch_norm)] == [int, int, int, float, bool]
    given = classifier(sizes=(4, 5, 3))._replace(
        config=config,
        classes=tuple(np.array([1, 2, 3])),  # pyright: ignore
        temperature=np.float32(0.5),  # pyright: ignore
    )
    model.save_model(tmp_path / "model.npz", given)
    back = model.load_model(tmp_path / "model.npz")
    assert (back.config, back.classes, back.temperature) == (config, (1, 2, 3), 0.5)
    assert [type(value) for value in (*back.classes, back.temperature)] == [int, int, int, float]


def replaced(given: Model, path: str, value: float) -> Model:
    """The model with one number in each place of a leaf."""
    pairs, treedef = tree.flatten_with_path(model.arrays(given))
    assert path in dict(pairs)
    leaves = [np.full_like(leaf, value) if leaf_path == path else leaf for leaf_path, leaf in pairs]
    return given._replace(**tree.unflatten(treedef, leaves))


STANDARD = "['standardizer']"
BAD_MODELS = [
    *((classifier()._replace(temperature=t), f"the temperature of the model is {t}") for t in (0.0, -1.0, np.nan)),
    *((classifier()._replace(temperature=t), f"the temperature of the model is {t}") for t in (np.inf, 1e-300, 1e7)),
    (classifier(classes=("ant", "bee")), "the model has 3 classes, but 2 names"),
    (classifier(classes=(1, 2, 3, 4)), "the model has 3 classes, but 4 names"),
    (classifier(classes=("a", "b", "a")), "the classes are not distinct"),
    (classifier(classes=(1, 2, "3")), "the classes are not all integers or all strings"),
    (classifier(classes=(1.5, 2, None)), "the classes are not all integers or all strings"),
    (classifier(classes=(["a"], ["b", "c"], ["d"])), "the classes are not all integers or all strings"),
    (classifier(classes=(1, 2, 2**63)), "the classes are integers of more than 64 bits"),
    (classifier(classes=("a", "b", "c\0")), "the classes .* end in a NUL"),
    (classifier(classes=("a", "b", "c" * 1001)), "the classes are strings of more than 1000 characters"),
    (classifier(classes=("a", "b", "\ud800")), "the classes are strings that UTF-8 cannot encode"),
    (replaced(classifier(2), "['members'][1][0][1].norm.scale", np.nan), r"\[1\]\[0\]\[1\]\.norm\.scale .* not finite"),
    (replaced(classifier(), STANDARD + ".mean", np.inf), r"\.mean of the model is not finite"),
    (replaced(classifier(), STANDARD + ".std", 0.0), "the standard deviations of the standardizer are not positive"),
    (replaced(classifier(), "['members'][0][1][1].var", -1.0), "a running variance of the model is negative"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_MODELS, ids=[message for _, message in BAD_MODELS])
def test_a_model_that_is_not_sound_is_neither_saved_nor_loaded(bad: Model, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    model.save_model(path, classifier())
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"model\.npz: .*{message}"):
        model.save_model(path, bad)
    assert path.read_bytes() == before
    checkpoint.save(path, model.arrays(bad), metadata=model.to_metadata(bad))
    with pytest.raises(ValueError, match=rf"model\.npz: .*{message}"):
        model.load_model(path)


def test_a_model_without_a_network_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the model has no network"):
        model.save_model(tmp_path / "model.npz", classifier()._replace(members=()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            classifier()._replace(config=MLPConfig(sizes=(4, 5, 7, 3))),
            r"network 0: params\[1\]\.linear\.w does not match",
        ),
        (classifier()._replace(members=(*classifier().members, ((), ()))), "network 1: params do not match the config"),
        (
            classifier()._replace(standardizer=Standardizer(np.ones(7), np.ones(7))),
            r"is float64\[7\], but the network has 4 features",
        ),
    ],
    ids=["config", "member", "standardizer"],
)
def test_a_model_that_could_not_be_loaded_is_not_saved(bad: Model, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        model.save_model(tmp_path / "model.npz", bad)
    assert list(tmp_path.iterdir()) == []


def test_checked_gives_back_a_sound_model() -> None:
    given = classifier(2)
    assert model.checked("here", given) is given


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "fnet classifier 1"}, "is not a model file of this version of fnet: .* 'fnet classifier 1', but"),
        ({"config": None}, "its config is None"),
        ({"config": {"width": 3}}, "unexpected keyword argument 'width'"),
        ({"config": {"sizes": [4, 3], "dropout": 2}}, r"dropout .* must be in \[0, 1\)"),
        ({"config": {"sizes": [4, 10**9, 3]}}, "cannot hold 1 networks of 9000000003 parameters"),
        ({"config": {"sizes": [1] * 100_000 + [3]}}, "cannot be 1 networks of 100000 layers"),
        ({"config": {"sizes": [4, "x" * 10_000]}}, r"sizes must be integers[^\n]{0,500}$"),
        ({"members": 0}, "cannot be 0 networks"),
        ({"members": 10**6}, "cannot be 1000000 networks"),
        ({"members": True}, "its members is True"),
        ({"members": 2}, r"holds another tree: missing \["),
        (
            {"config": {"sizes": [4, 6, 5, 3]}},
            r"leaf \['members'\]\[0\]\[0\]\[0\]\.linear\.w is float32\[4, 5\], but .*\[4, 6\]",
        ),
        ({"classes": 3}, "its classes is 3"),
        ({"classes": "abc"}, "its classes is 'abc'"),
        ({"classes": [1.5, None, 2]}, "the classes are not all integers or all strings"),
        ({"classes": [["a"], ["b", "c"], []]}, "the classes are not all integers or all strings"),
        ({"classes": ["a", "a", "b"]}, "the classes are not distinct"),
        ({"temperature": "warm"}, "its temperature is 'warm'"),
        ({"temperature": 10**400}, "too large to convert to float"),
        ({"temperature": 1e-300}, "the temperature of the model is 1e-300"),
        ({"standardizer_dtype": "(50000000,)f8"}, "its standardizer_dtype is '.50000000,.f8'"),
        ({"standardizer_dtype": "S1000000000"}, "its standardizer_dtype is 'S1000000000'"),
        ({"standardizer_dtype": "object"}, "its standardizer_dtype is 'object'"),
        ({"standardizer_dtype": "float64"}, r"\.mean is float32\[4\], but float64\[4\] is expected"),
        ({"provenance": 3}, "its provenance is 3"),
        ({"encoder": []}, r"its encoder is \[\]"),
        ({"encoder": {"named": True, "columns": [3]}}, "column 0 of the encoder: expected a kind of"),
        ({"encoder": data.encoder_to_json(ENCODER), "target": 3}, "its target is 3"),
        (
            {"encoder": data.encoder_to_json(ENCODER._replace(columns=ENCODER.columns[:1]))},
            "the encoder makes 2 features, but the network has 4",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_metadata_that_describe_another_model(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path, given = tmp_path / "model.npz", classifier()
    metadata = {name: value for name, value in {**model.to_metadata(given), **changes}.items() if value is not None}
    checkpoint.save(path, model.arrays(given), metadata=metadata)
    started = time.perf_counter()
    with pytest.raises(ValueError, match=rf"model\.npz.*{message}"):
        model.load_model(path)
    assert time.perf_counter() - started < 1


def test_declared_layers_need_a_file_that_could_hold_them(tmp_path: Path) -> None:
    path, given = tmp_path / "model.npz", classifier()
    config = {"sizes": [1] * 50_000 + [3], "batch_norm": False}
    padding = {**model.arrays(given), "padding": np.zeros(4_000_000, np.uint8)}
    checkpoint.save(path, padding, metadata={**model.to_metadata(given), "config": config})
    started = time.perf_counter()
    with pytest.raises(ValueError, match="cannot be 1 networks of 50000 layers"):
        model.load_model(path)
    assert time.perf_counter() - started < 1


def test_metadata_are_bounded(tmp_path: Path) -> None:
    path, given = tmp_path / "model.npz", classifier()
    with pytest.raises(ValueError, match=r"provenance of the model take \d+ bytes as JSON, more than 3145728"):
        model.save_model(path, given._replace(provenance={"x": [[]] * 900_000}))
    checkpoint.save(path, model.arrays(given), metadata={**model.to_metadata(given), "provenance": {"x": "y" * 2**22}})
    with pytest.raises(ValueError, match=r"its metadata take \d+ bytes, more than 3145728"):
        model.load_model(path)


@pytest.mark.parametrize("note", ["[]", "1", "null", '"x"', "[" * 100_000, "{}"])
def test_metadata_of_another_kind(note: str, tmp_path: Path) -> None:
    path, given = tmp_path / "model.npz", classifier()
    model.save_model(path, given)
    arrays = {name: array for name, array in npy.read_npz(path).items() if name.startswith("leaf")}
    seal = np.frombuffer(checkpoint.digest(arrays, note.encode()), np.uint8)
    parts: dict[str, Any] = {**arrays, "metadata.json": np.frombuffer(note.encode(), np.uint8), "sha256": seal}
    np.savez(path, **parts)
    with pytest.raises(ValueError, match=r"model\.npz is (damaged: its metadata|not a model file)"):
        model.load_model(path)


def test_an_overflow_in_the_network_is_an_error() -> None:
    given = replaced(classifier(), "['members'][0][0][2].linear.w", 3e38)
    with pytest.raises(ValueError, match=r"row \d of x overflows in the network"):
        model.predict_proba(given, features())


def test_safetensors_are_not_taken_for_npz(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match=r"call fnet\.interop\.safetensors\.save_safetensors\(path, model\)"):
        model.save_model(path, classifier())
    with pytest.raises(ValueError, match=r"call fnet\.interop\.safetensors\.load_safetensors\(path\)"):
        model.load_model(path)


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"

    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=rf"model\.npz.*{message}"):
            model.load_model(path)

    checkpoint.save(path, classifier().members)
    refused("is not a model file of this version of fnet: its format is None")
    np.savez(path, x=np.zeros(3))
    refused("is not a checkpoint of fnet")
    path.write_text("epoch,loss\n1,0.5\n" * 99)
    refused("is damaged or not an npz file")
    path.write_bytes(b"")
    refused("is damaged or not an npz file")
    with pytest.raises(FileNotFoundError):
        model.load_model(tmp_path / "none.npz")
    with pytest.raises(OSError):  # noqa: PT011  # another on each system
        model.load_model(tmp_path)


def test_damage_is_found(tmp_path: Path) -> None:
    path, given = tmp_path / "model.npz", classifier()
    model.save_model(path, given)
    good = path.read_bytes()
    for end in range(0, len(good), 50):
        path.write_bytes(good[:end])
        with pytest.raises(ValueError, match=r"model\.npz"):
            model.load_model(path)
    for number in (given.members[0][0][0].linear.w.tobytes(), given.standardizer.std.tobytes(), b'"temperature": 1.5'):
        at = good.index(number) + len(number) - 1
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(ValueError, match=r"model\.npz"):
            model.load_model(path)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        model.save_model(tmp_path / "nowhere" / "model.npz", classifier())


# Tables


def test_a_model_of_tables_takes_their_columns_by_name(tmp_path: Path) -> None:
    table = data.from_columns({"a": [1.0, 2.0, np.nan], "b": ["u", "v", "u"]})
    encoder = data.fit_encoder(table, keep=["a"])
    x, _ = data.encode(encoder, table)
    original = classifier(sizes=(x.shape[1], 5, 3))._replace(encoder=encoder, target="y")
    model.save_model(tmp_path / "model.npz", original)
    loaded = model.load_model(tmp_path / "model.npz")
    assert (loaded.encoder, loaded.target) == (encoder, "y")
    other = data.from_columns({"b": ["u", "v", "u"], "more": [0, 0, 0], "a": [1.0, 2.0, np.nan]})
    np.testing.assert_array_equal(model.predict_proba(loaded, other), model.predict_proba(original, x))


def test_tables_and_encoders_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    table = data.from_columns({"a": [1.0, 2.0]})
    with pytest.raises(ValueError, match="the model was trained on arrays: it has no encoder"):
        model.predict_proba(classifier(), table)
    bad = classifier()._replace(encoder=data.fit_encoder(table))
    with pytest.raises(ValueError, match="the encoder makes 1 features, but the network has"):
        model.save_model(tmp_path / "model.npz", bad)
