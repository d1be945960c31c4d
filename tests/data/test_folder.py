"""Folders of images: which files, which classes, which labels, and one clear line for what is wrong."""

import os
import pathlib

import numpy as np
import pytest
from data import bucket
from named_errors import raises_naming
from PIL import Image

from jigclu_jax.config import source_config
from jigclu_jax.data.sources.folder import FolderSource
from jigclu_jax.data.sources.opening import open_source
from jigclu_jax.errors import ImageError, UserError


def picture(path: pathlib.Path, colour: int = 7) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (colour, 0, 0)).save(path, "PNG")


def tree(root: pathlib.Path, *files: str) -> pathlib.Path:
    for number, file in enumerate(files):
        picture(root / file, number)
    return root


def problem(path: str | os.PathLike[str], split: str) -> str:
    """The text of the error; checks that it is one line."""
    with pytest.raises(UserError) as caught:
        FolderSource(path, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(source: FolderSource, root: pathlib.Path) -> list[str]:
    return [pathlib.Path(source.describe(index)).relative_to(root).as_posix() for index in range(len(source))]


def test_split_class_file(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "train/dog/2.png", "train/cat/b.JPG", "train/cat/a.jpeg", "train/dog/deep/er/1.PnG", "val/dog/9.webp")
    source = FolderSource(tmp_path, "train")
    assert names(source, tmp_path) == ["train/cat/a.jpeg", "train/cat/b.JPG", "train/dog/2.png", "train/dog/deep/er/1.PnG"]
    assert source.classes == ("cat", "dog")
    assert source.labels is not None and source.labels.dtype == np.int32
    assert source.labels.tolist() == [0, 0, 1, 1]
    assert [int(source.read(index)[0, 0, 0]) for index in range(4)] == [2, 1, 0, 3]
    assert source.read(0).shape == (3, 4, 3)


def test_a_validation_split_with_some_classes_has_the_numbers_of_the_training_split(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "train/a/1.png", "train/b/1.png", "train/d/1.png", "val/d/1.png", "val/b/1.png")
    source = FolderSource(tmp_path, "val")
    assert source.classes == ("a", "b", "d")
    assert source.labels is not None and source.labels.tolist() == [1, 2]


def test_classes_that_only_the_opened_split_has_come_last(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "train/a/1.png", "train/z/1.png", "test/z/1.png", "test/unknown/1.png", "test/b/1.png")
    assert FolderSource(tmp_path, "train").classes == ("a", "z")
    source = FolderSource(tmp_path, "test")
    assert source.classes == ("a", "z", "b", "unknown")
    assert source.labels is not None and source.labels.tolist() == [2, 3, 1]


def test_without_a_training_split_classes_are_those_of_the_splits_that_share_some(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "fold1/a/1.png", "fold1/c/1.png", "fold2/b/1.png", "fold2/c/1.png", "fold3/b/1.png", "fold3/e/1.png", "notes/x/1.png")
    for split in ("fold1", "fold2", "fold3"):
        assert FolderSource(tmp_path, split).classes == ("a", "b", "c", "e")
    assert FolderSource(tmp_path, "notes").classes == ("x",)


def test_a_tree_without_labels(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "b.png", "a/2.png", "a/1.png", "a/x/0.tif", "z/1.gif")
    source = FolderSource(tmp_path, "")
    assert source.classes is None and source.labels is None
    # the order of the POSIX paths as text
    assert names(source, tmp_path) == ["a/1.png", "a/2.png", "a/x/0.tif", "b.png", "z/1.gif"]


def test_a_split_of_images_alone_has_no_labels(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "train/1.png", "train/2.png", "train/.hidden/3.png")
    source = FolderSource(tmp_path, "train")
    assert len(source) == 2 and source.labels is None and source.classes is None


def test_other_and_hidden_files_are_passed_over(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "train/a/1.png", "train/a/.2.png", "train/.git/3.png")
    (tmp_path / "train/a/notes.txt").write_text("no image")
    (tmp_path / "train/README").write_text("no image")
    source = FolderSource(tmp_path, "train")
    assert names(source, tmp_path) == ["train/a/1.png"]
    assert source.classes == ("a",)


def test_links_are_followed_but_not_in_circles(tmp_path: pathlib.Path) -> None:
    tree(tmp_path / "store", "1.png", "2.png")
    tree(tmp_path / "root", "train/a/1.png", "train/c/1.png")
    (tmp_path / "root/train/b").symlink_to(tmp_path / "store")
    (tmp_path / "root/train/a/up").symlink_to(tmp_path / "root/train")
    (tmp_path / "root/train/a/self").symlink_to(tmp_path / "root/train/a")
    (tmp_path / "store/back").symlink_to(tmp_path / "root")
    source = FolderSource(tmp_path / "root", "train")
    assert names(source, tmp_path / "root") == ["train/a/1.png", "train/b/1.png", "train/b/2.png", "train/c/1.png"]
    assert source.labels is not None and source.labels.tolist() == [0, 1, 1, 2]


def test_two_openings_agree_and_a_remote_folder_with_them(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, *(f"train/{name}/{number}.png" for name in ("c", "a", "b.c") for number in (10, 9, 1)), "val/a/1.png")
    (tmp_path / "train/a/.DS_Store").write_text("")
    (tmp_path / "train/a/list.txt").write_text("")
    local = FolderSource(tmp_path, "train")
    bucket.install(monkeypatch, tmp_path)
    remote = FolderSource("gs://bucket", "train")
    assert [remote.describe(i) for i in range(len(remote))] == [f"gs://bucket/{name}" for name in names(local, tmp_path)]
    assert remote.classes == local.classes == ("a", "b.c", "c")
    assert local.labels is not None and remote.labels is not None
    np.testing.assert_array_equal(remote.labels, local.labels)
    np.testing.assert_array_equal(remote.read(4), local.read(4))
    assert "gs://bucket/nowhere: no such folder" in problem("gs://bucket/nowhere", "train")
    (tmp_path / "train/a/1.png").unlink()
    with raises_naming("gs://bucket/train/a/1.png", kind=ImageError):
        remote.read(0)


def test_damaged_and_vanished_images_are_named(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "train/a/1.png", "train/a/2.png", "train/a/3.png")
    (tmp_path / "train/a/1.png").write_bytes(b"")
    (tmp_path / "train/a/2.png").unlink()
    (tmp_path / "train/a/2.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "train/a/3.png").unlink()
    (tmp_path / "train/a/3.png").mkdir()
    picture(tmp_path / "train/a/4.png")
    source = FolderSource(tmp_path, "train")
    assert len(source) == 3
    for index, reason in [(0, "empty"), (1, "cannot be read: No such file")]:
        with pytest.raises(ImageError, match=reason) as caught:
            source.read(index)
        assert str(caught.value).startswith(f"{tmp_path}/train/a/{index + 1}.png: ") and "\n" not in str(caught.value)


def test_missing_folders(tmp_path: pathlib.Path) -> None:
    assert "needs path" in problem("", "train")
    assert problem(tmp_path / "gone", "train").startswith(f"{tmp_path}/gone: no such folder")
    picture(tmp_path / "one.png")
    assert problem(tmp_path / "one.png", "").startswith(f"{tmp_path}/one.png: a file, not a folder")


def test_no_images(tmp_path: pathlib.Path) -> None:
    (tmp_path / "train/a").mkdir(parents=True)
    (tmp_path / "train/a/notes.txt").write_text("")
    for split in ("train", ""):
        text = problem(tmp_path, split)
        assert text.startswith(str(tmp_path)) and "no images" in text and "jpg" in text


def test_unknown_splits_say_what_is_there(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "training/a/1.png", "test/a/1.png")
    text = problem(tmp_path, "trainng")
    assert "no folder 'trainng'" in text and "test, training" in text and "split to 'training'" in text
    assert f"set path to {tmp_path}, " in problem(tmp_path / "test", "test")
    assert "sub-splits" in problem(tmp_path, "training[:10%]")
    assert "no folder '..'" in problem(tmp_path, "..")
    flat = tree(tmp_path / "flat", "1.png", "2.png")
    assert "set split to ''" in problem(flat, "train")
    many = tree(tmp_path / "many", *(f"{number}/1.png" for number in range(30)))
    assert "and 22 more" in problem(many, "train")


def test_images_beside_class_folders_are_refused(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "train/a/1.png", "train/stray.png")
    text = problem(tmp_path, "train")
    assert "stray.png" in text and "split to ''" in text


def test_open_source_takes_a_folder(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "train/a/1.png", "train/b/1.png")
    config = source_config()
    config.path = str(tmp_path)
    assert open_source(config).classes == ("a", "b")


def test_a_home_folder_is_found(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    tree(tmp_path, "pictures/1.png")
    assert len(FolderSource("~/pictures", "")) == 1


def test_a_class_may_be_named_like_an_image(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "train/cat/0.png", "train/dog.png/0.png")
    source = FolderSource(tmp_path, "train")
    assert source.classes == ("cat", "dog.png") and source.labels is not None and source.labels.tolist() == [0, 1]


def test_what_is_no_regular_file_is_passed_over_and_a_link_to_nothing_is_named(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "a.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "gone.png")
    source = FolderSource(tmp_path)
    assert source.ids == ("a.png", "c.png")
    with raises_naming("c.png", kind=ImageError):
        source.read(1)
