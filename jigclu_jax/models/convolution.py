"""A convolution whose kernel's gradient is a product of matrices on a CPU, where XLA's own takes up to eight times as long."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jigclu_jax.models.functional import storage_dtype

# Below either XLA's gradient is as quick on a CPU.
LARGE_INPUT, LARGE_KERNEL = 2**18, 2**13


class _Form(NamedTuple):
    stride: int
    padding: tuple[int, int]
    groups: int
    precision: str | None


def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k _ d"], stride: int, padding: tuple[int, int], groups: int = 1
) -> Float[Array, "b h2 w2 d"]:
    """The cross-correlation of NHWC with HWIO that networks call a convolution, in the dtype of `x`; rows and columns alike have `padding`
    zeros before and after. On accelerators forward and backward are XLA's."""
    # read here: the derivative is traced where the caller's `default_matmul_precision` holds no longer
    flags: Any = jax.config  # whose types name no flags
    return _convolve(x, kernel, _Form(stride, padding, groups, flags.jax_default_matmul_precision))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: Array, kernel: Array, form: _Form) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(form.stride, form.stride),
        padding=(form.padding, form.padding),  # "SAME" would pad one side only where the stride is 2
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=form.groups,
        precision=form.precision,
    )


def _forward(x: Array, kernel: Array, form: _Form) -> tuple[Array, tuple[Array, Array]]:
    return _convolve.fun(x, kernel, form), (x, kernel)


def _backward(form: _Form, kept: tuple[Array, Array], along: Array) -> tuple[Array, Array]:
    x, kernel = kept
    (of_x,) = jax.linear_transpose(lambda x: _convolve.fun(x, kernel, form), x)(along)

    def by_xla(x: Array, along: Array) -> Array:
        return jax.linear_transpose(lambda kernel: _convolve.fun(x, kernel, form), kernel)(along)[0]

    if form.groups > 1 or x.size < LARGE_INPUT or kernel.size < LARGE_KERNEL:
        return of_x, by_xla(x, along)
    return of_x, lax.platform_dependent(x, along, cpu=functools.partial(_by_rows, len(kernel), form), default=by_xla)


def _by_rows(size: int, form: _Form, x: Float[Array, "b h w c"], along: Float[Array, "b h2 w2 d"]) -> Float[Array, "k k c d"]:
    """The kernel's gradient: for each of its `size` rows the pixels that the row's values met, times `along`."""
    rows, columns, d = along.shape[1:]
    padded = jnp.pad(x, ((0, 0), form.padding, form.padding, (0, 0)))
    across, step = along.reshape(-1, d).T, form.stride
    beside = jnp.concatenate([padded[:, :, right : right + (columns - 1) * step + 1 : step] for right in range(size)], -1)
    products = []
    for down in range(size):
        met = beside[:, down : down + (rows - 1) * step + 1 : step].reshape(across.shape[1], -1)
        products.append(jnp.matmul(across, met, precision=form.precision, preferred_element_type=storage_dtype(x.dtype)))
    return jnp.stack(products).reshape(size, d, size, -1).transpose(0, 2, 3, 1).astype(x.dtype)


_convolve.defvjp(_forward, _backward)
