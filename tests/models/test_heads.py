"""Initial values, unit length and dtypes of the heads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_backbone import compiled

from jigclu_jax import models

KEY = jax.random.key(0)


def test_linear_starts_as_in_pytorch() -> None:
    params, stats = jax.jit(models.create_linear(256, 400).init)(KEY)
    kernel, bias = np.asarray(params["kernel"]), np.asarray(params["bias"])
    assert (kernel.shape, bias.shape, stats) == ((256, 400), (400,), {})
    for values in (kernel, bias):  # uniform within 1 / 16
        assert np.abs(values).max() <= 1 / 16
        assert np.abs(values).max() > 0.98 / 16
        assert values.std() == pytest.approx(1 / 16 / np.sqrt(3), rel=0.06)
    assert abs(kernel.mean()) < 1e-3


def test_classifier_starts_near_zero() -> None:
    head = compiled(models.create_classifier(128, 1000))
    params, _ = head.init(KEY)
    kernel = np.asarray(params["kernel"])
    assert kernel.std() == pytest.approx(0.01, rel=0.02)
    assert np.abs(kernel).max() > 0.035  # normal, not uniform
    np.testing.assert_array_equal(params["bias"], np.zeros(1000))
    assert head.dim == 1000


def test_projection_against_numpy() -> None:
    head = compiled(models.create_projection(6, 5))
    params, stats = head.init(KEY)
    x = np.random.default_rng(0).standard_normal((3, 2, 2, 6)).astype(np.float32)
    y, new = head.apply(params, stats, jnp.asarray(x), True)
    p = jax.tree.map(np.asarray, params)
    expected = np.maximum(x @ p["hidden"]["kernel"] + p["hidden"]["bias"], 0) @ p["output"]["kernel"] + p["output"]["bias"]
    np.testing.assert_allclose(y, expected / np.linalg.norm(expected, axis=-1, keepdims=True), atol=1e-6)
    assert (new, head.dim) == ({}, 5)
    assert jax.tree.map(jnp.shape, params) == {"hidden": {"kernel": (6, 6), "bias": (6,)}, "output": {"kernel": (6, 5), "bias": (5,)}}


def test_projection_with_batch_norm_against_numpy() -> None:
    head = compiled(models.create_projection(6, 5, norm=True))
    params, stats = head.init(KEY)
    x = np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32)
    y, new = head.apply(params, stats, jnp.asarray(x), True)
    p = jax.tree.map(np.asarray, params)
    hidden = x.astype(np.float64) @ p["hidden"]["kernel"] + p["hidden"]["bias"]
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
    expected = np.maximum(hidden, 0) @ p["output"]["kernel"] + p["output"]["bias"]
    np.testing.assert_allclose(y, expected / np.linalg.norm(expected, axis=-1, keepdims=True), atol=1e-5)
    assert new.keys() == {"norm"} and not np.array_equal(new["norm"]["mean"], stats["norm"]["mean"])


def test_projection_of_bfloat16_has_unit_length_in_float32() -> None:
    head = compiled(models.create_projection(32, 128))
    params, _ = head.init(KEY)
    y, _ = head.apply(params, {}, jax.random.normal(KEY, (100, 32), "bfloat16"), True)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(np.asarray(y, np.float64), axis=-1), 1.0, atol=3e-7)


def test_layers_draw_different_weights_from_one_key_and_the_same_again() -> None:
    head = compiled(models.create_projection(8, 8))
    params, _ = head.init(KEY)
    assert not np.array_equal(params["hidden"]["kernel"], params["output"]["kernel"])
    jax.tree.map(np.testing.assert_array_equal, params, models.create_projection(8, 8).init(KEY)[0])


@pytest.mark.parametrize("norm_last", [False, True])
def test_an_mlp_is_linear_layers_with_batch_norm_and_relu_between_them(norm_last: bool) -> None:
    """Against numpy; its statistics move in training and are used in eval mode."""
    head = compiled(models.create_mlp((5, 7, 7, 3), norm_last=norm_last))
    params, stats = head.init(jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(4, 6, 5)).astype(np.float32)
    expected = x.astype(np.float64)
    for number in range(3):
        expected = expected @ np.asarray(params[f"linear{number}"]["kernel"]) + np.asarray(params[f"linear{number}"]["bias"])
        if number < 2 or norm_last:
            expected = (expected - expected.mean((0, 1))) / np.sqrt(expected.var((0, 1)) + 1e-5)
        expected = expected if number == 2 else np.maximum(expected, 0)
    found, after = head.apply(params, stats, jnp.asarray(x), True)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert head.dim == 3 and set(stats) == {f"bn{number}" for number in range(2 + norm_last)}
    assert np.abs(after["bn0"]["mean"]).max() > 0
    quiet, same = head.apply(params, after, jnp.asarray(x), False)
    assert np.abs(np.asarray(quiet) - expected).max() > 1e-3
    jax.tree.map(np.testing.assert_array_equal, same, after)


def test_which_layers_of_an_mlp_have_batch_norm_and_which_of_these_scale_and_bias() -> None:
    def norms(**options: bool) -> dict[str, set[str]]:
        params, stats = jax.eval_shape(models.create_mlp((5, 7, 3), **options).init, KEY)
        found = {name: set(leaves) for name, leaves in params.items() if name.startswith("bn")}
        return {name: found.get(name, set()) for name in stats}

    whole = {"scale", "bias"}
    assert norms() == {"bn0": whole} and norms(norm=False) == {}
    assert norms(norm_last=True) == {"bn0": whole, "bn1": whole}
    assert norms(norm_last=True, affine_last=False) == {"bn0": whole, "bn1": set()}


def test_groups_reach_every_batch_norm_of_a_network() -> None:
    head = compiled(models.create_mlp((4, 6, 3), norm_last=True))
    params, stats = head.init(KEY)
    x = jax.random.normal(KEY, (8, 4))
    found, after = head.apply(params, stats, x, True, groups=2)
    halves = [head.apply(params, stats, x[j::2], True) for j in range(2)]
    np.testing.assert_allclose(found.reshape(4, 2, 3), jnp.stack([y for y, _ in halves], 1), atol=1e-5)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *(stats for _, stats in halves))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), after, mean)
