"""ResNet, ResNeXt and Wide-ResNet backbones without a classifier, weight-compatible with torchvision's (v1.5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from jigclu_jax.errors import UserError
from jigclu_jax.models.architectures import PRECISIONS, STEMS, Architecture, architecture, check_choice, scaled, stage_channels
from jigclu_jax.models.functional import Draw, Functional, compute_dtype, functional, storage_dtype
from jigclu_jax.models.layers import BatchNorm, Conv, SquaresConv
from jigclu_jax.models.stem import max_pool


class Stages(NamedTuple):
    """What a backbone makes of a batch of images; what is not used is not computed in a compiled function.

    Attributes:
      maps: the feature map of each of the four stages, the finest first, [b, h', w', channels] in the compute dtype.
      features: global average pool of the last map, [b, dim] in float32 or better.
    """

    maps: tuple[Float[Array, "_ _ _ _"], ...]
    features: Float[Array, "b d"]


def stages_of(maps: Sequence[Float[Array, "_ _ _ _"]]) -> Stages:
    """The maps with the features of the last one."""
    last = maps[-1]
    return Stages(tuple(maps), last.astype(storage_dtype(last.dtype)).mean((1, 2)))


class Downsample(nnx.Module):
    """The shortcut where a block changes stride or channels: a 1x1 convolution and its BatchNorm."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int, dtype: jnp.dtype, draw: Draw) -> None:
        self.conv = Conv(channels_in, channels_out, 1, stride=stride, dtype=dtype, draw=draw)
        self.bn = BatchNorm(channels_out, dtype=dtype)

    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 d"]:
        return self.bn(self.conv(x), train)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions beside a shortcut (ResNet-18 and 34)."""

    def __init__(self, channels_in: int, channels: int, *, stride: int, dtype: jnp.dtype, draw: Draw) -> None:
        self.conv1 = Conv(channels_in, channels, 3, stride=stride, dtype=dtype, draw=draw)
        self.bn1 = BatchNorm(channels, dtype=dtype)
        self.conv2 = Conv(channels, channels, 3, dtype=dtype, draw=draw)
        self.bn2 = BatchNorm(channels, dtype=dtype)
        self.has_downsample = stride != 1 or channels_in != channels
        if self.has_downsample:
            self.downsample = Downsample(channels_in, channels, stride=stride, dtype=dtype, draw=draw)

    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 d"]:
        shortcut = self.downsample(x, train) if self.has_downsample else x
        x = self.bn1(self.conv1(x), train, relu=True)
        x = self.bn2(self.conv2(x), train)
        return jax.nn.relu(x + shortcut)


class Bottleneck(nnx.Module):
    """1x1, 3x3 (which carries stride and groups: v1.5), 1x1 beside a shortcut (ResNet-50 and deeper)."""

    def __init__(self, channels_in: int, inner: int, channels: int, *, stride: int, groups: int, dtype: jnp.dtype, draw: Draw) -> None:
        self.conv1 = Conv(channels_in, inner, 1, dtype=dtype, draw=draw)
        self.bn1 = BatchNorm(inner, dtype=dtype)
        self.conv2 = Conv(inner, inner, 3, stride=stride, groups=groups, dtype=dtype, draw=draw)
        self.bn2 = BatchNorm(inner, dtype=dtype)
        self.conv3 = Conv(inner, channels, 1, dtype=dtype, draw=draw)
        self.bn3 = BatchNorm(channels, dtype=dtype)
        self.has_downsample = stride != 1 or channels_in != channels
        if self.has_downsample:
            self.downsample = Downsample(channels_in, channels, stride=stride, dtype=dtype, draw=draw)

    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 d"]:
        shortcut = self.downsample(x, train) if self.has_downsample else x
        x = self.bn1(self.conv1(x), train, relu=True)
        x = self.bn2(self.conv2(x), train, relu=True)
        x = self.bn3(self.conv3(x), train)
        return jax.nn.relu(x + shortcut)


class Stage(nnx.Module):
    """The blocks of one resolution, `block0` first, which halves the map in every stage but the first."""

    def __init__(
        self, arch: Architecture, stage: int, channels_in: int, width: float, *, remat: bool, dtype: jnp.dtype, draw: Draw
    ) -> None:
        self.remat = remat
        inner, channels = stage_channels(arch, stage, width)
        self.blocks = arch.blocks[stage]
        for i in range(self.blocks):
            stride = 2 if i == 0 and stage > 0 else 1
            block = (
                Bottleneck(channels_in, inner, channels, stride=stride, groups=arch.groups, dtype=dtype, draw=draw)
                if arch.bottleneck
                else BasicBlock(channels_in, channels, stride=stride, dtype=dtype, draw=draw)
            )
            setattr(self, f"block{i}", block)  # names, not a list: the trees must have string keys
            channels_in = channels

    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 d"]:
        for i in range(self.blocks):
            block = getattr(self, f"block{i}")
            x = nnx.remat(_apply, static_argnums=2)(block, x, train) if self.remat and train else block(x, train)
        return x


def _apply(block: BasicBlock | Bottleneck, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 d"]:
    return block(x, train)


class ResNet(nnx.Module):
    """Stem, four stages and the global average pool; no classifier behind them."""

    def __init__(self, arch: Architecture, stem: str, width: float, *, squares: bool, remat: bool, dtype: jnp.dtype, draw: Draw) -> None:
        self.stem = stem
        channels = scaled(64, width)
        size, stride = (7, 2) if stem == "imagenet" else (3, 1)
        first = SquaresConv if squares and stem == "imagenet" else Conv
        self.conv1 = first(3, channels, size, stride=stride, dtype=dtype, draw=draw)
        self.bn1 = BatchNorm(channels, dtype=dtype)
        for stage in range(4):
            setattr(self, f"layer{stage + 1}", Stage(arch, stage, channels, width, remat=remat, dtype=dtype, draw=draw))
            channels = stage_channels(arch, stage, width)[1]

    def __call__(self, x: Float[Array, "b h w 3"], train: bool) -> Stages:
        x = self.bn1(self.conv1(x), train, relu=True)
        if self.stem == "imagenet":
            x = max_pool(x)
        maps = []
        for stage in range(4):
            x = getattr(self, f"layer{stage + 1}")(x, train)
            maps.append(x)
        return stages_of(maps)


@dataclass(frozen=True)
class Backbone(Functional):
    """A backbone as two pure functions; `apply` gives `Stages`, `dim` is the size of their features.

    Attributes:
      channels: of each stage's map.
      strides: pixels of the image from one place of each stage's map to the next.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]


def build_backbone(model: Mapping[str, Any] | ConfigDict) -> Backbone:
    """The backbone that `config.model` describes, from normalised images float[b, h, w, 3] to `Stages`.

    Fields of `model`; all but the first may be missing:
      arch: torchvision's name.
      stem: "imagenet" (7x7 stride 2 and max-pool; the last map has side h / 32), or "small" (3x3 stride 1, no pool: SimCLR's
        for CIFAR; h / 8).
      width: multiplies every channel count.
      dtype: of the convolutions: float32, bfloat16 or float64; parameters and statistics are in float32 or better.
      precision: "default" (products of float32 are TF32 on a GPU, of bfloat16 on a TPU) or "highest" (float32 there, too).
      space_to_depth: the imagenet stem's 7x7 is computed as a 4x4 on squares of 2 x 2 pixels: the same weights and numbers.
      remat: the backward pass of training computes each residual block again instead of keeping what it holds inside.

    UserError for an unknown name, a width that is not positive, and float64 without jax_enable_x64. Source: He et al. 2015 as
    torchvision has it (models/resnet.py).
    """
    arch, stem, width = architecture(model["arch"]), model.get("stem", "imagenet"), model.get("width", 1.0)
    check_choice("model.stem", stem, STEMS)
    compute, remat = compute_dtype(model.get("dtype", "float32")), model.get("remat", False)
    precision, squares = model.get("precision", "default"), model.get("space_to_depth", False)
    check_choice("model.precision", precision, PRECISIONS)
    if not 0 < width < float("inf"):
        raise UserError(f"model.width={width}: the width multiplier must be a positive number")
    channels = tuple(stage_channels(arch, stage, width)[1] for stage in range(4))

    def build(draw: Draw) -> ResNet:
        return ResNet(arch, stem, width, squares=squares, remat=remat, dtype=compute, draw=draw)

    found = functional(build, channels[-1], compute, precision)
    first = 4 if stem == "imagenet" else 1
    return Backbone(found.init, found.apply, found.dim, channels, tuple(first * 2**stage for stage in range(4)))
