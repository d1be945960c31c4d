"""The gradients of a convolution, which have a form of their own for a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jigclu_jax.models import convolution
from jigclu_jax.models.convolution import convolve


def by_xla(x: jax.Array, kernel: jax.Array, stride: int, padding: tuple[int, int], groups: int) -> jax.Array:
    sides = (padding, padding)
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), sides, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )


@pytest.mark.parametrize(
    ("side", "size", "stride", "padding", "groups"),
    [((7, 8), 3, 1, (1, 1), 1), ((7, 8), 3, 2, (1, 1), 1), ((9, 6), 7, 2, (3, 3), 1), ((6, 5), 4, 1, (2, 1), 1), ((7, 8), 3, 2, (1, 1), 2)],
)
def test_gradients_are_those_of_xla(
    side: tuple[int, int], size: int, stride: int, padding: tuple[int, int], groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "LARGE_INPUT", 0)
    monkeypatch.setattr(convolution, "LARGE_KERNEL", 0)
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, kernel = jnp.asarray(rng.standard_normal((3, *side, 4))), jnp.asarray(rng.standard_normal((size, size, 4 // groups, 6)))
        y, backward = jax.vjp(lambda x, kernel: convolve(x, kernel, stride, padding, groups), x, kernel)
        expected, expected_backward = jax.vjp(lambda x, kernel: by_xla(x, kernel, stride, padding, groups), x, kernel)
        along = jnp.asarray(rng.standard_normal(y.shape))
        np.testing.assert_array_equal(y, expected)
        for gradient, of_xla in zip(backward(along), expected_backward(along), strict=True):
            assert gradient.dtype == of_xla.dtype == jnp.float64
            np.testing.assert_allclose(gradient, of_xla, rtol=1e-12, atol=1e-12)


def convolutions(platform: str, pictures: int) -> int:
    x, kernel = jax.ShapeDtypeStruct((pictures, 32, 32, 32), "bfloat16"), jax.ShapeDtypeStruct((3, 3, 32, 32), "bfloat16")
    gradient = jax.jit(jax.grad(lambda x, kernel: convolve(x, kernel, 1, (1, 1)).astype(jnp.float32).sum(), (0, 1)))
    return gradient.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text().count("stablehlo.convolution")


def test_only_large_ones_on_a_cpu_differ() -> None:
    assert convolutions("cpu", 8) == convolutions("cuda", 8) - 1
    assert convolutions("cpu", 7) == convolutions("cuda", 7) == convolutions("tpu", 8)
