"""Arrays in memory and in .npz files: what is accepted, and one clear line for what is not."""

import io
import pathlib
import zipfile
from typing import Any

import numpy as np
import pytest
from data import bucket

from jigclu_jax.data.sources.arrays import ArraySource, load_npz
from jigclu_jax.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
LABELS = np.array([1, 0, 2, 1, 1])


def problem(function: Any, *args: Any, **kwargs: Any) -> str:
    """The text of the error; checks that it is one line."""
    with pytest.raises(UserError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_colour_and_gray() -> None:
    source = ArraySource(IMAGES, LABELS, ("x", "y", "z"), name="mine")
    assert len(source) == 5 and source.classes == ("x", "y", "z") and source.describe(3) == "mine[3]"
    assert source.labels is not None and source.labels.dtype == np.int32
    np.testing.assert_array_equal(source.labels, LABELS)
    np.testing.assert_array_equal(source.read(2), IMAGES[2])
    for gray in (IMAGES[..., 0], IMAGES[..., :1]):
        np.testing.assert_array_equal(ArraySource(gray).read(2), np.stack([IMAGES[2, :, :, 0]] * 3, axis=2))
    # three columns are not three channels
    np.testing.assert_array_equal(ArraySource(IMAGES[:, :, :3, 1]).read(0), np.stack([IMAGES[0, :, :3, 1]] * 3, axis=2))


def test_labels_without_names_are_called_by_their_numbers() -> None:
    assert ArraySource(IMAGES, LABELS).classes == ("0", "1", "2")
    assert ArraySource(IMAGES).classes is None and ArraySource(IMAGES).labels is None


def test_npz(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, image=IMAGES, label=LABELS.astype(np.uint8), classes=np.array(["x", "y", "z"]))
    for split in ("", "train"):
        source = load_npz(path, split)
        np.testing.assert_array_equal(source.read(4), IMAGES[4])
        assert source.labels is not None and source.labels.tolist() == LABELS.tolist() and source.classes == ("x", "y", "z")
        assert str(path) in source.describe(4)
    np.savez_compressed(path, image=IMAGES)
    assert load_npz(path).labels is None


def test_npz_with_splits(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "set.npz"
    test = {"test_image": IMAGES, "test_label": LABELS}
    np.savez(path, train_image=IMAGES, train_label=LABELS, val_image=IMAGES[:2], classes=np.array(["x", "y", "z"]), **test)
    assert len(load_npz(path, "train")) == 5
    val = load_npz(path, "val")
    assert len(val) == 2 and val.labels is None and val.classes is None
    assert problem(load_npz, path, "") == f"{path}: no split '': set split to one of 'test', 'train', 'val'"
    assert "no split 'valid'" in problem(load_npz, path, "valid")
    np.savez(path, image=IMAGES)
    assert problem(load_npz, path, "val") == f"{path}: no split 'val': set split to one of ''"


def test_npz_on_a_remote_file_system(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "set.npz", image=IMAGES)
    bucket.install(monkeypatch, tmp_path)
    np.testing.assert_array_equal(load_npz("gs://bucket/set.npz").read(1), IMAGES[1])
    assert problem(load_npz, "gs://bucket/gone.npz").startswith("gs://bucket/gone.npz: no such file")


def test_files_that_are_no_npz(tmp_path: pathlib.Path) -> None:
    assert "needs path" in problem(load_npz, "")
    assert problem(load_npz, tmp_path / "gone.npz").startswith(f"{tmp_path}/gone.npz: no such file")
    assert "a folder" in problem(load_npz, tmp_path)
    np.save(tmp_path / "one.npy", IMAGES)
    assert "single array" in problem(load_npz, tmp_path / "one.npy")
    (tmp_path / "text.npz").write_text("no archive")
    assert problem(load_npz, tmp_path / "text.npz").startswith(f"{tmp_path}/text.npz: cannot be read as an .npz file")
    np.savez(tmp_path / "cut.npz", image=IMAGES)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:200])
    assert "cut.npz: cannot be read" in problem(load_npz, tmp_path / "cut.npz")
    np.savez(tmp_path / "objects.npz", image=np.array([1, "x", None], object))
    told = problem(load_npz, tmp_path / "objects.npz")
    assert "objects.npz: cannot be read" in told and "pickle" not in told


@pytest.mark.parametrize("keys", ["{split}_images {split}_labels", "x_{split} y_{split}", "{split}_image {split}_label"])
def test_sets_of_other_programs(tmp_path: pathlib.Path, keys: str) -> None:
    arrays = {}
    for split, count in (("train", 5), ("val", 3), ("test", 2)):
        image, label = keys.format(split=split).split()
        arrays |= {image: IMAGES[:count, :, :, 0], label: LABELS[:count, None].astype(np.uint8)}
    np.savez(tmp_path / "medmnist.npz", **arrays)
    for split, count in (("train", 5), ("val", 3), ("test", 2)):
        source = load_npz(tmp_path / "medmnist.npz", split)
        assert source.labels is not None and source.labels.tolist() == LABELS[:count].tolist()
        np.testing.assert_array_equal(source.read(1), IMAGES[1, :, :, :1].repeat(3, axis=2))
    assert "'test', 'train', 'val'" in problem(load_npz, tmp_path / "medmnist.npz", "validation")


def test_labels_of_several_columns_and_channels_first_are_told(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "chest.npz", train_images=IMAGES, train_labels=np.zeros((5, 14), np.uint8))
    assert "14 columns" in problem(load_npz, tmp_path / "chest.npz", "train")
    assert "channels first" in problem(ArraySource, IMAGES.transpose(0, 3, 1, 2))


def test_a_header_that_claims_more_than_the_file_holds(tmp_path: pathlib.Path) -> None:
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1000, 1000, 10**6, 3)})
        archive.writestr("image.npy", header.getvalue() + bytes(100))
    assert "3,000,000,000,000 bytes" in problem(load_npz, tmp_path / "huge.npz")


def test_wrong_keys_and_classes(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, images=IMAGES, labels=LABELS)
    text = problem(load_npz, path)
    assert "no key 'image'" in text and "images, labels" in text
    np.savez(path, image=IMAGES, label=LABELS, classes=np.array([1, 2, 3]))
    assert "classes must be a list of strings" in problem(load_npz, path)


@pytest.mark.parametrize(
    ("images", "labels", "classes", "text"),
    [
        (IMAGES.astype(np.float32), None, None, r"images must be uint8 .*float32\[5, 4, 6, 3\]"),
        (IMAGES.astype(np.int64), None, None, "images must be uint8"),
        (IMAGES[0, 0], None, None, r"uint8\[n, h, w, 3\]"),
        (np.zeros((2, 4, 4, 4), np.uint8), None, None, r"they are uint8\[2, 4, 4, 4\]"),
        (IMAGES[:0], None, None, "there are no images"),
        (IMAGES, LABELS[:4], None, r"labels must be integers \[5\].*int64\[4\]"),
        (IMAGES, LABELS.astype(float), None, "labels must be integers"),
        (IMAGES, LABELS - 1, None, "from -1 to 1"),
        (IMAGES, LABELS * 10**8, None, "number the classes from 0, but those of 5 images run from 0 to 200000000"),
        (IMAGES, LABELS, ("x", "y"), "label 2 has no name: the classes are numbered from 0 to 1"),
        (IMAGES, LABELS, ("x", "y", "x"), "class 'x' is named twice"),
        (IMAGES, None, ("x", "y"), "classes but no labels"),
    ],
)
def test_wrong_arrays(images: np.ndarray, labels: np.ndarray | None, classes: tuple[str, ...] | None, text: str) -> None:
    with pytest.raises(UserError, match=f"^mine: .*{text}") as caught:
        ArraySource(images, labels, classes, name="mine")
    assert "\n" not in str(caught.value)
