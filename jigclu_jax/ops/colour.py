"""Flip, colour jitter, grayscale, blur and solarize of patches on the accelerator, with Pillow's arithmetic: 8-bit values after each.

The formulas are those of `data/augment/host_pictures.py`, from the same parameters (`data/augment/parameters.py`), so that a picture is
the same wherever it is augmented. All patches go through all operations, each keeps what it drew: a branch would cost more than it saves.
Between operations patches lie in memory as bytes, which is what an accelerator spends its time on; numbers are floats inside them.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float32, UInt8

from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.augment.parameters import BRIGHTNESS, CONTRAST, FIELDS, HUE, SATURATION
from jigclu_jax.ops.blur import blur

Planes = Float32[Array, "n 3 h w"]  # whole numbers 0..255
Bytes = UInt8[Array, "n 3 h w"]


def augment(planes: Bytes, own: Mapping[str, Array], law: Law) -> Bytes:
    """Flip, jitter in the drawn order, grayscale, blur and solarize of each patch by its own named parameters (`Parameters.by_name`)."""
    if law.flip_probability > 0:  # first, as it commutes with all others: bytes are moved, not numbers
        planes = _chosen(own["flip"] > 0, planes[:, :, :, ::-1], planes)
    if law.jitters:
        planes = _chosen(own["jitter"] > 0, _jitter(planes, own, law.hue > 0), planes)
    if law.grayscale_probability > 0:
        planes = _chosen(own["grayscale"] > 0, luma(planes.astype(jnp.float32)).astype(jnp.uint8), planes)
    if law.largest_sigma > 0:
        planes = _chosen(own["sigma"] > 0, blur(planes, own["sigma"], law.largest_sigma), planes)
    if law.solarize_probability > 0:
        inverted = planes.astype(jnp.int32) >= law.solarize_threshold
        planes = jnp.where((own["solarize"] > 0)[:, None, None, None] & inverted, 255 - planes, planes)
    return planes


def by_name(records: UInt8[Array, "n bytes"]) -> dict[str, Array]:
    """The named parameters of records as the host sends them (`Parameters.records`): numbers uint8 or float32[n], `order` uint8[n, 4]."""
    found = {}
    for name, (kind, start) in FIELDS.items():
        raw = records[:, start : start + kind.itemsize]
        if kind.base.kind == "f":
            found[name] = lax.bitcast_convert_type(raw, jnp.float32)
        else:
            found[name] = raw if kind.shape else raw[:, 0]
    return found


def luma(planes: Planes) -> Float32[Array, "n 1 h w"]:
    """Pillow's "L"; exact, as every sum stays under 2 ** 24."""
    red, green, blue = planes[:, 0:1], planes[:, 1:2], planes[:, 2:3]
    return jnp.floor((19595.0 * red + 38470.0 * green + 7471.0 * blue + 32768.0) * (1 / 65536))


def blend(planes: Planes, other: Float32[Array, "n _ _ _"] | float, factor: Float32[Array, " n"]) -> Planes:
    """Pillow's Image.blend(other, planes, factor): a truncated interpolation, or extrapolation clipped to 0..255."""
    mixed = other + factor[:, None, None, None] * (planes - other)
    return jnp.floor(jnp.clip(mixed, 0.0, 255.0))


def rounded_mean(gray: Float32[Array, "n 1 h w"]) -> Float32[Array, "n 1 1 1"]:
    """The whole-number mean that ImageEnhance.Contrast fades to; exact, whatever the order of adding."""
    rows = gray.sum(axis=3, keepdims=True).astype(jnp.int32)  # below 2 ** 24 up to 65,000 pixels a row
    count = gray.shape[2] * gray.shape[3]
    total = rows.sum(axis=2, keepdims=True)  # below 2 ** 31 up to 8 million pixels a patch
    whole, rest = total // count, total % count
    return (whole + (2 * rest >= count)).astype(jnp.float32)


def shift_hue(planes: Planes, shift: Float32[Array, " n"]) -> Planes:
    """Add `shift` (0..255) to Pillow's 8-bit hue, modulo 256; both conversions truncate and round as Pillow does.

    All of it in whole numbers below 2 ** 24, so that every device finds the same.
    """
    red, green, blue = planes[:, 0:1], planes[:, 1:2], planes[:, 2:3]
    high = jnp.maximum(jnp.maximum(red, green), blue)
    spread = high - jnp.minimum(jnp.minimum(red, green), blue)
    circle = 6.0 * jnp.maximum(spread, 1.0)
    later = jnp.where(green == high, 2.0 * spread + (blue - red), 4.0 * spread + (red - green))
    turn = jnp.where(red == high, green - blue, later)
    hue = whole_quotient(255.0 * jnp.where(turn < 0, turn + circle, turn), circle)
    saturation = whole_quotient(255.0 * spread, jnp.maximum(high, 1.0))
    turned = hue + shift[:, None, None, None]  # both are at most 255
    sector = jnp.where(turned >= 256.0, turned - 256.0, turned) * 6.0  # 255 a sector
    # a channel falls from `high` by saturation times how far the hue lies from it: a trapezoid over the six sectors. All three in one
    # expression: joined from three they are several times slower on a CPU, where XLA does not vectorize what it joins
    along = sector + jnp.array([5.0 * 255, 3.0 * 255, 1.0 * 255], planes.dtype)[:, None, None]
    along = jnp.where(along >= 6.0 * 255, along - 6.0 * 255, along)
    away = jnp.clip(jnp.minimum(along, 4.0 * 255 - along), 0.0, 255.0)
    # rounded; there are no halves, as 255 * 255 is odd
    return high - whole_quotient(high * saturation * away + (255 * 255 - 1) // 2, 255.0 * 255)


def whole_quotient(number: Float32[Array, "*_"], divisor: Float32[Array, "*_"] | float) -> Float32[Array, "*_"]:
    """floor(number / divisor) of whole numbers, 0 <= number < 2 ** 24, a quotient of at most 2 ** 9; exact however a device divides.

    A division may be off by some bits, and a product be fused with the sum after it; `quotient * divisor` is exact in any case.
    """
    quotient = jnp.floor(number / divisor)
    rest = number - quotient * divisor
    return quotient + (rest >= divisor) - (rest < 0)


def _jitter(patches: Bytes, own: Mapping[str, Array], with_hue: bool) -> Bytes:
    """Brightness, contrast, saturation and hue, in the order of each patch."""
    shift = own["hue"].astype(jnp.float32)

    def slot(number: Array, patches: Bytes) -> Bytes:
        planes = patches.astype(jnp.float32)
        operation = jnp.take(own["order"], number, axis=1)
        gray = luma(planes)
        # contrast and saturation are one blend, with the mean of the luma or with the luma itself
        other = _chosen(operation == CONTRAST, rounded_mean(gray), _chosen(operation == SATURATION, gray, jnp.zeros_like(gray)))
        factors = {BRIGHTNESS: own["brightness"], CONTRAST: own["contrast"], SATURATION: own["saturation"]}
        factor = sum((jnp.where(operation == name, values, 0.0) for name, values in factors.items()), jnp.zeros((), jnp.float32))
        blended = blend(planes, other, factor)
        return _chosen(operation == HUE, shift_hue(planes, shift) if with_hue else planes, blended).astype(jnp.uint8)

    return lax.fori_loop(0, 4, slot, patches)  # one program for the four slots: a quarter of the compilation


def _chosen(condition: Array, yes: Array, no: Array) -> Array:
    """Per patch: `yes` where the condition [n] holds, else `no`."""
    return jnp.where(condition[:, None, None, None], yes, no)
