"""Bytes of one image file -> RGB uint8, by Pillow, whatever the mode of the file.

Where `simplejpeg` is installed, sound JPEG files of the usual kinds go through it: the same libjpeg-turbo in an eighth less time, to the
same bits. Whatever it would refuse or warn about is left to Pillow, which knows what to do with it or what to say.
"""

import functools
import io
import threading
import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

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
)
# Where Pillow itself refuses (twice the size at which it warns); checked here too, as its limit is a process-wide variable.
MAX_PIXELS = 178_956_970

_JPEG = b"\xff\xd8\xff"

_QUIET_LOCK = threading.Lock()
_QUIET_MODULE = r"PIL\."


def decode_rgb(data: bytes, where: str) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes one encoded image (`data`) into RGB, uint8[h, w, 3], contiguous.

    `where` names the image in errors. Raises ImageError (one line) for bytes that are no image or damaged, and for images
    over `MAX_PIXELS`. As torchvision's `convert("RGB")` does, alpha is dropped, not blended; the first frame of an
    animation is taken; EXIF orientation is not applied. 16-bit gray is scaled by 1/257 and rounded (Pillow alone would
    clip). May be called from several threads at once.
    """
    if not data:
        raise ImageError(f"{where}: the file is empty (0 bytes)")
    if data.startswith(_JPEG) and (decode := _turbo()) and (pixels := decode(data)) is not None:
        return pixels
    _silence_pillow()
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(_too_large(where, f"{image.width} x {image.height} pixels"))
            image.load()
            return np.asarray(_to_rgb(image, where))
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{where}: {_what_it_is_instead(data)}") from None
    except Image.DecompressionBombError:
        raise ImageError(_too_large(where, "the image")) from None
    except MemoryError:
        raise ImageError(f"{where}: not enough memory to decode the image") from None
    except Exception as error:  # damaged bytes make Pillow's plugins raise almost anything: OSError, SyntaxError, struct.error, ...
        raise ImageError(f"{where}: damaged image: {one_line(error)}") from error


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


def _to_rgb(image: Image.Image, where: str) -> Image.Image:
    mode = image.mode
    if mode == "RGB":
        return image  # convert() would copy it; its pixels outlive the file
    if mode.startswith("I;16"):
        return _gray(_from_16_bits(np.asarray(image)))
    if mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(
                f"{where}: 32-bit gray values from {values.min()} to {values.max()} have no known white: save the image with 8 or 16 bits"
            )
        return _gray(_from_16_bits(values))
    if mode == "F":
        return _gray(_from_float(np.asarray(image), where))
    # convert() warns about, and searches a colour for, transparency that is dropped anyway
    image.info.pop("transparency", None)
    if mode == "RGBa":
        image = image.convert("RGBA")
    elif mode == "La":
        image = image.convert("LA")
    return image.convert("RGB")


def _gray(values: UInt8[np.ndarray, "h w"]) -> Image.Image:
    return Image.fromarray(values).convert("RGB")


def _from_16_bits(values: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    # 65535 = 255 * 257; adding 128 rounds to the nearest
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_float(values: np.ndarray, where: str) -> UInt8[np.ndarray, "h w"]:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0.0 and high <= 255.0):  # written so that NaN is refused too
        raise ImageError(f"{where}: float gray values from {low:g} to {high:g}: only 0 to 1 and 0 to 255 are understood")
    scale = 255.0 if high <= 1.0 else 1.0
    return np.rint(values * scale).astype(np.uint8)


def _too_large(where: str, what: str) -> str:
    return f"{where}: too large: {what} exceeds the limit of {MAX_PIXELS:,} pixels: make it smaller or cut it"


def _what_it_is_instead(data: bytes) -> str:
    start = data[:512].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "not an image but a Git LFS pointer: fetch the files with `git lfs pull`"
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<body")):
        return "not an image: the file holds an HTML page"
    if start.startswith((b"<?xml", b"<svg", b"<")):
        return "not an image: the file holds XML or SVG text"
    return "not an image in a format that is read (JPEG, PNG, BMP, WebP, GIF, TIFF, PPM)"


def _silence_pillow() -> None:
    # Pillow warns about EXIF and metadata that do not matter here (many files of ImageNet). `warnings.catch_warnings` is
    # not safe with threads, so a filter for Pillow's own modules is put in front whenever it is no longer there.
    filters = warnings.filters
    if filters and filters[0][0] == "ignore" and getattr(filters[0][3], "pattern", None) == _QUIET_MODULE:
        return
    with _QUIET_LOCK:
        warnings.filterwarnings("ignore", module=_QUIET_MODULE)
