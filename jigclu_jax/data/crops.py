"""Cutting an image with Pillow: the augmented patches' crops and the evaluation's centre crop.

Pillow itself does the resizing because it is the definition (bilinear, anti-aliased, 8-bit), releases the interpreter lock
while it works, and measured faster than tf.image.resize.
"""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jigclu_jax.data.draws import Draws


def crop_patches(image: UInt8[np.ndarray, "h w 3"], draws: Draws, side: int, flip: bool = True) -> UInt8[np.ndarray, "k side side 3"]:
    """Cut the k boxes out of the image, resize each to side x side pixels, mirror the ones that are to be flipped (unless `flip` is False).

    The flip comes first here because it commutes with every operation that follows.
    """
    whole = Image.fromarray(image)
    patches = np.empty((len(draws.box), side, side, 3), np.uint8)
    for i, (box, mirrored) in enumerate(zip(draws.box.tolist(), draws.flip.tolist(), strict=True)):
        patch = np.asarray(whole.crop(box).resize((side, side), Image.Resampling.BILINEAR))
        patches[i] = patch[:, ::-1] if mirrored and flip else patch
    return patches


def resize_and_centre_crop(image: UInt8[np.ndarray, "h w 3"], resize: int, crop: int) -> UInt8[np.ndarray, "crop crop 3"]:
    """torchvision's Resize(resize) and CenterCrop(crop): short side to `resize`, then the middle; black beyond a smaller image."""
    height, width = image.shape[:2]
    size = (resize, int(resize * height / width)) if width <= height else (int(resize * width / height), resize)
    resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    pad_x, pad_y = max(crop - size[0], 0), max(crop - size[1], 0)
    left = round((size[0] - crop) / 2) if not pad_x else -(pad_x // 2)
    top = round((size[1] - crop) / 2) if not pad_y else -(pad_y // 2)
    return np.asarray(resized.crop((left, top, left + crop, top + crop)))
