"""Keys and draws look random: by themselves, beside their neighbours, and where keys are derived from one another.

A statistic takes words and returns z-scores, each standard normal if the words are random. The p-value is that of the
largest, times their number (Bonferroni). All is deterministic, so what passes once passes always. Each statistic is
also shown to reject a generator that is broken.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from fnet import random as frandom

Words: TypeAlias = npt.NDArray[np.uint64]
Array: TypeAlias = npt.NDArray[Any]

KEY = frandom.key(0)
SIZE = 2**15  # words of each source
RANDOM, BROKEN = 1e-5, 1e-12  # p-values above and below


def p_value(z: Array) -> float:
    return min(1.0, z.size * math.erfc(float(np.abs(z).max()) / math.sqrt(2)))


def sfc64(seeds: Words, rounds: int, num: int) -> Words:
    """`num` words of C. Doty-Humphrey's SFC64 after as many rounds: [..., 3] -> [..., num]."""
    a, b, c = np.moveaxis(seeds[..., None], -2, 0)  # an axis of its own, as NumPy warns where numbers overflow
    words = []
    for counter in range(1, rounds + num + 1):
        words.append(a + b + np.uint64(counter))
        a, b, c = b ^ b >> np.uint64(11), c + (c << np.uint64(3)), (c << np.uint64(24) | c >> np.uint64(40)) + words[-1]
    return np.concatenate(words[rounds:], axis=-1)


# Statistics of words: [words] -> z-scores


def bit_matrix(words: Words) -> Array:
    return np.unpackbits(words.astype("<u8").view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")


def chi_square(counts: Array, expected: Array) -> Array:
    """Of counts [tables, bins]: a z-score for each table, by the cube root of Wilson & Hilferty (1931)."""
    degrees = counts.shape[1] - 1
    ratio = ((counts - expected) ** 2 / expected).sum(axis=1) / degrees
    return (np.cbrt(ratio) - (1 - 2 / (9 * degrees))) / math.sqrt(2 / (9 * degrees))


def poisson(count: int, mean: float) -> Array:
    """The z-score by Anscombe's (1948) square root."""
    return np.array([2 * (math.sqrt(count + 3 / 8) - math.sqrt(mean + 3 / 8))])


def geometric(lengths: Array, p: float, bins: int) -> Array:
    """Lengths from 1 against the geometric distribution of p, those from `bins` on together."""
    counts = np.bincount(np.minimum(lengths, bins), minlength=bins + 1)[None, 1:]
    share = np.append(p * (1 - p) ** np.arange(bins - 1), (1 - p) ** (bins - 1))
    return chi_square(counts, counts.sum() * share)


def ones(words: Words) -> Array:
    """How often each bit is set, and all together."""
    count = bit_matrix(words).sum(axis=0, dtype=np.int64)
    each = (2 * count - words.size) / math.sqrt(words.size)
    return np.append(each, each.sum() / 8)


def bytes_(words: Words) -> Array:
    """How often each byte has each value."""
    table = words.astype("<u8").view(np.uint8).reshape(-1, 8) + 256 * np.arange(8)
    counts = np.bincount(table.ravel(), minlength=8 * 256).reshape(8, 256)
    return chi_square(counts, np.full(256, words.size / 256))


def runs(words: Words) -> Array:
    """How long the runs of equal bits are."""
    bits = bit_matrix(words).ravel()
    return geometric(np.diff(np.flatnonzero(np.diff(bits))), 1 / 2, 13)


def gaps(words: Words) -> Array:
    """How far apart bytes are that begin with four bits 0."""
    return geometric(np.diff(np.flatnonzero(words.view(np.uint8) < 16)), 1 / 16, 64)


def pairs(words: Words) -> Array:
    """How often four bits of a word meet each four bits of the next."""
    four = words[:, None] >> np.arange(0, 64, 4, dtype=np.uint64) & np.uint64(15)
    table = (16 * four[::2] + four[1::2]).astype(np.int64) + 256 * np.arange(16)
    counts = np.bincount(table.ravel(), minlength=16 * 256).reshape(16, 256)
    return chi_square(counts, np.full(256, words.size / 2 / 256))


def correlations(words: Words) -> Array:
    """How often each bit differs from each bit of the same word and of the next two."""
    bits, z = bit_matrix(words).T, []
    for lag in range(3):
        num = words.size - lag
        first, second = (np.packbits(part.copy(), axis=1).view(np.uint64) for part in (bits[:, :num], bits[:, lag:]))
        differ = np.stack([np.bitwise_count(row ^ second).sum(axis=1, dtype=np.int64) for row in first])
        z.append((2 * differ - num) / math.sqrt(num))
    return np.concatenate([z[0][np.triu_indices(64, 1)], z[1].ravel(), z[2].ravel()])


def weights(words: Words) -> Array:
    """Few, half or many bits set, in three words after each other: as DC6 of PractRand counts them."""
    binomial = np.array([math.comb(64, k) for k in range(65)]) / 2**64
    classes = np.digitize(np.arange(65), (30, 35))
    share = np.bincount(classes, binomial)
    label = classes[bit_matrix(words).sum(axis=1)]
    triples = label[: label.size // 3 * 3].reshape(-1, 3) @ [9, 3, 1]
    expected = len(triples) * np.einsum("i,j,k", share, share, share).ravel()
    return chi_square(np.bincount(triples, minlength=27)[None], expected)


def collisions(words: Words) -> Array:
    """How many pairs have the same first 24 bits, and the same last."""
    z = []
    for part in (words >> np.uint64(40), words & np.uint64(2**24 - 1)):
        count = np.unique(part, return_counts=True)[1]
        z.append(poisson(int((count * (count - 1) // 2).sum()), math.comb(words.size, 2) / 2**24))
    return np.concatenate(z)


def birthday_spacings(words: Words) -> Array:
    """How many spacings of sorted words are the same: Marsaglia's test, 4096 birthdays in a year of 2^32 days."""
    z = []
    for part in (words >> np.uint64(32), words & np.uint64(2**32 - 1)):
        spacings = np.sort(np.diff(np.sort(part.reshape(-1, 4096), axis=1), axis=1), axis=1)
        equal = int((spacings[:, 1:] == spacings[:, :-1]).sum())
        z.append(poisson(equal, len(spacings) * 4096**3 / (4 * 2**32)))
    return np.concatenate(z)


STATISTICS: dict[str, Callable[[Words], Array]] = {
    "ones": ones,
    "bytes": bytes_,
    "runs": runs,
    "gaps": gaps,
    "pairs": pairs,
    "correlations": correlations,
    "weights": weights,
    "collisions": collisions,
    "birthday spacings": birthday_spacings,
}
each_statistic = pytest.mark.parametrize("statistic", STATISTICS.values(), ids=STATISTICS)


# Where words come from


def one_draw() -> Words:
    return frandom.bits(KEY, SIZE, np.uint64)


def draws_of_neighbouring_steps() -> Words:
    return np.concatenate([frandom.bits(frandom.fold_in(KEY, t), 2, np.uint64) for t in range(SIZE // 2)])


def long_draws_of_neighbouring_steps() -> Words:
    """Interleaved: the words of 64 steps by turns."""
    return np.stack([frandom.bits(frandom.fold_in(KEY, t), SIZE // 64, np.uint64) for t in range(64)], axis=1).ravel()


def draws_of_split_keys() -> Words:
    return np.concatenate([frandom.bits(key, 2, np.uint64) for key in frandom.split(KEY, SIZE // 2)])


def folded_keys() -> Words:
    return np.concatenate([frandom.fold_in(KEY, t) for t in range(SIZE // 2)])


def split_keys() -> Words:
    return np.concatenate(frandom.split(KEY, SIZE // 2))


def split_and_folded_keys() -> Words:
    """By turns, from the same key and of the same number."""
    return np.stack([(split, frandom.fold_in(KEY, i)) for i, split in enumerate(frandom.split(KEY, SIZE // 4))]).ravel()


def keys_and_draws_of_the_same_key() -> Words:
    steps = [frandom.fold_in(KEY, t) for t in range(SIZE // 8)]
    use = (frandom.fold_in, lambda key, _: frandom.split(key, 1)[0], lambda key, _: frandom.bits(key, 2, np.uint64))
    return np.concatenate([np.concatenate([step, *(f(step, 0) for f in use)]) for step in steps])


def a_chain_of_keys() -> Words:
    chain = [KEY]
    while len(chain) < SIZE // 2:
        chain.append(frandom.fold_in(chain[-1], 0))
    return np.concatenate(chain)


def large_numbers() -> Words:
    return np.concatenate([frandom.fold_in(KEY, t << 90) for t in range(SIZE // 2)])


def keys_of_few_bits() -> Words:
    """No key of `key`, `split` or `fold_in` is like these: they show that derived keys do not need good ones."""
    keys = [np.array([i >> 7, i & 127], np.uint64) for i in range(SIZE // 2)]
    return np.concatenate([frandom.fold_in(key, 0) for key in keys])


SOURCES = {
    source.__name__.replace("_", " "): cache(source)
    for source in (
        one_draw,
        draws_of_neighbouring_steps,
        long_draws_of_neighbouring_steps,
        draws_of_split_keys,
        folded_keys,
        split_keys,
        split_and_folded_keys,
        keys_and_draws_of_the_same_key,
        a_chain_of_keys,
        large_numbers,
        keys_of_few_bits,
    )
}


@each_statistic
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_words_look_random(source: Callable[[], Words], statistic: Callable[[Words], Array]) -> None:
    assert source().shape == (SIZE,)
    assert p_value(statistic(source())) > RANDOM


COUNT = np.arange(SIZE // 2, dtype=np.uint64)
SEEDS = np.stack([0 * COUNT + KEY[0], 0 * COUNT + KEY[1], COUNT << np.uint64(2)], axis=1)
WEAK_KEYS = {
    "the number is added": np.stack([SEEDS[:, 0], KEY[1] + COUNT], axis=1),
    "both are multiplied": np.stack([(KEY[0] + COUNT) * KEY[1], COUNT * KEY[0]], axis=1),
    "4 rounds of SFC64": sfc64(SEEDS, 4, 2),
    "6 rounds of SFC64": sfc64(SEEDS, 6, 2),
}


@pytest.mark.parametrize(
    ("keys", "statistic"),
    [
        *(("the number is added", name) for name in STATISTICS),
        *(("both are multiplied", name) for name in ("bytes", "pairs", "correlations", "weights", "birthday spacings")),
        *(("4 rounds of SFC64", name) for name in STATISTICS if name != "runs"),
        ("6 rounds of SFC64", "correlations"),
    ],
)
def test_keys_of_a_weak_hash_do_not(keys: str, statistic: str) -> None:
    assert p_value(STATISTICS[statistic](WEAK_KEYS[keys].ravel())) < BROKEN


# Keys


def test_draws_and_keys_are_words_of_sfc64_after_18_rounds_from_the_key_and_a_purpose() -> None:
    def words(key: Words, purpose: int, num: int) -> list[int]:
        return sfc64(np.array([*key, purpose], np.uint64), 18, num).tolist()

    assert frandom.bits(KEY, 100, np.uint64).tolist() == words(KEY, 0, 100)
    assert np.concatenate(frandom.split(KEY, 5)).tolist() == words(KEY, 1, 10)
    for number in (0, 1, 2**32, 2**62 - 1):
        assert frandom.fold_in(KEY, number).tolist() == words(KEY, 4 * number + 2, 2)
    low = np.array(words(KEY, 4 * 3 + 3, 2), np.uint64)
    assert frandom.fold_in(KEY, 2**64 + 3).tolist() == words(low, 4 * 4 + 2, 2)


def test_no_two_of_many_keys_are_equal() -> None:
    keys = [KEY, *frandom.split(KEY, 2**16), *(frandom.fold_in(KEY, t) for t in range(2**16))]
    keys += [frandom.key(seed) for seed in range(1, 2**12)]
    assert len({key.tobytes() for key in keys}) == len(keys)


def avalanche(derive: Callable[[Words], Words], num_bits: int = 128) -> Array:
    """How often each bit of the input flips each bit of the output, one of them flips any, and any flips one."""
    samples = 64
    inputs = frandom.bits(KEY, (samples, -(-num_bits // 64)), np.uint64)
    outputs = np.stack([derive(row) for row in inputs])
    flips = []
    for i in range(num_bits):
        flipped = inputs.copy()
        flipped[:, i // 64] ^= np.uint64(1 << i % 64)
        changed = np.stack([derive(row) for row in flipped]) ^ outputs
        flips.append(bit_matrix(changed.ravel()).reshape(samples, -1).sum(axis=0, dtype=np.int64))
    z = (2 * np.stack(flips) - samples) / math.sqrt(samples)
    return np.concatenate([z.ravel(), z.sum(axis=0) / math.sqrt(z.shape[0]), z.sum(axis=1) / math.sqrt(z.shape[1])])


@pytest.mark.parametrize(
    ("derive", "num_bits"),
    [
        (lambda words: frandom.fold_in(words[:2], int(words[2]) % 2**62), 128 + 62),
        (lambda words: frandom.fold_in(words[:2], 2**64 + int(words[2])), 128 + 64),
        (lambda words: np.concatenate(frandom.split(words)), 128),
        (lambda words: frandom.bits(words, 2, np.uint64), 128),
    ],
    ids=["fold_in", "fold_in of a large number", "split", "bits"],
)
def test_each_bit_of_a_key_and_of_a_number_flips_half_of_the_bits(
    derive: Callable[[Words], Words], num_bits: int
) -> None:
    assert p_value(avalanche(derive, num_bits)) > RANDOM


@pytest.mark.parametrize("rounds", [0, 4, 6])
def test_with_fewer_rounds_it_does_not(rounds: int) -> None:
    assert p_value(avalanche(lambda words: sfc64(np.array([*words, 0], np.uint64), rounds, 2))) < BROKEN


# Training


def dependence(draws: Array) -> Array:
    """Of dropout masks [steps, layers, units]: between layers, between steps, and of each unit by itself."""
    drop = draws < int(0.3 * 2**16)
    mask = (drop - 0.3) / math.sqrt(0.3 * 0.7)
    products = (mask, mask * np.roll(mask, 1, axis=1), mask[1:] * mask[:-1], mask * np.roll(mask, 1, axis=2))
    return np.concatenate([(p.sum(axis=i) / math.sqrt(p.shape[i])).ravel() for p in products for i in (0, 2)])


def test_the_masks_of_layers_and_of_steps_are_independent() -> None:
    draws = np.stack([frandom.bits(frandom.fold_in(KEY, t), (3, 500), np.uint16) for t in range(500)])
    assert p_value(dependence(draws)) > RANDOM
    assert p_value(dependence(draws[:, [0, 1, 0]])) < BROKEN
    assert p_value(dependence(draws[np.arange(500) // 2])) < BROKEN


def test_threads_draw_the_same_bits() -> None:
    def steps(_: int) -> list[bytes]:
        return [frandom.bits(frandom.fold_in(KEY, t), 3000, np.uint16).tobytes() for t in range(1000)]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(steps, range(2))
    assert first == second == steps(0)
