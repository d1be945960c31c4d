"""What is said of a set before it is used: how many images of how many files, and pictures that look wrong."""

import pathlib

import numpy as np
import pytest
from data.test_samples import folder, png
from PIL import Image

from jigclu_jax.config import source_config
from jigclu_jax.data.sources.arrays import ArraySource
from jigclu_jax.data.sources.folder import FolderSource
from jigclu_jax.data.sources.look import oddities, summary
from jigclu_jax.data.sources.opening import open_source
from jigclu_jax.errors import UnknownWhite

NOISE = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (NOISE, None),
        (NOISE // 16, "nearly black"),
        (NOISE // 16 + 240, "nearly white"),
        (NOISE // 100 * 100, "3 values only, from 0 to 200"),
        (NOISE[:, :1, :1].repeat(8, axis=1).repeat(8, axis=2), "one colour"),
        (np.zeros((3, 8, 8, 3), np.uint8), "one colour"),
        (NOISE[:1], None),
    ],
)
def test_pictures_that_look_wrong_are_told(images: np.ndarray, said: str | None) -> None:
    found = oddities(ArraySource(images))
    assert len(found) == (said is not None)
    assert said is None or (said in found[0] and f"{min(len(images), 64)} " in found[0] and "data.white" in found[0])


def test_a_set_of_unknown_white_stops_and_damaged_images_do_not(tmp_path: pathlib.Path) -> None:
    (tmp_path / "damaged.png").write_bytes(b"x")
    assert oddities(FolderSource(tmp_path)) == []
    with pytest.raises(UnknownWhite):
        oddities(FolderSource(folder(tmp_path, 4000, 1200)))
    # a white that was guessed wrong shows
    assert "nearly black" in oddities(FolderSource(tmp_path, white=65535))[0]


def test_a_look_takes_only_so_long(tmp_path: pathlib.Path) -> None:
    (tmp_path / "1.png").write_bytes(png(np.zeros((4, 4), np.uint16)))
    assert oddities(FolderSource(tmp_path), seconds=-1) == []


def test_the_summary_counts_images_files_and_classes(tmp_path: pathlib.Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/1.jpg"):
        path = tmp_path / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    (tmp_path / "train/dog/2.heic").write_bytes(b"")
    (tmp_path / "train/notes.txt").write_bytes(b"")
    config = source_config()
    config.path, config.limit = str(tmp_path), 2
    for text in (summary(FolderSource(tmp_path, "train")), summary(open_source(config, classes=("dog", "cat")))):
        assert "images of 5 files" in text and "2 classes (" in text and "1 .heic (dog/2.heic" in text and "1 .txt" in text
    assert summary(FolderSource(tmp_path, "train")).startswith("3 images of 5 files")
    assert summary(ArraySource(NOISE)) == "70 images in arrays; no labels"
    assert summary(ArraySource(NOISE[:1], np.zeros(1, int), ("cat",))).startswith("1 image in arrays; 1 class (cat")
