"""Make Chen & Wu's data from the binary release of CIFAR-10: scores on the first principal components.

    python scripts/prepare_cifar10.py cifar-10-binary.tar.gz --out DIR [--components 128]

Pixels are divided by 255; the mean and the components are computed from the training images only. The program writes
train_data.npy, train_label.npy, test_data.npy and test_label.npy to DIR, for `fnet train --data DIR`. The archive is
read as a stream and is not unpacked to disk.
"""

import gzip
import io
import os
import re
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fnet.cli import threads
from fnet.cli.main import run
from fnet.cli.parser import Parser, add_help

Bytes: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float64]

PIXELS = 3 * 32 * 32
RECORD = 1 + PIXELS  # bytes: the label, then the red, green and blue planes
MAX_RECORDS = 10_000  # in a file
NUM_CLASSES = 10
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILE = "test_batch.bin"
FILES = (*TRAIN_FILES, TEST_FILE)
BATCH_NAME = re.compile(r"(data|test)_batch.*\.bin")
MAX_OTHER_BYTES = 1 << 20  # headers, padding, batches.meta.txt, readme.html
CHUNK = 1000  # images in float64 at a time
OUTPUTS = ("train_data.npy", "train_label.npy", "test_data.npy", "test_label.npy")


class Batches(NamedTuple):
    """Images `[rows, 3072]` and labels `[rows]`, in the order of the archive."""

    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes


class PrincipalComponents(NamedTuple):
    """The principal components of images of `d` pixels."""

    mean: Floats  # [d]
    components: Floats  # [d, k]: orthonormal columns, in descending order of variance
    variances: Floats  # [d]: of all components, in descending order


class LimitedStream(io.RawIOBase):
    """A stream that raises an error after `left` bytes."""

    def __init__(self, stream: io.BufferedIOBase, left: int) -> None:
        super().__init__()
        self.stream = stream
        self.left = left

    def read(self, size: int = -1, /) -> bytes:
        data = self.stream.read(size)
        # Reading past the end also counts: tarfile skips a member by reading as many bytes as its header declares.
        self.left -= len(data) or size
        if self.left < 0:
            raise ValueError(f"more than {MAX_OTHER_BYTES:,} bytes other than the batches")
        return data


def read_batches(path: Path) -> Batches:
    """Read the training images, data_batch_1 to 5 in this order, and the test images from a .tar.gz.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not an archive, is damaged, or is not the binary release of CIFAR-10.
    """
    if not path.is_file():
        problem = "is not a regular file" if path.exists() else "does not exist"
        raise ValueError(f"{path} {problem}; expected cifar-10-binary.tar.gz")
    try:
        with gzip.open(path, "rb") as unzipped:
            records = read_records(unzipped)
    except (gzip.BadGzipFile, tarfile.TarError, zlib.error, EOFError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or not a .tar.gz archive: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    train, test = np.concatenate([records[name] for name in TRAIN_FILES]), records[TEST_FILE]
    return Batches(train[:, 1:], train[:, 0], test[:, 1:], test[:, 0])


def read_records(unzipped: io.BufferedIOBase) -> dict[str, Bytes]:
    """The records `[rows, 3073]` of each of the six batch files in a tar stream."""
    records: dict[str, Bytes] = {}
    # Headers of the tar format may also have any size, so everything except valid batches shares one small limit.
    stream = LimitedStream(unzipped, MAX_OTHER_BYTES)
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            if not BATCH_NAME.fullmatch(name):
                continue
            if name not in FILES:
                raise ValueError(f"unexpected batch {name!r}; expected {', '.join(FILES)}")
            if name in records:
                raise ValueError(f"{name} occurs twice; expected it once")
            check_member(member, name)
            stream.left += member.size
            content = archive.extractfile(member)
            data = b"" if content is None else content.read(member.size)
            records[name] = to_records(data, name)
    missing = [name for name in FILES if name not in records]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing; expected CIFAR-10's binary release")
    # The checksum of gzip follows the data that tarfile reads.
    while stream.read(1 << 16):
        pass
    return records


def check_member(member: tarfile.TarInfo, name: str) -> None:
    """Refuse a member that cannot be a batch, before it is read."""
    if not member.isreg() or member.issparse():
        raise ValueError(f"{name} is a link, a folder or a special file; expected a regular file")
    if not 0 < member.size <= MAX_RECORDS * RECORD or member.size % RECORD:
        expected = f"1 to {MAX_RECORDS:,} records of {RECORD:,} bytes"
        raise ValueError(f"{name} has {member.size:,} bytes; expected {expected}")


def to_records(data: bytes, name: str) -> Bytes:
    """Bytes as records `[rows, 3073]`: the label in column 0, then the pixels."""
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    largest = records[:, 0].max()
    if largest >= NUM_CLASSES:
        raise ValueError(f"{name} has the label {largest}; expected 0 to {NUM_CLASSES - 1}")
    return records


def principal_components(images: Bytes, k: int, chunk: int = CHUNK) -> PrincipalComponents:
    """The first `k` principal components of the rows `x = images / 255`, `[n, d]`.

    With `mean = sum(x) / n` and `C = sum((x - mean)^T (x - mean)) / n`, `[d, d]`, they are the eigenvectors of `C` with
    the largest eigenvalues, which are the variances. The sign makes the entry of largest magnitude positive.

    Raises:
        ValueError: `k` is not from 1 to `min(n, d)`, or all images are the same.
    """
    n, d = images.shape
    check_components(k, min(n, d))
    sums, products = np.zeros(d), np.zeros((d, d))
    for start in range(0, n, chunk):
        part = images[start : start + chunk].astype(np.float64)
        sums += part.sum(axis=0)
        products += part.T @ part
    # (255 n)^2 C = n sum(p^T p) - sum(p)^T sum(p) for the bytes p = 255 x. For up to 370,000 images, all of these are
    # integers below 2^53. Nothing is rounded before the division, so C does not depend on the chunks or on the order of
    # additions in the BLAS.
    covariance = (n * products - np.outer(sums, sums)) / (255.0 * n) ** 2
    if not covariance.any():
        raise ValueError("all training images are the same; expected some variance")
    rising, vectors = np.linalg.eigh(covariance)
    components = vectors[:, ::-1][:, :k]
    largest = np.abs(components).argmax(axis=0)
    components = components * np.sign(components[largest, np.arange(k)])
    variances = np.maximum(rising[::-1], 0)  # rounding may make them negative
    return PrincipalComponents(sums / (255.0 * n), components, variances)


def project(images: Bytes, mean: Floats, components: Floats, chunk: int = CHUNK) -> npt.NDArray[np.float32]:
    """The scores `(images / 255 - mean) @ components`, `[n, d]` to `[n, k]`."""
    scores = np.empty((len(images), components.shape[1]), np.float32)
    for start in range(0, len(images), chunk):
        rows = slice(start, start + chunk)
        scores[rows] = (images[rows] / 255 - mean) @ components
    return scores


def check_components(k: int, most: int) -> None:
    if not 1 <= k <= most:
        raise ValueError(f"the number of components is {k}; expected 1 to {most:,}")


def check_folder(folder: Path) -> None:
    """Check before any work that a folder can take the outputs."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder")
    for name in OUTPUTS:
        if (folder / name).is_dir():
            raise ValueError(f"{folder / name} is a folder; expected a file or nothing")


def write_arrays(folder: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write each array to the file with its name; no file appears before all are on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as unfinished:
        for name, array in arrays.items():
            with Path(unfinished, name).open("wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        for name in arrays:
            Path(unfinished, name).replace(folder / name)


def main(argv: list[str]) -> None:
    parser = Parser("", "", (__doc__ or "").split("\n\n")[0])
    parser.usage = "python scripts/prepare_cifar10.py ARCHIVE --out DIR [OPTION…]"
    group = parser.add_argument_group("arguments")
    group.add_argument("archive", type=Path, metavar="ARCHIVE", help="cifar-10-binary.tar.gz")
    group.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the data")
    group.add_argument("--components", type=int, default=128, metavar="N", help="principal components")
    threads.add_option(group)
    add_help(group)
    args = parser.parse(argv)
    threads.limit(args.threads)
    check_components(args.components, PIXELS)
    check_folder(args.out)
    batches = read_batches(args.archive)
    mean, components, variances = principal_components(batches.train_images, args.components)
    arrays = {
        "train_data.npy": project(batches.train_images, mean, components),
        "train_label.npy": batches.train_labels[:, None],
        "test_data.npy": project(batches.test_images, mean, components),
        "test_label.npy": batches.test_labels[:, None],
    }
    write_arrays(args.out, arrays)
    share = variances[: args.components].sum() / variances.sum()
    print(f"{args.components} components explain {share:.2%} of the training images' variance")
    for name, array in arrays.items():
        print(f"{args.out / name}: {array.dtype} {list(array.shape)}")


if __name__ == "__main__":
    raise SystemExit(run(main))
