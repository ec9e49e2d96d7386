"""fnet.interop.torch: the same network in PyTorch, there and back."""

import subprocess
import sys

import numpy as np
import pytest

import fnet
from fnet import MLPConfig, tree
from fnet.interop.torch import from_torch_state_dict, sequential, to_torch_state_dict
from fnet.nn import ACTIVATIONS
from fnet.testing import assert_trees_equal

torch = pytest.importorskip("torch")

DEPTHS = tuple((7, 6, 5, 6, 4)[:depth] for depth in range(6))


def network(config, seed=0):
    """Parameters and a state in which no number is like another, so that none can take another's place."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        return (leaf + rng.uniform(0.1, 0.5, leaf.shape)).astype(leaf.dtype)

    return tree.map(draw, fnet.init(fnet.random.key(seed), config))


def rows(config, count=40):
    return np.random.default_rng(9).normal(size=(count, config.sizes[0])).astype(config.dtype)


def loaded(config, params, state):
    module = sequential(config)
    state_dict = to_torch_state_dict(config, params, state)
    module.load_state_dict({name: torch.as_tensor(array) for name, array in state_dict.items()}, strict=True)
    return module.eval()


def torch_logits(module, x):
    with torch.no_grad():
        return module(torch.as_tensor(x)).numpy()


@pytest.mark.parametrize("hidden", DEPTHS, ids=len)
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_same_logits(activation, batch_norm, hidden):
    config = MLPConfig(sizes=(5, *hidden, 3), activation=activation, batch_norm=batch_norm)
    params, state = network(config)
    module = loaded(config, params, state)
    x = rows(config)
    expected = fnet.predict_logits(config, params, state, x)
    np.testing.assert_allclose(torch_logits(module, x), expected, rtol=1e-5, atol=1e-5)
    assert_trees_equal(from_torch_state_dict(config, module.state_dict()), (params, state))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("input_dropout", [0.0, 0.2])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_trained_in_torch(batch_norm, input_dropout, dropout):
    config = MLPConfig(
        sizes=(5, 8, 6, 3), activation="gelu", batch_norm=batch_norm, dropout=dropout, input_dropout=input_dropout
    )
    torch.manual_seed(0)
    module = sequential(config).train()
    x, y = torch.as_tensor(rows(config)), torch.arange(40) % 3
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    params, state = from_torch_state_dict(config, module.state_dict())
    expected = torch_logits(module.eval(), x)
    np.testing.assert_allclose(fnet.predict_logits(config, params, state, x.numpy()), expected, rtol=1e-5, atol=1e-5)
    assert loaded(config, params, state).state_dict().keys() == module.state_dict().keys()


def test_batch_norm_trains_alike():
    config = MLPConfig(sizes=(5, 8, 6, 3), dropout=0.0)
    params, state = network(config)
    module, x = loaded(config, params, state).train(), rows(config)
    for _ in range(3):
        logits, state = fnet.forward(config, params, state, x, train=True)
        np.testing.assert_allclose(torch_logits(module, x), logits, rtol=1e-5, atol=1e-5)
    tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        from_torch_state_dict(config, module.state_dict())[1],
        state,
    )


def test_the_rule_of_the_module_list():
    def kinds(**changes):
        config = MLPConfig(**{"sizes": (4, 3, 2), "dropout": 0.5, **changes})
        params, state = fnet.init(fnet.random.key(0), config)
        names = to_torch_state_dict(config, params, state)
        return [type(m).__name__ for m in sequential(config)], sorted({int(name.split(".")[0]) for name in names})

    assert kinds() == (["Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"], [0, 1, 4])
    assert kinds(dropout=0.0) == (["Linear", "BatchNorm1d", "ReLU", "Linear"], [0, 1, 3])
    assert kinds(batch_norm=False) == (["Linear", "ReLU", "Dropout", "Linear"], [0, 3])
    assert kinds(input_dropout=0.1, activation="identity") == (
        ["Dropout", "Linear", "BatchNorm1d", "Identity", "Dropout", "Linear"],
        [1, 2, 5],
    )
    assert kinds(sizes=(4, 2), input_dropout=0.1) == (["Dropout", "Linear"], [1])


def test_arrays_are_new_contiguous_and_writable():
    config = MLPConfig(sizes=(4, 3, 2))
    params, state = network(config)
    before = tree.map(np.copy, (params, state))
    state_dict = to_torch_state_dict(config, params, state)
    assert state_dict["0.weight"].shape == (3, 4)
    assert state_dict["1.num_batches_tracked"].dtype == np.int64
    for array in state_dict.values():
        assert array.flags.c_contiguous
        array[...] = 0
    assert_trees_equal((params, state), before)
    state_dict = to_torch_state_dict(config, params, state)
    loaded_params = from_torch_state_dict(config, state_dict)
    state_dict["0.weight"][...] = 0
    assert_trees_equal(loaded_params, before)
    assert not any(leaf.flags.writeable for leaf in tree.leaves(loaded_params))


def test_float64_and_bfloat16():
    config = MLPConfig(sizes=(4, 3, 2), dtype="float64")
    params, state = network(config)
    module = loaded(config, params, state)
    assert next(module.parameters()).dtype == torch.float64
    assert_trees_equal(from_torch_state_dict(config, module.state_dict(keep_vars=True)), (params, state))
    narrow = MLPConfig(sizes=(4, 3, 2))
    rounded = {name: tensor.bfloat16() for name, tensor in module.state_dict().items()}
    assert_trees_equal(
        from_torch_state_dict(narrow, rounded)[0][0].linear.w, rounded["0.weight"].float().numpy().T.copy()
    )


def test_errors_name_the_arrays():
    config = MLPConfig(sizes=(4, 3, 2))
    params, state = network(config)
    good = to_torch_state_dict(config, params, state)

    def refused(match, changes, kind: type[Exception] = ValueError):
        state_dict = {name: array for name, array in {**good, **changes}.items() if array is not None}
        with pytest.raises(kind, match=match):
            from_torch_state_dict(config, state_dict)

    from_torch_state_dict(config, {name: a for name, a in good.items() if not name.endswith("tracked")})
    refused(r"missing \['1.running_mean'\], unexpected none", {"1.running_mean": None})
    refused(r"missing none, unexpected \['9.weight'\]", {"9.weight": np.zeros(3)})
    refused(r"0.weight must have shape \[3, 4\], but has \[4, 3\]", {"0.weight": np.zeros((4, 3))})
    refused("1.bias is not finite in float32", {"1.bias": np.array([0, np.nan, 0])})
    refused("1.bias is not finite in float32", {"1.bias": np.array([0, 1e300, 0])})
    refused("1.bias must be real numbers, but is <U1", {"1.bias": np.array(["a", "b", "c"])}, TypeError)
    with pytest.raises(ValueError, match="params"):
        to_torch_state_dict(MLPConfig(sizes=(4, 5, 2)), params, state)


def test_only_sequential_needs_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    config = MLPConfig(sizes=(4, 3, 2))
    from_torch_state_dict(config, to_torch_state_dict(config, *network(config)))
    with pytest.raises(ImportError, match="torch"):
        sequential(config)


def test_import_is_lazy():
    code = (
        "import sys, fnet\n"
        "assert not [name for name in sys.modules if name.startswith('fnet.interop')]\n"
        "import fnet.interop.torch, fnet.interop.safetensors, fnet.interop.onnx\n"
        "assert not {'torch', 'safetensors', 'onnx', 'sklearn'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
