"""Each layer against a slow numpy transcription of what PyTorch documents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jigclu_jax.models.functional import Draw
from jigclu_jax.models.layers import BatchNorm, Conv, Linear

F32 = jnp.dtype("float32")


def draw() -> Draw:
    key = jax.random.key(0)
    return Draw(jax.random.normal(key, (100_000,)), jax.random.uniform(key, (1_000,), minval=-1.0, maxval=1.0))


def slow_convolution(x: np.ndarray, kernel: np.ndarray, stride: int, groups: int) -> np.ndarray:
    """Cross-correlation of [b, h, w, c] with [k, k, c / groups, d], padded by k // 2 zeros on every side."""
    size, _, per_group, channels = kernel.shape
    pad = size // 2
    padded = np.pad(x.astype(np.float64), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = ((side + 2 * pad - size) // stride + 1 for side in x.shape[1:3])
    y = np.zeros((len(x), height, width, channels))
    for d in range(channels):
        first = d // (channels // groups) * per_group
        for i in range(height):
            for j in range(width):
                window = padded[:, i * stride : i * stride + size, j * stride : j * stride + size, first : first + per_group]
                y[:, i, j, d] = (window * kernel[:, :, :, d]).sum((1, 2, 3))
    return y


@pytest.mark.parametrize("side", [(7, 8), (6, 5)])
@pytest.mark.parametrize(("size", "stride", "groups"), [(1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 1), (3, 2, 4), (7, 2, 1)])
def test_convolution(side: tuple[int, int], size: int, stride: int, groups: int) -> None:
    layer = Conv(4, 8, size, stride=stride, groups=groups, dtype=F32, draw=draw())
    x = np.random.default_rng(0).standard_normal((2, *side, 4)).astype(np.float32)
    np.testing.assert_allclose(
        layer(jnp.asarray(x)), slow_convolution(x, np.asarray(layer.kernel[...], np.float64), stride, groups), atol=2e-5
    )


@pytest.mark.parametrize("groups", [1, 8])
def test_convolution_starts_kaiming_normal_over_the_fan_out(groups: int) -> None:
    kernel = np.asarray(Conv(64, 128, 3, groups=groups, dtype=F32, draw=draw()).kernel[...])
    assert kernel.shape == (3, 3, 64 // groups, 128)
    std = np.sqrt(2 / (128 * 9))
    assert kernel.std() == pytest.approx(std, rel=0.03)
    assert abs(kernel.mean()) < 5 * std / np.sqrt(kernel.size)
    assert np.abs(kernel).max() > 3.2 * std  # not truncated


def batch_norm(channels: int = 3) -> BatchNorm:
    layer = BatchNorm(channels, dtype=F32)
    layer.scale[...] = jnp.linspace(0.5, 2.0, channels)
    layer.bias[...] = jnp.linspace(-1.0, 1.0, channels)
    layer.mean[...] = jnp.linspace(0.1, 0.3, channels)
    layer.var[...] = jnp.linspace(0.8, 1.5, channels)
    return layer


def test_batch_norm_in_training() -> None:
    layer = batch_norm()
    scale, bias, mean, var = (np.asarray(leaf[...], np.float64) for leaf in (layer.scale, layer.bias, layer.mean, layer.var))
    x = np.random.default_rng(0).normal(2.0, 3.0, (4, 5, 2, 3)).astype(np.float32)
    rows = x.astype(np.float64).reshape(-1, 3)
    np.testing.assert_allclose(
        layer(jnp.asarray(x), True).reshape(-1, 3), (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5) * scale + bias, atol=1e-5
    )
    np.testing.assert_allclose(layer.mean[...], 0.9 * mean + 0.1 * rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.var[...], 0.9 * var + 0.1 * rows.var(0, ddof=1), rtol=1e-5)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_the_gradient_of_batch_norm_is_that_of_its_definition(mean: float, relu: bool) -> None:
    """Against JAX's derivative of mean and variance written down, by x, scale and bias, with the running averages in use."""
    with jax.enable_x64():
        rng = np.random.default_rng(0)
        x, cotangent = rng.normal(mean, 0.5, (6, 5, 2, 3)), rng.normal(size=(6, 5, 2, 3))
        scale, bias = np.array([0.5, 1.0, -2.0]), np.array([1.0, 0.0, 3.0])

        def ours(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
            layer = BatchNorm(3, dtype=jnp.dtype("float64"))
            layer.scale[...], layer.bias[...] = scale, bias
            return (layer(x, True, relu) * cotangent).sum() + layer.mean[...].sum() + layer.var[...].sum()

        def defined(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
            rows = x.reshape(-1, 3)
            y = (x - rows.mean(0)) / jnp.sqrt(rows.var(0) + 1e-5) * scale + bias
            return ((jax.nn.relu(y) if relu else y) * cotangent).sum()

        found, expected = (jax.jit(jax.grad(f, argnums=(0, 1, 2)))(x, scale, bias) for f in (ours, defined))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_batch_norm_in_groups_is_one_layer_for_each_of_them() -> None:
    """Rows r with r % 3 == j by themselves: output, gradients, and running averages of the groups' mean; eval mode knows no groups."""
    with jax.enable_x64():
        rng = np.random.default_rng(0)
        x, cotangent = jnp.asarray(rng.normal(3.0, 2.0, (12, 5, 2, 3))), rng.normal(size=(12, 5, 2, 3))
        scale, bias = jnp.array([0.5, 1.0, -2.0]), jnp.array([1.0, 0.0, 3.0])

        def layer(scale: jax.Array, bias: jax.Array, groups: int) -> BatchNorm:
            made = BatchNorm(3, dtype=jnp.dtype("float64"))
            made.scale[...], made.bias[...], made.batch_groups = scale, bias, groups
            return made

        def together(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
            return (layer(scale, bias, 3)(x, True) * cotangent).sum()

        def one_by_one(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
            return sum((layer(scale, bias, 1)(x[j::3], True) * cotangent[j::3]).sum() for j in range(3))

        grouped, single = layer(scale, bias, 3), [layer(scale, bias, 1) for _ in range(3)]
        y = grouped(x, True)
        for j, own in enumerate(single):
            np.testing.assert_allclose(y[j::3], own(x[j::3], True), rtol=1e-12, atol=1e-13)
        for name in ("mean", "var"):
            np.testing.assert_allclose(getattr(grouped, name)[...], np.mean([getattr(own, name)[...] for own in single], 0), rtol=1e-12)
        gradients = (jax.jit(jax.grad(f, argnums=(0, 1, 2)))(x, scale, bias) for f in (together, one_by_one))
        for found, expected in zip(*gradients, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
        plain = layer(scale, bias, 1)
        plain.mean[...], plain.var[...] = grouped.mean[...], grouped.var[...]
        np.testing.assert_array_equal(grouped(x, False), plain(x, False))


@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_without_scale_and_bias(train: bool) -> None:
    x = np.random.default_rng(0).normal(2.0, 3.0, (6, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        BatchNorm(3, affine=False, dtype=F32)(jnp.asarray(x), train), BatchNorm(3, dtype=F32)(jnp.asarray(x), train)
    )


def test_batch_norm_in_evaluation_uses_and_keeps_the_running_statistics() -> None:
    layer = batch_norm()
    before = [np.asarray(leaf[...]) for leaf in (layer.mean, layer.var)]
    x = np.random.default_rng(0).normal(2.0, 3.0, (4, 5, 2, 3)).astype(np.float32)
    expected = (x - before[0]) / np.sqrt(before[1] + 1e-5) * np.asarray(layer.scale[...]) + np.asarray(layer.bias[...])
    np.testing.assert_allclose(layer(jnp.asarray(x), False), expected, atol=1e-5)
    for old, new in zip(before, (layer.mean, layer.var), strict=True):
        np.testing.assert_array_equal(old, new[...])


@pytest.mark.parametrize("jit", [False, True])
def test_batch_norm_sees_a_small_variance_beside_a_large_mean(jit: bool) -> None:
    x = np.random.default_rng(0).normal(100.0, 1e-2, (64, 8, 8, 2)).astype(np.float32)

    def variance(x: jax.Array) -> jax.Array:
        layer = BatchNorm(2, dtype=F32)
        layer(x, True)
        return (layer.var[...] - 0.9) / 0.1

    # float32 itself leaves 0.9 + 1e-5 with 6e-3 of relative noise: read the normalised output beside it
    y = BatchNorm(2, dtype=F32)(jnp.asarray(x), True)
    expected = x.astype(np.float64).reshape(-1, 2).var(0)
    np.testing.assert_allclose(np.asarray(y).reshape(-1, 2).std(0) ** 2, expected / (expected + 1e-5), rtol=1e-2)
    computed = (jax.jit(variance) if jit else variance)(jnp.asarray(x))
    np.testing.assert_allclose(computed, expected, rtol=2e-2)


def test_batch_norm_sees_small_variances_of_images_whose_means_differ_much() -> None:
    """Two images of a batch may lie far apart, and a channel may be still in all but one place of each."""
    rng = np.random.default_rng(0)
    x = rng.normal(100.0, 1e-2, (16, 8, 8, 3)) + rng.normal(0.0, [0.0, 30.0, 0.0], (16, 1, 1, 3))
    x[:, 4, 4, 2] = 90.0  # the value that the sums are taken around
    x = x.astype(np.float32)
    layer = BatchNorm(3, dtype=F32)
    layer(jnp.asarray(x), True)
    rows = x.astype(np.float64).reshape(-1, 3)
    np.testing.assert_allclose((np.asarray(layer.var[...], np.float64) - 0.9) / 0.1, rows.var(0, ddof=1), rtol=1e-2)
    np.testing.assert_allclose(layer.mean[...], 0.1 * rows.mean(0), rtol=1e-6)


def test_batch_norm_in_evaluation_has_a_relu_too() -> None:
    layer, x = batch_norm(), jnp.asarray(np.random.default_rng(0).normal(0.0, 1.0, (2, 4, 4, 3)), "float32")
    np.testing.assert_array_equal(layer(x, False, relu=True), jnp.maximum(layer(x, False), 0.0))


def test_batch_norm_of_bfloat16_keeps_float32_statistics() -> None:
    layer = BatchNorm(4, dtype=jnp.dtype("bfloat16"))
    x = jnp.asarray(np.random.default_rng(0).normal(5.0, 1.0, (512, 4)), "bfloat16")
    y = layer(x, True)
    wide = np.asarray(x, np.float64)
    assert y.dtype == jnp.bfloat16
    assert {leaf[...].dtype.name for leaf in (layer.mean, layer.var, layer.scale, layer.bias)} == {"float32"}
    np.testing.assert_allclose(layer.mean[...], 0.1 * wide.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.var[...], 0.9 + 0.1 * wide.var(0, ddof=1), rtol=1e-5)


def test_batch_norm_of_one_value_a_channel_stays_finite() -> None:
    layer = BatchNorm(2, dtype=F32)
    y = layer(jnp.ones((1, 1, 1, 2)), True)
    np.testing.assert_array_equal(y, 0.0)
    assert np.isfinite(layer.var[...]).all()


def test_linear() -> None:
    layer = Linear(5, 3, dtype=F32, draw=draw())
    x = np.random.default_rng(0).standard_normal((2, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(layer(jnp.asarray(x)), x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...]), atol=1e-6)
    assert layer(jnp.asarray(x, "bfloat16")).dtype == jnp.float32
