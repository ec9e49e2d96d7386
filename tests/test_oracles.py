"""Long comparisons with PyTorch, JAX and Optax, in float64."""

import contextlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import fnet
from fnet import MLPConfig, nn, schedules, tree
from fnet import random as frandom
from fnet.testing import assert_trees_close

KEY = frandom.key(3)
STEPS = 200
SIZES = (6, 8, 7, 4)


def data(config: MLPConfig, rows: int) -> tuple[Any, Any]:
    x = frandom.normal(frandom.fold_in(KEY, 1), (rows, config.sizes[0]), config.dtype)
    y = frandom.bits(frandom.fold_in(KEY, 2), (rows,), "uint32").astype(np.int64) % config.num_classes
    return x, y


def batch_rows(step: int) -> Any:
    return frandom.permutation(frandom.fold_in(KEY, step), 64)[:16]


# PyTorch


def import_torch() -> Any:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.set_num_threads(1)  # more only wait for each other at these sizes
    return torch


def torch_network(torch: Any, config: MLPConfig, params: Any) -> Any:
    """The network in PyTorch, with the same numbers in it; not by fnet.interop, which has tests of its own."""
    modules: list[Any] = []
    for layer in params:
        linear = torch.nn.Linear(*layer.linear.w.shape, bias=layer.linear.b is not None, dtype=torch.float64)
        copies = [(linear.weight, layer.linear.w.T), (linear.bias, layer.linear.b)]
        modules.append(linear)
        if layer.norm is not None:
            norm = torch.nn.BatchNorm1d(len(layer.norm.scale), momentum=0.1, eps=1e-5, dtype=torch.float64)
            copies += [(norm.weight, layer.norm.scale), (norm.bias, layer.norm.bias)]
            modules.append(norm)
        if layer is not params[-1]:
            modules.append({"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[config.activation]())
        with torch.no_grad():
            for parameter, array in copies:
                if parameter is not None:
                    parameter.copy_(torch.tensor(array))
    return torch.nn.Sequential(*modules)


def from_torch(torch: Any, network: Any) -> tuple[list[Any], list[Any]]:
    """The arrays of params and state, in the order of `tree.leaves`."""
    params, state = [], []
    for module in network:
        if isinstance(module, torch.nn.Linear):
            params += [module.weight.T] + ([] if module.bias is None else [module.bias])
        elif isinstance(module, torch.nn.BatchNorm1d):
            params += [module.weight, module.bias]
            state += [module.running_mean, module.running_var]
    return [p.detach().numpy() for p in params], [s.numpy() for s in state]


def adam(params: Any, grads: Any, opt_state: Any) -> Any:
    return fnet.adam_update(params, grads, opt_state, learning_rate=0.01)


def adamw(params: Any, grads: Any, opt_state: Any) -> Any:
    return fnet.adam_update(params, grads, opt_state, learning_rate=0.01, weight_decay=0.1)


def momentum(params: Any, grads: Any, opt_state: Any) -> Any:
    return fnet.sgd_update(params, grads, opt_state, learning_rate=0.05, momentum=0.9)


def nesterov(params: Any, grads: Any, opt_state: Any) -> Any:
    return fnet.sgd_update(params, grads, opt_state, learning_rate=0.05, momentum=0.9, nesterov=True)


@pytest.mark.parametrize(
    ("update", "name", "options"),
    [
        (adam, "Adam", {"lr": 0.01}),
        (adamw, "AdamW", {"lr": 0.01, "weight_decay": 0.1}),
        (momentum, "SGD", {"lr": 0.05, "momentum": 0.9}),
        (nesterov, "SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    ],
    ids=["adam", "adamw", "momentum", "nesterov"],
)
def test_200_steps_are_those_of_pytorch(update: Callable[..., Any], name: str, options: dict[str, Any]) -> None:
    torch = import_torch()
    config = MLPConfig(sizes=SIZES, dropout=0.0, dtype="float64")
    params, state = fnet.init(KEY, config)
    network = torch_network(torch, config, params)
    optimizer = getattr(torch.optim, name)(network.parameters(), **options)
    opt_state = (fnet.sgd_init if name == "SGD" else fnet.adam_init)(params)
    x, y = data(config, 64)
    x_torch, y_torch = torch.tensor(x), torch.tensor(y)
    for step in range(STEPS):
        rows = batch_rows(step)
        (loss, aux), grads = fnet.loss_and_grads(config, params, state, x[rows], y[rows])
        params, opt_state = update(params, grads, opt_state)
        state = aux.state
        optimizer.zero_grad()
        torch_loss = torch.nn.functional.cross_entropy(network(x_torch[rows]), y_torch[rows])
        torch_loss.backward()
        optimizer.step()
        assert loss == pytest.approx(torch_loss.item(), rel=1e-9)
    torch_params, torch_state = from_torch(torch, network)
    assert_trees_close(tree.leaves(params), torch_params, rtol=1e-9, atol=1e-9)
    assert_trees_close(tree.leaves(state), torch_state, rtol=1e-9, atol=1e-9)
    logits = network.eval()(x_torch).detach().numpy()
    np.testing.assert_allclose(fnet.predict_logits(config, params, state, x), logits, rtol=1e-7, atol=1e-8)


def test_steps_with_dropout_smoothing_and_weights_are_those_of_pytorch() -> None:
    torch = import_torch()
    config = MLPConfig(sizes=SIZES, activation="tanh", dropout=0.4, input_dropout=0.2, dtype="float64")
    params, state = fnet.init(KEY, config)
    network = torch_network(torch, config, params)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    opt_state = fnet.adam_init(params)
    x, y = data(config, 64)
    weights = frandom.uniform(KEY, (64,), "float64", 0.5, 2.0)

    def mask(bits: Any, rate: float) -> Any:
        threshold = round(rate * 65536)
        return torch.tensor((bits >= threshold) / (1 - threshold / 65536))

    for step in range(STEPS // 2):
        rows, step_key = batch_rows(step), frandom.fold_in(frandom.key(1), step)
        (loss, aux), grads = fnet.loss_and_grads(
            config, params, state, x[rows], y[rows], key=step_key, label_smoothing=0.1, sample_weight=weights[rows]
        )
        params, opt_state = adam(params, grads, opt_state)
        state = aux.state
        bits = np.split(frandom.bits(step_key, 16 * (6 + 8 + 7), np.uint16), [16 * 6, 16 * 14])
        h = torch.tensor(x[rows]) * mask(bits[0].reshape(16, -1), 0.2)
        for i, module in enumerate(network):
            h = module(h)
            if isinstance(module, torch.nn.Tanh):
                h = h * mask(bits[1 + i // 3].reshape(16, -1), 0.4)
        losses = torch.nn.functional.cross_entropy(h, torch.tensor(y[rows]), label_smoothing=0.1, reduction="none")
        w = torch.tensor(weights[rows])
        torch_loss = (losses * w).sum() / w.sum()
        optimizer.zero_grad()
        torch_loss.backward()
        optimizer.step()
        assert loss == pytest.approx(torch_loss.item(), rel=1e-9)
    torch_params, torch_state = from_torch(torch, network)
    assert_trees_close(tree.leaves(params), torch_params, rtol=1e-9, atol=1e-9)
    assert_trees_close(tree.leaves(state), torch_state, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", nn.ACTIVATION_NAMES)
def test_activations_are_those_of_pytorch(name: str) -> None:
    torch = import_torch()
    functions = {
        "gelu": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        "identity": lambda x: x * 1,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
    }
    f = functions.get(name) or getattr(torch.nn.functional, name)
    x = np.concatenate([np.linspace(-30, 30, 200), [-1e3, 1e3]])
    x_torch = torch.tensor(x, requires_grad=True)
    y_torch = f(x_torch)
    y_torch.sum().backward()
    y, slope = nn.activation_fwd(name, x)
    np.testing.assert_allclose(y, y_torch.detach().numpy(), rtol=1e-11, atol=1e-14)
    dx = nn.activation_bwd(slope, np.ones_like(x))
    np.testing.assert_allclose(dx, x_torch.grad.numpy(), rtol=1e-9, atol=1e-12)


# JAX and Optax


@contextlib.contextmanager
def jax_in_float64() -> Iterator[Any]:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
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
    log_p = jax.nn.log_softmax(x)
    return -log_p[jnp.arange(len(y)), y].mean()


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_gradient_is_that_of_jax(activation: str, batch_norm: bool) -> None:
    config = MLPConfig(sizes=SIZES, activation=activation, batch_norm=batch_norm, dropout=0.0, dtype="float64")
    params, state = fnet.init(KEY, config)
    x, y = data(config, 16)
    (loss, _), grads = fnet.loss_and_grads(config, params, state, x, y)
    with jax_in_float64() as jax:
        f = jax.jit(jax.value_and_grad(lambda params: jax_loss(jax, config, params, x, y)))
        expected, expected_grads = f(params)
    assert loss == pytest.approx(float(expected), rel=1e-9)
    assert_trees_close(grads, expected_grads, rtol=1e-9, atol=1e-9)


def test_trees_are_those_of_jax() -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    config, train_config = MLPConfig(sizes=SIZES), fnet.TrainConfig(ema_decay=0.9, keep="best")
    train_state = fnet.init_train_state(KEY, config, train_config)
    nested = {"b": [1, (None, 2)], "a": {"d": 3, "c": ()}, "e": None}
    for ours in (
        train_state.params,
        train_state.state,
        train_state.opt_state,
        fnet.sgd_init(train_state.params),
        train_state,
        fnet.init(KEY, MLPConfig(sizes=SIZES, batch_norm=False)),
        nested,
    ):
        leaves, treedef = jax.tree.flatten(ours)
        assert len(leaves) == len(tree.leaves(ours))
        assert all(a is b for a, b in zip(leaves, tree.leaves(ours), strict=True))
        assert jax.tree.structure(ours) == treedef
        doubled = jax.tree.map(lambda leaf: leaf * 2, ours)
        assert_trees_close(doubled, tree.map(lambda leaf: leaf * 2, ours), rtol=0)
        assert jax.tree.structure(doubled) == treedef
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(ours)[0]]
        assert [path for path, _ in tree.flatten_with_path(ours)[0]] == paths


def test_subclasses_of_containers_are_leaves_as_in_jax_but_for_two() -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    for base in (tuple, list, dict):
        leaf = type("Other", (base,), {})()
        assert jax.tree.leaves([leaf]) == tree.leaves([leaf]) == [leaf]
    for leaf in (OrderedDict(a=1), defaultdict(int, a=1)):
        assert jax.tree.leaves([leaf]) == [1]
        assert tree.leaves([leaf]) == [leaf]


def params_and_gradients() -> tuple[Any, list[Any]]:
    """Parameters, and a gradient for each of 100 steps."""
    params, _ = fnet.init(KEY, MLPConfig(sizes=(3, 4, 2), dtype="float64"))
    keys = frandom.split(KEY, 100)
    return params, [tree.map(lambda p, key=key: frandom.normal(key, p.shape, p.dtype), params) for key in keys]


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
    optax = pytest.importorskip("optax", reason="Optax is not installed")
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
    optax = pytest.importorskip("optax", reason="Optax is not installed")
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
        ("constant_schedule", (0.1,)),
        ("cosine_decay_schedule", (0.1, 100)),
        ("cosine_decay_schedule", (0.1, 70, 0.2, 1.5)),
        ("warmup_cosine_decay_schedule", (0.01, 0.1, 30, 100, 0.001)),
        ("warmup_cosine_decay_schedule", (0.0, 0.1, 1, 120, 0.05, 2.0)),
        ("warmup_cosine_decay_schedule", (0.0, 0.1, 0, 60)),
        ("cosine_onecycle_schedule", (100, 0.1)),
        ("cosine_onecycle_schedule", (120, 0.1, 0.45, 10.0, 100.0)),
        ("cosine_onecycle_schedule", (77, 0.1, 0.25)),
        ("piecewise_constant_schedule", (0.1, {10: 0.5, 50: 0.1, 100: 3.0})),
        ("piecewise_constant_schedule", (0.1,)),
    ],
)
def test_schedules_are_those_of_optax_at_each_step(name: str, arguments: tuple[Any, ...]) -> None:
    optax = pytest.importorskip("optax", reason="Optax is not installed")
    ours = [getattr(schedules, name)(*arguments)(count) for count in range(121)]
    with jax_in_float64() as jax:
        theirs = jax.vmap(getattr(optax, name)(*arguments))(jax.numpy.arange(121.0))
    np.testing.assert_allclose(ours, np.broadcast_to(theirs, 121), rtol=1e-9, atol=1e-15)
