"""decode_rgb: every mode against the array that was saved, and one clear line for what is no image."""

import concurrent.futures
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from jigclu_jax.data.sources import decode
from jigclu_jax.data.sources.decode import decode_rgb
from jigclu_jax.errors import ImageError


def noise(*shape: int, seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_rgb_comes_back_exactly(kind: str) -> None:
    pixels = noise(9, 14, 3)
    decoded = decode_rgb(encode(Image.fromarray(pixels), kind), "x")
    np.testing.assert_array_equal(decoded, pixels)
    assert decoded.flags.c_contiguous and decoded.dtype == np.uint8


def test_lossless_webp_and_jpeg() -> None:
    pixels = noise(9, 14, 3)
    np.testing.assert_array_equal(decode_rgb(encode(Image.fromarray(pixels), "WEBP", lossless=True), "x"), pixels)
    data = encode(Image.fromarray(pixels), "JPEG", quality=90)
    np.testing.assert_array_equal(decode_rgb(data, "x"), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_gray_is_repeated_and_alpha_is_dropped(kind: str) -> None:
    gray, alpha = noise(8, 5), noise(8, 5, seed=1)
    repeated = np.stack([gray] * 3, axis=2)
    np.testing.assert_array_equal(decode_rgb(encode(Image.fromarray(gray), kind), "x"), repeated)
    la = Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)])
    np.testing.assert_array_equal(decode_rgb(encode(la, kind), "x"), repeated)
    rgba = noise(8, 5, 4)
    np.testing.assert_array_equal(decode_rgb(encode(Image.fromarray(rgba, "RGBA"), kind), "x"), rgba[:, :, :3])


@pytest.mark.parametrize("transparency", [None, 3, bytes([0, 128, 255, 7])])
def test_palette(transparency: int | bytes | None) -> None:
    indices, colours = noise(6, 7) % 4, noise(4, 3, seed=2)
    image = Image.fromarray(indices, "P")
    image.putpalette(colours.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    np.testing.assert_array_equal(decode_rgb(encode(image, "PNG", **options), "x"), colours[indices])


def test_transparent_colour_of_an_rgb_image_stays_a_colour() -> None:
    pixels = noise(6, 7, 3)
    data = encode(Image.fromarray(pixels), "PNG", transparency=tuple(pixels[0, 0].tolist()))
    np.testing.assert_array_equal(decode_rgb(data, "x"), pixels)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_one_bit(kind: str) -> None:
    bits = noise(9, 11) > 127
    expected = np.where(bits[:, :, None], 255, 0).repeat(3, axis=2)
    np.testing.assert_array_equal(decode_rgb(encode(Image.fromarray(bits), kind), "x"), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_gray_is_scaled_and_not_clipped(kind: str) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    decoded = decode_rgb(encode(Image.fromarray(values), kind), "x")
    expected = np.rint(values / 257.0)
    for channel in range(3):
        np.testing.assert_array_equal(decoded[:, :, channel], expected)


def tiff(values: np.ndarray, order: str, sample_format: int) -> bytes:
    """An uncompressed gray TIFF, written from the specification: Pillow does not write all that it reads."""
    height, width = values.shape
    body = values.astype(values.dtype.newbyteorder(order)).tobytes()
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, values.dtype.itemsize * 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(body)),
        (339, 3, sample_format),
    ]
    entries = b"".join(
        struct.pack(order + "HHI", tag, kind, 1) + (struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value))
        for tag, kind, value in tags
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(body))
    return head + body + struct.pack(order + "H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_tiff_in_both_byte_orders(order: str) -> None:
    values = noise(6, 8, dtype=np.uint16)
    np.testing.assert_array_equal(decode_rgb(tiff(values, order, 1), "x")[:, :, 0], np.rint(values / 257.0))


def test_integers_beyond_sixteen_bits_are_refused() -> None:
    np.testing.assert_array_equal(decode_rgb(tiff(np.array([[0, 65535, 257]], np.int32), "<", 2), "x")[:, :, 1], [[0, 255, 1]])
    for values in ([[0, 65536]], [[-1, 5]]):
        with pytest.raises(ImageError, match=r"^a\.tif: 32-bit gray values from") as caught:
            decode_rgb(tiff(np.array(values, np.int32), "<", 2), "a.tif")
        assert "\n" not in str(caught.value)


def test_floats() -> None:
    unit = np.array([[0.0, 0.5, 1.0]], np.float32)
    np.testing.assert_array_equal(decode_rgb(tiff(unit, "<", 3), "x")[:, :, 0], [[0, 128, 255]])
    np.testing.assert_array_equal(decode_rgb(tiff(np.array([[0, 7, 254.6]], np.float32), "<", 3), "x")[:, :, 2], [[0, 7, 255]])
    for values in ([[0, 300.0]], [[-0.1, 1]], [[0.0, np.nan]]):
        with pytest.raises(ImageError, match=r"^a\.tif: float gray values"):
            decode_rgb(tiff(np.array(values, np.float32), "<", 3), "a.tif")


def test_cmyk_jpeg_has_the_right_colours() -> None:
    # four flat quarters: white, black, red, blue as amounts of ink
    inks = np.array([[[0, 0, 0, 0], [0, 0, 0, 255]], [[0, 255, 255, 0], [255, 255, 0, 0]]], np.uint8).repeat(16, 0).repeat(16, 1)
    decoded = decode_rgb(encode(Image.fromarray(inks, "CMYK"), "JPEG", quality=95), "x").astype(int)
    for row, column, colour in [(0, 0, (255, 255, 255)), (0, 1, (0, 0, 0)), (1, 0, (255, 0, 0)), (1, 1, (0, 0, 255))]:
        quarter = decoded[16 * row + 4 : 16 * row + 12, 16 * column + 4 : 16 * column + 12]
        assert np.abs(quarter - colour).max() <= 6


def test_first_frame_of_an_animation() -> None:
    frames = [Image.fromarray(np.full((5, 6, 3), value, np.uint8)) for value in (10, 200)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode_rgb(data, "x"), np.full((5, 6, 3), 10))


def test_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[274] = 6
    assert decode_rgb(encode(Image.new("RGB", (20, 10)), "JPEG", exif=exif), "x").shape == (10, 20, 3)


def png_of_claimed_size(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + b"\0\0\0\0IDAT"


JPEG = encode(Image.fromarray(noise(60, 80, 3)), "JPEG")
PNG = encode(Image.fromarray(noise(60, 80, 3)), "PNG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html>\n<html><body>403 Forbidden</body></html>", "HTML page"),
        (b"  <?xml version='1.0'?><Error/>", "XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x00\x01garbage" * 20, "not an image"),
        (JPEG[: len(JPEG) // 2], "damaged"),
        (JPEG[:20], "damaged|not an image"),
        (PNG[: len(PNG) // 2], "damaged"),
        (PNG[:200] + bytes(50) + PNG[250:], "damaged"),
        (png_of_claimed_size(20_000, 10_000), "too large"),
        (png_of_claimed_size(200_000, 100_000), "too large"),
    ],
)
def test_what_is_no_image_is_named_in_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=rf"^pictures/cat\.jpg: .*({reason})") as caught:
        decode_rgb(data, "pictures/cat.jpg")
    assert "\n" not in str(caught.value)


def test_images_between_warning_and_limit_of_pillow_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    assert decode_rgb(encode(Image.new("RGB", (6, 7)), "PNG"), "x").shape == (7, 6, 3)
    monkeypatch.setattr(decode, "MAX_PIXELS", 41)
    with pytest.raises(ImageError, match="too large: 6 x 7 pixels exceeds the limit of 41 pixels"):
        decode_rgb(encode(Image.new("RGB", (6, 7)), "PNG"), "x")


def with_damaged_exif() -> bytes:
    # a directory of 40 entries that ends after none
    exif = b"Exif\0\0II*\0\x08\0\0\0\x28\0"
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG[2:]


def test_warnings_of_pillow_stay_inside() -> None:
    data = with_damaged_exif()
    with pytest.warns(UserWarning, match="EXIF"):
        Image.open(io.BytesIO(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_rgb(data, "x").shape == (60, 80, 3)


def test_threads_decode_alike() -> None:
    files = [encode(Image.fromarray(noise(40, 30, 3, seed=seed)), ("PNG", "JPEG", "GIF")[seed % 3]) for seed in range(24)]
    files += [with_damaged_exif()] * 8
    serial = [decode_rgb(data, "x") for data in files]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for alone, together in zip(serial * 4, pool.map(lambda data: decode_rgb(data, "x"), files * 4), strict=True):
            np.testing.assert_array_equal(alone, together)


def smooth(height: int, width: int) -> Image.Image:
    return Image.fromarray(noise(height // 8, width // 8, 3)).resize((width, height), Image.Resampling.BICUBIC)


JPEGS = {
    **{f"subsampling {number}": {"subsampling": number} for number in range(3)},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_blocks": 3},
    "kept as RGB": {"keep_rgb": True},
    "quality 10": {"quality": 10},
}


@pytest.mark.parametrize("kind", [*JPEGS, "gray", "CMYK"])
def test_jpeg_is_pillows_to_the_bit(kind: str) -> None:
    pytest.importorskip("simplejpeg")
    image = smooth(77, 130)
    mode = {"gray": "L", "CMYK": "CMYK"}.get(kind, "RGB")
    data = encode(image.convert(mode), "JPEG", **JPEGS.get(kind, {}))
    by_turbo = decode._turbo()
    assert by_turbo is not None
    # a file of an unusual kind is left to Pillow
    assert (by_turbo(data) is None) == (kind in ("kept as RGB", "CMYK"))
    np.testing.assert_array_equal(decode_rgb(data, "x"), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_damaged_jpeg_is_what_pillow_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    data, random = encode(smooth(64, 96), "JPEG"), np.random.default_rng(0)
    damaged = [data[:length] for length in range(0, len(data), 41)] + [data + b"more", data[:-2]]
    for _ in range(150):
        one = bytearray(data)
        one[random.integers(len(one))] ^= 1 << random.integers(8)
        damaged.append(bytes(one))

    def results() -> list[np.ndarray | str]:
        found: list[np.ndarray | str] = []
        for one in damaged:
            try:
                found.append(decode_rgb(one, "x"))
            except ImageError as error:
                found.append(str(error))
        return found

    with_turbo = results()
    monkeypatch.setattr(decode, "_turbo", lambda: None)
    by_pillow = results()
    assert sum(isinstance(result, str) for result in by_pillow) > 50
    for ours, theirs in zip(with_turbo, by_pillow, strict=True):
        np.testing.assert_array_equal(ours, theirs)
