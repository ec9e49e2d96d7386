"""Damaged files of every format: only documented errors, quickly, in little memory."""

import random

import fuzz_readers
import pytest


@pytest.mark.parametrize("name", fuzz_readers.formats())
def test_only_documented_errors(name: str) -> None:
    outcome = fuzz_readers.fuzz(fuzz_readers.formats()[name], 400, seed=7)
    assert outcome.wrong == []
    assert outcome.read + sum(outcome.errors.values()) == 400
    assert sum(outcome.errors.values()) > 40
    assert outcome.slowest < fuzz_readers.LIMIT
    assert outcome.memory < 200


def test_other_errors_and_slow_reads_are_noticed() -> None:
    def broken(path: object) -> None:
        raise ZeroDivisionError

    outcome = fuzz_readers.fuzz(fuzz_readers.Format(".x", b"good", broken), 3, seed=0)
    assert len(outcome.wrong) == 3
    assert fuzz_readers.mutate(b"good" * 10, random.Random(1)) != b"good" * 10
