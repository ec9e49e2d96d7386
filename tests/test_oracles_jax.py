"""The network against JAX, the optimizers, schedules and trees against Optax and JAX, in float64."""

import contextlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import examples, library, small, with_and_without_norm

import fnet
from fnet import MLPConfig, random, schedules, tree
from fnet.testing import assert_trees_close

KEY = random.key(3)
SIZES = (6, 8, 7, 3)


@contextlib.contextmanager
def jax_in_float64() -> Iterator[Any]:
    jax = library("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        yield jax
    finally:
        jax.config.update("jax_enable_x64", before)


def jax_loss(jax: Any, config: MLPConfig, params: Any, x: Any, y: Any) -> Any:
    jnp = jax.numpy
    for layer in params:
        x = x @ layer.linear.w
        if layer.linear.b is not None:
            x = x + layer.linear.b
        if layer.norm is not None:
            x = (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5) * layer.norm.scale + layer.norm.bias
        if layer is not params[-1]:
            x = getattr(jax.nn, config.activation)(x)
    return -jax.nn.log_softmax(x)[jnp.arange(len(y)), y].mean()


@with_and_without_norm
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_gradient_is_that_of_jax(activation: str, batch_norm: bool) -> None:
    config = small(sizes=SIZES, activation=activation, batch_norm=batch_norm)
    params, state = fnet.init(KEY, config)
    x, y, _ = examples(config, 16)
    (value, _), grads = fnet.loss_and_grads(config, params, state, x, y)
    with jax_in_float64() as jax:
        f = jax.jit(jax.value_and_grad(lambda params: jax_loss(jax, config, params, x, y)))
        expected, expected_grads = f(params)
    assert value == pytest.approx(float(expected), rel=1e-9)
    assert_trees_close(grads, expected_grads, rtol=1e-9, atol=1e-9)


def test_trees_are_those_of_jax() -> None:
    jax = library("jax")
    config, train_config = MLPConfig(sizes=SIZES), fnet.TrainConfig(keep="best")
    train_state = fnet.init_train_state(KEY, config, train_config)
    for nested in (
        train_state.params,
        train_state.state,
        train_state.opt_state,
        fnet.sgd_init(train_state.params),
        train_state,
        fnet.init(KEY, MLPConfig(sizes=SIZES, batch_norm=False)),
        {"b": [1, (None, 2)], "a": {"d": 3, "c": ()}, "e": None},
    ):
        leaves, treedef = jax.tree.flatten(nested)
        assert len(leaves) == len(tree.leaves(nested))
        assert all(a is b for a, b in zip(leaves, tree.leaves(nested), strict=True))
        assert jax.tree.structure(nested) == treedef
        doubled = jax.tree.map(lambda leaf: leaf * 2, nested)
        assert_trees_close(doubled, tree.map(lambda leaf: leaf * 2, nested), rtol=0)
        assert jax.tree.structure(doubled) == treedef
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(nested)[0]]
        assert [path for path, _ in tree.flatten_with_path(nested)[0]] == paths


def test_subclasses_of_containers_are_leaves_as_in_jax_but_for_two() -> None:
    jax = library("jax")
    for base in (tuple, list, dict):
        leaf = type("Other", (base,), {})()
        assert jax.tree.leaves([leaf]) == tree.leaves([leaf]) == [leaf]
    for leaf in (OrderedDict(a=1), defaultdict(int, a=1)):
        assert jax.tree.leaves([leaf]) == [1]
        assert tree.leaves([leaf]) == [leaf]


def params_and_gradients() -> tuple[Any, list[Any]]:
    """Parameters, and a gradient for each of 100 steps."""
    params, _ = fnet.init(KEY, MLPConfig(sizes=(3, 4, 2), dtype="float64"))
    keys = random.split(KEY, 100)
    return params, [tree.map(lambda p, key=key: random.normal(key, p.shape, p.dtype), params) for key in keys]


def weights_only(params: Any) -> Any:
    return tree.map(lambda p: p.ndim > 1, params)


def in_float64(schedule: Any) -> Any:
    """Optax counts in int32, from which its schedules would come out in float32."""
    return lambda count: schedule(count.astype(float))


COSINE: Any = (0.1, 80)
WARMUP: Any = (0.0, 0.01, 20, 90, 0.001)
OPTAX: dict[str, tuple[Any, Any, Any]] = {
    "momentum": (
        fnet.sgd_init,
        partial(fnet.sgd_update, learning_rate=0.1, momentum=0.9),
        lambda optax: optax.sgd(0.1, momentum=0.9),
    ),
    "nesterov": (
        fnet.sgd_init,
        partial(fnet.sgd_update, learning_rate=0.1, momentum=0.9, nesterov=True),
        lambda optax: optax.sgd(0.1, momentum=0.9, nesterov=True),
    ),
    "sgd with a schedule": (
        fnet.sgd_init,
        partial(fnet.sgd_update, learning_rate=schedules.cosine_decay_schedule(*COSINE)),
        lambda optax: optax.sgd(in_float64(optax.cosine_decay_schedule(*COSINE))),
    ),
    "adam": (
        fnet.adam_init,
        partial(fnet.adam_update, learning_rate=0.01, b1=0.8, b2=0.99, eps=1e-4),
        lambda optax: optax.adam(0.01, b1=0.8, b2=0.99, eps=1e-4),
    ),
    "adamw with a mask and a schedule": (
        fnet.adam_init,
        partial(
            fnet.adam_update,
            learning_rate=schedules.warmup_cosine_decay_schedule(*WARMUP),
            weight_decay=0.1,
            decay_mask=weights_only,
        ),
        lambda optax: optax.adamw(
            in_float64(optax.warmup_cosine_decay_schedule(*WARMUP)), weight_decay=0.1, mask=weights_only
        ),
    ),
    "clipped": (
        fnet.sgd_init,
        lambda p, g, s: fnet.sgd_update(p, fnet.clip_by_global_norm(g, 5.0), s, learning_rate=0.1, momentum=0.9),
        lambda optax: optax.chain(optax.clip_by_global_norm(5.0), optax.sgd(0.1, momentum=0.9)),
    ),
}


@pytest.mark.parametrize(("init", "update", "make"), OPTAX.values(), ids=OPTAX)
def test_100_updates_are_those_of_optax(
    init: Callable[..., Any], update: Callable[..., Any], make: Callable[[Any], Any]
) -> None:
    optax = library("optax")
    params, gradients = params_and_gradients()
    norms = [tree.global_norm(grads) for grads in gradients]
    assert min(norms) < 5.0 < max(norms)  # some are clipped and some are not
    transform, opt_state, optax_params = make(optax), init(params), params
    with jax_in_float64() as jax:

        @jax.jit
        def optax_step(grads: Any, optax_state: Any, params: Any) -> Any:
            updates, optax_state = transform.update(grads, optax_state, params)
            return optax.apply_updates(params, updates), optax_state

        optax_state = transform.init(params)
        for grads in gradients:
            params, opt_state = update(params, grads, opt_state)
            optax_params, optax_state = optax_step(grads, optax_state, optax_params)
    assert_trees_close(params, optax_params, rtol=1e-9, atol=1e-10)


def test_moving_average_and_global_norm_are_those_of_optax() -> None:
    optax = library("optax")
    params, gradients = params_and_gradients()
    with jax_in_float64() as jax:
        average, optax_average = params, params
        update = jax.jit(partial(optax.incremental_update, step_size=0.05))
        for new in gradients:
            average = fnet.ema_update(average, new, decay=0.95)
            optax_average = update(new, optax_average)
        assert_trees_close(average, optax_average, rtol=1e-9, atol=1e-12)
        assert tree.global_norm(params) == pytest.approx(float(optax.tree.norm(params)), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("cosine_decay_schedule", (0.1, 70, 0.2, 1.5)),
        ("warmup_cosine_decay_schedule", (0.01, 0.1, 30, 100, 0.001)),
        ("warmup_cosine_decay_schedule", (0.0, 0.1, 1, 120, 0.05, 2.0)),
        ("cosine_onecycle_schedule", (100, 0.1)),
        ("cosine_onecycle_schedule", (120, 0.1, 0.45, 10.0, 100.0)),
    ],
)
def test_schedules_are_those_of_optax_at_each_step(name: str, arguments: tuple[Any, ...]) -> None:
    optax = library("optax")
    ours = [getattr(schedules, name)(*arguments)(count) for count in range(121)]
    with jax_in_float64() as jax:
        theirs = jax.vmap(getattr(optax, name)(*arguments))(jax.numpy.arange(121.0))
    np.testing.assert_allclose(ours, np.broadcast_to(theirs, 121), rtol=1e-9, atol=1e-15)
