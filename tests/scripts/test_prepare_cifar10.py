"""CIFAR-10's binary release to Chen & Wu's data, on small archives of the same layout."""

import errno
import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from fnet.cli.main import run

from .conftest import load_script

script = load_script("prepare_cifar10.py")
pytestmark = pytest.mark.usefixtures("one_thread")

RECORD = 3073
TEST = "test_batch.bin"
TEST_ROWS = 30
OUTPUTS = ["test_data.npy", "test_label.npy", "train_data.npy", "train_label.npy"]
Array: TypeAlias = np.ndarray[Any, Any]
Capture: TypeAlias = pytest.CaptureFixture[str]
Member: TypeAlias = tuple[tarfile.TarInfo, bytes]


def records(seed: int, rows: int = 40, pixels: int = RECORD - 1) -> Array:
    """Labels of all classes, and images near a space of few dimensions that all files share."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(6, pixels))
    images = rng.normal(size=(rows, 6)) * [40, 30, 22, 16, 11, 8] @ directions
    noisy = 100 + images + rng.normal(size=(rows, pixels))
    labels = rng.permutation(rows)[:, None] % 10
    return np.hstack([labels, noisy.clip(0, 255)]).astype(np.uint8)


def member(name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> Member:
    info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
    info.type, info.size = kind, len(content)
    return info, content


def release(pixels: int = RECORD - 1) -> list[Member]:
    """The members of a good archive; as in the real one, the batches are not sorted by name."""
    contents = {name: records(i, pixels=pixels) for i, name in enumerate(script.TRAIN_FILES)}
    contents[TEST] = records(5, TEST_ROWS, pixels)
    members = [member("", b"", tarfile.DIRTYPE), member("batches.meta.txt", b"airplane\n")]
    return members + [member(name, contents[name].tobytes()) for name in sorted(contents)[::-1]]


def replaced(name: str, *others: Member, pixels: int = RECORD - 1) -> list[Member]:
    """A good archive's members, but others for that of one name."""
    return [m for m in release(pixels) if not m[0].name.endswith(name)] + list(others)


def tar(members: list[Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def write(path: Path, members: list[Member]) -> Path:
    path.write_bytes(gzip.compress(tar(members), 1))
    return path


def unpack(members: list[Member], pixels: int) -> tuple[Array, ...]:
    """Pixels in [0, 1] and labels of the training images, and of the test images."""
    contents = {info.name.split("/")[-1]: content for info, content in members}
    train = b"".join(contents[f"data_batch_{i}.bin"] for i in (1, 2, 3, 4, 5))
    a = np.frombuffer(train, np.uint8).reshape(-1, 1 + pixels)
    b = np.frombuffer(contents["test_batch.bin"], np.uint8).reshape(-1, 1 + pixels)
    return a[:, 1:] / 255, a[:, :1], b[:, 1:] / 255, b[:, :1]


def oracle(x: Array) -> tuple[Array, ...]:
    """Mean, components as columns and variances, by a singular value decomposition."""
    mean = x.mean(axis=0)
    _, s, vt = np.linalg.svd(x - mean, full_matrices=False)
    return mean, vt.T, s**2 / len(x)


def align(actual: Array, expected: Array) -> Array:
    """The expected columns, each with the sign of the actual one."""
    return expected * np.sign((actual * expected).sum(axis=0))


@pytest.fixture
def small_images(monkeypatch: pytest.MonkeyPatch) -> int:
    """48 pixels instead of 3072, so that the eigenvectors take no time."""
    monkeypatch.setattr(script, "PIXELS", 48)
    monkeypatch.setattr(script, "RECORD", 49)
    return 48


def prepare(argv: list[str]) -> int:
    return run(script.main, argv)


def test_outputs_are_those_of_a_direct_decomposition(
    small_images: int,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    members, out = release(small_images), tmp_path / "new" / "out"
    archive = write(tmp_path / "cifar.tar.gz", members)
    assert prepare([str(archive), "--out", str(out), "--components", "5"]) == 0
    train_x, train_y, test_x, test_y = unpack(members, small_images)
    mean, components, variances = oracle(train_x)
    assert sorted(os.listdir(out)) == OUTPUTS
    train, train_labels = np.load(out / "train_data.npy"), np.load(out / "train_label.npy")
    test, test_labels = np.load(out / "test_data.npy"), np.load(out / "test_label.npy")
    assert (train.dtype, train.shape) == (np.float32, (200, 5))
    assert (test.dtype, test.shape) == (np.float32, (TEST_ROWS, 5))
    assert (train_labels.dtype, train_labels.shape) == (np.uint8, (200, 1))
    assert (test_labels.dtype, test_labels.shape) == (np.uint8, (TEST_ROWS, 1))
    np.testing.assert_array_equal(train_labels, train_y)
    np.testing.assert_array_equal(test_labels, test_y)
    expected = (train_x - mean) @ components[:, :5]
    signs = np.sign((train * expected).sum(axis=0))
    np.testing.assert_allclose(train, expected * signs, rtol=1e-6, atol=1e-6)
    # The same signs: the test images are projected on the very same components.
    expected_test = (test_x - mean) @ components[:, :5]
    np.testing.assert_allclose(test, expected_test * signs, rtol=1e-6, atol=1e-6)
    printed = capsys.readouterr().out
    assert f"{variances[:5].sum() / variances.sum():.2%}" in printed
    assert f"{out / 'train_data.npy'}: float32 [200, 5]" in printed


def test_the_same_archive_gives_the_same_bytes(small_images: int, tmp_path: Path) -> None:
    archive = write(tmp_path / "cifar.tar.gz", release(small_images))
    outs: list[dict[str, bytes]] = []
    for name in ("a", "b", "b"):  # the last one over the files of a run before
        assert prepare([str(archive), "--out", str(tmp_path / name), "--components", "5"]) == 0
        outs.append({file: (tmp_path / name / file).read_bytes() for file in OUTPUTS})
    assert outs[0] == outs[1] == outs[2]
    assert sorted(os.listdir(tmp_path / "b")) == OUTPUTS


def test_test_images_have_no_part_in_the_fit(small_images: int, tmp_path: Path) -> None:
    other = member(TEST, records(77, 9, small_images).tobytes())
    outs: list[bytes] = []
    pair = {"a": release(small_images), "b": replaced(TEST, other, pixels=small_images)}
    for name, members in pair.items():
        archive = write(tmp_path / f"{name}.tar.gz", members)
        assert prepare([str(archive), "--out", str(tmp_path / name), "--components", "4"]) == 0
        outs.append((tmp_path / name / "train_data.npy").read_bytes())
    assert outs[0] == outs[1]
    assert len(np.load(tmp_path / "b" / "test_data.npy")) == 9


def test_batches_of_true_size_come_in_order(tmp_path: Path) -> None:
    members = release()
    batches = script.read_batches(write(tmp_path / "cifar.tar.gz", members))
    train_x, train_y, test_x, test_y = unpack(members, RECORD - 1)
    assert {array.dtype for array in batches} == {np.dtype(np.uint8)}
    np.testing.assert_array_equal(batches.train_images / 255, train_x)
    np.testing.assert_array_equal(batches.train_labels[:, None], train_y)
    np.testing.assert_array_equal(batches.test_images / 255, test_x)
    np.testing.assert_array_equal(batches.test_labels[:, None], test_y)


def test_batches_of_10000_images_are_the_largest(tmp_path: Path) -> None:
    members = replaced(TEST, member(TEST, bytes(RECORD * 10_000)))
    batches = script.read_batches(write(tmp_path / "cifar.tar.gz", members))
    assert batches.test_images.shape == (10_000, RECORD - 1)


@pytest.mark.parametrize("chunk", [1, 7, 3000, 5000])
def test_principal_components(chunk: int) -> None:
    images = records(0, 3000, 48)[:, 1:]  # so many that float32 would not hold the sums
    mean, components, variances = script.principal_components(images, 6, chunk)
    expected_mean, expected, expected_variances = oracle(images / 255)
    assert components.shape == (48, 6)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-14)
    np.testing.assert_allclose(components, align(components, expected[:, :6]), atol=1e-11)
    np.testing.assert_allclose(variances, expected_variances, rtol=1e-11)
    largest = np.abs(components).argmax(axis=0)
    assert (components[largest, np.arange(6)] > 0).all()
    again = script.principal_components(images, 6, 33)
    assert components.tobytes() == again.components.tobytes()  # the covariance is exact
    assert mean.tobytes() == again.mean.tobytes()


@pytest.mark.parametrize("chunk", [1, 7, 30, 1000])
def test_project(chunk: int) -> None:
    images = records(0, TEST_ROWS, 48)[:, 1:]
    mean, components, _ = oracle(records(1, pixels=48)[:, 1:] / 255)
    scores = script.project(images, mean, components[:, :3], chunk)
    assert scores.dtype == np.float32
    expected = (images / 255 - mean) @ components[:, :3]
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-6)


def test_fewer_images_than_pixels() -> None:
    images = records(0, 8, 48)[:, 1:]
    _, components, variances = script.principal_components(images, 8)
    np.testing.assert_allclose(components.T @ components, np.eye(8), atol=1e-12)
    assert (variances >= 0).all()
    assert variances[7:].max() < 1e-12
    with pytest.raises(ValueError, match="is 9; expected 1 to 8"):
        script.principal_components(images, 9)
    with pytest.raises(ValueError, match="is 6; expected 1 to 5"):
        script.principal_components(images[:, :5], 6)


def test_equal_images_have_no_components() -> None:
    with pytest.raises(ValueError, match="are the same"):
        script.principal_components(np.full((8, 48), 7, np.uint8), 1)


def refused(archive: Path, out: Path, capsys: Capture, *options: str) -> str:
    """The one line on stderr with which an archive is refused, with nothing written."""
    assert prepare([str(archive), "--out", str(out), *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert not out.exists()
    return printed.err


def link(name: str, kind: bytes) -> Member:
    info, content = member(name, b"", kind)
    info.linkname = "cifar-10-batches-bin/batches.meta.txt"
    return info, content


def labelled(label: int) -> bytes:
    return records(0, 1).tobytes() + bytes([label]) + bytes(RECORD - 1)


GOOD = records(0).tobytes()
BAD: dict[str, tuple[list[Member], str]] = {
    "test batch missing": (replaced(TEST), "test_batch.bin missing"),
    "two batches missing": (
        [m for m in replaced("data_batch_2.bin") if "data_batch_4" not in m[0].name],
        "data_batch_2.bin, data_batch_4.bin missing",
    ),
    "twice": ([*release(), member(TEST, GOOD)], "test_batch.bin occurs twice"),
    "twice in other folders": ([*release(), member(f"other/{TEST}", GOOD)], "twice"),
    "sixth batch": ([*release(), member("data_batch_6.bin", GOOD)], "unexpected batch 'data_batch_6"),
    "second test batch": ([*release(), member("test_batch_2.bin", GOOD)], "unexpected batch"),
    "cut record": (replaced(TEST, member(TEST, GOOD[:-1])), "expected 1 to 10,000 records of 3"),
    "empty": (replaced(TEST, member(TEST, b"")), "test_batch.bin has 0 bytes"),
    "label 10": (replaced(TEST, member(TEST, labelled(10))), "test_batch.bin has the label 10"),
    "label 255": (replaced(TEST, member(TEST, labelled(255))), "the label 255; expected 0 to 9"),
    "symbolic link": (replaced(TEST, link(TEST, tarfile.SYMTYPE)), "is a link"),
    "hard link": (replaced(TEST, link(TEST, tarfile.LNKTYPE)), "is a link"),
    "folder": (replaced(TEST, member(TEST, b"", tarfile.DIRTYPE)), "expected a regular file"),
    "device": (replaced(TEST, link(TEST, tarfile.FIFOTYPE)), "expected a regular file"),
    "nothing": ([], "missing; expected CIFAR-10's binary release"),
    "python version": ([member("data_batch_1", GOOD)], "data_batch_1.bin, "),
}


@pytest.mark.parametrize("case", BAD)
def test_an_archive_of_another_layout_is_refused(case: str, tmp_path: Path, capsys: Capture) -> None:
    members, message = BAD[case]
    archive = write(tmp_path / "cifar.tar.gz", members)
    error = refused(archive, tmp_path / "out", capsys)
    assert message in error
    assert str(archive) in error


def damaged(damage: str) -> bytes:
    whole = tar(release())
    packed = gzip.compress(whole, 1)
    match damage:
        case "cut gzip":
            return packed[: len(packed) // 2]
        case "cut in gzip's checksum":
            return packed[:-4]
        case "cut tar":
            return gzip.compress(whole[: len(whole) // 2], 1)
        case "no deflate":  # in the middle of a batch: a gzip member without a block of known type
            return gzip.compress(whole[: len(whole) // 2], 1) + packed[:10] + b"\x07"
        case "wrong checksum":
            return packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]
        case "tar without gzip":
            return whole
        case "gzip without tar":
            return gzip.compress(b"text " * 1000, 1)
        case "text":
            return b"not an archive"
        case "empty":
            return b""
        case "empty gzip":
            return gzip.compress(b"")
        case _:
            raise ValueError(damage)


DAMAGES = (
    "cut gzip",
    "cut in gzip's checksum",
    "cut tar",
    "no deflate",
    "wrong checksum",
    "tar without gzip",
    "gzip without tar",
    "text",
    "empty",
    "empty gzip",
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_archives_are_refused(damage: str, tmp_path: Path, capsys: Capture) -> None:
    archive = tmp_path / "cifar.tar.gz"
    archive.write_bytes(damaged(damage))
    error = refused(archive, tmp_path / "out", capsys)
    assert f"{archive} is damaged or not a .tar.gz archive" in error


def test_a_missing_archive_and_a_folder_are_refused(tmp_path: Path, capsys: Capture) -> None:
    assert "does not exist" in refused(tmp_path / "none.tar.gz", tmp_path / "out", capsys)
    assert "is not a regular file" in refused(tmp_path, tmp_path / "out", capsys)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


PAX = header("x", 12, tarfile.XHDTYPE) + b"12 path=abc\n".ljust(512, b"\0")
HUGE = 1 << 40
TOO_MUCH = "more than 1,048,576 bytes other than the batches"
# What each begins with; then come zeros as long as it is read, or else the end.
ZEROS, END = True, False
BOMBS: dict[str, tuple[bytes, bool, str]] = {
    "a batch": (header("data_batch_1.bin", HUGE), ZEROS, "expected 1 to 10,000 records"),
    "a batch of whole records": (header(TEST, RECORD * 10_001), ZEROS, "expected 1 to 10,000"),
    "another file": (header("readme.html", HUGE), ZEROS, TOO_MUCH),
    "another file, by its header": (header("readme.html", HUGE), END, TOO_MUCH),
    "a header of pax": (header("x", HUGE, tarfile.XHDTYPE), ZEROS, TOO_MUCH),
    "a long name": (header("x", HUGE, tarfile.GNUTYPE_LONGNAME), ZEROS, TOO_MUCH),
    "padding": (tar(release()), ZEROS, TOO_MUCH),
    "headers": (header("x", 0) * 3000, ZEROS, TOO_MUCH),
    "headers of headers": (PAX * 900, ZEROS, "damaged"),
}


class Bomb(io.BufferedIOBase):
    """A stream from which little may be read."""

    def __init__(self, start: bytes, zeros: bool) -> None:
        super().__init__()
        self.zeros = zeros
        self.start = io.BytesIO(start)
        self.given = 0

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert 0 <= size <= 1 << 16
        self.given += size
        assert self.given < 4 << 20
        return self.start.read(size) or bytes(size * self.zeros)


@pytest.mark.parametrize("case", BOMBS)
def test_no_archive_fills_the_memory(
    case: str,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, zeros, message = BOMBS[case]

    def open_bomb(*_: Any) -> Bomb:
        return Bomb(start, zeros)

    (tmp_path / "cifar.tar.gz").touch()
    monkeypatch.setattr(gzip, "open", open_bomb)
    assert message in refused(tmp_path / "cifar.tar.gz", tmp_path / "out", capsys)


@pytest.mark.parametrize(
    ("num", "most"),
    [(0, "3,072"), (-1, "3,072"), (3073, "3,072"), (201, "200")],
)
def test_number_of_components(num: int, most: str, tmp_path: Path, capsys: Capture) -> None:
    archive = write(tmp_path / "cifar.tar.gz", release())
    error = refused(archive, tmp_path / "out", capsys, f"--components={num}")
    assert f"the number of components is {num}; expected 1 to {most}" in error


def test_a_folder_that_cannot_take_the_outputs_is_refused(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "out" / "test_label.npy").mkdir(parents=True)
    for out, message in (("file", "expected a folder"), ("out", "test_label.npy is a folder")):
        assert prepare([str(tmp_path / "none.tar.gz"), "--out", str(tmp_path / out)]) == 2
        assert message in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"
    assert os.listdir(tmp_path / "out") == ["test_label.npy"]


def test_when_the_disk_is_full_the_old_files_stay(
    small_images: int,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive = write(tmp_path / "cifar.tar.gz", release(small_images))
    old, new = tmp_path / "old", tmp_path / "new"
    assert prepare([str(archive), "--out", str(old), "--components", "2"]) == 0
    before = {name: (old / name).read_bytes() for name in OUTPUTS}
    save = np.save

    def save_data(file: Any, array: Array, **options: Any) -> None:
        save(file, array, **options)
        if len(array) == TEST_ROWS:  # not the first
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "save", save_data)
    for out in (old, new):
        assert prepare([str(archive), "--out", str(out), "--components", "3"]) == 2
        assert os.strerror(errno.ENOSPC) in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in old.iterdir()} == before
    assert os.listdir(new) == []


def test_as_a_user_runs_it(tmp_path: Path) -> None:
    archive = write(tmp_path / "cifar.tar.gz", replaced(TEST))
    command = [sys.executable, str(script.__file__), str(archive), "--out", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    expected = f"error: {archive}: test_batch.bin missing; expected CIFAR-10's binary release\n"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", expected)
    assert os.listdir(tmp_path) == ["cifar.tar.gz"]
