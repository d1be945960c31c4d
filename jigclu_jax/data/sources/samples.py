"""Scales samples of more than 8 bits to 0..255; decides which sample is white.

Tags come first (`scale_of`): bits per sample, photometric interpretation, significant bits, the largest sample; then the type of the
samples. A file that says no more than that it has 16 bits, and whose samples never use the highest of them, may hold 12 bits or a dark
picture; floats may be dark pictures of 0 to 255 or bright ones of 0 to 1: there the other files of the set decide (`Usual`), and where
they do not either, that is refused, since a guess would be wrong without a word for somebody. TIFF 6.0 sections 3, 8 and 19; PNG
(third edition) 11.3.2.7; Netpbm's `pgm`; JPEG 2000 (ITU-T T.800) A.5.1.
"""

import dataclasses
import math
import struct
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8
from PIL import ImageFile, TiffImagePlugin

from jigclu_jax.errors import ImageError, UnknownWhite, counted

_EDGE = 0.01  # fraction of the range that rounding and resampling may leave it by
_FLOAT_LEAST = 16.0  # the brightest float of a picture from 0 to 255, at least

_ASK = "set data.white to the sample that is white"
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE, _SAMPLE_FORMAT, _SMAX_SAMPLE = 258, 262, 281, 339, 341


@dataclasses.dataclass(frozen=True)
class Scale:
    """What a file says about its samples.

    Attributes:
      bits: of a stored sample.
      form: "unsigned", "signed" or "float".
      white: the sample that is white by the tags; 0: they do not say.
      significant: bits that the samples had before they were brought to `bits` (PNG's sBIT); 0: not said.
      inverted: the sample 0 is white.
      unit: what the decoder multiplied the file's samples by.
    """

    bits: int = 8
    form: str = "unsigned"
    white: float = 0.0
    significant: int = 0
    inverted: bool = False
    unit: float = 1.0

    @property
    def type(self) -> str:
        """The type of the samples, for messages; 16 bits are unsigned and 32 bits signed unless it says otherwise."""
        if self.form == "float":
            return "float"
        usual = "signed" if self.bits == 32 else "unsigned"
        return f"{self.bits}-bit" if self.form == usual else f"{self.form} {self.bits}-bit"


@dataclasses.dataclass(frozen=True)
class Usual:
    """What the files of a set say together, where one alone does not.

    Attributes:
      full_range: 16-bit samples use all their bits.
      float_white: the float that is white; 0: not known.
    """

    full_range: bool = False
    float_white: float = 0.0


@dataclasses.dataclass(frozen=True)
class Brightest:
    """The largest sample of a file that does not say which one is white, and the largest of its type."""

    form: str
    value: float
    largest: float

    @property
    def full(self) -> bool:
        """Whether the highest bit is used."""
        return self.value > self.largest // 2


def brightest(values: np.ndarray, scale: Scale) -> Brightest | None:
    """Of samples of a file; None where it says which one is white."""
    if scale.white or scale.significant:
        return None
    return Brightest(scale.form, float(values.max()), _largest(scale))


def usual(found: Mapping[str, Brightest], where: str) -> Usual:
    """What some files of a set, by name, say together; `where` names the set.

    Raises:
      UnknownWhite: nothing.
    """
    found = {name: one for name, one in found.items() if 0 < one.value < math.inf}
    wide = {name: one for name, one in found.items() if one.form != "float"}
    floats = {name: one.value for name, one in found.items() if one.form == "float"}
    if wide and not any(one.full for one in wide.values()):
        most = max(wide.values(), key=lambda one: one.value)
        raise unknown_white(
            f"{where}: 16-bit values up to {most.value:g} in {counted(len(wide), 'image')}", int(most.value), int(most.largest)
        )
    return Usual(bool(wide), _usual_float(floats, where) if floats else 0.0)


def _usual_float(highs: Mapping[str, float], where: str) -> float:
    least, most = (choose(highs, key=lambda name: highs[name]) for choose in (min, max))
    if highs[most] <= 1 + _EDGE:
        return 1.0
    if _FLOAT_LEAST <= highs[most] <= 255 * (1 + _EDGE) and highs[least] > 1 + _EDGE:
        return 255.0
    ends = f"{where}: float values up to {highs[least]:g} in {least}, up to {highs[most]:g} in {most}"
    raise UnknownWhite(f"{ends}: only sets of floats from 0 to 1, or from 0 to 255, are understood: {_ASK}")


def scale_of(image: ImageFile.ImageFile, data: bytes) -> Scale:
    """What the tags of an opened image that is not loaded yet say; `data` are the bytes of its file."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _of_tiff(image)
    if image.format == "PNG":
        return Scale(bits=data[24], significant=_significant_bits(data)) if len(data) > 24 else Scale()
    if image.format == "PPM":
        if image.mode == "F":
            return Scale(32, "float")
        return _of_netpbm(image)
    if image.format == "JPEG2000":
        bits = _precision(data)
        return Scale(16, unit=2.0 ** (16 - bits), white=65535.0 if bits < 16 else 0.0) if bits > 8 else Scale()
    return Scale(32, "float") if image.mode == "F" else Scale()


def to_bytes(values: np.ndarray, scale: Scale, where: str, white: float = 0.0, of_set: Usual | None = None) -> UInt8[np.ndarray, "..."]:
    """Samples as 0 to 255, rounded to the nearest; samples above white are white.

    Args:
      values: integers of more than 8 bits, or floats, any shape.
      scale: what the file says.
      where: the image, for messages.
      white: the sample that is white as the user says, in the file's own numbers; 0: decided here.
      of_set: what the image's set says; None for an image alone.

    Raises:
      UnknownWhite: 16 bits may be meant, or fewer; or the set is not known yet to say what a float means.
      ImageError: a range that is none of those understood.
    """
    low, high = values.min(), values.max()
    shown = [f"{end:g}" if scale.form == "float" else str(end) for end in (low, high)]
    named = f"{where}: {scale.type} {'gray' if values.ndim == 2 else 'colour'} values from {shown[0]} to {shown[1]}"
    if not np.isfinite([low, high]).all():
        raise ImageError(f"{named} are not all numbers")
    found = white * scale.unit if white > 0 else _white(values, scale, named, of_set)
    if low < -_EDGE * found:
        raise ImageError(f"{named} are below black: shift them so that black is 0")
    pixels: np.ndarray = np.rint(np.clip(values.astype(np.float32) * np.float32(255.0 / found), 0, 255)).astype(np.uint8)
    return 255 - pixels if scale.inverted else pixels


def _white(values: np.ndarray, scale: Scale, named: str, of_set: Usual | None) -> float:
    """The sample that is white, by the tags or, where they do not say, by the values."""
    low, high = float(values.min()), float(values.max())
    if scale.white > 0 and high <= scale.white * (1 + _EDGE):
        return scale.white
    if scale.form == "float":
        return _float_white(low, high, named) if of_set is None else _float_white_of_set(high, named, of_set.float_white)
    if low < 0:
        raise ImageError(f"{named} are below black: shift them so that black is 0")
    if scale.significant and scale.bits == 16 and high < 2**scale.significant and not _spread(values, scale.significant):
        return 2.0**scale.significant - 1
    largest = _largest(scale)
    if high > largest:
        raise ImageError(f"{named} have no known white: {_ASK}, or save the image with 8 or 16 bits")
    if 0 < high <= largest // 2 and not scale.significant and not (of_set and of_set.full_range):
        raise unknown_white(named, int(high), int(largest))
    return largest


def _float_white(low: float, high: float, named: str) -> float:
    """Of an image alone."""
    if low >= -_EDGE and high <= 1 + _EDGE:
        return 1.0
    if low >= -255 * _EDGE and _FLOAT_LEAST <= high <= 255 * (1 + _EDGE):
        return 255.0
    raise ImageError(f"{named}: only floats from 0 to 1 and from 0 to 255 are understood: {_ASK}")


def _float_white_of_set(high: float, named: str, white: float) -> float:
    if high <= 0:
        return 1.0  # of a black one it does not matter
    if not white:
        raise UnknownWhite(f"{named}: {_ASK}")
    if high > white * (1 + _EDGE):
        raise ImageError(f"{named}, and {white:g} is white in the other images of the set: {_ASK}")
    return white


def _largest(scale: Scale) -> float:
    return 32767.0 if scale.form == "signed" and scale.bits == 16 else 65535.0


def unknown_white(named: str, high: int, largest: int = 65535) -> UnknownWhite:
    """The error for 16-bit samples up to `high`, which leaves the highest bit unused; `named` says whose and how many."""
    bits = next(bits for bits in (8, 10, 12, 14, 15) if high < 2**bits)
    white = 2**bits - 1
    choice = f"set data.white={white} or data.white={largest}"
    return UnknownWhite(f"{named}: white may be {white} ({bits} bits) or {largest} (dark pictures): {choice}")


def _spread(values: np.ndarray, bits: int) -> bool:
    """Whether samples of so many bits were brought to 16, as PNG demands: by a shift, by repeating their bits, or by a factor."""
    short = values.astype(np.int64) >> (16 - bits)
    shifted = short << (16 - bits)
    nearest = np.rint(values * ((2**bits - 1) / 65535.0))
    return bool(
        np.all(values == shifted)
        or np.all(values == shifted | (short >> max(2 * bits - 16, 0)))
        or np.all(np.abs(nearest * (65535.0 / (2**bits - 1)) - values) < 1)
    )


def _of_tiff(image: TiffImagePlugin.TiffImageFile) -> Scale:
    def tag(number: int) -> float:
        value = image.tag_v2.get(number, 0)
        found = value[0] if isinstance(value, tuple) and value else value
        return float(found) if isinstance(found, (int, float)) else 0.0

    bits = int(tag(_BITS_PER_SAMPLE)) or 1
    form = {2: "signed", 3: "float"}.get(int(tag(_SAMPLE_FORMAT)), "unsigned")
    inverted = int(tag(_PHOTOMETRIC)) == 0 and _PHOTOMETRIC in image.tag_v2
    most = max(tag(_SMAX_SAMPLE), tag(_MAX_SAMPLE))
    if form == "float":
        # the largest sample that occurs, or that may occur: programs write either
        white = 0.0 if most <= 0 else 1.0 if most <= 1 else 255.0 if _FLOAT_LEAST <= most <= 255 else most
    elif 8 < bits < 16:
        white = 2.0**bits - 1
    else:
        white = 0.0 if most <= 0 else 2.0 ** int(most).bit_length() - 1
    return Scale(bits, form, white, inverted=inverted)


def _of_netpbm(image: ImageFile.ImageFile) -> Scale:
    """Netpbm says itself which sample is white; Pillow has multiplied the samples so that it is 65535."""
    args = image.tile[0].args if image.tile else None
    most = args[1] if isinstance(args, tuple) and len(args) == 2 and isinstance(args[1], int) else 65535
    return Scale(16, unit=65535 / most, white=0.0 if most == 65535 else 65535.0)


def _significant_bits(data: bytes) -> int:
    """The bits of the first channel by a PNG file's chunk sBIT, 0 without one."""
    at = 8
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if name == b"sBIT":
            return data[at + 8] if length else 0
        if name in (b"IDAT", b"PLTE", b"IEND"):
            return 0
        at += 12 + length
    return 0


def _precision(data: bytes) -> int:
    """Bits of the first component of a JPEG 2000 file, by its codestream's SIZ marker."""
    at = data.find(b"\xff\x4f\xff\x51")
    return (data[at + 42] & 0x7F) + 1 if 0 <= at < len(data) - 42 else 8
