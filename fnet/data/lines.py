"""The lines of a text file, plain or compressed with gzip, read in blocks of bounded size."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Generator, Iterable, Iterator
from typing import IO

from fnet.data.npy import open_regular

__all__ = ["Lines", "opened"]

BLOCK = 1 << 20  # bytes of text, or more if MIN_LINES lines take more
MIN_LINES = 100
MAX_LINE = 16 << 20  # bytes
MAX_RATIO = 100  # of compressed text above MAX_SMALL, so that a small file cannot fill the memory
MAX_SMALL = 2 << 20
GZIP = b"\x1f\x8b"
OTHERS = {  # the first bytes of files that are often mistaken for text
    b"PK\x03\x04": "a zip or Excel file; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save the sheet as CSV",
    b"PAR1": "a Parquet file; write it with pandas.DataFrame.to_csv",
    b"\xff\xfe": "UTF-16; save it as UTF-8",
    b"\xfe\xff": "UTF-16; save it as UTF-8",
    b"\x93NUMPY": "a .npy file; give it that suffix",
    b"BZh": "compressed with bzip2; unpack it",
    b"\xfd7zXZ": "compressed with xz; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it",
}


@contextlib.contextmanager
def opened(source: str | os.PathLike[str] | IO[bytes]) -> Generator[tuple[str, int | None, Iterator[bytes]]]:
    """The name of a source in messages, the size of its text if known, and its text as blocks of whole lines.

    Raises:
        OSError, ValueError: as for `fnet.data.read_table`.
        TypeError: the source is neither a path nor an open file.
    """
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        with open_regular(name) as file:
            size, first = os.fstat(file.fileno()).st_size, file.read(BLOCK)
            packed = first.startswith(GZIP)
            yield name, None if packed else size, _text(name, first, file, size)
    elif hasattr(source, "read"):
        name = getattr(source, "name", None)
        name = name if isinstance(name, str) else "<stream>"
        first = source.read(BLOCK)
        if not isinstance(first, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"{name}: expected a file opened in binary mode, such as sys.stdin.buffer")
        yield name, None, _text(name, first, source, None)
    else:
        raise TypeError(f"expected a path or an open file, but got {type(source).__name__}")


class Lines:
    """The lines of a text and their numbers: an iterator for `csv.reader` that knows where each block ends."""

    source: str
    text: str = ""  # the current block
    lines: list[str]  # its lines, without line ends
    before: int = 0  # lines of the previous blocks
    at: int = 0  # lines of the current block that were taken

    def __init__(self, source: str, blocks: Iterator[bytes]) -> None:
        self.source, self.lines, self._blocks, self._size = source, [], blocks, 0
        self._bytes = 0  # of the previous blocks

    def fill(self) -> bool:
        """Make sure that lines are available; False at the end of the text."""
        if self.at < len(self.lines):
            return True
        self._bytes += self._size
        block = next(self._blocks, None)
        if block is None:
            return False
        self._size = len(block)
        self.before += len(self.lines)
        try:
            self.text = block.decode()
        except UnicodeDecodeError as error:
            line = self.before + 1 + block.count(b"\n", 0, error.start)
            raise ValueError(
                f"{self.source}, line {line}: byte {block[error.start]:#04x} is not UTF-8; save the file as UTF-8"
            ) from None
        if "\0" in self.text:
            line = self.before + 1 + self.text.count("\n", 0, self.text.index("\0"))
            raise ValueError(f"{self.source}, line {line}: a NUL byte; this is not a text file")
        if not self.before:
            self.text = self.text.removeprefix("\ufeff")
        self.lines, self.at = self.text.split("\n"), 0
        if self.text.endswith("\n"):
            self.lines.pop()
        return True

    def skip_blank(self) -> bool:
        """Skip blank lines; False at the end of the text."""
        while self.fill():
            if self.text.isspace():
                self.at = len(self.lines)
            while self.at < len(self.lines):
                if self.lines[self.at] and not self.lines[self.at].isspace():
                    return True
                self.at += 1
        return False

    def bytes_taken(self) -> int:
        """The bytes of the lines that were taken, estimated from the average length of a line in the block."""
        return self._bytes + self._size * self.at // max(len(self.lines), 1)

    @property
    def number(self) -> int:
        """The number of the last line that was taken, from 1."""
        return self.before + self.at

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self.fill():
            raise StopIteration
        self.at += 1
        return self.lines[self.at - 1] + "\n"


def _text(source: str, first: bytes, file: IO[bytes], size: int | None) -> Iterator[bytes]:
    for magic, what in OTHERS.items():
        if first.startswith(magic):
            raise ValueError(f"{source} is {what}")
    chunks = _gunzip(source, first, file, size) if first.startswith(GZIP) else _chunks(first, file, BLOCK)
    return _whole_lines(source, chunks)


def _chunks(first: bytes, file: IO[bytes], size: int) -> Iterator[bytes]:
    while first:
        yield first
        first = file.read(size)


def _gunzip(source: str, first: bytes, file: IO[bytes], size: int | None) -> Iterator[bytes]:
    """The text in successive gzip members; zlib checks the checksum of each."""
    member = zlib.decompressobj(31)
    packed = unpacked = 0
    for chunk in _chunks(first, file, 1 << 16):
        packed += len(chunk)
        data = chunk
        while data:
            if member.eof:
                member = zlib.decompressobj(31)
            try:
                part = member.decompress(data, BLOCK)
            except zlib.error as error:
                raise ValueError(f"{source} is damaged or not a gzip file: {error}") from None
            unpacked += len(part)
            if unpacked > max(MAX_SMALL, MAX_RATIO * (size or packed)):
                raise ValueError(
                    f"{source}: {size or packed} bytes that expand to more than {unpacked} look like a gzip bomb; "
                    "if it is not, unpack the file with gunzip"
                )
            yield part
            data = member.unused_data.lstrip(b"\0") if member.eof else member.unconsumed_tail
    if not member.eof:
        raise ValueError(f"{source} is truncated: its gzip data has no end")


def _whole_lines(source: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        rest += chunk
        if len(rest) >= BLOCK and (_has_lines(rest, 1 << 16) or _has_lines(rest, len(rest)) or len(rest) > MAX_LINE):
            end = rest.rfind(b"\n") + 1
            if len(rest) - end > MAX_LINE:
                raise ValueError(f"{source}: a line is longer than {MAX_LINE >> 20} MiB; this is not a table")
            if end:
                yield rest[:end]
                rest = rest[end:]
    if rest:
        yield rest


def _has_lines(block: bytes, end: int) -> bool:
    return block.count(b"\n", 0, end) >= MIN_LINES
