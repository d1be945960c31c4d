"""What an ImageNet stem is made of: a 7x7 convolution and a 3x3 maximum, both with stride 2, in forms that suit accelerators."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

from jigclu_jax.models.convolution import convolve
from jigclu_jax.models.functional import storage_dtype


def strided_7x7(x: Float[Array, "b h w c"], kernel: Float[Array, "7 7 c d"]) -> Float[Array, "b h2 w2 d"]:
    """The 7x7 convolution with stride 2 and padding 3, as a 4x4 convolution with stride 1 on squares of 2 x 2 pixels.

    The same products, summed in another order: three channels leave a matrix unit idle, twelve less so. Source: Ying et al. 2018, "Image
    classification at supercomputer scale" (space-to-depth).
    """
    b, h, w, c = x.shape
    rows, columns = -(-h // 2), -(-w // 2)
    x = jnp.pad(x, ((0, 0), (0, 2 * rows - h), (0, 2 * columns - w), (0, 0)))
    x = x.reshape(b, rows, 2, columns, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, rows, columns, 4 * c)
    kernel = jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0))).reshape(4, 2, 4, 2, c, -1)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, 4 * c, -1)
    return convolve(x, kernel, 1, (2, 1))


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """3x3 maximum with stride 2, padded with -inf by 1 on each side (`nn.MaxPool2d(3, 2, 1)`); the first of equal values has the gradient.

    But for TPUs the derivative is written out: a byte a maximum says which of its nine values it was, where XLA would look for it again
    and scatter. A TPU does that well, and what is written out badly: it cannot put rows and columns together without copies.
    """
    return lax.platform_dependent(x, tpu=_by_xla, default=lambda x: _max_pool(x, x.shape[1:3]))


def _by_xla(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    lowest = np.array(-np.inf, x.dtype)  # a constant of numpy: JAX differentiates the maximum only where it sees that this is -inf
    return lax.reduce_window(x, lowest, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b h2 w2 c"]:
    return _first_maximum(x)[0]


def _forward(x: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    return _first_maximum(x)


def _first_maximum(x: Float[Array, "b h w c"]) -> tuple[Float[Array, "b h2 w2 c"], UInt8[Array, "b h2 w2 c"]]:
    """The maxima, and the number of each within its window, row by row; NaN where there is one."""
    b, h, w, c = x.shape
    rows, columns = -(-h // 2), -(-w // 2)
    padded = lax.pad(x, jnp.array(-jnp.inf, x.dtype), ((0, 0, 0), (1, 2 * rows - h, 0), (1, 2 * columns - w, 0), (0, 0, 0)))
    best, which = jnp.full((b, rows, columns, c), -jnp.inf, x.dtype), jnp.zeros((b, rows, columns, c), jnp.uint8)
    for number in range(9):
        down, right = divmod(number, 3)
        seen = lax.slice(padded, (0, down, right, 0), (b, down + 2 * rows - 1, right + 2 * columns - 1, c), (1, 2, 2, 1))
        best, which = jnp.maximum(best, seen), jnp.where(seen > best, jnp.uint8(number), which)
    return best, which


def _backward(size: tuple[int, int], which: Array, along: Array) -> tuple[Array]:
    wide = along.astype(storage_dtype(along.dtype))

    def given(number: int, down: int, right: int) -> Array:
        """What the window `down` below and `right` of each gives to its value of that number."""
        own = jnp.where(which == number, wide, 0)
        return lax.pad(own, jnp.zeros((), own.dtype), ((0, 0, 0), (-down, down, 0), (-right, right, 0), (0, 0, 0)))

    # a value in an even row and column lies in one window, in its middle; in an odd row and column in the corners of four
    middle = given(4, 0, 0)
    beside = given(5, 0, 0) + given(3, 0, 1)
    below = given(7, 0, 0) + given(1, 1, 0)
    corner = given(8, 0, 0) + given(6, 0, 1) + given(2, 1, 0) + given(0, 1, 1)
    b, rows, columns, c = which.shape
    even, odd = (jnp.stack(pair, 3).astype(along.dtype).reshape(b, rows, 2 * columns, c) for pair in ((middle, beside), (below, corner)))
    return (jnp.stack((even, odd), 2).reshape(b, 2 * rows, 2 * columns, c)[:, : size[0], : size[1]],)


_max_pool.defvjp(_forward, _backward)
