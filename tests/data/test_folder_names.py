"""Folders as systems, programs and people leave them: what is neither class nor image, links, names in every encoding."""

import json
import os
import pathlib
import unicodedata

import pytest
from data.test_folder import names, tree

from jigclu_jax.config import source_config
from jigclu_jax.data.sources.folder import FolderSource
from jigclu_jax.data.sources.opening import open_source


@pytest.mark.parametrize(
    "junk",
    [
        "@eaDir",
        "@__thumb",
        "__MACOSX",
        ".ipynb_checkpoints",
        ".thumbnails",
        "$RECYCLE.BIN",
        "lost+found",
        "System Volume Information",
        "#recycle",
    ],
)
def test_what_systems_leave_is_neither_class_nor_image(tmp_path: pathlib.Path, junk: str) -> None:
    tree(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", f"train/{junk}/1.jpg", f"train/cat/{junk}/1.jpg/SMALL.jpg", f"val/{junk}/x/1.jpg")
    tree(tmp_path, "val/cat/1.jpg", "train/cat/._1.jpg", "train/dog/.hidden.png")
    source = FolderSource(tmp_path, "train")
    assert source.classes == ("cat", "dog")
    assert names(source, tmp_path) == ["train/cat/1.jpg", "train/dog/1.jpg"]
    assert source.files_seen == 6 and "hidden" in source.passed_over and (junk in source.passed_over or junk.startswith("."))
    assert len(FolderSource(tmp_path, "val")) == 1
    assert len(FolderSource(tmp_path)) == 3


def test_files_that_are_no_images_are_counted_by_kind(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "a/1.png", "a/2.pgm", "a/3.JFIF")
    for name in ("a/1.txt", "a/2.TXT", "Thumbs.db", "desktop.ini", "a/.DS_Store", "a/1.heic", "LICENSE"):
        (tmp_path / name).write_text("")
    os.mkfifo(tmp_path / "pipe.png")
    source = FolderSource(tmp_path)
    assert len(source) == 3 and source.files_seen == 11
    for part in ("2 .txt", "2 left by the system (Thumbs.db)", "1 hidden (a/.DS_Store)", "1 .heic (a/1.heic", "1 without an extension"):
        assert part in source.passed_over


def test_links_in_a_circle_stop_nothing_and_are_named(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "train/cat/1.png", "val/cat/1.png")
    (tmp_path / "train/loop").symlink_to("loop")
    (tmp_path / "train/cat/self.jpg").symlink_to("self.jpg")
    (tmp_path / "train/cat/one").symlink_to("two")
    (tmp_path / "train/cat/two").symlink_to("one")
    (tmp_path / "train/cat/up").symlink_to("..")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for split in ("train", "val"):
        source = FolderSource(tmp_path, split)
        assert source.classes == ("cat",) and names(source, tmp_path) == [f"{split}/cat/1.png"]
    assert "5 links that lead in a circle" in FolderSource(tmp_path, "train").passed_over
    assert len(FolderSource(tmp_path)) == 2


def test_a_name_in_two_unicode_forms_is_one_class(tmp_path: pathlib.Path) -> None:
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    tree(tmp_path, f"train/{apart}/1.png", "train/tea/1.png", f"val/{composed}/1.png", f"val/{apart}/2.png", "val/tea/1.png")
    train = FolderSource(tmp_path, "train")
    assert train.classes == (composed, "tea")
    config = source_config()
    config.path, config.split = str(tmp_path), "val"
    for classes in (train.classes, (apart, "tea")):  # the list of an earlier version
        val = open_source(config, classes=classes)
        assert val.labels is not None and val.labels.tolist() == [0, 0, 1]
    assert open_source(config).read(1).shape == (3, 4, 3)


def test_a_split_is_found_in_either_unicode_form(tmp_path: pathlib.Path) -> None:
    composed, apart = (unicodedata.normalize(form, "früh") for form in ("NFC", "NFD"))
    tree(tmp_path, f"{apart}/a/1.png")
    assert len(FolderSource(tmp_path, composed)) == 1


def test_names_that_are_no_utf_8_are_read_and_can_be_written(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "train/cat/1.png")
    folder = os.path.join(os.fsencode(tmp_path), b"train", b"caf\xe9")
    os.mkdir(folder)
    with open(os.path.join(folder, b"\xff.png"), "wb") as file:
        file.write((tmp_path / "train/cat/1.png").read_bytes())
    source = FolderSource(tmp_path, "train")
    assert source.classes == (r"caf\xe9", "cat") and source.labels is not None and source.labels.tolist() == [0, 1]
    assert source.read(0).shape == (3, 4, 3)
    for text in (*source.ids, *source.classes, source.describe(0), source.name, json.dumps(source.classes, ensure_ascii=False)):
        text.encode()


def test_names_with_ends_of_lines_and_control_characters_stay_on_one_line(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "train/a\nb/x\x1b[31m.png", "train/cat/\u202e1.png")
    source = FolderSource(tmp_path, "train")
    assert source.classes == (r"a\nb", "cat") and len(source.read(0))
    assert all(text.isprintable() for text in (*source.ids, *source.classes, source.describe(0)))


def test_pictures_of_a_run_below_the_images_are_no_data(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "a/1.png", "runs/x/pictures/1.png", "runs/x/p.png", "b/2.png", "a/y/z/3.png")
    for folder, text in (("runs/x", '{"job": "pretrain"}'), ("b", '{"job": "welder"}'), ("a/y", "no JSON")):
        (tmp_path / folder / "config.json").write_text(text)
    source = FolderSource(tmp_path)
    assert names(source, tmp_path) == ["a/1.png", "a/y/z/3.png", "b/2.png"]
    assert "folders of runs (runs/x)" in source.passed_over


def test_flat_validation_is_told_as_such(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "train/cat/1.png", "val/1.png", "val/2.png")
    source = FolderSource(tmp_path, "val")
    assert source.classes is None and "class folders" in source.why_unlabelled
