"""The optimizers against their equations; against Optax and PyTorch in test_oracles_jax and test_oracles_torch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import check_purity, each_dtype

import fnet
from fnet import random, schedules, tree
from fnet.optim import AdamState, SGDState
from fnet.testing import assert_trees_close, assert_trees_equal

MASK = {"w": True, "b": (False, None)}
SCHEDULE = schedules.cosine_decay_schedule(0.1, 10)


def draw(seed: int, dtype: str = "float64") -> dict[str, Any]:
    w_key, b_key = random.split(random.key(seed))
    w, b = random.normal(w_key, (3, 4), dtype), random.normal(b_key, (4,), dtype)
    return tree.freeze({"w": w, "b": (b, None)})


def sgd(params: Any, grads: Any, opt_state: Any, **options: Any) -> tuple[Any, Any]:
    options = {"learning_rate": SCHEDULE, "momentum": 0.9, "weight_decay": 0.1, **options}
    return fnet.sgd_update(params, grads, opt_state, **options)


def adam(params: Any, grads: Any, opt_state: Any, **options: Any) -> tuple[Any, Any]:
    return fnet.adam_update(params, grads, opt_state, **{"learning_rate": SCHEDULE, "weight_decay": 0.1, **options})


OPTIMIZERS = {"sgd": (fnet.sgd_init, sgd), "adam": (fnet.adam_init, adam)}
each_optimizer = pytest.mark.parametrize(("init", "update"), OPTIMIZERS.values(), ids=OPTIMIZERS)


def run(init: Callable[..., Any], update: Callable[..., Any], params: Any, steps: int, **options: Any) -> Any:
    opt_state = init(params)
    for i in range(steps):
        grads = tree.map(lambda leaf, i=i: np.cos(leaf + i).astype(leaf.dtype), params)
        params, opt_state = update(params, grads, opt_state, **options)
    return params, opt_state


# Equations


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_equations_7_and_8_of_chen_and_wu(nesterov: bool, momentum: float) -> None:
    params, opt_state = draw(0), fnet.sgd_init(draw(0))
    p, v = params["w"], 0
    for i in range(5):
        grads = draw(i + 1)
        params, opt_state = sgd(params, grads, opt_state, momentum=momentum, nesterov=nesterov)
        eta, g = SCHEDULE(i), grads["w"]
        v = momentum * v + eta * g
        p = p - (momentum * v + eta * g if nesterov else v) - eta * 0.1 * p
        np.testing.assert_allclose(params["w"], p, rtol=1e-12)
        np.testing.assert_allclose(opt_state.velocity["w"], v, rtol=1e-12)
        assert opt_state.count == i + 1


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize(("b1", "b2", "eps"), [(0.9, 0.999, 1e-8), (0.0, 0.9, 0.1), (0.5, 0.0, 1e-3)])
def test_adam_is_algorithm_1(bias_correction: bool, b1: float, b2: float, eps: float) -> None:
    params, opt_state = draw(0), fnet.adam_init(draw(0))
    p, mu, nu = params["w"], 0, 0
    for i in range(5):
        grads = draw(i + 1)
        params, opt_state = adam(params, grads, opt_state, b1=b1, b2=b2, eps=eps, bias_correction=bias_correction)
        eta, g, t = SCHEDULE(i), grads["w"], i + 1
        mu = b1 * mu + (1 - b1) * g
        nu = b2 * nu + (1 - b2) * g**2
        mu_hat, nu_hat = (mu / (1 - b1**t), nu / (1 - b2**t)) if bias_correction else (mu, nu)
        p = p - eta * mu_hat / (np.sqrt(nu_hat) + eps) - eta * 0.1 * p
        np.testing.assert_allclose(params["w"], p, rtol=1e-10)
        np.testing.assert_allclose(opt_state.mu["w"], mu, rtol=1e-12)
        np.testing.assert_allclose(opt_state.nu["w"], nu, rtol=1e-12)
        assert opt_state.count == i + 1


def test_the_initial_states_are_zero() -> None:
    params = draw(0, "float32")
    zero = tree.map(np.zeros_like, params)
    assert_trees_equal(fnet.sgd_init(params), SGDState(np.int64(0), zero))
    assert_trees_equal(fnet.adam_init(params), AdamState(np.int64(0), zero, zero))
    assert not any(leaf.flags.writeable for leaf in tree.leaves(fnet.adam_init(params)[1:]))


@each_optimizer
def test_the_schedule_is_evaluated_at_the_count_before_the_update(
    init: Callable[..., Any], update: Callable[..., Any]
) -> None:
    counts: list[int] = []

    def schedule(count: int) -> float:
        counts.append(count)
        return 0.1

    scheduled = run(init, update, draw(0), 3, learning_rate=schedule)
    assert counts == [0, 1, 2]
    assert {type(count) for count in counts} == {int}
    assert_trees_equal(scheduled, run(init, update, draw(0), 3, learning_rate=0.1))


@each_optimizer
def test_decay_is_decoupled_and_masked(init: Callable[..., Any], update: Callable[..., Any]) -> None:
    params, opt_state = draw(0), init(draw(0))
    zero = tree.map(np.zeros_like, params)
    options = {"learning_rate": 0.5, "weight_decay": 0.1}
    decayed = update(params, zero, opt_state, **options)[0]
    assert_trees_close(decayed, tree.map(lambda p: p * 0.95, params), rtol=1e-12)
    masked, mask_state = update(params, zero, opt_state, **options, decay_mask=MASK)
    assert_trees_equal(masked, {"w": decayed["w"], "b": params["b"]})

    def matrices(tree_of_params: Any) -> Any:
        assert tree_of_params is params
        return tree.map(lambda p: p.ndim > 1, tree_of_params)

    assert_trees_equal(update(params, zero, opt_state, **options, decay_mask=matrices), (masked, mask_state))
    assert_trees_equal(update(params, zero, opt_state, **{**options, "weight_decay": 0.0})[0], params)


# All updates


@each_optimizer
@each_dtype
@pytest.mark.parametrize("options", [{}, {"decay_mask": MASK}, {"weight_decay": 0.0}], ids=str)
def test_updates_are_pure_and_keep_the_dtype(
    init: Callable[..., Any], update: Callable[..., Any], options: dict[str, Any], dtype: str
) -> None:
    params, grads = draw(0, dtype), draw(1, dtype)
    opt_state = update(params, grads, init(params))[1]
    new, new_state = check_purity(update, params, grads, opt_state, **options)
    assert {leaf.dtype.name for leaf in tree.leaves((new, new_state[1:]))} == {dtype}
    assert not any(leaf.flags.writeable for leaf in tree.leaves((new, new_state[1:])))
    assert new_state.count.dtype == np.int64


@each_dtype
def test_clipping_and_averaging_are_pure_and_keep_the_dtype(dtype: str) -> None:
    params, grads = draw(0, dtype), draw(1, dtype)
    clipped = check_purity(fnet.clip_by_global_norm, grads, 1e-3)
    average = check_purity(fnet.ema_update, params, grads, decay=0.9)
    assert {leaf.dtype.name for leaf in tree.leaves((clipped, average))} == {dtype}
    assert not any(leaf.flags.writeable for leaf in tree.leaves((clipped, average)))


@pytest.mark.parametrize(
    ("init", "update", "options"),
    [
        (fnet.sgd_init, fnet.sgd_update, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        (fnet.adam_init, fnet.adam_update, {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 0.1}),
    ],
)
def test_scalars_of_numpy_give_the_bits_of_numbers(
    init: Callable[..., Any], update: Callable[..., Any], options: dict[str, Any]
) -> None:
    params, *steps = (draw(seed, dtype="float32") for seed in range(4))
    options = {"learning_rate": 0.1, **options}
    scalars = {name: value if value is True else np.float64(value) for name, value in options.items()}
    results: list[Any] = []
    for hyper_parameters in (options, scalars):
        out = (params, init(params))
        for grads in steps:
            out = update(out[0], grads, out[1], **hyper_parameters)
        results.append(out)
    assert_trees_equal(*results)
    assert_trees_equal(fnet.clip_by_global_norm(params, np.float64(1e-3)), fnet.clip_by_global_norm(params, 1e-3))
    averages = [fnet.ema_update(params, steps[0], decay=decay) for decay in (0.9, np.float64(0.9))]
    assert_trees_equal(*averages)


class Pair(NamedTuple):
    a: Any
    b: Any


@each_optimizer
@pytest.mark.parametrize(
    "leaf", [np.array(2.0), np.zeros((0, 3)), np.zeros((3, 0))], ids=["0-d", "0 rows", "0 columns"]
)
def test_any_pytree_of_arrays(init: Callable[..., Any], update: Callable[..., Any], leaf: Any) -> None:
    params = Pair([leaf, None], {"x": (np.ones(2),)})
    updated, opt_state = run(init, update, params, 2)
    assert tree.structure(updated) == tree.structure(opt_state[1]) == tree.structure(params)
    assert [new.shape for new in tree.leaves(updated)] == [leaf.shape, (2,)]
    expected, _ = run(init, update, leaf.reshape(-1), 2)
    np.testing.assert_array_equal(updated.a[0], expected.reshape(leaf.shape))


# Errors


@each_optimizer
@pytest.mark.parametrize(
    ("leaf", "description"),
    [
        (np.arange(2), r"int64\[2\]"),
        (np.ones(2, np.complex64), r"complex64\[2\]"),
        (1.0, "1.0, a float instead of an array"),
    ],
)
def test_parameters_must_be_floats(
    init: Callable[..., Any], update: Callable[..., Any], leaf: Any, description: str
) -> None:
    params = (np.ones(2), {"w": leaf})
    with pytest.raises(ValueError, match=rf"parameters must be arrays of floats, but \[1\]\['w'\] is {description}"):
        update(params, params, init(params), learning_rate=0.1)


@each_optimizer
@pytest.mark.parametrize(
    ("grads", "message"),
    [
        ((np.ones(2), np.ones(3)), r"at \[1\]: expected float64\[2\], but got float64\[3\]"),
        ((np.ones(2, np.float32), np.ones(2)), r"at \[0\]: expected float64\[2\], but got float32\[2\]"),
        ((np.ones(2), np.ones(2, complex)), r"at \[1\]: expected float64\[2\], but got complex128\[2\]"),
        ((np.ones(2), np.ones((1, 2))), r"at \[1\]: expected float64\[2\], but got float64\[1, 2\]"),
        ((np.ones(2),), "at the root: expected a tuple of 2, but got a tuple of 1"),
        ((np.ones(2), None), r"at \[1\]: expected a leaf \(ndarray\), but got None"),
    ],
)
def test_trees_that_differ(init: Callable[..., Any], update: Callable[..., Any], grads: Any, message: str) -> None:
    params = (np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match=f"the trees differ {message}"):
        update(params, grads, init(params))
    with pytest.raises(ValueError, match="the trees differ"):
        update(params, params, init(grads))
    with pytest.raises(ValueError, match=f"the trees differ {message}"):
        fnet.ema_update(params, grads, decay=0.5)
    with pytest.raises(ValueError, match=r"at the root: expected a tuple of 2, but got a list of 2"):
        update(params, params, init(params), decay_mask=[True, False])


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
@pytest.mark.parametrize("name", ["learning_rate", "weight_decay"])
@each_optimizer
def test_bad_rates(init: Callable[..., Any], update: Callable[..., Any], name: str, bad: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a finite number of at least 0, but got {bad}"):
        update(draw(0), draw(1), init(draw(0)), **{name: bad})
    if name == "learning_rate":
        with pytest.raises(ValueError, match="learning_rate must be a finite number"):
            update(draw(0), draw(1), init(draw(0)), learning_rate=lambda count: bad)


@pytest.mark.parametrize("bad", [-0.1, 1.0, np.nan])
@pytest.mark.parametrize(("update", "name"), [(sgd, "momentum"), (adam, "b1"), (adam, "b2")])
def test_bad_momenta(update: Callable[..., Any], name: str, bad: float) -> None:
    init = fnet.sgd_init if update is sgd else fnet.adam_init
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\), but got {bad}"):
        update(draw(0), draw(1), init(draw(0)), **{name: bad})


@pytest.mark.parametrize("eps", [0.0, -1e-8, np.nan, np.inf])
def test_bad_eps(eps: float) -> None:
    with pytest.raises(ValueError, match=f"eps must be positive, but got {eps}"):
        adam(draw(0), draw(1), fnet.adam_init(draw(0)), eps=eps)


# Clipping and the moving average


@pytest.mark.parametrize("factor", [1e-6, 0.5, 0.999])
def test_clipping_scales_to_the_norm(factor: float) -> None:
    grads = draw(0)
    norm = tree.global_norm(grads)
    clipped = fnet.clip_by_global_norm(grads, factor * norm)
    assert tree.global_norm(clipped) == pytest.approx(factor * norm, rel=1e-12)
    assert_trees_close(clipped, tree.map(lambda g: factor * g, grads), rtol=1e-12)


@pytest.mark.parametrize("factor", [1.0, 2.0, np.inf])
def test_clipping_leaves_small_gradients_alone(factor: float) -> None:
    grads = draw(0)
    assert_trees_equal(fnet.clip_by_global_norm(grads, factor * tree.global_norm(grads)), grads)
    zero = tree.map(np.zeros_like, grads)
    assert_trees_equal(fnet.clip_by_global_norm(zero, factor), zero)


def test_clipping_of_gradients_whose_squares_overflow() -> None:
    clipped = fnet.clip_by_global_norm(np.array([3e20, -4e20], np.float32), 1.0)
    np.testing.assert_allclose(clipped, [0.6, -0.8], rtol=1e-6)


@pytest.mark.parametrize("max_norm", [0.0, -1.0, np.nan])
def test_bad_max_norm(max_norm: float) -> None:
    with pytest.raises(ValueError, match=f"max_norm must be positive, but got {max_norm}"):
        fnet.clip_by_global_norm(draw(0), max_norm)


@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
def test_ema(decay: float) -> None:
    old, new = draw(0), draw(1)
    expected = tree.map(lambda a, b: decay * a + (1 - decay) * b, old, new)
    assert_trees_close(fnet.ema_update(old, new, decay=decay), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("decay", [-0.1, 1.1, np.nan])
def test_bad_decay(decay: float) -> None:
    with pytest.raises(ValueError, match=rf"decay must be in \[0, 1\], but got {decay}"):
        fnet.ema_update(draw(0), draw(1), decay=decay)
