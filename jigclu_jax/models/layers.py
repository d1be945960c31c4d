"""Layers that compute what PyTorch's do: explicit padding, its batch statistics, its initial values."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from jigclu_jax.models.convolution import convolve
from jigclu_jax.models.functional import Draw, storage_dtype
from jigclu_jax.models.stem import strided_7x7

BATCH_NORM_MOMENTUM = 0.9  # PyTorch writes 1 - momentum: 0.1
BATCH_NORM_EPSILON = 1e-5


class Conv(nnx.Module):
    """A square convolution without bias, NHWC times HWIO, padded by (size - 1) // 2 on each side as torchvision pads.

    Starts Kaiming-normal over the fan-out (`nn.init.kaiming_normal_(mode="fan_out")`, which takes all output channels
    as the fan-out, grouped or not).
    """

    def __init__(
        self, channels_in: int, channels_out: int, size: int, *, stride: int = 1, groups: int = 1, dtype: jnp.dtype, draw: Draw
    ) -> None:
        self.size, self.stride, self.groups, self.dtype = size, stride, groups, dtype
        shape = (size, size, channels_in // groups, channels_out)
        std = math.sqrt(2.0 / (channels_out * size * size))
        self.kernel = nnx.Param(draw.normal(shape, std, storage_dtype(dtype)))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        x, kernel = x.astype(self.dtype), self.kernel[...].astype(self.dtype)
        if self.size == 1:
            # a matrix product: XLA's convolution takes ten times as long for the kernel's gradient on a CPU
            if self.stride > 1:
                # the barrier: XLA's compiler for GPUs (JAX 0.10.2) dies of a failed check where it merges product and selection
                x = lax.optimization_barrier(x[:, :: self.stride, :: self.stride])
            return jnp.matmul(x, kernel[0, 0])
        pad = (self.size - 1) // 2
        return convolve(x, kernel, self.stride, (pad, pad), self.groups)


class SquaresConv(Conv):
    """A 7x7 convolution with stride 2, computed on squares of 2 x 2 pixels; its kernel is stored as that of `Conv`."""

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        return strided_7x7(x.astype(self.dtype), self.kernel[...].astype(self.dtype))


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last, with PyTorch's running averages.

    Statistics are of the whole array in float32 or better: sharded over devices under jit, that is the global batch. The
    running variance takes the unbiased n / (n - 1) estimate, the normalisation the biased one. A `frozen` layer runs in eval mode.
    With `batch_groups` = k in training, the rows r with the same r % k are normalised by their own statistics, of which the running
    averages take the mean. Without `affine` there is neither scale nor bias.
    With `relu`, max(y, 0) of the result: its mask is computed again for the gradient, where an array of it would be written and read.
    """

    def __init__(self, channels: int, *, affine: bool = True, dtype: jnp.dtype) -> None:
        self.dtype, self.frozen, self.batch_groups = dtype, False, 1
        kept = storage_dtype(dtype)
        self.affine = affine
        if affine:
            self.scale = nnx.Param(jnp.ones(channels, kept))
            self.bias = nnx.Param(jnp.zeros(channels, kept))
        self.mean = nnx.BatchStat(jnp.zeros(channels, kept))
        self.var = nnx.BatchStat(jnp.ones(channels, kept))

    def __call__(self, x: Float[Array, "*n c"], train: bool, relu: bool = False) -> Float[Array, "*n c"]:
        still = self.mean[...]
        scale, bias = (self.scale[...], self.bias[...]) if self.affine else (jnp.ones_like(still), jnp.zeros_like(still))
        if train and not self.frozen:
            y, mean, var = _normalise(x, scale, bias, self.batch_groups, relu)
            if self.batch_groups > 1:
                mean, var = mean.mean(0), var.mean(0)
            count = math.prod(x.shape[:-1]) // self.batch_groups
            self.mean[...] = self._running(self.mean[...], mean)
            self.var[...] = self._running(self.var[...], var * (count / max(count - 1, 1)))
        else:
            wide = x.astype(storage_dtype(x.dtype))
            y = (wide - self.mean[...]) * (lax.rsqrt(self.var[...] + BATCH_NORM_EPSILON) * scale) + bias
            y = jax.nn.relu(y) if relu else y
        return y.astype(self.dtype)

    @staticmethod
    def _running(old: Float[Array, " c"], new: Float[Array, " c"]) -> Float[Array, " c"]:
        new = lax.stop_gradient(new).astype(old.dtype)
        return BATCH_NORM_MOMENTUM * old + (1.0 - BATCH_NORM_MOMENTUM) * new


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _normalise(
    x: Float[Array, "*n c"], scale: Float[Array, " c"], bias: Float[Array, " c"], groups: int, relu: bool
) -> tuple[Float[Array, "*n c"], Float[Array, "*g c"], Float[Array, "*g c"]]:
    """x normalised over all axes but the last, its mean and its biased variance; no gradient passes through the latter two.

    With `groups` above 1 mean and variance have a row for each group: the rows r of x with r % groups == j.

    The derivative is written out because JAX's own also sums what is 0 by construction (x - mean) and sums a gradient twice:
    with the batch over many devices, two more vectors to exchange for each layer, one after another.
    """
    return _normalise_forward(x, scale, bias, groups, relu)[0]


def _normalise_forward(
    x: Array, scale: Array, bias: Array, groups: int, relu: bool
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    wide = x.astype(storage_dtype(x.dtype))
    # a TPU sums a convolution's output as it is made: two passes cost it one there
    mean, var = lax.platform_dependent(
        wide, tpu=functools.partial(_two_passes, groups=groups), default=functools.partial(_one_pass, groups=groups)
    )
    inverse = lax.rsqrt(var + BATCH_NORM_EPSILON)
    wide, _ = _in_groups(wide, groups)
    y = (wide - _beside(mean, wide)) * _beside(inverse * scale, wide) + bias
    y = (jax.nn.relu(y) if relu else y).reshape(x.shape)
    return (y, mean, var), (x, mean, inverse, scale, bias)


def _two_passes(wide: Float[Array, "*n c"], groups: int) -> tuple[Float[Array, "*g c"], Float[Array, "*g c"]]:
    """Mean and biased variance over all axes but the last, and within each group."""
    wide, axes = _in_groups(wide, groups)
    mean = wide.mean(axes)
    return mean, jnp.square(wide - _beside(mean, wide)).mean(axes)


def _one_pass(wide: Float[Array, "*n c"], groups: int) -> tuple[Float[Array, "*g c"], Float[Array, "*g c"]]:
    """The same in one pass over maps.

    E[x^2] - E[x]^2 gives 0 for a channel of mean 100 and variance 1e-4. So each image's sums are taken around one of its own values,
    which lies within sqrt(h w) deviations of its mean; then few numbers are left, for which two passes cost nothing.
    """
    if wide.ndim < 3:
        return _two_passes(wide, groups)
    maps = wide.reshape(len(wide), -1, wide.shape[-1])
    pivot = maps[:, maps.shape[1] // 2]
    apart = maps - pivot[:, None]
    first, second = apart.mean(1), jnp.square(apart).mean(1)
    means, within = (_in_groups(numbers, groups)[0] for numbers in (pivot + first, second - jnp.square(first)))
    mean = means.mean(0)
    return mean, (within + jnp.square(means - mean)).mean(0)


def _normalise_backward(
    groups: int, relu: bool, kept: tuple[Array, ...], cotangents: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    whole, *small = kept
    along, axes = _in_groups(cotangents[0], groups)
    x, _ = _in_groups(whole, groups)
    # behind a barrier all of it is computed again from x: the compiler would rather write masks or a masked gradient, and read them twice
    small = lax.optimization_barrier(small)
    passed, unit = _passed(x, along, small, relu)
    for_bias, for_scale = passed.sum(axes), (passed * unit).sum(axes)
    small = lax.optimization_barrier(small)
    passed, unit = _passed(x, along, small, relu)
    _, inverse, scale, _ = small
    # what the batch's own mean and variance take away is the gradients of bias and scale, averaged
    count = math.prod(whole.shape[:-1]) // groups
    for_x = (passed - (_beside(for_bias, x) + unit * _beside(for_scale, x)) / count) * _beside(inverse * scale, x)
    if groups > 1:
        for_bias, for_scale = for_bias.sum(0), for_scale.sum(0)
    return for_x.reshape(whole.shape).astype(whole.dtype), for_scale, for_bias


def _passed(x: Array, along: Array, small: Sequence[Array], relu: bool) -> tuple[Array, Array]:
    """The gradient that passes the ReLU, and x as normalised before scale and bias."""
    mean, inverse, scale, bias = small
    centred = x.astype(storage_dtype(x.dtype)) - _beside(mean, x)
    if relu:
        along = jnp.where(centred * _beside(inverse * scale, x) + bias > 0, along, 0)
    return along, centred * _beside(inverse, x)


def _in_groups(x: Array, groups: int) -> tuple[Array, tuple[int, ...]]:
    """[n, ..., c], or [n / groups, groups, ..., c] of it, and the axes that statistics are taken over."""
    if groups == 1:
        return x, tuple(range(x.ndim - 1))
    # a device that holds consecutive rows has some of every group, and keeps them
    x = x.reshape(-1, groups, *x.shape[1:])
    return x, (0, *range(2, x.ndim - 1))


def _beside(statistic: Array, x: Array) -> Array:
    """A statistic [c] or [groups, c] with the axes that it lacks of x."""
    return statistic if statistic.ndim == 1 else jnp.expand_dims(statistic, tuple(range(1, x.ndim - 2)))


_normalise.defvjp(_normalise_forward, _normalise_backward)


class Linear(nnx.Module):
    """x @ kernel + bias in float32 or better, whatever the backbone computes in.

    Starts as PyTorch's `nn.Linear`: weight and bias uniform within 1 / sqrt(inputs); with `std`, weight normal with that
    deviation and bias 0.
    """

    def __init__(self, dim_in: int, dim_out: int, *, std: float | None = None, dtype: jnp.dtype, draw: Draw) -> None:
        kept = storage_dtype(dtype)
        if std is None:
            bound = 1.0 / math.sqrt(dim_in)
            kernel = draw.uniform((dim_in, dim_out), bound, kept)
            bias = draw.uniform((dim_out,), bound, kept)
        else:
            kernel = draw.normal((dim_in, dim_out), std, kept)
            bias = jnp.zeros(dim_out, kept)
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)

    def __call__(self, x: Float[Array, "*n i"]) -> Float[Array, "*n o"]:
        x = x.astype(storage_dtype(x.dtype))
        # heads are cheap: no bfloat16 passes on a TPU, no TF32 on a GPU
        return jnp.matmul(x, self.kernel[...], precision=lax.Precision.HIGHEST) + self.bias[...]
