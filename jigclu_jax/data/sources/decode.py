"""Bytes of one image file -> RGB uint8, by Pillow, whatever the mode of the file.

Where `simplejpeg` is installed, sound JPEG files of the usual kinds go through it: the same libjpeg-turbo in an eighth less time, to the
same bits. Whatever it would refuse or warn about is left to Pillow, which knows what to do with it or what to say.
"""

import functools
import io
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from jigclu_jax.data.sources.file_kinds import kind_of
from jigclu_jax.data.sources.samples import Brightest, Scale, Usual, brightest, scale_of, to_bytes
from jigclu_jax.errors import ImageError, one_line

# Only these are tried: other plugins of Pillow start programs (EPS) or read what is no photograph. Naming them by their
# plugins also registers them, which Pillow does for some only after others have failed. MPO (several JPEGs in one) is JPEG.
FORMATS = (
    JpegImagePlugin.JpegImageFile.format,
    PngImagePlugin.PngImageFile.format,
    BmpImagePlugin.BmpImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    GifImagePlugin.GifImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
    PpmImagePlugin.PpmImageFile.format,
    Jpeg2KImagePlugin.Jpeg2KImageFile.format,
)
# Names of files that hold one of them, in lower case: Pillow's own table.
EXTENSIONS = tuple(sorted(end for end, name in Image.EXTENSION.items() if name in (*FORMATS, MpoImagePlugin.MpoImageFile.format)))
# Where Pillow itself refuses (twice the size at which it warns); checked here too, as its limit is a process-wide variable.
MAX_PIXELS = 178_956_970

_JPEG = b"\xff\xd8\xff"

_QUIET_LOCK = threading.Lock()
_QUIET_MODULE = r"PIL\."


def decode_rgb(data: bytes, where: str, white: float = 0.0, of_set: Usual | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes one encoded image (`data`) into RGB, uint8[h, w, 3], contiguous.

    `where` names the image in errors; `white` is the sample that is white in files of more than 8 bits a sample, 0: as the file
    says (`samples.py`); `of_set`: what its set says, None for an image alone. Raises ImageError (one line) for bytes that are
    no image or damaged, for images over `MAX_PIXELS`, and for samples of an unknown range, UnknownWhite for those that may be dark or
    of fewer bits. As torchvision's `convert("RGB")` does, alpha is dropped, not blended; the first frame of an animation is taken; EXIF
    orientation is not applied. 16-bit gray is scaled by 1/257 and rounded (Pillow alone would clip). May be called from several threads
    at once.
    """
    if not data:
        raise ImageError(f"{where}: the file is empty (0 bytes)")
    if data.startswith(_JPEG) and (decode := _turbo()) and (pixels := decode(data)) is not None:
        return pixels
    _silence_pillow()
    try:
        with _open(data) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(_too_large(where, f"{image.width} x {image.height} pixels"))
            scale = scale_of(image, data)
            if misread := _misread(image, scale):
                raise ImageError(f"{where}: {misread}")
            image.load()
            values = _wide_samples(image, data, scale, every=white > 0)
            if values is None:
                return _convert(image)
            pixels = to_bytes(values, scale, where, white, of_set)
            return gray_to_rgb(pixels) if pixels.ndim == 2 else pixels
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{where}: {_what_it_is_instead(data)}") from None
    except Image.DecompressionBombError:
        raise ImageError(_too_large(where, "the image")) from None
    except MemoryError:
        raise ImageError(f"{where}: not enough memory to decode the image") from None
    except Exception as error:  # damaged bytes make Pillow's plugins raise almost anything: OSError, SyntaxError, struct.error, ...
        reason = one_line(error)
        if any(word in reason.lower() for word in ("unsupported", "not supported", "not available")):
            raise ImageError(f"{where}: an image of a sort that is not read ({reason}): convert it to JPEG or PNG") from error
        raise ImageError(f"{where}: damaged image: {reason}") from error


def gray_to_rgb(gray: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Repeats uint8[h, w] into the three channels, uint8[h, w, 3]."""
    return np.repeat(gray[:, :, None], 3, axis=2)


@functools.cache
def _turbo() -> Callable[[bytes], UInt8[np.ndarray, "h w 3"] | None] | None:
    """A decoder that gives None for what Pillow has to look at; None where it is not installed."""
    try:
        import simplejpeg
    except ImportError:  # no wheel for this platform
        return None

    def decode(data: bytes) -> UInt8[np.ndarray, "h w 3"] | None:
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
            if colours not in ("YCbCr", "Gray") or height * width > MAX_PIXELS:
                return None
            pixels: UInt8[np.ndarray, "h w 3"] = simplejpeg.decode_jpeg(data, "RGB", strict=True)
        except (ValueError, MemoryError):
            return None
        return pixels

    return decode


def _open(data: bytes) -> ImageFile.ImageFile:
    return Image.open(io.BytesIO(data), formats=FORMATS)


def brightest_sample(data: bytes) -> Brightest | None:
    """The largest sample of a file of 16 bits or floats that does not say which one is white, None for any other file.

    Raises ImageError, without a name, for what cannot be decoded.
    """
    _silence_pillow()
    try:
        with _open(data) as image:
            scale = scale_of(image, data)
            if (scale.bits != 16 and scale.form != "float") or image.width * image.height > MAX_PIXELS:
                return None
            image.load()
            values = _wide_samples(image, data, scale, every=True)
            return None if values is None else brightest(values, scale)
    except Exception as error:  # as above
        raise ImageError(one_line(error)) from error


def _misread(image: ImageFile.ImageFile, scale: Scale) -> str:
    """What an image is that Pillow reads wrongly without a word, and what to do; empty for any other."""
    if (scale.bits, scale.form) == (8, "signed"):  # it would take -1 for 255
        return "signed 8-bit samples: save the image with unsigned ones, shifted so that black is 0"
    if scale.bits <= 8:
        return ""
    if image.format == FORMATS[-1] and not image.mode.startswith("I"):  # it rounds white up to 256, which is 0 in a byte
        return "JPEG 2000 colour of more than 8 bits, which is not read as an image: convert it to PNG"
    if any(_raw_mode(tile) in tuple("RGBACMYK") for tile in image.tile):  # it reads each plane as bytes
        return "16-bit colour in planes of their own, which is not read as an image: save it with interleaved channels"
    return ""


def _convert(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    if image.mode == "RGB":
        return np.asarray(image)  # convert() would copy it; its pixels outlive the file
    # convert() warns about, and searches a colour for, transparency that is dropped anyway
    image.info.pop("transparency", None)
    if image.mode in ("RGBa", "La"):
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    return np.asarray(image.convert("RGB"))


def _wide_samples(image: Image.Image, data: bytes, scale: Scale, every: bool) -> np.ndarray | None:
    """Samples of more than 8 bits, [h, w] or [h, w, 3], where Pillow's conversion would lose what they say; else None.

    every: also for 16-bit colour whose upper bytes, all that Pillow gives, show that its 16 bits are used.
    """
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image)
        # Pillow knows signed ones only
        return values.view(np.uint32) if image.mode == "I" and (scale.bits, scale.form) == (32, "unsigned") else values
    if scale.bits != 16 or image.mode not in ("RGB", "RGBA"):
        return None
    high = np.asarray(image)[:, :, :3]
    told = 0 < scale.white < 65535 or 0 < scale.significant < 16
    return _wide_colour(high, data) if every or told or high.max() < 128 else None


def _wide_colour(high: UInt8[np.ndarray, "h w 3"], data: bytes) -> UInt16[np.ndarray, "h w 3"]:
    """16-bit colour samples, of which `high` are the upper bytes."""
    with _open(data) as image:
        # the same pixels read as of the other byte order
        tiles = []
        for tile in image.tile:
            others = tile.args[1:] if isinstance(tile.args, tuple) else ()
            tiles.append(tile._replace(args=(_other_bytes(_raw_mode(tile)), *others)))
        pairs = any("LA;" in str(tile.args) for tile in image.tile)
        image.tile = tiles
        image.load()
        low = np.asarray(image)
    if pairs:  # gray with alpha, read as four bytes a pixel
        return (low[:, :, :1].astype(np.uint16) << 8 | low[:, :, 1:2]).repeat(3, axis=2)
    return high.astype(np.uint16) << 8 | low[:, :, :3]


def _raw_mode(tile: Any) -> str:
    """How the bytes of a part of an image are laid out, in Pillow's words."""
    return str(tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args)


def _other_bytes(raw: str) -> str:
    if raw == "LA;16B":
        return "RGBA"
    native = "L" if sys.byteorder == "little" else "B"
    return raw[:-1] + ("B" if raw[-1].replace("N", native) == "L" else "L")


def _too_large(where: str, what: str) -> str:
    return f"{where}: too large: {what} exceeds the limit of {MAX_PIXELS:,} pixels: make it smaller or cut it"


def _what_it_is_instead(data: bytes) -> str:
    kind = kind_of(data)
    if kind is None:
        return "not an image in a format that is read (JPEG, PNG, BMP, WebP, GIF, TIFF, PPM, JPEG 2000)"
    return f"{kind.name}, which is not read as an image ({kind.advice})"


def _silence_pillow() -> None:
    # Pillow warns about EXIF and metadata that do not matter here (many files of ImageNet). `warnings.catch_warnings` is
    # not safe with threads, so a filter for Pillow's own modules is put in front whenever it is no longer there.
    filters = warnings.filters
    if filters and filters[0][0] == "ignore" and getattr(filters[0][3], "pattern", None) == _QUIET_MODULE:
        return
    with _QUIET_LOCK:
        warnings.filterwarnings("ignore", module=_QUIET_MODULE)
