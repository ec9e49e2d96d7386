"""The report's data from CIFAR-10's binary release: the scores of the images on their first principal components.

    python scripts/prepare_cifar10.py cifar-10-binary.tar.gz --out DIR [--components 128]

Pixels are divided by 255; the mean and the components are those of the training images. DIR gets train_data.npy,
train_label.npy, test_data.npy and test_label.npy, which `scripts/train.py --data DIR` reads. The archive is read in
memory, with nothing unpacked to the disk.
"""

import _threads  # noqa: F401, I001  # before NumPy

import argparse
import io
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fnet.checkpoint import write_atomically

PIXELS = 3 * 32 * 32
RECORD = 1 + PIXELS  # bytes: the label, then the red, green and blue planes
MAX_RECORDS = 10_000  # in a file
NUM_CLASSES = 10
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILE = "test_batch.bin"
CHUNK = 1000  # images


class Images(NamedTuple):
    """Images and their labels."""

    pixels: npt.NDArray[np.uint8]  # [images, 3072]
    labels: npt.NDArray[np.uint8]  # [images]


class Components(NamedTuple):
    """Principal components of images."""

    mean: npt.NDArray[np.float64]  # [3072]
    directions: npt.NDArray[np.float64]  # [3072, components]; orthonormal columns, largest variance first
    explained: float  # the share of the variance in these directions


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("archive", type=Path, help="cifar-10-binary.tar.gz")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--components", type=int, default=128, metavar="N")
    parser.add_argument("--threads", type=int, metavar="N", help="BLAS threads (default 1)")
    args = parser.parse_args(argv)
    try:
        train, test = read_archive(args.archive)
        components = principal_components(train.pixels, args.components)
        arrays = {
            "train_data": project(components, train.pixels),
            "train_label": train.labels[:, None],
            "test_data": project(components, test.pixels),
            "test_label": test.labels[:, None],
        }
        args.out.mkdir(parents=True, exist_ok=True)
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            write_atomically(args.out / f"{name}.npy", buffer.getvalue())
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.components} components explain {components.explained:.2%} of the variance of the training images")
    for name, array in arrays.items():
        print(f"{args.out / name}.npy: {array.dtype} {list(array.shape)}")
    return 0


def read_archive(path: Path) -> tuple[Images, Images]:
    """Training and test images in CIFAR-10's own order.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no archive, is damaged, or is not built like CIFAR-10's binary release.
    """
    files: dict[str, Images] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = Path(member.name).name
                if name not in (*TRAIN_FILES, TEST_FILE):
                    continue
                if name in files:
                    raise ValueError(f"{path} holds {name} twice")
                if not member.isfile() or not 0 < member.size <= MAX_RECORDS * RECORD or member.size % RECORD:
                    raise ValueError(
                        f"{path}: {name} must be a file of 1 to {MAX_RECORDS} records of {RECORD} bytes, "
                        f"but it has {member.size} bytes"
                    )
                content = archive.extractfile(member)
                files[name] = _images(f"{path}: {name}", content.read(member.size) if content else b"", member.size)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged or no tar.gz archive: {error}") from None
    missing = [name for name in (*TRAIN_FILES, TEST_FILE) if name not in files]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; expected CIFAR-10's binary version")
    train = [files[name] for name in TRAIN_FILES]
    pixels, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return Images(pixels, labels), files[TEST_FILE]


def _images(source: str, content: bytes, size: int) -> Images:
    if len(content) != size:
        raise ValueError(f"{source} is cut short: {len(content)} of {size} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0].copy()
    if labels.max() >= NUM_CLASSES:
        raise ValueError(f"{source}: labels must be below {NUM_CLASSES}, but one is {labels.max()}")
    return Images(records[:, 1:].copy(), labels)


def principal_components(pixels: npt.NDArray[np.uint8], num: int) -> Components:
    """The eigenvectors of the covariance of `pixels / 255` with the largest eigenvalues (Pearson 1901).

    The covariance is accumulated over chunks of images in float64. The sign of a component is that which makes its
    entry of largest magnitude positive, so that the result is the same on every machine.

    Raises:
        ValueError: `num` is not from 1 to the number of pixels and images.
    """
    most = min(pixels.shape)
    if not 1 <= num <= most:
        raise ValueError(f"the number of components must be from 1 to {most}, but got {num}")
    mean = sum((part.sum(axis=0) for part in _chunks(pixels)), np.zeros(PIXELS)) / len(pixels)
    covariance = np.zeros((PIXELS, PIXELS))
    for part in _chunks(pixels):
        part -= mean
        covariance += part.T @ part
    covariance /= len(pixels)
    variances, vectors = np.linalg.eigh(covariance)  # in rising order
    directions = vectors[:, ::-1][:, :num]
    directions = directions * np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(num)])
    total = float(variances.sum())
    explained = float(variances[::-1][:num].sum()) / total if total > 0 else 1.0
    return Components(mean, directions, explained)


def project(components: Components, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The scores `(pixels / 255 - mean) @ directions`, `[images, components]`."""
    parts = [((part - components.mean) @ components.directions).astype(np.float32) for part in _chunks(pixels)]
    return np.concatenate(parts)


def _chunks(pixels: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.float64]]:
    for start in range(0, len(pixels), CHUNK):
        yield pixels[start : start + CHUNK] / 255


if __name__ == "__main__":
    raise SystemExit(main())
