"""Strange and damaged tables: only documented errors, quickly, in little memory."""

import importlib
import random
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "checks"))
fuzz_readers, fuzz_tables = map(importlib.import_module, ("fuzz_readers", "fuzz_tables"))

COUNT = 150


@pytest.mark.parametrize("kind", fuzz_tables.KINDS)
def test_only_documented_errors_come_from_tables(kind: str) -> None:
    outcome = fuzz_readers.fuzz(fuzz_tables.KINDS[kind], COUNT, seed=3)
    assert outcome.wrong == []
    assert outcome.read + sum(outcome.errors.values()) == COUNT
    assert outcome.read > 0
    assert sum(outcome.errors.values()) > COUNT / 4
    assert outcome.memory < fuzz_readers.MEGABYTES


def test_other_errors_nameless_ones_and_slow_tables_are_noticed() -> None:
    def broken(path: Path) -> None:
        match path.read_bytes():
            case b"0":
                raise ZeroDivisionError
            case b"1":
                raise ValueError("it is wrong")
            case _:
                time.sleep(0.02)

    contents = iter([b"0", b"1", b"2"])
    form = fuzz_readers.Format(".csv", lambda chance: next(contents), broken, strict=True)
    outcome = fuzz_readers.fuzz(form, 3, seed=0)
    assert [line.partition(":")[0] for line in outcome.wrong] == ["file 0 of seed 0", "file 1 of seed 0 is not named"]
    assert outcome.slowest >= 0.02


def test_a_long_number_that_is_none_takes_no_time() -> None:
    from fnet.data.cells import is_number, looks_like_number

    started = time.perf_counter()
    for text in ("9" * 100_000 + "x", "1," * 50_000, "1,234" * 25_000, "." * 100_000, "1e" + "1" * 100_000):
        assert not is_number(text)
        looks_like_number(text)
    assert time.perf_counter() - started < 0.5


def test_damage_changes_a_file() -> None:
    good = fuzz_tables.table(random.Random(3))
    assert any(fuzz_tables.mutations.mutate(good, random.Random(seed), text=True) != good for seed in range(5))
