"""Damaged and hostile files of every format: only documented errors, quickly, in little memory."""

import importlib
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts" / "checks"))
fuzz_readers = importlib.import_module("fuzz_readers")

FORMATS = fuzz_readers.formats()
COUNT = 120


@pytest.mark.parametrize("name", FORMATS)
def test_only_documented_errors(name: str) -> None:
    outcome = fuzz_readers.fuzz(FORMATS[name], COUNT, seed=7)
    assert outcome.wrong == []
    assert outcome.read + sum(outcome.errors.values()) == COUNT
    assert sum(outcome.errors.values()) > COUNT / 4
    assert outcome.slowest < fuzz_readers.SECONDS
    assert outcome.memory < fuzz_readers.MEGABYTES


def test_other_errors_slow_reads_and_memory_are_noticed() -> None:
    def fuzz(read: Any) -> Any:
        return fuzz_readers.fuzz(fuzz_readers.Format(".x", lambda chance: b"good", read), 3, seed=0)

    assert len(fuzz(lambda path: 1 / 0).wrong) == 3
    assert fuzz(lambda path: time.sleep(0.05)).slowest >= 0.05
    assert fuzz(lambda path: len(b"x" * (80 << 20))).memory > 70
    assert fuzz_readers.mutations.mutate(b"good" * 10, random.Random(1)) != b"good" * 10
