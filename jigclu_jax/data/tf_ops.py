"""Colour and blur on batches of patches in TensorFlow, with Pillow's arithmetic: 8-bit values after every operation.

Inside, patches are float32 planes [n, 3, p, p] that hold whole numbers 0..255: luma and blur then work on contiguous planes.
The parameters are `Draws.pack()` rows. Formulas follow Pillow (ImageEnhance, Convert.c, BoxBlur.c) as torchvision calls it.
"""

from functools import partial

import numpy as np
from jaxtyping import Float32
from ml_collections import ConfigDict

from jigclu_jax.data.draws import CONTRAST, HUE, SATURATION
from jigclu_jax.data.lazy_tf import Tensor, tensorflow

BLUR_PASSES = 3


def to_planes(patches: Tensor) -> Tensor:
    """uint8 [n, p, p, 3] -> float32 [n, 3, p, p]."""
    tf = tensorflow()
    return tf.cast(tf.transpose(patches, [0, 3, 1, 2]), tf.float32)


def from_planes(planes: Tensor) -> Tensor:
    """float32 [n, 3, p, p] -> uint8 [n, p, p, 3]."""
    tf = tensorflow()
    return tf.transpose(tf.cast(planes, tf.uint8), [0, 2, 3, 1])


def luma(planes: Tensor) -> Tensor:
    """Pillow's "L": [n, 3, p, p] -> [n, 1, p, p]; exact, as every sum stays under 2 ** 24."""
    tf = tensorflow()
    red, green, blue = tf.split(planes, 3, axis=1)
    return tf.floor((19595.0 * red + 38470.0 * green + 7471.0 * blue + 32768.0) * (1 / 65536))


def blend(planes: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Pillow's Image.blend(other, planes, factor): a truncated interpolation, or extrapolation clipped to 0..255. factor: [n]."""
    tf = tensorflow()
    mixed = other + factor[:, None, None, None] * (planes - other)
    return tf.floor(tf.clip_by_value(mixed, 0.0, 255.0))


def rounded_mean(gray: Tensor) -> Tensor:
    """The whole-number mean that ImageEnhance.Contrast fades to: [n, 1, p, p] -> [n, 1, 1, 1]."""
    tf = tensorflow()
    return tf.floor(tf.reduce_mean(gray, axis=[1, 2, 3], keepdims=True) + 0.5)


def blend_slot(planes: Tensor, kind: Tensor, factor: Tensor) -> Tensor:
    """Brightness, contrast or saturation, whichever `kind` [n] says, by `factor` [n]; any other kind leaves the patch."""
    tf = tensorflow()
    gray = luma(planes)
    contrast = tf.cast(tf.equal(kind, CONTRAST), tf.float32)[:, None, None, None]
    saturation = tf.cast(tf.equal(kind, SATURATION), tf.float32)[:, None, None, None]
    return blend(planes, contrast * rounded_mean(gray) + saturation * gray, factor)


def shift_hue(planes: Tensor, shift: Tensor) -> Tensor:
    """Add `shift` [n] (0..255) to Pillow's 8-bit hue, modulo 256; both conversions truncate and round as Pillow does."""
    tf = tensorflow()
    red, green, blue = tf.split(planes, 3, axis=1)
    high = tf.maximum(tf.maximum(red, green), blue)
    spread = high - tf.minimum(tf.minimum(red, green), blue)
    divisor = tf.maximum(spread, 1.0)
    red_first = tf.equal(red, high)
    green_first = tf.equal(green, high)
    sixths = tf.where(
        red_first, (green - blue) / divisor, tf.where(green_first, 2.0 + (blue - red) / divisor, 4.0 + (red - green) / divisor)
    )
    turn = sixths / 6.0
    turn = tf.where(turn < 0, turn + 1.0, turn)
    hue = tf.floor(turn * 255.0)
    saturation = tf.floor(spread * 255.0 / tf.maximum(high, 1.0))
    hue = tf.math.floormod(hue + shift[:, None, None, None], 256.0)
    sector = hue * 6.0 / 255.0
    # a channel falls from `high` by saturation times how far the hue lies from it: a trapezoid over the six sectors
    depth = high * saturation / 255.0

    def channel(offset: float) -> Tensor:
        along = sector + offset
        along = tf.where(along >= 6.0, along - 6.0, along)
        away = tf.clip_by_value(tf.minimum(along, 4.0 - along), 0.0, 1.0)
        return tf.floor(high - depth * away + 0.5)

    return tf.concat([channel(5.0), channel(3.0), channel(1.0)], axis=1)


def grayscale(planes: Tensor, flag: Tensor) -> Tensor:
    """Replace the patches whose `flag` [n] is 1 by their luma."""
    tf = tensorflow()
    return tf.where(flag[:, None, None, None] > 0, luma(planes), planes)


def box_radius(sigma: Tensor) -> Tensor:
    """Radius of the extended box filter that, applied `BLUR_PASSES` times, Pillow takes for a Gaussian (Gwosdek et al. 2011)."""
    tf = tensorflow()
    variance = sigma * sigma / BLUR_PASSES
    whole = tf.floor((tf.sqrt(12.0 * variance + 1.0) - 1.0) / 2.0)
    fraction = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    return whole + fraction


def box_matrices(sigma: Tensor, side: int, most: float) -> Tensor:
    """[n] -> float32 [n, side, side]: one pass of the box filter along a line, its ends repeated; `most` bounds sigma."""
    tf = tensorflow()
    reach = _reach(most)
    radius = box_radius(sigma)[:, None]
    whole = tf.floor(radius)
    inner = 1.0 / (2.0 * radius + 1.0)
    outer = (1.0 - (2.0 * whole + 1.0) * inner) / 2.0
    distance = tf.abs(tf.range(-reach, reach + 1, dtype=tf.float32))[None]
    weights = tf.where(distance <= whole, inner, tf.where(distance <= whole + 1, outer, 0.0))
    return tf.reshape(tf.matmul(weights, _shift_matrices(side, reach).reshape(2 * reach + 1, -1)), [-1, side, side])


def _reach(most: float) -> int:
    variance = most * most / BLUR_PASSES
    return int((np.sqrt(12 * variance + 1) - 1) / 2 + 1e-6) + 1


def _shift_matrices(side: int, reach: int) -> Float32[np.ndarray, "t side side"]:
    columns = np.arange(side)
    source = np.clip(columns[None] + np.arange(-reach, reach + 1)[:, None], 0, side - 1)
    return (source[:, :, None] == columns).astype(np.float32)


def blur(planes: Tensor, sigma: Tensor, most: float) -> Tensor:
    """Pillow's GaussianBlur with `sigma` [n] in pixels (its radius), at most `most`: three box passes along each axis."""
    tf = tensorflow()
    side = planes.shape[-1]
    box = box_matrices(sigma, side, most)[:, None]
    # Pillow rounds to 8 bits after every pass; composing the passes into one kernel errs by up to 0.8 of 255
    for _ in range(BLUR_PASSES):
        planes = tf.floor(tf.matmul(planes, box, transpose_b=True) + 0.5)
    for _ in range(BLUR_PASSES):
        planes = tf.floor(tf.matmul(box, planes) + 0.5)
    return planes


def _update_some(planes: Tensor, chosen: Tensor, function: object, parameter: Tensor) -> Tensor:
    """Apply `function(planes, parameter)` to the patches where `chosen` [n] holds."""
    tf = tensorflow()
    where = tf.where(chosen)
    changed = function(tf.gather(planes, where[:, 0]), tf.gather(parameter, where[:, 0]))  # type: ignore[operator]
    return tf.tensor_scatter_nd_update(planes, where, changed)


def augment(patches: Tensor, packed: Tensor, config: ConfigDict) -> Tensor:
    """Jitter in the drawn order, grayscale, blur: uint8 [n, p, p, 3] and float32 [n, 11] -> uint8 [n, p, p, 3].

    An operation whose probability or strength is 0 in the config is left out of the graph.
    """
    tf = tensorflow()
    jitter = config.jitter_probability > 0 and max(config.brightness, config.contrast, config.saturation, config.hue) > 0
    if not (jitter or config.grayscale_probability > 0 or config.blur_probability > 0):
        return patches
    planes = to_planes(patches)
    if jitter:
        active = packed[:, 0] > 0
        order = packed[:, 1:5]
        factors = tf.pad(packed[:, 5:8], [[0, 0], [0, 1]], constant_values=1.0)
        for slot in range(4):
            kind = tf.cast(order[:, slot], tf.int32)
            if max(config.brightness, config.contrast, config.saturation) > 0:
                factor = tf.where(active, tf.gather(factors, kind, axis=1, batch_dims=1), 1.0)
                planes = blend_slot(planes, kind, factor)
            if config.hue > 0:
                planes = _update_some(planes, active & tf.equal(kind, HUE), shift_hue, packed[:, 8])
    if config.grayscale_probability > 0:
        planes = grayscale(planes, packed[:, 9])
    if config.blur_probability > 0:
        planes = _update_some(planes, packed[:, 10] > 0, partial(blur, most=config.blur_sigma[1]), packed[:, 10])
    return from_planes(planes)


__all__ = ["augment", "blend", "blend_slot", "blur", "grayscale", "luma", "rounded_mean", "shift_hue"]
