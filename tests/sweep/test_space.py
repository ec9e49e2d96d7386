"""Search spaces: what their texts mean, all combinations, and random ones."""

from typing import Any

import pytest

import fnet
from fnet import sweep
from fnet.sweep import Range


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=64,128", (64, 128)),
        ("a=0.5, 1e-3", (0.5, 1e-3)),
        ("a=true,none,relu,64x32", (True, None, "relu", "64x32")),
        ("a=7", (7,)),
        ("a=1e-4..1e-2:log:3", (1e-4, 1e-3, 1e-2)),
        ("a=0..0.5:3", (0.0, 0.25, 0.5)),
        ("a=1..4:4", (1, 2, 3, 4)),
        ("a=1..3:9", (1, 2, 3)),
        ("a=16..256:log:3", (16, 64, 256)),
        ("a=1e-4..1e-2:log", Range(1e-4, 1e-2, log=True)),
        ("a=1..5", Range(1, 5)),
        ("a=-1..1", Range(-1, 1)),
    ],
)
def test_parse_space(text: str, expected: Any) -> None:
    assert sweep.parse_space([text]) == {"a": expected}


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["hidden"], "expected NAME=VALUES such as hidden=64,128,256, but got 'hidden'"),
        (["hidden="], "expected NAME=VALUES"),
        (["2=3"], "expected NAME=VALUES"),
        (["a=1", "a=2"], "a occurs twice"),
        (["a=1,,2"], "a=1,,2 has an empty value"),
        (["a=1,2,1"], "a=1,2,1 has a value twice"),
        (["a=1..2:3:4"], r"expected a=LOW..HIGH.*, but got a=1\.\.2:3:4$"),
        (["a=1..2:lin"], "expected a=LOW..HIGH"),
        (["a=1..2:1"], "a NUMBER of at least 2"),
        (["a=1..2:log:x"], "a NUMBER of at least 2"),
        (["a=1..b"], "with numbers"),
        (["a=true..2"], "with numbers"),
        (["a=1..inf"], "with numbers"),
        (["a=2..1"], "LOW < HIGH"),
        (["a=0..1:log"], "above 0 for :log"),
    ],
)
def test_a_wrong_space_is_an_error(specs: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sweep.parse_space(specs)


def test_grid_has_all_combinations() -> None:
    assert sweep.grid({"a": (1, 2), "b": (3,)}) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}]
    five = sweep.grid({"rate": Range(1e-4, 1e-2, log=True), "layers": Range(1, 3)})
    assert [c["rate"] for c in five[::3]] == pytest.approx([1e-4, 10**-3.5, 1e-3, 10**-2.5, 1e-2])
    assert [c["layers"] for c in five[:3]] == [1, 2, 3]
    assert len(five) == 15


def test_random_search_draws_from_the_whole_space() -> None:
    space = {"rate": Range(1e-4, 1e-2, log=True), "layers": Range(1, 3), "width": Range(8, 32, log=True), "x": ("a", 0)}
    drawn = sweep.random_search(fnet.random.key(0), space, 200)
    assert drawn == sweep.random_search(fnet.random.key(0), space, 200)
    assert drawn[:50] == sweep.random_search(fnet.random.key(0), space, 50)
    assert drawn != sweep.random_search(fnet.random.key(1), space, 200)
    rates = [d["rate"] for d in drawn]
    assert 1e-4 <= min(rates) < 1.3e-4
    assert 7e-3 < max(rates) <= 1e-2
    assert 60 < sum(rate < 1e-3 for rate in rates) < 140
    assert {d["layers"] for d in drawn} == {1, 2, 3}
    assert {d["x"] for d in drawn} == {"a", 0}
    assert all(isinstance(d["width"], int) and 8 <= d["width"] <= 32 for d in drawn)
    assert all(float(f"{rate:.4g}") == rate for rate in rates)


def test_random_combinations_are_different() -> None:
    space = {"a": (1, 2), "b": (1, 2, 3)}
    drawn = sweep.random_search(fnet.random.key(0), space, 6)
    assert sorted(drawn, key=str) == sorted(sweep.grid(space), key=str)
    with pytest.raises(ValueError, match="fewer than 7 distinct combinations"):
        sweep.random_search(fnet.random.key(0), space, 7)


def test_nothing_to_draw_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="rate has no values to draw from"):
        sweep.random_search(fnet.random.key(0), {"rate": ()}, 1)


def test_rounding_does_not_leave_the_range() -> None:
    space = {"rate": sweep.Range(0.12344, 0.12366)}
    drawn = [sweep.random_search(fnet.random.key(i), space, 1)[0]["rate"] for i in range(50)]
    assert all(0.12344 <= value <= 0.12366 for value in drawn)
