"""Parts of a data set: lists of names, balanced shares; against counts done by hand and numbers written down."""

import itertools
import pathlib
import re
from collections import Counter

import numpy as np
import pytest
from data import offline_builder
from ml_collections import ConfigDict
from named_errors import raises_naming
from PIL import Image

from jigclu_jax.config import source_config
from jigclu_jax.data.prepare.shards import Settings, write_shards
from jigclu_jax.data.sources.arrays import ArraySource
from jigclu_jax.data.sources.opening import NamesImages, Source, open_source
from jigclu_jax.data.sources.subsets import balanced_indices, listed_indices
from jigclu_jax.errors import UserError

NAMES = ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/3.jpg", "c/x/4.jpg")
CLASSES = tuple("abcdefgh")


def config(**fields: object) -> ConfigDict:
    result = source_config()
    result.update(fields)
    return result


def listed(tmp_path: pathlib.Path, text: str | bytes, names: tuple[str, ...] | None = NAMES) -> list[int]:
    file = tmp_path / "list.txt"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return listed_indices(str(file), names, "/data/train", "train").tolist()


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """12 images of `cat`, 6 of `dog`, and a class `emu` with images in `val` alone."""
    for split, name, count in (("train", "cat", 12), ("train", "dog", 6), ("val", "cat", 2), ("val", "emu", 1)):
        (tmp_path / "root" / split / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            Image.new("RGB", (4, 4), (index, 0, 0)).save(tmp_path / "root" / split / name / f"{name}{index:02d}.png")
    (tmp_path / "root" / "train" / "emu").mkdir()
    return tmp_path / "root"


# --- lists of names


def test_names_of_a_list_are_paths_with_or_without_the_split_or_bare_file_names(tmp_path: pathlib.Path) -> None:
    assert listed(tmp_path, "b/3.jpg\na/1.jpg") == [0, 3]
    assert listed(tmp_path, "train/b/3.jpg\n4.jpg\n2.jpg\n") == [1, 3, 4]
    assert listed(tmp_path, b"\xef\xbb\xbfa/2.jpg\r\n\r\n  4.jpg \r\n") == [1, 4]
    assert listed(tmp_path, b"a/2.jpg\r4.jpg\r") == [1, 4]  # as an old Mac ends lines


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "a/1.jpg\n\nb/9.jpg\nnope",
            "list.txt line 3: no image 'b/9.jpg' in /data/train (and 1 more of 3 lines); names there are like 'a/1.jpg'",
        ),
        ("a/1.jpg\n4.jpg\na/1.jpg", "list.txt line 3: 'a/1.jpg' stands on line 1 already: remove one of them"),
        ("4.jpg\ntrain/c/x/4.jpg", "list.txt line 2: 'train/c/x/4.jpg' stands on line 1 already: remove one of them"),
        ("4.jpg\n1.jpg", "list.txt line 2: '1.jpg' could be a/1.jpg or b/1.jpg: give the folder as well"),
        ("\n \n", "list.txt: the file is empty: give one image a line"),
        ("", "list.txt: the file is empty: give one image a line"),
        (b"a/1.jpg\n\xff\xfe\x00", "list.txt line 2: not UTF-8 text: give a text file with one image a line"),
    ],
)
def test_a_list_that_cannot_be_used_is_told_in_a_line(tmp_path: pathlib.Path, text: str | bytes, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said) + "$"):
        listed(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "./cat/cat01.png\n.\\dog\\dog02.png",
        "cat\\cat01.png \r\ndog/dog02.png\t\r\n",
        "\ufeffcat/cat01.png 0\ndog/dog02.png 1",
        'cat/cat01.png,0\n"dog/dog02.png",1,x',
        "cat01.png 7 a\ntrain/dog/dog02.png\t1",
        "{root}/train/cat/cat01.png\n{root}/train/dog/dog02.png 3",
    ],
)
@pytest.mark.parametrize("relative", [False, True])
def test_lists_as_programs_write_them(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, text: str, relative: bool
) -> None:
    monkeypatch.chdir(folder.parent)
    (tmp_path / "few.txt").write_bytes(text.format(root=folder).encode())
    root = folder.name if relative else f"{folder}/"
    source = open_source(config(source="folder", path=root, list=str(tmp_path / "few.txt")))
    assert [pathlib.Path(source.describe(index)).name for index in range(len(source))] == ["cat01.png", "dog02.png"]


def test_a_name_with_a_space_is_no_name_with_a_column(tmp_path: pathlib.Path) -> None:
    (tmp_path / "list.txt").write_text("a/x 1.png\na/x 2.png 0\n")
    assert listed_indices(str(tmp_path / "list.txt"), ["a/x", "a/x 1.png", "a/x 2.png"], "set", "").tolist() == [1, 2]


def test_a_list_that_is_no_file(tmp_path: pathlib.Path) -> None:
    with raises_naming(f"list={tmp_path}"):
        listed_indices(str(tmp_path), NAMES, "set", "train")
    with raises_naming("list=/nope"):
        listed_indices("/nope", NAMES, "set", "train")
    with raises_naming("/data/train", "fraction", "limit"):
        listed(tmp_path, "1", None)


def test_a_list_of_a_folder_keeps_the_class_list(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "few.txt").write_text("dog05.png\ndog/dog01.png\n")
    source = open_source(config(source="folder", path=str(folder), list=str(tmp_path / "few.txt")))
    assert [pathlib.Path(source.describe(index)).name for index in range(len(source))] == ["dog01.png", "dog05.png"]
    assert source.classes == ("cat", "dog", "emu")
    assert source.labels is not None and source.labels.tolist() == [1, 1]
    assert source.read(1)[0, 0, 0] == 5
    with raises_naming("limit=3", "2 images"):
        open_source(config(source="folder", path=str(folder), list=str(tmp_path / "few.txt"), limit=3))


def test_a_list_works_on_prepared_shards(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    write_shards(open_source(config(source="folder", path=str(folder))), tmp_path / "shards", Settings("train", "raw", 4, 90, 5))
    (tmp_path / "few.txt").write_text("cat11.png\ndog/dog00.png\n")
    source = open_source(config(source="prepared", path=str(tmp_path / "shards"), list=str(tmp_path / "few.txt")))
    assert [int(source.read(index)[0, 0, 0]) for index in range(2)] == [11, 0]


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_a_list_of_a_tfds_set_names_its_file_names(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, file_format: str) -> None:
    monkeypatch.setenv("JIGCLU_JAX_CACHE", str(tmp_path / "cache"))
    for part in ("all", "half"):
        offline_builder.build(offline_builder.OfflineNamed, tmp_path / "tfds", file_format, part)
    options = {"source": "tfds", "data_dir": str(tmp_path / "tfds")}
    (tmp_path / "few.txt").write_text("n1_4.JPEG\nn0_3.JPEG\nn2_17.JPEG\n")
    for _ in range(2):  # the second time from the cache
        source = open_source(config(name="offline_named/all", list=str(tmp_path / "few.txt"), **options))
        found = {source.read(index).tobytes() for index in range(len(source))}
        assert found == {offline_builder.picture("train", index).tobytes() for index in (3, 4, 17)}
    # what SimCLR's subset of ImageNet is in TFDS: a config of its own, by name
    half = open_source(config(name="offline_named/half", **options))
    assert isinstance(half, NamesImages) and sorted(half.ids or ()) == sorted(f"n{i % 3}_{i}.JPEG" for i in range(0, 18, 2))
    assert half.classes == offline_builder.CLASSES
    with raises_naming("line 1", "'n1_4.JPEGX'", "offline_named/half/train", "'n"):
        (tmp_path / "bad.txt").write_text("n1_4.JPEGX")
        open_source(config(name="offline_named/half", list=str(tmp_path / "bad.txt"), **options))


# --- balanced shares


def test_every_class_gets_the_same_number_whatever_gaps_there_are() -> None:
    labels = np.repeat(np.array([0, 2, 5, 7], np.int32), [40, 20, 30, 10])  # 100 images, four of eight classes
    for fraction, each in ((0.04, 1), (0.079, 1), (0.08, 2), (0.29, 7), (0.4, 10)):
        chosen = balanced_indices(labels, fraction, 3, CLASSES)
        assert Counter(labels[chosen].tolist()) == {0: each, 2: each, 5: each, 7: each}
        assert chosen.tolist() == sorted(set(chosen.tolist()))


def test_a_share_is_the_same_on_every_machine_and_contains_smaller_ones() -> None:
    labels = (np.arange(60) % 3).astype(np.int32)
    # drawn once on Linux x86-64, numpy 2.4: Philox does not depend on the machine
    assert balanced_indices(labels, 0.1, 0, CLASSES).tolist() == GOLDEN
    parts = [set(balanced_indices(labels, fraction, 7, CLASSES).tolist()) for fraction in (0.05, 0.1, 0.5, 1.0)]
    assert all(small < large for small, large in itertools.pairwise(parts))
    assert parts[-1] == set(range(60))


GOLDEN = [14, 33, 35, 40, 43, 48]


def test_a_share_too_small_or_too_large_is_told_with_the_one_that_works() -> None:
    labels = np.repeat(np.array([0, 2, 5, 7], np.int32), [40, 20, 30, 10])
    with raises_naming("fraction=0.01", "0.04"):
        balanced_indices(labels, 0.01, 0, CLASSES)
    assert len(balanced_indices(labels, 0.04, 0, CLASSES)) == 4
    with raises_naming("fraction", "'h'", "0.4", "limit=48"):
        balanced_indices(labels, 0.5, 0, CLASSES)
    third = (np.arange(7) % 3).astype(np.int32)
    with pytest.raises(UserError) as caught:
        balanced_indices(third, 0.4, 0, CLASSES)
    least = re.search(r"at least ([\d.]+)", str(caught.value))
    assert least is not None and len(balanced_indices(third, float(least[1]), 0, CLASSES)) == 3


def test_shares_of_sources(folder: pathlib.Path) -> None:
    source = open_source(config(source="folder", path=str(folder), fraction=0.5), seed=2)
    assert isinstance(source, Source) and source.classes == ("cat", "dog", "emu")
    assert source.labels is not None and Counter(source.labels.tolist()) == {0: 4, 1: 4}
    fields: dict[str, float | str]
    for fields, named in (
        ({"fraction": -0.1}, ("fraction=-0.1",)),
        ({"fraction": 1.5}, ("fraction=1.5",)),
        ({"fraction": float("nan")}, ("fraction=nan",)),
        ({"fraction": 0.5, "limit": 2}, ("fraction=0.5", "limit=2")),
        ({"fraction": 0.5, "split": ""}, ("fraction=0.5", "labels")),
        ({"fraction": 0.05}, ("fraction", "0.111")),
    ):
        with raises_naming(*named):
            open_source(config(**{"source": "folder", "path": str(folder)} | fields))


def test_arrays_have_no_names(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "set.npz", image=np.zeros((4, 2, 2, 3), np.uint8), label=np.arange(4))
    (tmp_path / "few.txt").write_text("1\n")
    with raises_naming(f"{tmp_path}/set.npz:image", "fraction", "limit"):
        open_source(config(source="arrays", path=str(tmp_path / "set.npz"), list=str(tmp_path / "few.txt")))
    assert not isinstance(ArraySource(np.zeros((1, 2, 2), np.uint8)), NamesImages)
