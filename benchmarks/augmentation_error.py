"""How far each colour operation of the host pipeline is from Pillow's, on real images with the same parameters.

    python benchmarks/augmentation_error.py --data /data/photos --side 112 --count 60

Prints one JSON row an operation: mean absolute error of 255 over all images, with the worst image's beside it. Crops, resizes and
flips are Pillow's own and need no row.
"""

import argparse
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from rows import print_row

from jigclu_jax.config import source_config
from jigclu_jax.data.augment import host_pictures as tf_ops
from jigclu_jax.data.lazy_tf import tensorflow
from jigclu_jax.data.sources.opening import open_source


def read(folder: str, count: int, side: int) -> list[Image.Image]:
    """A part of each of `count` images, spread over the folder, as `side` x `side` pixels."""
    config = source_config()
    config.update({"path": folder, "split": ""})
    source = open_source(config)
    pictures = []
    for index in np.linspace(0, len(source) - 1, min(count, len(source))).astype(int):
        image = Image.fromarray(source.read(int(index)))
        half = max(min(image.size) // 2, 1)
        pictures.append(image.crop((0, 0, half, half)).resize((side, side), Image.Resampling.BILINEAR))
    return pictures


def turn_hue(image: Image.Image, shift: int) -> Image.Image:
    """torchvision's adjust_hue on a Pillow image: the 8-bit hue channel plus `shift`, modulo 256."""
    hue, saturation, value = image.convert("HSV").split()
    turned = Image.fromarray(np.asarray(hue) + np.uint8(shift))
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="any tree of images")
    parser.add_argument("--side", type=int, default=112)
    parser.add_argument("--count", type=int, default=60)
    arguments = parser.parse_args()
    images = read(arguments.data, arguments.count, arguments.side)
    tf = tensorflow()
    planes = tf_ops.to_planes(np.stack([np.asarray(image) for image in images]))
    random = np.random.default_rng(0)

    def compare(name: str, ours: object, theirs: Callable[[Image.Image, float], Image.Image], parameters: np.ndarray) -> None:
        expected = np.stack([np.asarray(theirs(image, float(value))) for image, value in zip(images, parameters, strict=True)])
        error = np.abs(np.asarray(tf_ops.from_planes(ours)).astype(int) - expected.astype(int)).mean((1, 2, 3))
        print_row(
            name, round(float(error.mean()), 5), "mean absolute error of 255", worst_image=round(float(error.max()), 4), images=len(images)
        )

    factors = random.uniform(0.6, 1.4, len(images)).astype(np.float32)
    luma = tf_ops.luma(planes)
    compare("brightness", tf_ops.blend(planes, 0.0, factors), lambda image, f: ImageEnhance.Brightness(image).enhance(f), factors)
    mean = tf_ops.rounded_mean(luma)
    compare("contrast", tf_ops.blend(planes, mean, factors), lambda image, f: ImageEnhance.Contrast(image).enhance(f), factors)
    compare("saturation", tf_ops.blend(planes, luma, factors), lambda image, f: ImageEnhance.Color(image).enhance(f), factors)
    shifts = np.trunc(random.uniform(-0.1, 0.1, len(images)) * 255).astype(int) % 256
    compare("hue", tf_ops.shift_hue(planes, shifts.astype(np.float32)), lambda image, shift: turn_hue(image, int(shift)), shifts)
    compare("grayscale", tf_ops.grayscale(planes), lambda image, _: image.convert("L").convert("RGB"), factors)
    sigmas = random.uniform(0.1, 2.0, len(images)).astype(np.float32)
    blurred = tf.stack([tf_ops.blur(patch, sigma, 2.0) for patch, sigma in zip(tf.unstack(planes), sigmas, strict=True)])
    compare("blur", blurred, lambda image, sigma: image.filter(ImageFilter.GaussianBlur(sigma)), sigmas)


if __name__ == "__main__":
    main()
