"""Keys, and the draws made from them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fnet import random as frandom
from fnet.testing import assert_trees_equal

KEY = frandom.key(0)
DRAWS = {
    "bits": lambda key: frandom.bits(key, (3, 50), np.uint16),
    "uniform": lambda key: frandom.uniform(key, (3, 50)),
    "normal": lambda key: frandom.normal(key, (3, 50)),
    "bernoulli": lambda key: frandom.bernoulli(key, 0.5, (3, 50)),
    "permutation": lambda key: frandom.permutation(key, 150).reshape(3, 50),
}
each_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)


# Streams: these numbers are what users' results rest on, and may never change


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (frandom.key(0), [15793235383387715774, 12390638538380655177]),
        (frandom.key(2**70), [4976408113500649950, 7225026357292006452]),
        (frandom.split(KEY)[0], [2124818638256404548, 6801581804244469248]),
        (frandom.split(KEY)[1], [1811034692280221895, 3919951505607695614]),
        (frandom.fold_in(KEY, 7), [5097675417054409985, 4378270418067648272]),
        (frandom.fold_in(KEY, 2**33 + 1), [271026046031589525, 531897722554137731]),
        (frandom.fold_in(KEY, 2**64 + 3), [15196519334379971304, 6397791204819854551]),
        (frandom.bits(KEY, 3, "uint8"), [103, 138, 221]),
        (frandom.bits(KEY, 3, "uint16"), [35431, 12765, 1017]),
        (frandom.bits(KEY, 3, "uint32"), [836602471, 543163385, 422067908]),
        (frandom.bits(KEY, 3, "uint64"), [2332868975796259431, 13923735364996447940, 11690616503101103139]),
        (frandom.uniform(KEY, 3), [0.1947866678237915, 0.12646502256393433, 0.09827029705047607]),
        (frandom.uniform(KEY, 3, "float64"), [0.12646508058411687, 0.7548072065921198, 0.6337495905178553]),
        (frandom.uniform(KEY, 2, "float64", -2, 3), [-1.3676745970794157, 1.7740360329605989]),
        (frandom.bernoulli(KEY, 0.5, 8), [True, False, False, False, True, True, False, False]),
        (frandom.permutation(KEY, 8), [4, 0, 5, 2, 7, 6, 1, 3]),
    ],
)
def test_the_words_of_a_key_never_change(words: np.ndarray, expected: list[Any]) -> None:
    assert words.tolist() == expected


def test_the_normal_stream_never_changes_but_for_the_rounding_of_log_and_cos() -> None:
    expected = [1.4748048782348633, 0.06141547113656998, 1.0472110509872437]
    np.testing.assert_allclose(frandom.normal(KEY, 3), expected, rtol=1e-5)
    expected = [-1.356794833657012, 0.40802260794379824, -1.5148220630922418]
    np.testing.assert_allclose(frandom.normal(KEY, 3, "float64"), expected, rtol=1e-12)


# Keys


def test_a_key_is_a_read_only_array_of_two_words() -> None:
    for key in (KEY, *frandom.split(KEY), frandom.fold_in(KEY, 0), frandom.key(np.int64(0))):  # pyright: ignore[reportArgumentType]
        assert key.dtype == np.uint64
        assert key.shape == (2,)
        assert not key.flags.writeable


def test_all_derived_keys_are_distinct() -> None:
    counters = (*range(50), 2**32, 2**62 - 1, *range(2**62, 2**62 + 5), 2**64, 2**64 + 1, 2**124, 2**200)
    keys = [
        *(frandom.key(seed) for seed in counters),
        *frandom.split(KEY, 50),
        *(frandom.fold_in(KEY, data) for data in counters),
        *(frandom.fold_in(frandom.fold_in(KEY, 1), data) for data in counters),
        *frandom.split(frandom.key(1), 50),
    ]
    assert len({key.tobytes() for key in keys}) == len(keys)


def test_split_gives_as_many_as_asked_for_and_a_longer_split_begins_alike() -> None:
    assert frandom.split(KEY, 0) == ()
    assert [len(frandom.split(KEY, num)) for num in (1, 2, 5)] == [1, 2, 5]
    np.testing.assert_array_equal(frandom.split(KEY, 5)[:2], frandom.split(KEY))


@pytest.mark.parametrize("make", [frandom.key, lambda n: frandom.split(KEY, n), lambda n: frandom.fold_in(KEY, n)])
@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (1.0, TypeError, "must be an integer, but got 1.0"),
        (True, TypeError, "must be an integer, but got True"),
        ("1", TypeError, "must be an integer, but got '1'"),
        (None, TypeError, "must be an integer, but got None"),
        (-1, ValueError, "must be 0 or more, but got -1"),
    ],
)
def test_bad_numbers(make: Callable[[Any], Any], number: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(number)


@each_draw
@pytest.mark.parametrize(
    "bad", [0, None, np.zeros(2, np.uint32), np.zeros(2, np.int64), np.zeros((1, 2), np.uint64), [1, 2]], ids=repr
)
def test_what_is_no_key(draw: Callable[[Any], np.ndarray], bad: Any) -> None:
    for use in (draw, frandom.split, lambda key: frandom.fold_in(key, 0)):
        with pytest.raises(TypeError, match=r"key must come from fnet\.random\.key\(seed\)"):
            use(bad)


# The module


def test_the_module_shows_its_functions_alone() -> None:
    assert dir(frandom) == sorted(frandom.__all__)
    assert {"key", "split", "fold_in", *DRAWS} < set(dir(frandom))


# Draws


@each_draw
def test_same_key_same_bits_and_another_key_other_bits(draw: Callable[[Any], np.ndarray]) -> None:
    first, again, other = draw(KEY), draw(KEY.copy()), draw(frandom.key(1))
    assert first.tobytes() == again.tobytes()
    assert first.shape == (3, 50)
    assert (first != other).mean() > 0.4


def test_nothing_touches_the_global_generator() -> None:
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    for draw in DRAWS.values():
        draw(KEY)
    assert_trees_equal(np.random.get_state(legacy=False), before)  # noqa: NPY002


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_bits_are_of_the_dtype_and_each_is_set_half_of_the_time(dtype: str) -> None:
    draw = frandom.bits(KEY, (40, 101), dtype)
    assert draw.dtype == dtype
    assert draw.shape == (40, 101)
    share = np.unpackbits(draw.view(np.uint8).reshape(-1, draw.itemsize), axis=1).mean(axis=0)
    np.testing.assert_allclose(share, 0.5, atol=4 * 0.5 / draw.size**0.5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, -1.0), (5.0, 5.5)])
def test_uniform(dtype: str, low: float, high: float) -> None:
    draw = frandom.uniform(KEY, (100, 200), dtype, low, high)
    assert draw.dtype == dtype
    assert draw.min() >= low
    assert draw.max() < high
    unit = (draw.astype(np.float64) - low) / (high - low)
    assert unit.mean() == pytest.approx(1 / 2, abs=0.008)
    assert unit.var() == pytest.approx(1 / 12, abs=0.003)
    tenths = np.bincount((unit * 10).astype(int).ravel(), minlength=10)
    np.testing.assert_allclose(tenths, 2000, atol=200)


def test_uniform_never_rounds_up_to_maxval() -> None:
    above_one = float(np.nextafter(np.float32(1), np.float32(2)))
    assert (frandom.uniform(KEY, 1000, "float32", 1.0, above_one) == 1).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("word", [0, -1], ids=["all bits 0", "all bits 1"])
def test_uniform_in_any_interval_that_the_dtype_can_tell(
    monkeypatch: pytest.MonkeyPatch, word: int, dtype: str
) -> None:
    monkeypatch.setattr(frandom, "bits", lambda key, shape, dtype: np.full(shape, word, "int64").astype(dtype))
    info = np.finfo(dtype)
    largest, least = float(info.max), float(info.smallest_subnormal)
    for low, high in ((0, least), (-least, 0), (0, largest), (-largest, 0), (1e6, 1e6 + 1), (-0.1, 0.1)):
        draw = frandom.uniform(KEY, 4, dtype, low, high)
        assert (np.array(low, dtype) <= draw).all()
        assert (draw < np.array(high, dtype)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal(dtype: str) -> None:
    draw = frandom.normal(KEY, (100, 201), dtype)
    assert draw.dtype == dtype
    assert draw.mean() == pytest.approx(0, abs=0.02)
    assert draw.var() == pytest.approx(1, abs=0.03)
    assert (draw**3).mean() == pytest.approx(0, abs=0.1)
    assert (draw**4).mean() == pytest.approx(3, abs=0.2)
    assert (draw > 1.6448536).mean() == pytest.approx(0.05, abs=0.005)
    half = draw.size // 2
    assert np.corrcoef(draw.ravel()[:half], draw.ravel()[half : 2 * half])[0, 1] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("word", [0, -1], ids=["all bits 0", "all bits 1"])
def test_the_rarest_words(monkeypatch: pytest.MonkeyPatch, word: int, dtype: str) -> None:
    monkeypatch.setattr(frandom, "bits", lambda key, shape, dtype: np.full(shape, word, "int64").astype(dtype))
    assert np.isfinite(frandom.normal(KEY, 4, dtype)).all()
    unit = frandom.uniform(KEY, 4, dtype)
    assert 0 <= unit.min() <= unit.max() < 1
    assert frandom.bernoulli(KEY, 1.0, 4).all()
    assert not frandom.bernoulli(KEY, 0.0, 4).any()


@pytest.mark.parametrize("shape", [(), 0, 1, 3, (2, 0), (3, 5), (1, 1, 1)], ids=str)
def test_shapes(shape: Any) -> None:
    expected = shape if isinstance(shape, tuple) else (shape,)
    for draw in (
        frandom.bits(KEY, shape),
        frandom.uniform(KEY, shape),
        frandom.normal(KEY, shape),
        frandom.bernoulli(KEY, 0.5, shape),
    ):
        assert type(draw) is np.ndarray
        assert draw.shape == expected
        assert draw.flags.writeable


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_bernoulli(p: float) -> None:
    draw = frandom.bernoulli(KEY, p, 10_000)
    assert draw.dtype == bool
    assert draw.mean() == pytest.approx(p, abs=3 * (p * (1 - p) / 10_000) ** 0.5)


@pytest.mark.parametrize("num", [0, 1, 2, 1000])
def test_permutation_of_a_number(num: int) -> None:
    order = frandom.permutation(KEY, num)
    assert sorted(order) == list(range(num))
    assert num < 1000 or abs(np.corrcoef(order, np.arange(num))[0, 1]) < 0.1


def test_permutation_of_rows_keeps_them_whole() -> None:
    x = np.arange(30).reshape(10, 3)
    order = frandom.permutation(KEY, 10)
    np.testing.assert_array_equal(frandom.permutation(KEY, x), x[order])
    np.testing.assert_array_equal(frandom.permutation(KEY, x.tolist()), x[order])
    assert order.tolist() != list(range(10))


def test_all_permutations_are_equally_frequent() -> None:
    draws = [tuple(frandom.permutation(key, 3)) for key in frandom.split(KEY, 1200)]
    counts = [draws.count(order) for order in set(draws)]
    assert len(counts) == 6
    assert counts == pytest.approx([200] * 6, abs=3.5 * (1200 * 5 / 36) ** 0.5)


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: frandom.bits(KEY, 3, np.int32), TypeError, "unsigned integer type such as numpy.uint32, not int32"),
        (lambda: frandom.bits(KEY, 3, float), TypeError, "unsigned integer type such as numpy.uint32, not float64"),
        (lambda: frandom.bits(KEY, (2, -1)), ValueError, "shape must be 0 or more, but got -1"),
        (lambda: frandom.bits(KEY, (2.0,)), TypeError, "shape must be an integer, but got 2.0"),  # pyright: ignore[reportArgumentType]
        (lambda: frandom.uniform(KEY, 3, "float16"), TypeError, "float32 or float64, not float16"),
        (lambda: frandom.uniform(KEY, 3, minval=1, maxval=1), ValueError, "minval must be less .* got 1 and 1"),
        (lambda: frandom.uniform(KEY, 3, minval=np.nan), ValueError, "minval must be less than maxval, but got nan"),
        (
            lambda: frandom.uniform(KEY, 3, maxval=np.nan),
            ValueError,
            "minval must be less than maxval, but got 0.0 and nan",
        ),
        (lambda: frandom.uniform(KEY, 3, maxval=np.inf), ValueError, "must be finite in float32, but got 0.0 and inf"),
        (lambda: frandom.uniform(KEY, 3, minval=-np.inf), ValueError, "must be finite in float32, but got -inf and 1"),
        (
            lambda: frandom.uniform(KEY, 3, maxval=1e39),
            ValueError,
            r"must be finite in float32, but got 0.0 and 1e\+39",
        ),
        (lambda: frandom.uniform(KEY, 3, "float64", -1e308, 1e308), ValueError, "must be finite in float64"),
        (lambda: frandom.uniform(KEY, 3, minval=1, maxval=1 + 1e-9), ValueError, "the same number in float32: 1 and"),
        (lambda: frandom.uniform(KEY, 3, maxval=1e-50), ValueError, "the same number in float32: 0.0 and 1e-50"),
        (lambda: frandom.normal(KEY, 3, int), TypeError, "float32 or float64, not int64"),
        (lambda: frandom.bernoulli(KEY, 1.1), ValueError, r"a probability in \[0, 1\], but got 1.1"),
        (lambda: frandom.bernoulli(KEY, np.nan), ValueError, r"a probability in \[0, 1\], but got nan"),
        (lambda: frandom.permutation(KEY, 3.0), TypeError, "x must be an integer, but got 3.0"),
        (lambda: frandom.permutation(KEY, -3), ValueError, "x must be 0 or more, but got -3"),
    ],
)
def test_bad_input(draw: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        draw()
