"""Jitter, grayscale, blur and solarize on batches of patches in TensorFlow, with Pillow's arithmetic: 8-bit values after every operation.

Inside, patches are float32 planes [n, 3, p, p] that hold whole numbers 0..255: luma and blur then work on contiguous planes.
The parameters are records of bytes (`Parameters.records`). Formulas follow Pillow (ImageEnhance, Convert.c, BoxBlur.c) as torchvision does.
"""

import functools
from collections.abc import Callable
from functools import partial

import numpy as np

from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.augment.parameters import BRIGHTNESS, CONTRAST, FIELDS, HUE, SATURATION
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
    """The whole-number mean that ImageEnhance.Contrast fades to: [n, 1, p, p] -> [n, 1, 1, 1]; exact, whatever the order of adding."""
    tf = tensorflow()
    rows = tf.reduce_sum(gray, axis=3, keepdims=True)
    total = tf.reduce_sum(tf.cast(rows, tf.int64), axis=2, keepdims=True)
    count = gray.shape[2] * gray.shape[3]
    return tf.cast((2 * total + count) // (2 * count), tf.float32)


def shift_hue(planes: Tensor, shift: Tensor) -> Tensor:
    """Add `shift` [n] (0..255) to Pillow's 8-bit hue, modulo 256; both conversions truncate and round as Pillow does.

    All of it in whole numbers below 2 ** 24, of which `ops/colour.py` finds the same on accelerators.
    """
    tf = tensorflow()
    red, green, blue = tf.split(planes, 3, axis=1)
    high = tf.maximum(tf.maximum(red, green), blue)
    spread = high - tf.minimum(tf.minimum(red, green), blue)
    circle = 6.0 * tf.maximum(spread, 1.0)
    later = tf.where(tf.equal(green, high), 2.0 * spread + (blue - red), 4.0 * spread + (red - green))
    turn = tf.where(tf.equal(red, high), green - blue, later)
    hue = whole_quotient(255.0 * tf.where(turn < 0, turn + circle, turn), circle)
    saturation = whole_quotient(255.0 * spread, tf.maximum(high, 1.0))
    hue = hue + shift[:, None, None, None]
    sector = 6.0 * tf.where(hue >= 256.0, hue - 256.0, hue)  # both are at most 255; a float modulo is a call a pixel
    # a channel falls from `high` by saturation times how far the hue lies from it: a trapezoid over the six sectors of 255 each
    depth = high * saturation

    def channel(offset: float) -> Tensor:
        along = sector + 255.0 * offset
        along = tf.where(along >= 6.0 * 255, along - 6.0 * 255, along)
        away = tf.clip_by_value(tf.minimum(along, 4.0 * 255 - along), 0.0, 255.0)
        # rounded; there are no halves, as 255 * 255 is odd
        return high - whole_quotient(depth * away + (255 * 255 - 1) // 2, tf.constant(255.0 * 255))

    return tf.concat([channel(5.0), channel(3.0), channel(1.0)], axis=1)


def whole_quotient(number: Tensor, divisor: Tensor) -> Tensor:
    """floor(number / divisor) of whole numbers below 2 ** 24: a CPU rounds a division correctly, which then reaches no whole number."""
    return tensorflow().floor(number / divisor)


def grayscale(planes: Tensor) -> Tensor:
    """The luma in all three planes."""
    tf = tensorflow()
    return tf.repeat(luma(planes), 3, axis=1)


def box_radius(sigma: Tensor) -> Tensor:
    """Radius of the extended box filter that, applied `BLUR_PASSES` times, Pillow takes for a Gaussian (Gwosdek et al. 2011)."""
    tf = tensorflow()
    variance = sigma * sigma / BLUR_PASSES
    whole = tf.floor((tf.sqrt(12.0 * variance + 1.0) - 1.0) / 2.0)
    fraction = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    return whole + fraction


def box_weights(sigma: Tensor, reach: int) -> list[Tensor]:
    """Weights of one pass of the box filter for a pixel and its neighbours at distance 1 to `reach`; `sigma` [] in pixels."""
    tf = tensorflow()
    radius = box_radius(sigma)
    whole = tf.floor(radius)
    # multiples of 2 ** -16 with sum 1 (Pillow's are of 2 ** -24): float32 sums are exact then, on every machine, in every order of adding
    exact = 2.0**16 / (2.0 * radius + 1.0)
    outer = tf.floor((2.0**16 - (2.0 * whole + 1.0) * exact) / 2.0)
    inner = tf.round((2.0**16 - 2.0 * outer) / (2.0 * whole + 1.0))
    centre = 2.0**16 - 2.0 * outer - 2.0 * whole * inner
    beside = [tf.where(distance <= whole, inner, tf.where(distance <= whole + 1, outer, 0.0)) for distance in range(1, reach + 1)]
    return [weight / 2.0**16 for weight in (centre, *beside)]


def _reach(most: float) -> int:
    variance = most * most / BLUR_PASSES
    return int((np.sqrt(12 * variance + 1) - 1) / 2 + 1e-6) + 1


def blur(planes: Tensor, sigma: Tensor, most: float) -> Tensor:
    """Pillow's GaussianBlur of one patch [3, p, p], `sigma` [] in pixels (its radius), at most `most`: three box passes along each axis."""
    tf = tensorflow()
    side, reach = planes.shape[-1], _reach(most)
    centre, *beside = box_weights(sigma, reach)
    repeated = np.clip(np.arange(-reach, side + reach), 0, side - 1)  # the first and the last line go on beyond the edge
    # Pillow rounds to 8 bits after every pass; composing the passes into one kernel errs by up to 0.8 of 255. Halves go down: they
    # are frequent at a sigma like 1 (weights in sixths), and Pillow's weights fall short of 1 in the last bit.
    half = 0.5 - 2.0**-13

    def box(passes: Tensor, lines: Tensor) -> tuple[Tensor, Tensor]:
        more = tf.gather(lines, repeated)
        total = centre * more[reach : reach + side]
        for distance, weight in enumerate(beside, 1):
            before, after = reach - distance, reach + distance
            total += weight * (more[before : before + side] + more[after : after + side])
        return passes + 1, tf.floor(total + half)

    def along_lines(lines: Tensor) -> Tensor:
        # a loop keeps XLA from fusing the passes, which would compute the early ones again for each of their uses (30 times slower)
        return tf.while_loop(lambda passes, _: passes < BLUR_PASSES, box, (tf.constant(0), lines), maximum_iterations=BLUR_PASSES)[1]

    # the axis that is blurred comes first: neighbours are whole lines then, whose sums are vector operations
    columns = along_lines(tf.reshape(tf.transpose(planes, [2, 0, 1]), [side, 3 * side]))
    rows = along_lines(tf.reshape(tf.transpose(tf.reshape(columns, [side, 3, side]), [2, 1, 0]), [side, 3 * side]))
    return tf.transpose(tf.reshape(rows, [side, 3, side]), [1, 0, 2])


def solarize(planes: Tensor, threshold: int) -> Tensor:
    """Pillow's ImageOps.solarize: values from the threshold on are inverted."""
    tf = tensorflow()
    return tf.where(planes < float(threshold), planes, 255.0 - planes)


def augment(patches: Tensor, records: Tensor, law: Law) -> Tensor:
    """Jitter in the drawn order, grayscale, blur, solarize: uint8 [n, p, p, 3] by its records uint8 [n, bytes] -> uint8 [n, p, p, 3].

    Patch by patch, so that each runs its own operations only and stays in a core's cache; compiled by XLA where TensorFlow has
    it (three times faster than op by op).
    """
    return _compiled(law, patches.shape[1])(patches, records) if law.colours else patches


def by_name(records: Tensor) -> dict[str, Tensor]:
    """The named parameters of records uint8 [n, bytes]: float32, [n] each, `order` [n, 4]."""
    tf = tensorflow()
    found = {}
    for name, (kind, start) in FIELDS.items():
        raw = records[:, start : start + kind.itemsize]
        if kind.base.kind == "f":
            found[name] = tf.bitcast(raw, tf.float32)
        else:
            found[name] = tf.cast(raw if kind.shape else raw[:, 0], tf.float32)
    return found


@functools.cache  # one function for all pipelines of a process, or XLA would compile it for each
def _compiled(law: Law, side: int) -> Callable[[Tensor, Tensor], Tensor]:
    tf = tensorflow()

    def one(arguments: tuple[Tensor, Tensor]) -> Tensor:
        patch, record = arguments
        # here and not for all patches at once: XLA runs a program whose first operations do not wait for each other in threads that all
        # pipelines share, fewer than cores
        own = {name: values[0] for name, values in by_name(record[None]).items()}
        planes = to_planes(patch[None])
        if law.jitters:
            planes = tf.cond(own["jitter"] > 0, partial(_jitter, planes, own, law.hue > 0), lambda: planes)
        if law.grayscale_probability > 0:
            planes = tf.cond(own["grayscale"] > 0, partial(grayscale, planes), lambda: planes)
        if law.largest_sigma > 0:
            planes = tf.cond(own["sigma"] > 0, lambda: blur(planes[0], own["sigma"], law.largest_sigma)[None], lambda: planes)
        if law.solarize_probability > 0:
            planes = tf.cond(own["solarize"] > 0, lambda: solarize(planes, law.solarize_threshold), lambda: planes)
        return from_planes(planes)[0]

    def every(patches: Tensor, records: Tensor) -> Tensor:
        return tf.map_fn(one, (patches, records), fn_output_signature=tf.TensorSpec([side, side, 3], tf.uint8))

    return tf.function(every, autograph=False, jit_compile=xla_works() or None)


def _jitter(planes: Tensor, own: dict[str, Tensor], with_hue: bool) -> Tensor:
    tf = tensorflow()

    def slot(number: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
        operations = {
            BRIGHTNESS: lambda: blend(planes, 0.0, own["brightness"][None]),
            CONTRAST: lambda: blend(planes, rounded_mean(luma(planes)), own["contrast"][None]),
            SATURATION: lambda: blend(planes, luma(planes), own["saturation"][None]),
            HUE: lambda: shift_hue(planes, own["hue"][None]) if with_hue else planes,
        }
        return number + 1, tf.switch_case(tf.cast(own["order"][number], tf.int32), operations)

    # a loop over the four slots, not four copies: XLA compiles each operation once
    return tf.while_loop(lambda number, _: number < 4, slot, (tf.constant(0), planes), maximum_iterations=4)[1]


@functools.cache
def xla_works() -> bool:
    """Whether this TensorFlow can compile for the CPU (not every platform's build can)."""
    tf = tensorflow()
    try:
        with tf.init_scope():
            return bool(tf.function(lambda x: x + 1.0, autograph=False, jit_compile=True)(tf.constant(1.0)) == 2.0)
    except (tf.errors.OpError, ValueError):
        return False
