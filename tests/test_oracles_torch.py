"""Training against PyTorch, in float64: 200 steps of each loss and optimizer, with and without noise."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import LOSSES, examples, library, small

import fnet
from fnet import MLPConfig, nn, random, tree
from fnet.testing import assert_trees_close

KEY = random.key(3)
STEPS = 200
SIZES = (6, 8, 7, 3)


def import_torch() -> Any:
    torch = library("torch")
    torch.set_num_threads(1)  # faster at these sizes
    return torch


def torch_network(torch: Any, config: MLPConfig, params: Any) -> Any:
    """The network in PyTorch with the same parameters, independent of fnet.interop."""
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


def from_torch(torch: Any, modules: Any) -> tuple[list[Any], list[Any]]:
    """The arrays of params and state, in the order of `tree.leaves`."""
    params, state = [], []
    for module in modules:
        if isinstance(module, torch.nn.Linear):
            params += [module.weight.T] + ([] if module.bias is None else [module.bias])
        elif isinstance(module, torch.nn.BatchNorm1d):
            params += [module.weight, module.bias]
            state += [module.running_mean, module.running_var]
    return [p.detach().numpy() for p in params], [s.numpy() for s in state]


def torch_loss(torch: Any, config: MLPConfig) -> Callable[[Any, Any], Any]:
    def pinball(outputs: Any, targets: Any) -> Any:
        q, error = torch.tensor(config.quantiles, dtype=torch.float64), targets - outputs
        return torch.maximum(q * error, (q - 1) * error).mean()

    return {
        "cross_entropy": torch.nn.CrossEntropyLoss(),
        "squared_error": torch.nn.MSELoss(),
        "huber": torch.nn.HuberLoss(delta=config.huber_delta),
        "pinball": pinball,
    }[config.loss]


def batch_rows(step: int) -> Any:
    return random.permutation(random.fold_in(KEY, step), 64)[:16]


def check_equal(torch: Any, params: Any, state: Any, modules: Any) -> None:
    torch_params, torch_state = from_torch(torch, modules)
    assert_trees_close(tree.leaves(params), torch_params, rtol=1e-9, atol=1e-9)
    assert_trees_close(tree.leaves(state), torch_state, rtol=1e-9, atol=1e-9)


OPTIMIZERS: dict[str, tuple[Any, Any, str, dict[str, Any]]] = {
    "adam": (fnet.adam_init, partial(fnet.adam_update, learning_rate=0.01), "Adam", {"lr": 0.01}),
    "adamw": (
        fnet.adam_init,
        partial(fnet.adam_update, learning_rate=0.01, weight_decay=0.1),
        "AdamW",
        {"lr": 0.01, "weight_decay": 0.1},
    ),
    "sgd": (fnet.sgd_init, partial(fnet.sgd_update, learning_rate=0.05), "SGD", {"lr": 0.05}),
    "momentum": (
        fnet.sgd_init,
        partial(fnet.sgd_update, learning_rate=0.05, momentum=0.9),
        "SGD",
        {"lr": 0.05, "momentum": 0.9},
    ),
    "nesterov": (
        fnet.sgd_init,
        partial(fnet.sgd_update, learning_rate=0.05, momentum=0.9, nesterov=True),
        "SGD",
        {"lr": 0.05, "momentum": 0.9, "nesterov": True},
    ),
}
CASES = [(loss, name) for loss in LOSSES for name in ("adam", "momentum")]
CASES += [("cross_entropy", name) for name in ("adamw", "sgd", "nesterov")]


@pytest.mark.parametrize(("loss", "optimizer"), CASES)
def test_200_steps_are_those_of_pytorch(loss: str, optimizer: str) -> None:
    torch = import_torch()
    config = small(loss=loss, sizes=SIZES)
    init, update, name, options = OPTIMIZERS[optimizer]
    params, state = fnet.init(KEY, config)
    modules = torch_network(torch, config, params)
    torch_optimizer = getattr(torch.optim, name)(modules.parameters(), **options)
    opt_state, criterion = init(params), torch_loss(torch, config)
    x, y, _ = examples(config, 64)
    x_torch, y_torch = torch.tensor(x), torch.tensor(y)
    for step in range(STEPS):
        rows = batch_rows(step)
        (value, aux), grads = fnet.loss_and_grads(config, params, state, x[rows], y[rows])
        params, opt_state = update(params, grads, opt_state)
        state = aux.state
        torch_optimizer.zero_grad()
        torch_value = criterion(modules(x_torch[rows]), y_torch[rows])
        torch_value.backward()
        torch_optimizer.step()
        assert value == pytest.approx(torch_value.item(), rel=1e-9)
    check_equal(torch, params, state, modules)
    outputs = modules.eval()(x_torch).detach().numpy()
    np.testing.assert_allclose(fnet.predict_logits(config, params, state, x), outputs, rtol=1e-7, atol=1e-8)


def test_100_steps_with_dropout_smoothing_and_weights_are_those_of_pytorch() -> None:
    torch = import_torch()
    config = small(sizes=SIZES, activation="tanh", dropout=0.4, input_dropout=0.2)
    params, state = fnet.init(KEY, config)
    modules = torch_network(torch, config, params)
    optimizer = torch.optim.Adam(modules.parameters(), lr=0.01)
    opt_state = fnet.adam_init(params)
    x, y, _ = examples(config, 64)
    weights = random.uniform(KEY, (64,), "float64", 0.5, 2.0)

    def mask(bits: Any, rate: float) -> Any:
        threshold = round(rate * 65536)
        return torch.tensor((bits.reshape(16, -1) >= threshold) / (1 - threshold / 65536))

    for step in range(STEPS // 2):
        rows, step_key = batch_rows(step), random.fold_in(random.key(1), step)
        (value, aux), grads = fnet.loss_and_grads(
            config, params, state, x[rows], y[rows], key=step_key, label_smoothing=0.1, sample_weight=weights[rows]
        )
        params, opt_state = fnet.adam_update(params, grads, opt_state, learning_rate=0.01)
        state = aux.state
        bits = np.split(random.bits(step_key, 16 * (6 + 8 + 7), np.uint16), [16 * 6, 16 * 14])
        h = torch.tensor(x[rows]) * mask(bits[0], 0.2)
        for i, module in enumerate(modules):
            h = module(h)
            if isinstance(module, torch.nn.Tanh):
                h = h * mask(bits[1 + i // 3], 0.4)
        each = torch.nn.functional.cross_entropy(h, torch.tensor(y[rows]), label_smoothing=0.1, reduction="none")
        w = torch.tensor(weights[rows])
        torch_value = (each * w).sum() / w.sum()
        optimizer.zero_grad()
        torch_value.backward()
        optimizer.step()
        assert value == pytest.approx(torch_value.item(), rel=1e-9)
    check_equal(torch, params, state, modules)


@pytest.mark.parametrize("name", nn.ACTIVATIONS)
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
    np.testing.assert_allclose(nn.activation_bwd(slope, np.ones_like(x)), x_torch.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_softmax_of_infinite_logits_is_that_of_pytorch() -> None:
    torch = import_torch()
    logits = np.array([[0.0, -np.inf], [-np.inf, 1.0], [3.0, 4.0]])
    labels = np.array([0, 1, 0])
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels), reduction="none")
    loss = fnet.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(loss, expected.numpy(), rtol=1e-12)
