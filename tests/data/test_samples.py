"""Files of more than 8 bits a sample: which sample becomes white, by tags, by the values, by the set, by the user."""

import io
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jigclu_jax.data.sources.decode import decode_rgb
from jigclu_jax.data.sources.folder import FolderSource
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.errors import ImageError, UnknownWhite

RAMP = np.linspace(0, 1, 48).reshape(6, 8)


def tiff(values: np.ndarray, photometric: int = 1, order: str = "<", **tags: tuple[int, float]) -> bytes:
    """An uncompressed TIFF, written from the specification; `tags` are t281=(type, value), say."""
    height, width, *channels = values.shape
    body = values.astype(values.dtype.newbyteorder(order)).tobytes()
    form = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    found = {
        256: (4, width),
        257: (4, height),
        258: (3, values.dtype.itemsize * 8),
        259: (3, 1),
        262: (3, photometric),
        273: (4, 8),
        277: (3, channels[0] if channels else 1),
        278: (4, height),
        279: (4, len(body)),
        339: (3, form),
    } | {int(name[1:]): pair for name, pair in tags.items()}
    extra = b""
    entries = b""
    for tag, (kind, value) in sorted(found.items()):
        count = channels[0] if channels and tag in (258, 339) else 1
        text = b"".join(struct.pack(order + {3: "H", 4: "I", 11: "f"}[kind], value) for _ in range(count))
        if len(text) > 4:
            place, extra = 8 + len(body) + 2 + 12 * len(found) + 4 + len(extra), extra + text
            text = struct.pack(order + "I", place)
        entries += struct.pack(order + "HHI", tag, kind, count) + text.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(body))
    return head + body + struct.pack(order + "H", len(found)) + entries + bytes(4) + extra


def png(values: np.ndarray, significant: int = 0) -> bytes:
    """A PNG file of 16 bits, gray or of 2, 3 or 4 channels, written from the specification."""
    height, width, channels = (*values.shape, 1)[:3]

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = values.astype(">u2").reshape(height, -1)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    said = chunk(b"sBIT", bytes([significant] * channels)) if significant else b""
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + said + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def scaled(white: float, dtype: type) -> np.ndarray:
    values = RAMP * white
    return (values if np.issubdtype(dtype, np.floating) else np.rint(values)).astype(dtype)


def gray(data: bytes, white: float = 0.0) -> np.ndarray:
    decoded = decode_rgb(data, "x", white)
    np.testing.assert_array_equal(decoded[:, :, 0], decoded[:, :, 2])
    return decoded[:, :, 1]


def near(found: np.ndarray, expected: np.ndarray = RAMP * 255) -> None:
    assert np.abs(found.astype(float) - expected).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_white_as_zero_is_inverted_whatever_the_depth(dtype: type) -> None:
    white = 1.0 if dtype is np.float32 else np.iinfo(dtype).max
    values = scaled(white, dtype)
    near(gray(tiff(values, photometric=1)))
    near(gray(tiff(values, photometric=0)), 255 - RAMP * 255)


@pytest.mark.parametrize(
    "data",
    [
        tiff(scaled(4095, np.uint16), t281=(3, 4095)),
        tiff(scaled(4000, np.uint16), t281=(3, 4000)),
        tiff(scaled(1023, np.uint16), t341=(3, 1023)),
        tiff(scaled(255, np.uint16), t281=(3, 255)),
        tiff(scaled(70000, np.uint32), t281=(4, 2**17 - 1)),
        tiff(scaled(3000, np.float32), t341=(11, 3000)),
        png(scaled(4095, np.uint16), significant=12),
        png(scaled(255, np.uint16), significant=8),
    ],
)
def test_tags_say_which_sample_is_white(data: bytes) -> None:
    found = gray(data)
    assert found.min() == 0 and found.max() > 130
    # in proportion, whatever is white
    near(found, RAMP * found.max())


def test_sixteen_bits_that_were_scaled_as_png_demands_stay_dark() -> None:
    short = scaled(255, np.uint16)  # of 4095
    near(gray(png(short << 4, significant=12)), RAMP * 255 / 16)
    near(gray(png((short << 4) | (short >> 8), significant=12)), RAMP * 255 / 16)
    near(gray(png(scaled(65535, np.uint16), significant=12)))


@pytest.mark.parametrize("white", [255, 1023, 4095, 4096, 16383, 20000])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_few_bits_in_a_file_of_sixteen_are_asked_about(white: int, channels: int, kind: str) -> None:
    if kind == "tiff" and channels != 3:
        channels = 1
    values = scaled(white, np.uint16)
    if channels > 1:
        values = np.stack([values] * channels, axis=2)
        if channels in (2, 4):
            values[:, :, -1] = 65535
    data = png(values) if kind == "png" else tiff(values, photometric=2 if channels == 3 else 1)
    with pytest.raises(UnknownWhite, match=rf"x: 16-bit .* {white}.*data\.white=65535") as caught:
        decode_rgb(data, "x")
    assert "\n" not in str(caught.value)
    near(gray(data, white=white))
    near(gray(data, white=65535), RAMP * white / 257)
    assert gray(data, white=white / 2).max() == 255


def test_a_black_picture_needs_no_white() -> None:
    for data in (png(np.zeros((4, 4), np.uint16)), tiff(np.zeros((4, 4), np.uint16)), tiff(np.zeros((4, 4), np.float32))):
        assert gray(data).max() == 0


def test_netpbm_says_itself_what_is_white() -> None:
    for white in (255, 300, 4095):
        values = scaled(white, np.uint16)
        body = values.astype(">u2" if white > 255 else "u1").tobytes()
        near(gray(b"P5 8 6 %d\n" % white + body))
        near(gray(b"P2 8 6 %d\n" % white + b" ".join(b"%d" % value for value in values.ravel())))
    with pytest.raises(UnknownWhite):
        gray(b"P5 8 6 65535\n" + scaled(4095, np.uint16).astype(">u2").tobytes())


def test_jpeg_2000_is_read_with_its_bits() -> None:
    def encoded(white: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(np.kron(scaled(white, np.uint16), np.ones((8, 8), np.uint16))).save(buffer, "JPEG2000", irreversible=False)
        return buffer.getvalue()

    near(gray(encoded(65535))[::8, ::8])
    with pytest.raises(UnknownWhite):
        gray(encoded(4095))
    near(gray(encoded(4095), white=4095)[::8, ::8])


def test_what_pillow_reads_wrongly_is_refused() -> None:
    """Planes of 16 bits as if of 8; JPEG 2000 colour, whose white turns black: here 8 bits whose header says 12."""
    planes = tiff(np.zeros((8, 8, 3), np.uint16), photometric=2, t284=(3, 2))
    held = io.BytesIO()
    Image.new("RGB", (32, 32), "white").save(held, "JPEG2000", no_jp2=True)
    data = bytearray(held.getvalue())
    assert data[42] == 7  # bits of the first channel, less one
    data[42] = data[45] = data[48] = 11
    for wrong, named in ((planes, "planes"), (bytes(data), "JPEG 2000")):
        with pytest.raises(ImageError, match=rf"^x: .*{named}.*: "):
            decode_rgb(wrong, "x")


@pytest.mark.parametrize("edge", [1.0000001, 1.005, 1 - 1e-7])
def test_floats_at_the_edge_of_their_range(edge: float) -> None:
    near(gray(tiff(scaled(edge, np.float32))), np.minimum(RAMP * edge, 1) * 255)
    near(gray(tiff(scaled(edge * 255, np.float32))), np.minimum(RAMP * edge, 1) * 255)
    below = scaled(1, np.float32)
    below[0, 0] = -1e-6
    near(gray(tiff(below)))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (np.array([[0, 2**32 - 1]], np.uint32), "unsigned 32-bit gray values from 0 to 4294967295"),
        (np.array([[0, 2**31]], np.uint32), "unsigned 32-bit gray values from 0 to 2147483648"),
        (np.array([[0, 100]], np.int8), "signed 8-bit samples"),
        (np.array([[-1024, 3000]], np.int16), "signed 16-bit gray values from -1024 to 3000"),
        (np.array([[-7, 2**30]], np.int32), "32-bit gray values from -7 to 1073741824"),
        (np.array([[0, 4.0]], np.float32), "float gray values from 0 to 4"),
        (np.array([[0, np.inf]], np.float32), "float gray values from 0 to inf"),
    ],
)
def test_what_has_no_known_white_is_refused_by_its_true_type(values: np.ndarray, named: str) -> None:
    with pytest.raises(ImageError, match=rf"^x: {named}") as caught:
        decode_rgb(tiff(values), "x")
    assert "\n" not in str(caught.value)


def test_a_white_that_is_given_serves_every_wide_type_and_no_narrow_one() -> None:
    near(gray(tiff(scaled(1000, np.float32)), white=1000))
    near(gray(tiff(scaled(10**6, np.uint32)), white=10**6))
    near(gray(tiff(scaled(2**32 - 1, np.uint32)), white=2**32 - 1))
    near(gray(tiff(scaled(255, np.uint8)), white=4095))


def folder(root: pathlib.Path, *whites: int) -> pathlib.Path:
    for number, white in enumerate(whites):
        (root / f"{number}.png").write_bytes(png(scaled(white, np.uint16)))
    return root


def test_a_set_that_uses_its_sixteen_bits_may_hold_dark_pictures(tmp_path: pathlib.Path) -> None:
    source = FolderSource(folder(tmp_path, 900, 65535, 30000))
    near(source.read(0)[:, :, 0], RAMP * 900 / 257)
    near(source.read(1)[:, :, 0])


def test_a_set_that_may_have_twelve_bits_is_asked_about_and_never_skipped(tmp_path: pathlib.Path) -> None:
    folder(tmp_path, 900, 4000, 1200)
    with pytest.raises(UnknownWhite, match=r"up to 4000 in 3 images: .*data\.white=4095 or data\.white=65535"):
        ImageReader(FolderSource(tmp_path), 1, "skip", "data")(0)
    near(FolderSource(tmp_path, white=4095).read(1)[:, :, 0], RAMP * 4000 / 4095 * 255)


def floats(root: pathlib.Path, *whites: float) -> pathlib.Path:
    for number, white in enumerate(whites):
        (root / f"{number}.tif").write_bytes(tiff(scaled(white, np.float32)))
    return root


@pytest.mark.parametrize(("whites", "white"), [((0.5, 1.0, 0.0), 1), ((1.005, 0.2), 1), ((250, 5, 17), 255), ((0.0, 0.0), 1)])
def test_a_set_of_floats_has_one_white(tmp_path: pathlib.Path, whites: tuple[float, ...], white: float) -> None:
    """An image that alone would be refused, or scaled otherwise than its neighbours."""
    source = FolderSource(floats(tmp_path, *whites))
    for number, own in enumerate(whites):
        near(source.read(number)[:, :, 0], np.minimum(RAMP * own / white, 1) * 255)


@pytest.mark.parametrize("whites", [(1.0, 200.0), (4.0,), (4000.0, 20.0)])
def test_a_set_of_floats_without_one_white_is_asked_about(tmp_path: pathlib.Path, whites: tuple[float, ...]) -> None:
    floats(tmp_path, *whites)
    with pytest.raises(UnknownWhite, match=r"data\.white"):
        ImageReader(FolderSource(tmp_path), 1, "skip", "data")(0)
    near(FolderSource(tmp_path, white=max(whites)).read(int(np.argmax(whites)))[:, :, 0])


def test_a_float_above_the_white_of_its_set_is_named(tmp_path: pathlib.Path) -> None:
    floats(tmp_path, *[1.0] * 130)
    source = FolderSource(tmp_path)
    path = pathlib.Path(source.describe(1))  # which is not among those that are looked at
    path.write_bytes(tiff(scaled(200, np.float32)))
    with pytest.raises(ImageError, match=path.name) as caught:
        source.read(1)
    assert not isinstance(caught.value, UnknownWhite)
