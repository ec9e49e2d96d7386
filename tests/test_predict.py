"""The network in inference: prediction, and batch norm folded into the linear maps."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from helpers import KEY, LOSSES, check_purity, each_dtype, examples, network, small, with_and_without_norm

import fnet
from fnet import MLPConfig, losses, mlp, nn, tree
from fnet.testing import assert_trees_equal


def features(config: MLPConfig, rows: int = 6) -> Any:
    return examples(config, rows).x


def unfolded_logits(config: MLPConfig, params: fnet.Params, state: fnet.State, x: Any) -> Any:
    h = x
    for i, layer in enumerate(params):
        h, _ = nn.linear_fwd(layer.linear, h)
        if layer.norm is not None:
            h = nn.batch_norm_inference(layer.norm, state[i], h)
        if i + 1 < len(params):
            h, _ = nn.activation_fwd(config.activation, h)
    return h


@pytest.mark.parametrize("activation", nn.ACTIVATIONS)
@with_and_without_norm
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_folded_batch_norm_is_the_same_function(
    activation: str, batch_norm: bool, dtype: str, tolerance: float
) -> None:
    config = small(sizes=(4, 5, 6, 3), activation=activation, batch_norm=batch_norm, dtype=dtype, dropout=0.3)
    params, state = network(config)
    x = features(config)
    for _ in range(3):  # statistics other than those of a new network
        _, state = fnet.forward(config, params, state, x, key=KEY, train=True)
    expected = unfolded_logits(config, params, state, x)
    logits, same = fnet.forward(config, params, state, x)
    np.testing.assert_allclose(logits, expected, rtol=tolerance, atol=tolerance)
    assert same is state
    folded_config, folded = fnet.fold_batch_norm(config, params, state)
    assert folded_config == dataclasses.replace(config, batch_norm=False)
    assert_trees_equal(fnet.predict_logits(folded_config, folded, (), x), logits)


@pytest.mark.parametrize("rows", [1, mlp.PREDICT_CHUNK - 1, mlp.PREDICT_CHUNK, mlp.PREDICT_CHUNK + 1])
def test_prediction_in_chunks(rows: int) -> None:
    config = small(dropout=0.3)
    params, state = network(config)
    x = features(config, rows)
    logits = fnet.predict_logits(config, params, state, x)
    np.testing.assert_allclose(logits, unfolded_logits(config, params, state, x), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(fnet.predict(config, params, state, x), logits.argmax(axis=1))
    p = fnet.predict_proba(config, params, state, x)
    np.testing.assert_allclose(p, losses.softmax(logits), rtol=1e-12)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_numbers_are_predicted_as_they_are(loss: str) -> None:
    for sizes, shape in (((4, 5, 3), (6, 3)), ((4, 5, 1), (6,))):
        config = small(loss=loss, sizes=sizes)
        params, state = network(config)
        x = features(config)
        expected = unfolded_logits(config, params, state, x).reshape(shape)
        np.testing.assert_allclose(fnet.predict(config, params, state, x), expected, rtol=1e-12)


def test_quantiles_do_not_cross() -> None:
    config = small(loss="pinball")
    params, state = network(config)
    x = features(config, 50)
    logits = fnet.predict_logits(config, params, state, x)
    assert (np.diff(logits, axis=1) < 0).any()
    np.testing.assert_array_equal(fnet.predict(config, params, state, x), np.sort(logits, axis=1))


@pytest.mark.parametrize("loss", ["squared_error", "huber", "pinball"])
def test_numbers_have_no_probabilities(loss: str) -> None:
    config = small(loss=loss)
    with pytest.raises(ValueError, match=f"loss='{loss}' predicts numbers, not probabilities: use predict"):
        fnet.predict_proba(config, *network(config), features(config))


def test_training_mode_updates_the_state_and_inference_ignores_the_batch() -> None:
    config = small(sizes=(4, 5, 6, 3))
    params, state = network(config)
    x = features(config)
    train_logits, new_state = fnet.forward(config, params, state, x, train=True)
    z = x @ params[0].linear.w
    np.testing.assert_allclose(new_state[0].mean, 0.9 * state[0].mean + 0.1 * z.mean(0), rtol=1e-12)
    np.testing.assert_allclose(new_state[0].var, 0.9 * state[0].var + 0.1 * z.var(0, ddof=1), rtol=1e-12)
    assert len(new_state) == 2
    logits, _ = fnet.forward(config, params, state, x)
    assert np.abs(train_logits - logits).max() > 0.01
    np.testing.assert_allclose(fnet.forward(config, params, state, x[:1])[0], logits[:1], rtol=1e-12)
    np.testing.assert_array_equal(fnet.forward(config, params, new_state, x, train=True)[0], train_logits)


@each_dtype
@pytest.mark.parametrize("loss", LOSSES)
@with_and_without_norm
def test_prediction_is_pure_and_keeps_the_dtype(loss: str, batch_norm: bool, dtype: str) -> None:
    config = small(loss=loss, batch_norm=batch_norm, dtype=dtype, dropout=0.3)
    params, state = network(config)
    x = features(config)
    functions: list[Any] = [fnet.predict_logits, fnet.predict, fnet.forward]
    if loss == "cross_entropy":
        functions.append(fnet.predict_proba)
    for f in functions:
        result = check_purity(f, config, params, state, x)
        assert not any(leaf.flags.writeable for leaf in tree.leaves(result))
        if f is not fnet.predict or loss != "cross_entropy":
            assert {leaf.dtype.name for leaf in tree.leaves(result)} == {dtype}
        assert_trees_equal(f(config, params, state, x.astype("float32").astype("float64")),
                           f(config, params, state, x.astype("float32")))  # fmt: skip
    folded = check_purity(lambda *args: fnet.fold_batch_norm(*args)[1], config, params, state)
    assert {leaf.dtype.name for leaf in tree.leaves(folded)} == {dtype}


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((6, 5)), ValueError, r"x must have shape \[batch, 4\], but got \[6, 5\]"),
        (np.zeros(4), ValueError, r"x must have shape \[batch, 4\], but got \[4\]"),
        (1.0, ValueError, r"x must have shape \[batch, 4\], but got \[\]"),
        (np.zeros((0, 4)), ValueError, "x has no rows"),
        (np.array([["a"] * 4]), TypeError, "x must be numbers, but got dtype <U1"),
        (np.zeros((6, 4), complex), TypeError, "x must be numbers, but got dtype complex128"),
        (None, TypeError, "x must be numbers, but got dtype object"),
        (np.ma.masked_equal(np.zeros((6, 4)), 0), TypeError, "x is a masked array, whose mask would be ignored"),
        (np.where(np.arange(24).reshape(6, 4) == 9, np.nan, 0), ValueError, r"finite in float64, but x\[2, 1\] is nan"),
        (np.full((6, 4), -np.inf), ValueError, r"finite in float64, but x\[0, 0\] is -inf"),
        (np.where(np.arange(4 * 5000).reshape(-1, 4) == 18_000, np.inf, 0), ValueError, r"but x\[4500, 0\] is inf"),
    ],
)
def test_bad_features(x: Any, error: type[Exception], message: str) -> None:
    config = small()
    params, state = network(config)
    for f in (
        lambda: fnet.forward(config, params, state, x),
        lambda: fnet.forward(config, params, state, x, train=True),
        lambda: fnet.loss_and_grads(config, params, state, x, [0]),
        lambda: fnet.predict(config, params, state, x),
        lambda: fnet.predict_proba(config, params, state, x),
    ):
        with pytest.raises(error, match=message):
            f()


def test_features_too_large_for_the_dtype() -> None:
    config = small(dtype="float32")
    with pytest.raises(ValueError, match=r"x must be finite in float\d\d, but x\[0, 0\] is inf"):
        fnet.predict(config, *network(config), np.full((1, 4), 1e300))
