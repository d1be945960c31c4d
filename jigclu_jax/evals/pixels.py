"""Baseline features without a backbone: pixels and colour histograms."""

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image


def pixel_features(images: UInt8[np.ndarray, "n h w 3"], side: int = 16) -> Float32[np.ndarray, "n d"]:
    """Pixels in [0, 1] after averaging down to side x side, one row an image: float32[n, side*side*3].

    Averaging keeps what a linear classifier finds in raw pixels and makes the fit quick.
    """
    small = [np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX)) for image in images]
    return np.stack(small).reshape(len(images), -1).astype(np.float32) / 255


def colour_histogram(images: UInt8[np.ndarray, "n h w 3"], bins: int = 6) -> Float32[np.ndarray, "n d"]:
    """Joint RGB histogram, `bins` to a channel: float32[n, bins**3], the fraction of an image's pixels in each bin.

    Square roots are taken (the Hellinger kernel), which is what makes histograms work with linear classifiers.
    """
    cells = images.astype(np.int64) * bins // 256
    cells = (cells[..., 0] * bins + cells[..., 1]) * bins + cells[..., 2]
    rows = np.arange(len(images), dtype=np.int64)[:, None, None] * bins**3
    counts = np.bincount((cells + rows).ravel(), minlength=len(images) * bins**3).reshape(len(images), -1)
    return np.sqrt(counts.astype(np.float32) / np.float32(images.shape[1] * images.shape[2]))
