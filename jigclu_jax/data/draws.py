"""The random numbers of the augmentation, drawn in numpy: a function of (seed, epoch, example, position) alone.

Laws are torchvision's (RandomResizedCrop, ColorJitter, GaussianBlur as the MoCo v2 recipe uses them), on which the authors' code rests.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32
from ml_collections import ConfigDict

from jigclu_jax.data.order import generator
from jigclu_jax.errors import UserError

TRIES = 10
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
PACKED = 11  # columns of Draws.pack()
_COLUMNS = 4 * TRIES + 13


@dataclass(frozen=True)
class Draws:
    """Parameters for k patches; `order[i, slot]` is the colour operation at that slot (BRIGHTNESS..HUE), `hue` a shift modulo 256."""

    box: Int32[np.ndarray, "k 4"]
    jitter: Bool[np.ndarray, " k"]
    order: Int32[np.ndarray, "k 4"]
    factors: Float32[np.ndarray, "k 3"]
    hue: Int32[np.ndarray, " k"]
    grayscale: Bool[np.ndarray, " k"]
    blur: Bool[np.ndarray, " k"]
    sigma: Float32[np.ndarray, " k"]
    flip: Bool[np.ndarray, " k"]

    def pack(self) -> Float32[np.ndarray, "k 11"]:
        """One float32 array for the way into TensorFlow: jitter, order (4), factors (3), hue, grayscale, sigma (0: no blur).

        Box and flip stay behind: the crop is done before.
        """
        packed = np.empty((len(self.box), PACKED), np.float32)
        packed[:, 0] = self.jitter
        packed[:, 1:5] = self.order
        packed[:, 5:8] = self.factors
        packed[:, 8] = self.hue
        packed[:, 9] = self.grayscale
        packed[:, 10] = self.sigma * self.blur
        return packed


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
    return draws_from_uniforms(config, generator(seed, epoch, example, 1).random((len(cells), _COLUMNS)), cells)


def draws_from_uniforms(config: ConfigDict, u: Float64[np.ndarray, "k c"], cells: Int32[np.ndarray, "k 4"]) -> Draws:
    """The same from uniform numbers in [0, 1), so that laws can be tested; row i serves position i whatever k is."""
    k = len(cells)
    tries = u[:, : 4 * TRIES].reshape(k, TRIES, 4)
    rest = u[:, 4 * TRIES :]
    strengths = np.array([config.brightness, config.contrast, config.saturation])
    low, high = np.maximum(1 - strengths, 0), 1 + strengths
    hue = config.hue * (2 * rest[:, 7] - 1)
    sigma_low, sigma_high = config.blur_sigma
    return Draws(
        box=resized_crop_boxes(config.crop_area, config.crop_aspect, tries, cells),
        jitter=rest[:, 8] < config.jitter_probability,
        order=np.argsort(rest[:, 0:4], axis=1).astype(np.int32),
        # multiples of 2 ** -14: a blend of 8-bit values is then exact in float32, with or without fused multiply-add
        factors=(np.rint((low + (high - low) * rest[:, 4:7]) * 2**14) / 2**14).astype(np.float32),
        hue=np.trunc(hue * 255).astype(np.int32) % 256,
        grayscale=rest[:, 9] < config.grayscale_probability,
        blur=rest[:, 10] < config.blur_probability,
        sigma=(sigma_low + (sigma_high - sigma_low) * rest[:, 11]).astype(np.float32),
        flip=rest[:, 12] < config.flip_probability,
    )


def resized_crop_boxes(
    area: tuple[float, float], aspect: tuple[float, float], u: Float64[np.ndarray, "k t 4"], cells: Int32[np.ndarray, "k 4"]
) -> Int32[np.ndarray, "k 4"]:
    """RandomResizedCrop's box inside each cell, in image coordinates (torchvision's law: first of 10 tries that fits, else a central crop).

    `u` holds for each try the uniforms of area, aspect (log-uniform), left and top.
    """
    width = (cells[:, 2] - cells[:, 0]).astype(np.float64)[:, None]
    height = (cells[:, 3] - cells[:, 1]).astype(np.float64)[:, None]
    target = width * height * (area[0] + (area[1] - area[0]) * u[:, :, 0])
    log_low, log_high = math.log(aspect[0]), math.log(aspect[1])
    root = np.exp(0.5 * (log_low + (log_high - log_low) * u[:, :, 1]))
    side = np.sqrt(target)
    w, h = np.rint(side * root), np.rint(side / root)
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.argmax(axis=1)
    rows = np.arange(len(cells))
    width, height = width[:, 0], height[:, 0]
    w, h = w[rows, first], h[rows, first]
    left = np.floor(u[rows, first, 2] * (width - w + 1))
    top = np.floor(u[rows, first, 3] * (height - h + 1))
    failed = ~fits[rows, first]
    if failed.any():
        ratio = width / height
        w_central = np.where(ratio > aspect[1], np.maximum(np.rint(height * aspect[1]), 1), width)
        h_central = np.where(ratio < aspect[0], np.maximum(np.rint(width / aspect[0]), 1), height)
        w, h = np.where(failed, w_central, w), np.where(failed, h_central, h)
        left = np.where(failed, (width - w) // 2, left)
        top = np.where(failed, (height - h) // 2, top)
    left, top = left + cells[:, 0], top + cells[:, 1]
    return np.stack([left, top, left + w, top + h], axis=1).astype(np.int32)
