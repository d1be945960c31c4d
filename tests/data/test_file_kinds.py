"""What a file is that is no readable image: named by its content, whatever its name says."""

import gzip
import io
import pathlib
import tarfile
import zipfile

import numpy as np
import pytest
from data.test_samples import tiff
from PIL import Image

from jigclu_jax.data.sources.decode import EXTENSIONS, decode_rgb
from jigclu_jax.data.sources.folder import FolderSource
from jigclu_jax.errors import ImageError, UserError


def media(brand: bytes, *others: bytes) -> bytes:
    return (16 + 4 * len(others)).to_bytes(4, "big") + b"ftyp" + brand + bytes(4) + b"".join(others) + bytes(64)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "x")
    return buffer.getvalue()


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (media(b"avif", b"mif1", b"miaf"), "AVIF"),
        (media(b"mif1", b"avif"), "AVIF"),
        (media(b"heic", b"mif1"), "HEIC"),
        (media(b"mif1", b"heic"), "HEIC"),
        (media(b"isom"), "video"),
        (media(b"qt  "), "video"),
        (b"\xff\x0a" + bytes(50), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "JPEG XL"),
        (bytes(128) + b"DICM" + bytes(50), r"DICOM.*data\.white"),
        (b"%PDF-1.4 text", "PDF"),
        (zipped(), "zip archive"),
        (gzip.compress(b"x", mtime=0), "gzip"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
        (b"\xef\xbb\xbf<html>x", "HTML page"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<svg/>", "SVG"),
        (b'{"error":"rate limited"}', "JSON text"),
        (b"Access Denied", r"text \(Access Denied\)"),
        (bytes(4096), "zeros"),
        (b"\r\n" + jpeg(), "2 bytes"),
        (b"RIFF\0\0\0\0AVI " + bytes(50), "AVI"),
        (b"PF\n4 4\n-1.0\n" + bytes(192), "PFM"),
        (b"\xff\xd8\xff\xfe\0\x04hi\xff\xc1\0\x0b\x0c" + bytes(50), "JPEG picture of 12 bits"),
        (b"\xff\xd8\xff\xc3\0\x0b\x10" + bytes(50), "lossless JPEG picture of 16 bits"),
        (tiff(np.zeros((4, 4), np.float64)), "TIFF picture of 1 float 64-bit sample a pixel"),
        (tiff(np.zeros((4, 4, 5), np.uint8)), "TIFF picture of 5 unsigned 8-bit samples a pixel"),
        (tiff(np.zeros((4, 4), np.uint16), photometric=0, order=">"), "TIFF picture of 1 unsigned 16-bit sample"),
        (b"II+\0\x08\0\0\0" + bytes(20), "TIFF picture"),
    ],
)
def test_a_file_is_named_by_its_content(data: bytes, named: str) -> None:
    with pytest.raises(ImageError, match=rf"^cat\.jpg: .*{named}") as caught:
        decode_rgb(data, "cat.jpg")
    assert "\n" not in str(caught.value) and "damaged" not in str(caught.value)


def test_every_extension_of_the_decoder_is_listed(tmp_path: pathlib.Path) -> None:
    names = [f"{number}{ending}" for number, ending in enumerate(EXTENSIONS)] + ["a.JPE", "b.Pgm", "c.jP2"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    assert FolderSource(tmp_path).ids == tuple(sorted(names))
    assert {".jpg", ".jfif", ".jpe", ".pgm", ".pbm", ".pnm", ".jp2", ".tif", ".webp"} <= set(EXTENSIONS)


def refused(path: pathlib.Path) -> str:
    with pytest.raises(UserError) as caught:
        FolderSource(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))
    return str(caught.value)


def test_a_file_as_the_folder_is_named_with_what_to_do(tmp_path: pathlib.Path) -> None:
    (tmp_path / "set.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "set.dat").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    np.savez(tmp_path / "set.npz", image=np.zeros((2, 4, 4, 3), np.uint8))
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.writestr("train/cat/1.JPG", jpeg())
        archive.writestr("train/notes.txt", "x")
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name in ("1.jpg", "1.cls", "2.jpg", "2.cls"):
            tar.addfile(tarfile.TarInfo(name))
    assert "HDF5" in refused(tmp_path / "set.h5") and "HDF5" in refused(tmp_path / "set.dat")
    assert "Parquet" in refused(tmp_path / "rows.parquet")
    assert "'arrays'" in refused(tmp_path / "set.npz")
    assert "1 image:" in refused(tmp_path / "pictures.zip") and "unpack" in refused(tmp_path / "pictures.zip")
    assert "2 images" in refused(tmp_path / "shard.tar") and "unpack" in refused(tmp_path / "shard.tar")


@pytest.mark.parametrize(
    ("name", "data", "named"),
    [
        ("shard-0001.tar", b"", "tar"),
        ("set.hdf5", b"", "HDF5"),
        ("part-0.parquet", b"", "Parquet"),
        ("x.tfrecord-00000-of-00008", b"", "TFRecord"),
        ("cat.heic", b"", r"1 \.heic .*convert"),
        ("list.csv", b"path,label\n", "lists"),
        ("set.npz", b"", "'arrays'"),
        ("cat1", jpeg(), "without an extension"),
    ],
)
def test_a_folder_without_images_says_what_it_holds(tmp_path: pathlib.Path, name: str, data: bytes, named: str) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / name).write_bytes(data)
    for place, split in ((tmp_path, ""), (tmp_path / "deep", "train")):
        with pytest.raises(UserError, match=named):
            FolderSource(place, split)
