"""Cutting an image: the augmented patches' crops and the evaluation's centre crop.

Pillow's bilinear resize (anti-aliased, 8-bit) is the definition. Where `cykooz-resizer` is installed it does the crops of training:
the same convolution in SIMD, at a third of the time, off by at most 1 of 255; evaluation stays with Pillow.
"""

import functools
import threading
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jigclu_jax.data.draws import Draws

Resize = Callable[[Image.Image, int], Image.Image]


def crop_patches(image: Image.Image, draws: Draws, side: int, flip: bool = True) -> UInt8[np.ndarray, "k side side 3"]:
    """Cut the k boxes out of an RGB image, resize each to side x side pixels, mirror the ones that are to be flipped (if `flip`).

    The flip comes first here because it commutes with every operation that follows.
    """
    resize = resizer()
    patches = np.empty((len(draws.box), side, side, 3), np.uint8)
    for i, (box, mirrored) in enumerate(zip(draws.box.tolist(), draws.flip.tolist(), strict=True)):
        patch = resize(image.crop(box), side)
        # Pillow mirrors whole pixels, several times faster than numpy copies single bytes backwards
        patches[i] = np.asarray(patch.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored and flip else patch)
    return patches


def resize_by_pillow(image: Image.Image, side: int) -> Image.Image:
    """An RGB image to side x side pixels."""
    return image.resize((side, side), Image.Resampling.BILINEAR)


@functools.cache
def resizer() -> Resize:
    """The fastest resize of this installation."""
    try:
        from cykooz_resizer import FilterType, ResizeAlg, ResizeOptions, Resizer
    except ImportError:  # no wheel for this platform
        return resize_by_pillow
    options = ResizeOptions(resize_alg=ResizeAlg.convolution(FilterType.bilinear), use_alpha=False)
    own = threading.local()  # a resizer keeps buffers, so that threads must not share one

    def resize(image: Image.Image, side: int) -> Image.Image:
        if not hasattr(own, "resizer"):
            own.resizer = Resizer()
        resized = Image.new("RGB", (side, side))
        own.resizer.resize_pil(image, resized, options)
        return resized

    return resize


def resize_and_centre_crop(image: Image.Image, resize: int, crop: int) -> UInt8[np.ndarray, "crop crop 3"]:
    """torchvision's Resize(resize) and CenterCrop(crop): short side to `resize`, then the middle; black beyond a smaller image."""
    width, height = image.size
    size = (resize, int(resize * height / width)) if width <= height else (int(resize * width / height), resize)
    resized = image.resize(size, Image.Resampling.BILINEAR)
    pad_x, pad_y = max(crop - size[0], 0), max(crop - size[1], 0)
    left = round((size[0] - crop) / 2) if not pad_x else -(pad_x // 2)
    top = round((size[1] - crop) / 2) if not pad_y else -(pad_y // 2)
    return np.asarray(resized.crop((left, top, left + crop, top + crop)))
