"""fnet.interop.safetensors: a classifier in one file, bit for bit, and nothing else taken for one."""

import json
import os
import sys
import time

import numpy as np
import pytest

import fnet
from fnet import MLPConfig, model, tree
from fnet.data import EncodedColumn, Encoder, Standardizer
from fnet.interop import safetensors as interop
from fnet.interop.safetensors import load_safetensors, save_safetensors
from fnet.interop.torch import sequential
from fnet.model import Model
from fnet.testing import assert_trees_equal

library = pytest.importorskip("safetensors.numpy")


def classifier(seed=0, members=1, classes=("ant", "bee", "cat"), standardizer_dtype="float32", **changes):
    config = MLPConfig(**{"sizes": (4, 5, 6, 3), **changes})
    rng = np.random.default_rng(seed)

    def draw(leaf):
        return (leaf + rng.uniform(0.1, 0.5, leaf.shape)).astype(leaf.dtype)

    networks = tuple(tree.map(draw, fnet.init(fnet.random.key(seed + i), config)) for i in range(members))
    standardizer = Standardizer(*(rng.uniform(0.5, 2, (2, config.sizes[0])).astype(standardizer_dtype)))
    return Model(config, networks, standardizer, classes, 1.5, {"note": "größer", "epochs": [3, None], "lr": 1e-3})


def write(path, tensors, note, *, sign=True):
    """A file as another program could write it."""
    if sign:
        note = {**note, "sha256": interop._digest(tensors, note)}
    library.save_file(tensors, path, {"fnet": json.dumps(note)})


def parts(path):
    with library.safe_open(path, "numpy") as file:
        note = json.loads(file.metadata()["fnet"])
        note.pop("sha256")
        return {name: file.get_tensor(name) for name in file.keys()}, note  # noqa: SIM118


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"members": 12, "classes": (7, -1, 3)},
        {"classes": ("1", "", "größer")},
        {"batch_norm": False, "input_dropout": 0.1, "activation": "selu"},
        {"sizes": (4, 3), "dtype": "float64"},
        {"standardizer_dtype": "float64"},
    ],
    ids=str,
)
def test_round_trip(tmp_path, changes):
    path, original = tmp_path / "model.safetensors", classifier(**changes)
    columns = tuple(EncodedColumn(name, "numeric", median=0.1) for name in "abcd")
    original = original._replace(encoder=Encoder(columns), target="class")
    save_safetensors(path, original)
    back = load_safetensors(path)
    assert_trees_equal((back.members, back.standardizer), (original.members, original.standardizer))
    assert back._replace(members=(), standardizer=()) == original._replace(members=(), standardizer=())
    assert [type(name) for name in back.classes] == [type(name) for name in original.classes]
    assert not any(leaf.flags.writeable for leaf in tree.leaves((back.members, back.standardizer)))
    x = np.random.default_rng(1).normal(size=(9, 4))
    assert_trees_equal(model.predict_proba(back, x), model.predict_proba(original, x))


def test_the_same_model_gives_the_same_bytes(tmp_path):
    files = [tmp_path / f"{i}.safetensors" for i in range(5)]
    for path in files:
        save_safetensors(path, classifier(members=2))
    assert len({path.read_bytes() for path in files}) == 1


def test_other_memory_layouts(tmp_path):
    original = classifier(members=2)
    strided = [np.repeat(array, 2)[::2] for array in original.standardizer]
    fortran = tree.map(np.asfortranarray, original.members)
    assert not strided[0].flags.c_contiguous
    assert not fortran[0][0][0].linear.w.flags.c_contiguous
    path = tmp_path / "model.safetensors"
    save_safetensors(path, original._replace(members=fortran, standardizer=Standardizer(*strided)))
    back = load_safetensors(path)
    assert_trees_equal((back.members, back.standardizer), (original.members, original.standardizer))


def test_torch_reads_the_arrays(tmp_path):
    torch = pytest.importorskip("torch")
    path, original = tmp_path / "model.safetensors", classifier(members=2)
    save_safetensors(path, original)
    tensors = library.load_file(path)
    module = sequential(original.config)
    mine = {name.removeprefix("members.1."): array for name, array in tensors.items() if "members.1." in name}
    module.load_state_dict({name: torch.as_tensor(array) for name, array in mine.items()}, strict=True)
    x = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32)
    with torch.no_grad():
        logits = module.eval()(torch.as_tensor(x)).numpy()
    expected = fnet.predict_logits(original.config, *original.members[1], x)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_any_changed_byte_is_found(tmp_path):
    path = tmp_path / "model.safetensors"
    save_safetensors(path, classifier(sizes=(2, 2), classes=("a", "b")))
    good = path.read_bytes()
    for i in range(len(good)):
        path.write_bytes(good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :])
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            load_safetensors(path)
    for end in range(0, len(good), 7):
        path.write_bytes(good[:end])
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            load_safetensors(path)


def test_foreign_files(tmp_path):
    path = tmp_path / "model.safetensors"

    def refused(match):
        with pytest.raises(ValueError, match=rf"model\.safetensors.*{match}"):
            load_safetensors(path)

    path.write_text("epoch,loss\n1,0.5\n" * 9)
    refused("not a safetensors file")
    np.savez(path.with_suffix(".npz"), x=np.zeros(9))
    path.with_suffix(".npz").rename(path)
    refused("not a safetensors file")
    array = {"w": np.zeros((2, 2), np.float32)}
    for metadata in (
        None,
        {"format": "pt"},
        {"fnet": "{"},
        {"fnet": "[]"},
        {"fnet": "7"},
        {"fnet": "{}"},
        {"fnet": "null"},
    ):
        library.save_file(array, path, metadata)
        refused("lacks the metadata that save_safetensors writes")
    write(path, array, {"format": "fnet classifier 99"})
    refused("format is 'fnet classifier 99'")
    path.unlink()
    os.mkfifo(path)
    refused("is not a regular file")
    with pytest.raises(FileNotFoundError):
        load_safetensors(tmp_path / "none.safetensors")
    with pytest.raises(OSError):  # noqa: PT011  # another on each system
        load_safetensors(tmp_path)


def test_arrays_that_do_not_fit(tmp_path):
    path = tmp_path / "model.safetensors"
    save_safetensors(path, classifier())
    tensors, note = parts(path)
    weight, var = "members.0.0.weight", "members.0.1.running_var"

    def refused(match, drop=(), **changes):
        write(path, {name: a for name, a in {**tensors, **changes}.items() if name not in drop}, note)
        with pytest.raises(ValueError, match=rf"model\.safetensors.*{match}"):
            load_safetensors(path)

    write(path, tensors, note)
    load_safetensors(path)
    transposed = np.ascontiguousarray(tensors[weight].T)
    refused(r"members.0.0.weight is float32\[4, 5\], but float32\[5, 4\] is expected", **{weight: transposed})
    refused(r"is float64\[5, 4\], but float32\[5, 4\]", **{weight: tensors[weight].astype(np.float64)})
    refused(r"standardizer.std is missing", drop=["standardizer.std"])
    refused(r"members.1.0.weight is float32\[5, 4\], but missing", **{"members.1.0.weight": tensors[weight]})
    refused("not finite", **{weight: np.full_like(tensors[weight], np.nan)})
    refused("variance", **{var: -tensors[var]})
    refused("not positive", **{"standardizer.std": np.zeros(4, np.float32)})
    write(path, tensors, note, sign=False)
    with pytest.raises(ValueError, match="lacks the metadata"):
        load_safetensors(path)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "BF16", "F16", "C64"])
def test_other_types_are_refused(dtype, tmp_path):
    path = tmp_path / "model.safetensors"
    size = {"BF16": 2, "F16": 2, "C64": 8}.get(dtype, 1)
    header = json.dumps({"w": {"dtype": dtype, "shape": [2], "data_offsets": [0, 2 * size]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2 * size))
    with pytest.raises(ValueError, match=rf"model\.safetensors is not a model file of fnet: w is of type {dtype}"):
        load_safetensors(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"standardizer_dtype": "(50000000,)f8"}, "its standardizer_dtype is"),
        ({"standardizer_dtype": "S1000000000"}, "its standardizer_dtype is"),
        ({"config": {"sizes": [1] * 100_000 + [3]}}, "cannot be 1 networks of 100000 layers"),
        ({"config": {"sizes": [4, 10**9, 3]}}, "cannot hold 1 networks of 9000000003 parameters"),
        ({"members": 10**9}, "cannot be 1000000000 networks"),
        ({"classes": [1.5, None, 2]}, "the classes are not all integers or all strings"),
        ({"classes": "abc"}, "its classes is 'abc'"),
        ({"temperature": 1e-300}, "the temperature of the model is 1e-300"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_metadata_that_describe_another_model(changes, message, tmp_path):
    path = tmp_path / "model.safetensors"
    save_safetensors(path, classifier())
    tensors, note = parts(path)
    write(path, tensors, {**note, **changes})
    started = time.perf_counter()
    with pytest.raises(ValueError, match=rf"model\.safetensors.*{message}"):
        load_safetensors(path)
    assert time.perf_counter() - started < 1


def test_metadata_are_bounded(tmp_path):
    path = tmp_path / "model.safetensors"
    save_safetensors(path, classifier())
    tensors, note = parts(path)
    for size, message in ((4 << 20, "lacks the metadata"), (13 << 20, r"its header takes 13\d+ bytes")):
        write(path, tensors, {**note, "provenance": {"x": "y" * size}})
        with pytest.raises(ValueError, match=rf"model\.safetensors is not a .*: .*{message}"):
            load_safetensors(path)
    with pytest.raises(ValueError, match="classes, encoder and provenance of the model take"):
        save_safetensors(path, classifier()._replace(provenance={"x": "y" * (4 << 20)}))


def test_models_that_are_not_sound_are_not_saved(tmp_path):
    for bad in (classifier()._replace(members=()), classifier(classes=("a", "a", "b"))):
        with pytest.raises(ValueError, match=r"model\.safetensors: the (model has no network|classes are not)"):
            save_safetensors(tmp_path / "model.safetensors", bad)
    assert list(tmp_path.iterdir()) == []


def test_the_error_without_the_package(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_safetensors(path, classifier())
    for name in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    for call in (lambda: save_safetensors(path, classifier()), lambda: load_safetensors(path)):
        with pytest.raises(
            ImportError, match="the safetensors format needs safetensors: python -m pip install safetensors"
        ):
            call()
