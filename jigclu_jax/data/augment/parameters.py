"""The parameters of the augmentation, by name: drawn from the streams of `streams.py` under a `Law`.

They are written for any array library, given as `xp`: the host draws with numpy in float64, the accelerator (`data.augment=resident`)
with `jax.numpy` in float32, from the same random numbers.
"""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, UInt8

from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.augment.streams import Key, uniforms

TRIES = 10
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
# Random numbers that a crop uses of each stream.
COUNTS = {"crop": 4 * TRIES, "flip": 1, "jitter": 1, "order": 4, "brightness": 1, "contrast": 1, "saturation": 1, "hue": 1}
COUNTS |= {"grayscale": 1, "blur": 1, "sigma": 1, "solarize": 1}
# What travels to where colours are worked on, one record of bytes a crop; the box stays behind, the crop is done before.
_SMALL = ("flip", "jitter", "hue", "grayscale", "solarize")
RECORD = np.dtype(
    [("order", "u1", (4,)), *((name, "u1") for name in _SMALL), ("unused", "u1", (3,))]
    + [(name, "<f4") for name in ("brightness", "contrast", "saturation", "sigma")]
)
# dtype and first byte of each of a record's numbers, by name
FIELDS: dict[str, tuple[Any, int]] = {name: field[:2] for name, field in (RECORD.fields or {}).items()}


@dataclasses.dataclass(frozen=True)
class Parameters:
    """Named arrays with a row for each of n crops.

    Attributes:
      box: (left, top, right, bottom) in the image.
      flip, jitter, grayscale, solarize: whether each is done.
      order: the colour operation at each of four slots, BRIGHTNESS..HUE.
      brightness, contrast, saturation: factors.
      hue: a shift of the 8-bit hue, modulo 256.
      sigma: of the blur in pixels; 0: none.
    """

    box: Int32[Any, "n 4"]
    flip: Bool[Any, " n"]
    jitter: Bool[Any, " n"]
    order: Int32[Any, "n 4"]
    brightness: Float32[Any, " n"]
    contrast: Float32[Any, " n"]
    saturation: Float32[Any, " n"]
    hue: Int32[Any, " n"]
    grayscale: Bool[Any, " n"]
    sigma: Float32[Any, " n"]
    solarize: Bool[Any, " n"]

    def by_name(self) -> dict[str, Any]:
        """What colours are worked on with: all but the box."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "box"}

    def records(self) -> UInt8[np.ndarray, "n bytes"]:
        """The same as one record (`RECORD`) a crop, for the way to a device (numpy alone)."""
        records = np.zeros(len(self.flip), RECORD)
        for name, values in self.by_name().items():
            records[name] = values
        return records.view(np.uint8).reshape(len(records), RECORD.itemsize)

    def within(self, frame: "Parameters") -> "Parameters":
        """The crops, mirrored or gray also where their frames are, which have a row for each crop."""
        return dataclasses.replace(self, flip=self.flip ^ frame.flip, grayscale=self.grayscale | frame.grayscale)


def draw(law: Law, key: Key, regions: Int32[Any, "n 4"], xp: Any = np, *, relative: bool = False) -> Parameters:
    """The parameters of n crops from their keys (`streams.crop_keys`).

    Args:
      law: of the augmentation.
      key: of each crop.
      regions: (left, top, right, bottom) that each crop is taken from, in the image.
      xp: numpy or jax.numpy.
      relative: the law's aspect is relative to the region's.
    """
    u = uniforms(key, COUNTS, xp)
    column = {name: values[:, 0] for name, values in u.items()}

    def factor(name: str) -> Any:
        strength = getattr(law, name)
        low, high = max(1 - strength, 0), 1 + strength
        # multiples of 2 ** -14: a blend of 8-bit values is then exact in float32, with or without fused multiply-add
        return (xp.rint((low + (high - low) * column[name]) * 2**14) / 2**14).astype(xp.float32)

    sigma = law.blur_sigma[0] + (law.blur_sigma[1] - law.blur_sigma[0]) * column["sigma"]
    return Parameters(
        box=resized_crop_boxes(law, u["crop"].reshape(-1, TRIES, 4), regions, xp, relative=relative),
        flip=column["flip"] < law.flip_probability,
        jitter=column["jitter"] < law.jitter_probability,
        order=xp.argsort(u["order"], axis=1).astype(xp.int32),
        brightness=factor("brightness"),
        contrast=factor("contrast"),
        saturation=factor("saturation"),
        hue=xp.trunc(law.hue * (2 * column["hue"] - 1) * 255).astype(xp.int32) % 256,
        grayscale=column["grayscale"] < law.grayscale_probability,
        sigma=xp.where(column["blur"] < law.blur_probability, sigma, 0.0).astype(xp.float32),
        solarize=column["solarize"] < law.solarize_probability,
    )


def flips(law: Law, key: Key) -> Bool[np.ndarray, " n"]:
    """`draw(law, key, ...).flip` alone."""
    return uniforms(key, {"flip": COUNTS["flip"]})["flip"][:, 0] < law.flip_probability


def resized_crop_boxes(
    law: Law, u: Float[Any, "n t 4"], regions: Int32[Any, "n 4"], xp: Any = np, *, relative: bool = False
) -> Int32[Any, "n 4"]:
    """RandomResizedCrop's box inside each region, in image coordinates (torchvision: the first of t tries that fits, else a central crop).

    `u` holds for each try the uniforms of area, aspect (log-uniform), left and top. With `relative`, an aspect of 1 is the region's own:
    the box is that of a region which was stretched to a square.
    """
    width = (regions[:, 2] - regions[:, 0]).astype(u.dtype)[:, None]
    height = (regions[:, 3] - regions[:, 1]).astype(u.dtype)[:, None]
    (least, most), aspect = law.crop_area, law.crop_aspect
    share = least + (most - least) * u[:, :, 0]
    log_low, log_high = math.log(aspect[0]), math.log(aspect[1])
    root = xp.exp(0.5 * (log_low + (log_high - log_low) * u[:, :, 1]))
    sides = (width * xp.sqrt(share), height * xp.sqrt(share)) if relative else [xp.sqrt(width * height * share)] * 2
    w, h = xp.rint(sides[0] * root), xp.rint(sides[1] / root)
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
    natural = width / height if relative else 1.0
    ratio = width / height / natural
    w_central = xp.where(ratio > aspect[1], xp.maximum(xp.rint(height * natural * aspect[1]), 1), width)
    h_central = xp.where(ratio < aspect[0], xp.maximum(xp.rint(width / natural / aspect[0]), 1), height)
    w, h = xp.where(failed, w_central, w), xp.where(failed, h_central, h)
    left = xp.where(failed, (width - w) // 2, left) + regions[:, 0]
    top = xp.where(failed, (height - h) // 2, top) + regions[:, 1]
    return xp.stack([left, top, left + w, top + h], axis=1).astype(xp.int32)
