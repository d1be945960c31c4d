"""Names the kind of a file that is no readable image, by its first bytes, and says what to do about it."""

import io
import re
from typing import NamedTuple

from PIL import TiffImagePlugin

from jigclu_jax.errors import counted


class Kind(NamedTuple):
    """A kind of file: its name with an article, and the advice for whoever has one among images."""

    name: str
    advice: str


_CONVERT = "convert it to JPEG or PNG"
_UNPACK = "unpack it, and give the folder of the images"
_VIDEO = "take pictures out of it, with ffmpeg, say"
_ARRAYS = "write its images as files, or into an .npz file for source 'arrays'"
_AGAIN = "fetch it again"
_AWAY = "remove it"

# The first bytes of a file; the first that fits counts.
_STARTS: tuple[tuple[bytes, Kind], ...] = (
    (b"\xff\x0a", Kind("a JPEG XL picture", _CONVERT)),
    (b"\0\0\0\x0cJXL ", Kind("a JPEG XL picture", _CONVERT)),
    (b"%PDF", Kind("a PDF document", "convert its pages to JPEG or PNG, with pdftoppm, say")),
    (b"%!PS", Kind("a PostScript file", _CONVERT)),
    (b"8BPS", Kind("a Photoshop file", _CONVERT)),
    (b"DDS ", Kind("a DirectDraw surface (DDS)", _CONVERT)),
    (b"v/1\x01", Kind("an OpenEXR picture", _CONVERT)),
    (b"#?RADIANCE", Kind("a Radiance HDR picture", _CONVERT)),
    (b"#?RGBE", Kind("a Radiance HDR picture", _CONVERT)),
    (b"qoif", Kind("a QOI picture", _CONVERT)),
    (b"PF\n", Kind("a colour PFM picture", _CONVERT)),
    (b"P7\n", Kind("a PAM picture", _CONVERT)),
    (b"FLIF", Kind("a FLIF picture", _CONVERT)),
    (b"BPG\xfb", Kind("a BPG picture", _CONVERT)),
    (b"gimp xcf", Kind("a GIMP file", _CONVERT)),
    (b"icns", Kind("an Apple icon", _CONVERT)),
    (b"\0\0\x01\0", Kind("a Windows icon", _CONVERT)),
    (b"SIMPLE  =", Kind("a FITS file", _CONVERT)),
    (b"FUJIFILMCCD-RAW", Kind("a camera's raw file", _CONVERT)),
    (b"IIU\0", Kind("a camera's raw file", _CONVERT)),
    (b"IIRO", Kind("a camera's raw file", _CONVERT)),
    (b"PK\x03\x04", Kind("a zip archive", _UNPACK)),
    (b"PK\x05\x06", Kind("an empty zip archive", _AGAIN)),
    (b"\x1f\x8b", Kind("a gzip archive", _UNPACK)),
    (b"BZh", Kind("a bzip2 archive", _UNPACK)),
    (b"\xfd7zXZ\0", Kind("an xz archive", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", Kind("a zstd archive", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", _UNPACK)),
    (b"Rar!\x1a\x07", Kind("a rar archive", _UNPACK)),
    (b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file", _ARRAYS)),
    (b"CDF", Kind("a NetCDF file", _ARRAYS)),
    (b"PAR1", Kind("a Parquet table", _ARRAYS)),
    (b"\x93NUMPY", Kind("a NumPy array (.npy)", "save it with numpy.savez(path, image=...) for source 'arrays'")),
    (b"SQLite format 3\0", Kind("an SQLite database", _ARRAYS)),
    (b"\0\x05\x16\x07", Kind("macOS's note beside a file (AppleDouble)", _AWAY)),
    (b"\xd0\xcf\x11\xe0", Kind("a Windows thumbnail store or Office document", _AWAY)),
    (b"\x1aE\xdf\xa3", Kind("a Matroska or WebM video", _VIDEO)),
    (b"\0\0\x01\xba", Kind("an MPEG video", _VIDEO)),
    (b"\0\0\x01\xb3", Kind("an MPEG video", _VIDEO)),
    (b"ID3", Kind("an MP3 file", _AWAY)),
    (b"OggS", Kind("an Ogg file", _AWAY)),
    (b"\x7fELF", Kind("a program", _AWAY)),
    (b"MZ", Kind("a Windows program", _AWAY)),
    (b"\x80\x02", Kind("a Python pickle", _ARRAYS)),
    (b"\x80\x03", Kind("a Python pickle", _ARRAYS)),
    (b"\x80\x04", Kind("a Python pickle", _ARRAYS)),
    (b"\x80\x05", Kind("a Python pickle", _ARRAYS)),
)
# The brand of an ISO media file (bytes 8 to 12, after "ftyp").
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")
_COMPRESSIONS = {1: "no", 2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 6: "old JPEG", 7: "JPEG", 8: "deflate", 32773: "PackBits"} | {
    **{32946: "deflate", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA"},
    **{34933: "PNG", 34934: "JPEG XR", 50000: "zstd", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"},
}


def kind_of(data: bytes) -> Kind | None:
    """The kind of a file that begins with `data` (some 512 bytes are enough), None where it is not known."""
    if data[4:8] == b"ftyp":
        return _media(data)
    if data[:4] == b"RIFF" and data[8:12] != b"WEBP":
        return Kind("an AVI video" if data[8:12] == b"AVI " else "a RIFF file", _VIDEO)
    for start, kind in _STARTS:
        if data.startswith(start):
            return kind
    if data[128:132] == b"DICM":
        return Kind("a DICOM file", "convert it to PNG of 16 bits, with pydicom, say, and set data.white to the sample that is white")
    if data[257:262] == b"ustar":
        return Kind("a tar archive", _UNPACK)
    if data[344:347] in (b"n+1", b"ni1"):
        return Kind("a NIfTI volume", "write its slices as PNG files")
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return Kind(_tiff(data), "convert it to 8 or 16 bits of gray or RGB, as TIFF or PNG")
    return _text(data) or _jpeg(data) or _padded_jpeg(data) or _zeros(data)


def _media(data: bytes) -> Kind:
    brand, others = data[8:12], data[16:64]
    if brand in _AVIF or any(name in others for name in _AVIF):
        return Kind("an AVIF picture", _CONVERT)
    if brand in _HEIC:
        return Kind("a HEIC picture", f"{_CONVERT}, with heif-convert, say")
    if brand == b"crx ":
        return Kind("a camera's raw file (CR3)", _CONVERT)
    return Kind("an MP4 or QuickTime video", _VIDEO)


def _text(data: bytes) -> Kind | None:
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    lower = start.lower()
    if lower.startswith(b"version https://git-lfs"):
        return Kind("a Git LFS pointer", "fetch the files with `git lfs pull`")
    if lower.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return Kind("an HTML page", f"the server answered with a page instead of the image: {_AGAIN}")
    if b"<svg" in lower:
        return Kind("an SVG drawing (XML text)", _CONVERT)
    if lower.startswith(b"<"):
        return Kind("XML text", _AGAIN)
    if len(start) < 3 or re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", start):
        return None
    try:
        line = start[:400].decode("utf-8", "strict" if len(start) <= 400 else "ignore").splitlines()[0].strip()
    except UnicodeDecodeError:
        return None
    shown = line if len(line) <= 40 else f"{line[:40]}..."
    return Kind(f"JSON text ({shown})" if start[:1] in b"{[" else f"text ({shown})", _AGAIN)


def _jpeg(data: bytes) -> Kind | None:
    """A JPEG file of a sort that common decoders do not read, by the first header of a frame (ITU-T T.81, B.1.1.3 and B.2.2)."""
    at = 2 if data.startswith(b"\xff\xd8") else len(data)
    while at + 4 < len(data) and data[at] == 0xFF:
        if 0xC0 <= data[at + 1] <= 0xCF and data[at + 1] not in (0xC4, 0xC8, 0xCC):
            sort = "lossless " if data[at + 1] & 3 == 3 else ""
            return Kind(f"a {sort}JPEG picture of {data[at + 4]} bits a sample", _CONVERT) if sort or data[at + 4] != 8 else None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _padded_jpeg(data: bytes) -> Kind | None:
    at = data[:4096].find(b"\xff\xd8\xff")
    return (
        Kind(f"a JPEG picture behind {counted(at, 'byte')} of something else", f"cut the first {counted(at, 'byte')} off, or {_AGAIN}")
        if at > 0
        else None
    )


def _zeros(data: bytes) -> Kind | None:
    return Kind("nothing but zeros", f"a copy or download has failed: {_AGAIN}") if data and not any(data) else None


def _tiff(data: bytes) -> str:
    """The layout of a TIFF file, by its tags; "a TIFF picture" where they cannot be read."""
    try:
        head = 16 if data[2:4] in (b"+\0", b"\0+") else 8
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:head])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        bits = _numbers(tags.get(258, (1,)))
        form = {1: "unsigned", 2: "signed", 3: "float", 5: "complex", 6: "complex"}.get(int(_numbers(tags.get(339, (1,)))[0]), "")
        samples = int(_numbers(tags.get(277, (1,)))[0])
        compression = int(_numbers(tags.get(259, (1,)))[0])
    except Exception:  # Pillow's reader of tags raises whatever damage leads to
        return "a TIFF picture of an unknown layout"
    each = f"{form} {int(max(bits))}-bit sample{'s' if samples != 1 else ''}".strip()
    return f"a TIFF picture of {samples} {each} a pixel, {_COMPRESSIONS.get(compression, f'number {compression}')} compression"


def _numbers(value: object) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)  # type: ignore[return-value]
