"""Cuts and resizes crops of an image: those of training, and the evaluation's centre crop.

Pillow's bilinear resize (anti-aliased, 8-bit) is the definition. Where `cykooz-resizer` is installed it does the crops of training:
the same convolution in SIMD, at a third of the time, off by at most 1 of 255; evaluation stays with Pillow.
"""

import functools
import threading
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jigclu_jax.data.augment.parameters import Parameters

_ASPECT = 16  # of the longest image that is resized as a whole

Resize = Callable[[UInt8[np.ndarray, "h w 3"], int], UInt8[np.ndarray, "side side 3"]]


def crop_patches(
    image: UInt8[np.ndarray, "h w 3"], parameters: Parameters, side: int, flip: bool = True
) -> UInt8[np.ndarray, "k side side 3"]:
    """Cut the k boxes out of an RGB image, resize each to side x side pixels, mirror the ones that are to be flipped (if `flip`)."""
    patches = np.empty((len(parameters.box), side, side, 3), np.uint8)
    write_patches(patches, image, parameters.box.tolist(), parameters.flip.tolist() if flip else [False] * len(patches))
    return patches


def write_patches(
    patches: UInt8[np.ndarray, "k side side 3"], image: UInt8[np.ndarray, "h w 3"], boxes: Sequence[Sequence[int]], flips: Sequence[bool]
) -> None:
    """The same into patches that are there, from the boxes and flips of `Parameters` as lists.

    The flip comes first here because it commutes with every operation that follows.
    """
    resize = resizer()
    for target, box, mirrored in zip(patches, boxes, flips, strict=True):
        patch = resize(cut(image, box), len(target))
        if mirrored:
            for channel in range(3):  # numpy takes four times as long for pixels of three bytes backwards
                target[:, :, channel] = patch[:, ::-1, channel]
        else:
            target[:] = patch


def cut(image: UInt8[np.ndarray, "h w 3"], box: Sequence[int]) -> UInt8[np.ndarray, "bh bw 3"]:
    """The part of an image inside the box (left, top, right, bottom), as a view."""
    left, top, right, bottom = box
    return image[top:bottom, left:right]


def resize_by_pillow(image: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "side side 3"]:
    """An RGB image to side x side pixels."""
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


@functools.cache
def resizer() -> Resize:
    """The fastest resize of this installation."""
    try:
        from cykooz_resizer import FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer
    except ImportError:  # no wheel for this platform
        return resize_by_pillow
    options = ResizeOptions(resize_alg=ResizeAlg.convolution(FilterType.bilinear), use_alpha=False)
    own = threading.local()  # a resizer keeps buffers, so that threads must not share one

    def resize(image: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "side side 3"]:
        if not hasattr(own, "resizer"):
            own.resizer = Resizer()
        height, width = image.shape[:2]
        resized = ImageData(side, side, PixelType.U8x3)
        own.resizer.resize(ImageData(width, height, PixelType.U8x3, image.tobytes()), resized, options)
        return np.frombuffer(resized.get_buffer(), np.uint8).reshape(side, side, 3)

    return resize


def resize_and_centre_crop(image: UInt8[np.ndarray, "h w 3"], resize: int, crop: int) -> UInt8[np.ndarray, "crop crop 3"]:
    """torchvision's Resize(resize) and CenterCrop(crop): short side to `resize`, then the middle; black beyond a smaller image."""
    longest = min(image.shape[:2]) * max(_ASPECT, -(-2 * crop // resize))
    longest += (max(image.shape[:2]) - longest) % 2  # so that the middle stays where it is
    top, left = (max(side - longest, 0) // 2 for side in image.shape[:2])
    image = image[top : top + longest, left : left + longest]  # of a line of pixels most would be enlarged for nothing
    height, width = image.shape[:2]
    size = (resize, int(resize * height / width)) if width <= height else (int(resize * width / height), resize)
    resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    pad_x, pad_y = max(crop - size[0], 0), max(crop - size[1], 0)
    left = round((size[0] - crop) / 2) if not pad_x else -(pad_x // 2)
    top = round((size[1] - crop) / 2) if not pad_y else -(pad_y // 2)
    return np.asarray(resized.crop((left, top, left + crop, top + crop)))
