"""A classifier as one value and one file. More of the .safetensors in test_interop_safetensors.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fnet
from fnet import MLPConfig, Standardizer, checkpoint, losses, model, tree
from fnet import random as frandom
from fnet.model import Model
from fnet.testing import assert_trees_equal

KEY = frandom.key(0)
SUFFIXES = ["npz", "safetensors"]


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


def features(rows: int = 9) -> Any:
    return frandom.normal(KEY, (rows, 4), "float64")


def needs(suffix: str) -> None:
    if suffix == "safetensors":
        pytest.importorskip("safetensors", reason="safetensors is not installed")


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


def test_temperature_changes_confidence_alone() -> None:
    given, x = classifier(), features(50)
    hot, cold = given._replace(temperature=100.0), given._replace(temperature=0.01)
    assert model.predict(hot, x).tolist() == model.predict(cold, x).tolist()
    assert model.predict_proba(hot, x).max() < 0.4 < 0.9 < model.predict_proba(cold, x).max(axis=1).mean()


def test_many_rows_are_predicted_in_parts() -> None:
    given, x = classifier(), features(model.CHUNK + 1)
    whole = model.predict_proba(given, x)
    assert whole.shape == (model.CHUNK + 1, 3)
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
        ([[1.0, 2.0, np.nan, 4.0]], ValueError, r"x must be finite, but x\[0, 2\] is nan"),
        ([["a"] * 4], TypeError, "x must be numbers, but got dtype <U1"),
        ([[None] * 4], TypeError, "x must be numbers, but got dtype object"),
    ],
)
def test_bad_features(x: Any, error: type[Exception], message: str) -> None:
    for use in (model.predict, model.predict_proba):
        with pytest.raises(error, match=message):
            use(classifier(), x)


# Files


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"members": 11, "classes": (7, -1, 3)},
        {"batch_norm": False, "input_dropout": 0.1, "activation": "gelu", "standardizer_dtype": "float64"},
        {"sizes": (4, 3), "dtype": "float64"},
    ],
    ids=str,
)
def test_round_trip(suffix: str, changes: dict[str, Any], tmp_path: Path) -> None:
    needs(suffix)
    path, given = tmp_path / f"model.{suffix}", classifier(**changes)
    model.save(path, given)
    first = path.read_bytes()
    back = model.load(str(path))
    assert_trees_equal((back.members, back.standardizer), (given.members, given.standardizer))
    assert back._replace(members=(), standardizer=()) == given._replace(members=(), standardizer=())  # pyright: ignore
    assert not any(leaf.flags.writeable for leaf in tree.leaves((back.members, back.standardizer)))
    assert model.predict_proba(back, features()).tobytes() == model.predict_proba(given, features()).tobytes()
    model.save(path, back)
    assert path.read_bytes() == first


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_numpy_scalars_are_saved_as_numbers(suffix: str, tmp_path: Path) -> None:
    needs(suffix)
    numbers: dict[str, Any] = {"sizes": np.array([4, 5, 3]), "dropout": np.float32(0.5), "batch_norm": np.True_}
    config = MLPConfig(**numbers)
    assert [type(value) for value in (*config.sizes, config.dropout, config.batch_norm)] == [int, int, int, float, bool]
    given = classifier(sizes=(4, 5, 3))._replace(
        config=config,
        classes=tuple(np.array([1, 2, 3])),  # pyright: ignore
        temperature=np.float32(0.5),  # pyright: ignore
    )
    model.save(tmp_path / f"model.{suffix}", given)
    back = model.load(tmp_path / f"model.{suffix}")
    assert (back.config, back.classes, back.temperature) == (config, (1, 2, 3), 0.5)
    assert [type(value) for value in (*back.classes, back.temperature)] == [int, int, int, float]


def replaced(given: Model, path: str, value: float) -> Model:
    """The model with one number in each place of a leaf."""
    pairs, treedef = tree.flatten_with_path((given.members, given.standardizer))
    assert path in dict(pairs)
    leaves = [np.full_like(leaf, value) if leaf_path == path else leaf for leaf_path, leaf in pairs]
    members, standardizer = tree.unflatten(treedef, leaves)
    return given._replace(members=members, standardizer=standardizer)


BAD_MODELS = [
    (classifier()._replace(temperature=0.0), "the temperature of the model is 0.0"),
    (classifier()._replace(temperature=-1.0), "the temperature of the model is -1.0"),
    (classifier()._replace(temperature=float("nan")), "the temperature of the model is nan"),
    (classifier()._replace(temperature=float("inf")), "the temperature of the model is inf"),
    (classifier(classes=("ant", "bee")), "the model has 3 classes, but 2 names"),
    (classifier(classes=(1, 2, 3, 4)), "the model has 3 classes, but 4 names"),
    (replaced(classifier(2), "[0][1][0][1].norm.scale", np.nan), r"\[0\]\[1\]\[0\]\[1\]\.norm\.scale .* not finite"),
    (replaced(classifier(), "[1].mean", np.inf), r"\[1\]\.mean of the model is not finite"),
    (replaced(classifier(), "[1].std", 0.0), "the standard deviations of the standardizer are not positive"),
    (replaced(classifier(), "[0][0][1][1].var", -1.0), "a running variance of the model is negative"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_MODELS, ids=[message for _, message in BAD_MODELS])
def test_a_model_that_is_not_sound_is_neither_saved_nor_loaded(bad: Model, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    model.save(path, classifier())
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"model\.npz: .*{message}"):
        model.save(path, bad)
    assert path.read_bytes() == before
    checkpoint.save(path, (bad.members, bad.standardizer), metadata=model.to_metadata(bad))
    with pytest.raises(ValueError, match=rf"model\.npz: .*{message}"):
        model.load(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_without_a_network_is_not_saved(suffix: str, tmp_path: Path) -> None:
    needs(suffix)
    with pytest.raises(ValueError, match="the model has no network"):
        model.save(tmp_path / f"model.{suffix}", classifier()._replace(members=()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            classifier()._replace(config=MLPConfig(sizes=(4, 5, 7, 3))),
            r"network 0: params\[1\]\.linear\.w does not fit",
        ),
        (classifier()._replace(members=(*classifier().members, ((), ()))), "network 1: params do not fit the config"),
        (classifier()._replace(standardizer=Standardizer(np.ones(7), np.ones(7))), r"shape \[7\], .* has 4 features"),
    ],
    ids=["config", "member", "standardizer"],
)
def test_a_model_that_could_not_be_loaded_is_not_saved(bad: Model, message: str, suffix: str, tmp_path: Path) -> None:
    needs(suffix)
    with pytest.raises(ValueError, match=message):
        model.save(tmp_path / f"model.{suffix}", bad)
    assert list(tmp_path.iterdir()) == []


def test_checked_gives_back_a_sound_model() -> None:
    given = classifier(2)
    assert model.checked("here", given) is given


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "fnet classifier 99"}, "is no model of this version: its format is 'fnet classifier 99'"),
        ({"config": None}, "is no model: KeyError 'config'"),
        ({"config": {"width": 3}}, "is no model: TypeError .*width"),
        ({"config": {"sizes": [4, 3], "dropout": 2}}, r"is no model: ValueError dropout .* must be in \[0, 1\)"),
        ({"config": {"sizes": [4, 10**9, 3]}}, "bytes cannot hold 1 networks of 9000000003 parameters"),
        ({"members": 0}, "cannot hold 0 networks"),
        ({"members": 10**6}, "cannot hold 1000000 networks"),
        ({"members": 2}, r"holds another tree: missing \["),
        (
            {"config": {"sizes": [4, 6, 5, 3]}},
            r"leaf \[0\]\[0\]\[0\]\[0\]\.linear\.w is float32\[4, 5\], but .*\[4, 6\]",
        ),
        ({"classes": 3}, "is no model: TypeError"),
        ({"temperature": "warm"}, "is no model: ValueError could not convert string to float: 'warm'"),
        ({"temperature": 10**400}, "is no model: OverflowError"),
        ({"standardizer_dtype": "float99"}, "is no model: TypeError"),
        ({"standardizer_dtype": "object"}, "is no model: ValueError a standardizer of object"),
        ({"standardizer_dtype": "float64"}, r"leaf \[1\]\.mean is float32\[4\], but float64\[4\] is expected"),
        ({"provenance": 3}, "is no model: TypeError"),
    ],
    ids=str,
)
def test_metadata_that_describe_another_model(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path, given = tmp_path / "model.npz", classifier()
    metadata = {name: value for name, value in {**model.to_metadata(given), **changes}.items() if value is not None}
    checkpoint.save(path, (given.members, given.standardizer), metadata=metadata)
    with pytest.raises(ValueError, match=rf"model\.npz.*{message}"):
        model.load(path)


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"

    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=rf"model\.npz.*{message}"):
            model.load(path)

    checkpoint.save(path, classifier().members)
    refused("is no model of this version: its format is None")
    np.savez(path, x=np.zeros(3))
    refused("is not a checkpoint of fnet")
    path.write_text("epoch,loss\n1,0.5\n" * 99)
    refused("is damaged or not an npz file")
    path.write_bytes(b"")
    refused("is damaged or not an npz file")
    with pytest.raises(FileNotFoundError):
        model.load(tmp_path / "none.npz")
    with pytest.raises(OSError):  # noqa: PT011  # another on each system
        model.load(tmp_path)


def test_damage_is_found(tmp_path: Path) -> None:
    path, given = tmp_path / "model.npz", classifier()
    model.save(path, given)
    good = path.read_bytes()
    for end in range(0, len(good), 50):
        path.write_bytes(good[:end])
        with pytest.raises(ValueError, match=r"model\.npz"):
            model.load(path)
    for number in (given.members[0][0][0].linear.w.tobytes(), given.standardizer.std.tobytes(), b'"temperature": 1.5'):
        at = good.index(number) + len(number) - 1
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(ValueError, match=r"model\.npz"):
            model.load(path)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        model.save(tmp_path / "nowhere" / "model.npz", classifier())
