"""The random numbers of the augmentation, drawn in numpy: a function of (seed, epoch, example, position) alone.

Laws are torchvision's (RandomResizedCrop, ColorJitter, GaussianBlur as the MoCo v2 recipe uses them), on which the authors' code rests.
They are written for any array library, given as `xp`: the host draws with numpy in float64, the accelerator (`data.augment=resident`)
with `jax.numpy` in float32.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32
from ml_collections import ConfigDict

from jigclu_jax.data.input.order import generator
from jigclu_jax.errors import UserError

TRIES = 10
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
PACKED = 12  # columns of Draws.pack()
UNIFORMS = 4 * TRIES + 13  # random numbers that a patch uses


@dataclass(frozen=True)
class Draws:
    """Parameters for k patches; `order[i, slot]` is the colour operation at that slot (BRIGHTNESS..HUE), `hue` a shift modulo 256."""

    box: Int32[Any, "k 4"]
    jitter: Bool[Any, " k"]
    order: Int32[Any, "k 4"]
    factors: Float32[Any, "k 3"]
    hue: Int32[Any, " k"]
    grayscale: Bool[Any, " k"]
    blur: Bool[Any, " k"]
    sigma: Float32[Any, " k"]
    flip: Bool[Any, " k"]

    def pack(self, xp: Any = np) -> Float32[Any, "k 12"]:
        """One float32 array for the way to where colours are worked on: jitter, order (4), factors (3), hue, grayscale, sigma (0: no
        blur), flip. The box stays behind: the crop is done before.
        """
        columns = (self.jitter[:, None], self.order, self.factors, self.hue[:, None], self.grayscale[:, None])
        blur = (self.sigma * self.blur)[:, None]
        return xp.concatenate([xp.asarray(x, xp.float32) for x in (*columns, blur, self.flip[:, None])], axis=1)


@dataclass(frozen=True)
class Steps:
    """Which operations an augmentation has at all: one whose probability or strength is 0 is left out of the compiled program."""

    jitter: bool
    hue: bool
    grayscale: bool
    blur: float  # the largest sigma, 0: no blur
    flip: bool

    @classmethod
    def of(cls, config: ConfigDict) -> "Steps":
        """The steps of an augmentation config."""
        return cls(
            jitter=config.jitter_probability > 0 and max(config.brightness, config.contrast, config.saturation, config.hue) > 0,
            hue=config.hue > 0,
            grayscale=config.grayscale_probability > 0,
            blur=float(config.blur_sigma[1]) if config.blur_probability > 0 else 0.0,
            flip=config.flip_probability > 0,
        )


def check_augment(config: ConfigDict) -> None:
    """UserError for a probability outside of [0, 1], a negative strength, or a range that is none."""
    for name in ("jitter_probability", "grayscale_probability", "blur_probability", "flip_probability"):
        if not 0 <= config[name] <= 1:
            raise UserError(f"augment.{name}={config[name]:g} is not a probability: set it between 0 and 1")
    for name in ("brightness", "contrast", "saturation"):
        if config[name] < 0:
            raise UserError(f"augment.{name}={config[name]:g} is negative: set it to 0 or more")
    if not 0 <= config.hue <= 0.5:
        raise UserError(f"augment.hue={config.hue:g} is outside of [0, 0.5] (0.5 is half a turn of the colour circle)")
    for name, least, most in (("crop_area", 0.0, 1.0), ("crop_aspect", 0.0, math.inf), ("blur_sigma", -math.inf, math.inf)):
        values = config[name]
        if len(values) != 2 or not least < values[0] <= values[1] <= most:
            raise UserError(f"augment.{name}={tuple(values)} is not a range (low, high)" + (" within (0, 1]" if most == 1 else ""))
    if config.blur_sigma[0] < 0:
        raise UserError(f"augment.blur_sigma={tuple(config.blur_sigma)} is negative: it is a standard deviation in pixels")


def draw(config: ConfigDict, seed: int, epoch: int, example: int, cells: Int32[np.ndarray, "k 4"]) -> Draws:
    """Draw the augmentation of the k patches of one example, whose cells are (left, top, right, bottom) in the image."""
    return draw_many(config, seed, epoch, [example], [cells])


def draw_many(config: ConfigDict, seed: int, epoch: int, examples: Sequence[int], cells: Sequence[Int32[np.ndarray, "k 4"]]) -> Draws:
    """`draw` of several examples, one after the other in one `Draws`: numpy's cost a call is paid once for all of them."""
    uniforms = [generator(seed, epoch, example, 1).random((len(own), UNIFORMS)) for example, own in zip(examples, cells, strict=True)]
    return draws_from_uniforms(config, np.concatenate(uniforms), np.concatenate(cells))


def draws_from_uniforms(config: ConfigDict, u: Float[Any, "k c"], cells: Int32[Any, "k 4"], xp: Any = np) -> Draws:
    """The same from uniform numbers in [0, 1) in an array library of choice; row i serves position i whatever k is."""
    k = len(cells)
    tries = u[:, : 4 * TRIES].reshape(k, TRIES, 4)
    rest = u[:, 4 * TRIES :]
    strengths = np.array([config.brightness, config.contrast, config.saturation])
    low, high = np.maximum(1 - strengths, 0), 1 + strengths
    hue = config.hue * (2 * rest[:, 7] - 1)
    sigma_low, sigma_high = config.blur_sigma
    return Draws(
        box=resized_crop_boxes(config.crop_area, config.crop_aspect, tries, cells, xp),
        jitter=rest[:, 8] < config.jitter_probability,
        order=xp.argsort(rest[:, 0:4], axis=1).astype(xp.int32),
        # multiples of 2 ** -14: a blend of 8-bit values is then exact in float32, with or without fused multiply-add
        factors=(xp.rint((low + (high - low) * rest[:, 4:7]) * 2**14) / 2**14).astype(xp.float32),
        hue=xp.trunc(hue * 255).astype(xp.int32) % 256,
        grayscale=rest[:, 9] < config.grayscale_probability,
        blur=rest[:, 10] < config.blur_probability,
        sigma=(sigma_low + (sigma_high - sigma_low) * rest[:, 11]).astype(xp.float32),
        flip=rest[:, 12] < config.flip_probability,
    )


def resized_crop_boxes(
    area: tuple[float, float], aspect: tuple[float, float], u: Float[Any, "k t 4"], cells: Int32[Any, "k 4"], xp: Any = np
) -> Int32[Any, "k 4"]:
    """RandomResizedCrop's box inside each cell, in image coordinates (torchvision's law: first of 10 tries that fits, else a central crop).

    `u` holds for each try the uniforms of area, aspect (log-uniform), left and top.
    """
    width = (cells[:, 2] - cells[:, 0]).astype(u.dtype)[:, None]
    height = (cells[:, 3] - cells[:, 1]).astype(u.dtype)[:, None]
    target = width * height * (area[0] + (area[1] - area[0]) * u[:, :, 0])
    log_low, log_high = math.log(aspect[0]), math.log(aspect[1])
    root = xp.exp(0.5 * (log_low + (log_high - log_low) * u[:, :, 1]))
    side = xp.sqrt(target)
    w, h = xp.rint(side * root), xp.rint(side / root)
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.argmax(axis=1)[:, None]

    def at_first(values: Any) -> Any:
        return xp.take_along_axis(values, first, axis=1)[:, 0]

    width, height = width[:, 0], height[:, 0]
    w, h = at_first(w), at_first(h)
    # the minimum: in float32 the product may round up to the number of places
    left = xp.minimum(xp.floor(at_first(u[:, :, 2]) * (width - w + 1)), width - w)
    top = xp.minimum(xp.floor(at_first(u[:, :, 3]) * (height - h + 1)), height - h)
    failed = ~at_first(fits)
    ratio = width / height
    w_central = xp.where(ratio > aspect[1], xp.maximum(xp.rint(height * aspect[1]), 1), width)
    h_central = xp.where(ratio < aspect[0], xp.maximum(xp.rint(width / aspect[0]), 1), height)
    w, h = xp.where(failed, w_central, w), xp.where(failed, h_central, h)
    left = xp.where(failed, (width - w) // 2, left) + cells[:, 0]
    top = xp.where(failed, (height - h) // 2, top) + cells[:, 1]
    return xp.stack([left, top, left + w, top + h], axis=1).astype(xp.int32)
