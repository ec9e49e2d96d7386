"""CIFAR-10's binary release to the report's data, on small archives of the same build."""

import io
import tarfile
from pathlib import Path

import numpy as np
import prepare_cifar10 as script
import pytest

import fnet
from fnet import random as frandom

FILES = (*script.TRAIN_FILES, script.TEST_FILE)
ROWS = 40


@pytest.fixture(autouse=True)
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """48 pixels instead of 3072, so that the eigenvectors take no time."""
    monkeypatch.setattr(script, "PIXELS", 48)
    monkeypatch.setattr(script, "RECORD", 49)
    monkeypatch.setattr(script, "CHUNK", 33)


def records(seed: int, rows: int = ROWS) -> bytes:
    draw = frandom.bits(frandom.key(seed), (rows, 49), np.uint8) >> (np.arange(49) % 4).astype(np.uint8)
    draw[:, 0] %= 10
    return draw.tobytes()


def write(path: Path, files: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files:
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def good_files() -> list[tuple[str, bytes]]:
    return [("batches.meta.txt", b"airplane\n"), *((name, records(i)) for i, name in enumerate(FILES))]


def test_scores_are_those_of_a_singular_value_decomposition(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = write(tmp_path / "cifar.tar.gz", good_files())
    assert script.main([str(archive), "--out", str(tmp_path / "out"), "--components", "5"]) == 0
    train, test = fnet.data.load(tmp_path / "out")
    assert test is not None
    raw = np.concatenate([np.frombuffer(content, np.uint8).reshape(-1, 49) for _, content in good_files()[1:]])
    pixels, labels = raw[:, 1:] / 255, raw[:, 0]
    n = 5 * ROWS
    mean = pixels[:n].mean(axis=0)
    _, s, vt = np.linalg.svd(pixels[:n] - mean, full_matrices=False)
    vt *= np.sign(vt[np.arange(len(vt)), np.abs(vt).argmax(axis=1)])[:, None]
    expected = (pixels - mean) @ vt[:5].T
    np.testing.assert_allclose(train.x, expected[:n], atol=1e-6)
    np.testing.assert_allclose(test.x, expected[n:], atol=1e-6)
    assert (train.x.dtype, train.x.shape, test.x.shape) == (np.float32, (n, 5), (ROWS, 5))
    assert np.load(tmp_path / "out" / "train_label.npy").tolist() == labels[:n, None].tolist()
    assert test.y.tolist() == labels[n:].tolist()
    assert f"{(s[:5] ** 2).sum() / (s**2).sum():.2%}" in capsys.readouterr().out


def test_test_images_have_no_part_in_the_components(tmp_path: Path) -> None:
    other = [*good_files()[:-1], (script.TEST_FILE, records(99))]
    outs = []
    for name, files in (("a", good_files()), ("b", other)):
        archive = write(tmp_path / f"{name}.tar.gz", files)
        script.main([str(archive), "--out", str(tmp_path / name), "--components", "4"])
        outs.append((tmp_path / name / "train_data.npy").read_bytes())
    assert outs[0] == outs[1]


BAD: list[tuple[str, list[tuple[str, bytes]], str]] = [
    ("missing", good_files()[:-1], "lacks test_batch.bin"),
    ("twice", [*good_files(), ("test_batch.bin", records(0))], "twice"),
    ("cut record", [*good_files()[:-1], (script.TEST_FILE, records(0)[:-1])], "records of 49 bytes"),
    ("empty", [*good_files()[:-1], (script.TEST_FILE, b"")], "records of 49 bytes"),
    ("too large", [*good_files()[:-1], (script.TEST_FILE, bytes(49 * 10_001))], "1 to 10000 records"),
    ("label", [*good_files()[:-1], (script.TEST_FILE, b"\x0a" + bytes(48))], "below 10"),
]


@pytest.mark.parametrize(("files", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_an_archive_that_is_built_otherwise_is_refused(
    files: list[tuple[str, bytes]], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = write(tmp_path / "cifar.tar.gz", files)
    assert script.main([str(archive), "--out", str(tmp_path / "out"), "--components", "4"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_links_are_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "cifar.tar.gz", good_files()[:-1])
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("data_batch_1.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    assert script.main([str(path), "--out", str(tmp_path / "out")]) == 2
    assert "must be a file" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["cut", "no gzip", "absent", "folder"])
def test_damaged_archives(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "cifar.tar.gz", good_files())
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "no gzip":
            path.write_bytes(b"not an archive")
        case "absent":
            path = tmp_path / "none.tar.gz"
        case _:
            path = tmp_path
    assert script.main([str(path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("num", [0, 49])
def test_number_of_components(num: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = write(tmp_path / "cifar.tar.gz", good_files())
    assert script.main([str(archive), "--out", str(tmp_path / "out"), "--components", str(num)]) == 2
    assert "from 1 to 48" in capsys.readouterr().err
