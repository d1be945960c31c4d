"""Prepared shards: what goes in comes out, a kill changes nothing, damage is named, and bad input is told in one line."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from data import offline_builder
from data.pictures import natural
from named_errors import raises_naming
from PIL import Image

from jigclu_jax.config import source_config
from jigclu_jax.data.prepare import shards
from jigclu_jax.data.prepare.shards import Settings, write_shards
from jigclu_jax.data.prepare.verify import verify_shards
from jigclu_jax.data.sources.arrays import ArraySource
from jigclu_jax.data.sources.folder import FolderSource
from jigclu_jax.data.sources.opening import Source, Subset, open_source
from jigclu_jax.data.sources.prepared import PreparedSource
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.data.sources.tfds import open_tfds
from jigclu_jax.errors import ImageError

COUNT = 11


def settings(**changes: object) -> Settings:
    return Settings(**({"split": "train", "format": "jpeg", "short_side": 40, "quality": 90, "shard_images": 4} | changes))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """train/{cat,dog}/N.jpg of several sizes; number 3 is small, number 5 a PNG."""
    for index in range(COUNT):
        height, width = (30, 36) if index == 3 else (60 + index, 90 - index)
        path = tmp_path / "images" / "train" / ("cat" if index % 2 else "dog") / f"{index}.{'png' if index == 5 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(natural(height, width, index)).save(path)
    return tmp_path / "images"


def opened(folder: Path) -> Source:
    config = source_config()
    config.update({"path": str(folder), "split": "train"})
    return open_source(config)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_images_ids_labels_and_classes_come_out_again(folder: Path, tmp_path: Path) -> None:
    source = opened(folder)
    written = write_shards(source, tmp_path / "out", settings())
    assert (written.images, written.skipped, written.shards_kept) == (COUNT, {}, 0)
    prepared = PreparedSource(str(tmp_path / "out"), "train")
    assert isinstance(prepared, Source) and len(prepared) == COUNT
    assert prepared.classes == ("cat", "dog") == source.classes
    assert source.labels is not None and prepared.labels is not None and prepared.labels.tolist() == source.labels.tolist()
    assert prepared.ids == tuple(source.describe(index).removeprefix(f"{folder}/train/") for index in range(COUNT))
    for index in range(COUNT):
        before, after = source.read(index), prepared.read(index)
        assert min(after.shape[:2]) == min(40, *before.shape[:2])
        assert after.shape[1] / after.shape[0] == pytest.approx(before.shape[1] / before.shape[0], rel=0.02), "no stretching"
        expected = np.asarray(Image.fromarray(before).resize((after.shape[1], after.shape[0]), Image.Resampling.LANCZOS)).astype(int)
        assert np.abs(after - expected).mean() < 12, "what JPEG takes away"
    config = source_config()
    config.update({"source": "prepared", "path": str(tmp_path / "out"), "split": "", "limit": 4})
    assert len(open_source(config)) == 4


def test_a_small_jpeg_is_kept_to_the_byte_and_raw_images_to_the_pixel(folder: Path, tmp_path: Path) -> None:
    source = opened(folder)
    small = next(index for index in range(COUNT) if source.describe(index).endswith("/3.jpg"))
    write_shards(source, tmp_path / "jpeg", settings())
    np.testing.assert_array_equal(PreparedSource(str(tmp_path / "jpeg")).read(small), source.read(small))
    write_shards(source, tmp_path / "raw", settings(format="raw", short_side=100))
    raw = PreparedSource(str(tmp_path / "raw"))
    for index in range(COUNT):
        np.testing.assert_array_equal(raw.read(index), source.read(index))


@pytest.mark.parametrize("stop_at", [2, 6, 10])
def test_a_preparation_that_was_interrupted_ends_as_one_that_was_not(folder: Path, tmp_path: Path, stop_at: int) -> None:
    source = opened(folder)
    write_shards(source, tmp_path / "straight", settings())

    def stop(done: int, count: int) -> None:
        if done >= stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(source, tmp_path / "out", settings(), say=stop)
    with raises_naming(str(tmp_path / "out"), "not finished"):
        PreparedSource(str(tmp_path / "out"), "train")
    (tmp_path / "out" / "train-00002.array_record.part").write_bytes(b"what a kill leaves")
    written = write_shards(source, tmp_path / "out", settings())
    assert written.shards_kept == stop_at // 4
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")
    assert write_shards(source, tmp_path / "out", settings()).shards_kept == 3, "done: nothing is written again"


def test_damaged_images_stop_or_are_left_out_and_counted(folder: Path, tmp_path: Path) -> None:
    broken = folder / "train" / "dog" / "4.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    source = opened(folder)
    with raises_naming("dog/4.jpg", "data.on_error=skip", kind=ImageError):
        write_shards(source, tmp_path / "out", settings())
    assert not list((tmp_path / "out").glob("*.part"))
    written = write_shards(source, tmp_path / "out", settings(), on_error="skip")
    assert written.images == COUNT - 1 and list(written.skipped) == ["dog/4.jpg"]
    assert "dog/4.jpg" not in PreparedSource(str(tmp_path / "out")).ids
    assert verify_shards(tmp_path / "out", "train") == (COUNT - 1, [])


def test_a_shard_of_which_nothing_is_left(folder: Path, tmp_path: Path) -> None:
    for path in sorted((folder / "train" / "cat").iterdir())[:4]:
        path.write_bytes(b"\xff\xd8\xff and no more")
    written = write_shards(opened(folder), tmp_path / "out", settings(), on_error="skip")
    assert written.images == COUNT - 4 == len(PreparedSource(str(tmp_path / "out")))


def test_a_damaged_record_is_named_by_verify_and_by_whoever_reads_it(folder: Path, tmp_path: Path) -> None:
    write_shards(opened(folder), tmp_path / "out", settings(format="raw", short_side=100))
    prepared = PreparedSource(str(tmp_path / "out"))
    shard = tmp_path / "out" / "train-00001.array_record"
    data, record = bytearray(shard.read_bytes()), prepared.read(5).tobytes()
    place = bytes(data).index(record[:64])
    data[place + 30] ^= 0xFF
    shard.write_bytes(data)
    read, damaged = verify_shards(tmp_path / "out", "train")
    assert read == COUNT and len(damaged) == 1
    assert f"train-00001.array_record, record 1 ({prepared.ids[5]})" in damaged[0]
    again = PreparedSource(str(tmp_path / "out"))
    with raises_naming("train-00001.array_record", "record 1 (", kind=ImageError):
        again.read(5)
    with raises_naming("train-00001.array_record", "data.on_error=skip", kind=ImageError):
        ImageReader(again, 1, "stop", "data")(5)
    again.read(6)
    shard.unlink()
    write_shards(opened(folder), tmp_path / "out", settings(format="raw", short_side=100))
    assert verify_shards(tmp_path / "out", "train") == (COUNT, []), "a deleted shard is made anew"


def test_what_does_not_match_the_index_is_refused(folder: Path, tmp_path: Path) -> None:
    write_shards(opened(folder), tmp_path / "out", settings())

    def damaged(name: str, change: str) -> Path:
        copy = tmp_path / change
        shutil.copytree(tmp_path / "out", copy)
        path = copy / name
        {
            "cut": lambda: path.write_bytes(path.read_bytes()[:-70_000]),
            "gone": path.unlink,
            "other": lambda: shutil.copy(copy / "train-00000.npz", copy / "train-00002.npz"),
            "noise": lambda: path.write_bytes(b"noise"),
        }[change]()
        return copy

    for name, change, numbers in [
        ("train-00001.array_record", "cut", ()),
        ("train-00001.array_record", "gone", ()),
        ("train-00002.npz", "other", (" 4 ", " 3")),
        ("train.json", "noise", ()),
    ]:
        copy = damaged(name, change)
        with raises_naming(str(copy / name), *numbers):
            PreparedSource(str(copy), "train")
        if name != "train.json":
            assert verify_shards(copy, "train")[1], change


def test_shards_of_one_size_that_were_mixed_up_are_refused(tmp_path: Path) -> None:
    images = ArraySource(np.random.default_rng(0).integers(0, 255, (8, 20, 20, 3), np.uint8))
    write_shards(images, tmp_path, settings(format="raw", shard_images=4))
    shards = [tmp_path / f"train-0000{number}.array_record" for number in range(2)]
    first, second = (shard.read_bytes() for shard in shards)
    assert len(first) == len(second), "nothing but the records tells them apart"
    shards[0].write_bytes(second)
    with raises_naming("train-00000.array_record"):
        PreparedSource(str(tmp_path))
    read, damaged = verify_shards(tmp_path, "train")
    assert read == 8
    assert [f"train-00000.array_record, record {number} (" in line for number, line in enumerate(damaged)] == [True] * 4


def test_bad_folders_and_other_settings_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    source = opened(folder)
    write_shards(source, tmp_path / "out", settings())
    for call, names in [
        (lambda: PreparedSource(str(tmp_path / "nowhere")), [f"{tmp_path}/nowhere"]),
        (lambda: PreparedSource(str(folder)), [str(folder)]),
        (lambda: PreparedSource(""), ["path"]),
        (lambda: PreparedSource(str(tmp_path / "out"), "val"), ["'val'", "train"]),
        (lambda: write_shards(source, tmp_path / "out", settings(short_side=20)), [f"{tmp_path}/out", "short_side"]),
        (lambda: write_shards(source, "gs://bucket/out", settings()), ["gs://bucket/out"]),
    ]:
        with raises_naming(*names):
            call()
    summary = json.loads((tmp_path / "out" / "train.json").read_text())
    (tmp_path / "out" / "train.json").write_text(json.dumps(summary | {"version": 99}))
    with raises_naming("version 99"):
        PreparedSource(str(tmp_path / "out"))


def test_reading_ahead_is_bounded(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more images are encoded than `_AHEAD` beyond what was written."""
    monkeypatch.setattr(shards, "_AHEAD", 2)
    encoded: list[int] = []
    original = shards._encode
    monkeypatch.setattr(shards, "_encode", lambda source, number, s: encoded.append(number) or original(source, number, s))

    def look(done: int, count: int) -> None:
        assert len(encoded) <= done + 2

    write_shards(opened(folder), tmp_path / "out", settings(), say=look, threads=2)


@pytest.mark.parametrize("damage", ["shard cut", "shard longer", "index gone", "index cut"])
def test_a_shard_that_is_not_whole_is_written_anew(folder: Path, tmp_path: Path, damage: str) -> None:
    """It must not become what the new index calls right; what the messages advise works without deleting anything."""
    source = opened(folder)
    write_shards(source, tmp_path / "out", settings())
    before = contents(tmp_path / "out")
    shard = tmp_path / "out" / "train-00001.array_record"
    index = shard.with_suffix(".npz")
    {
        "shard cut": lambda: shard.write_bytes(shard.read_bytes()[:-70_000]),
        "shard longer": lambda: shard.write_bytes(shard.read_bytes() + bytes(9)),
        "index gone": index.unlink,
        "index cut": lambda: index.write_bytes(index.read_bytes()[:-40]),
    }[damage]()
    with raises_naming("train-00001"):
        PreparedSource(str(tmp_path / "out"))
    assert verify_shards(tmp_path / "out", "train")[1]
    assert write_shards(source, tmp_path / "out", settings()).shards_kept == 2
    assert contents(tmp_path / "out") == before


def test_a_shard_that_cannot_be_opened_is_named_in_one_line(folder: Path, tmp_path: Path) -> None:
    """The size is right, so that only the reader sees it."""
    write_shards(opened(folder), tmp_path / "out", settings())
    shard = tmp_path / "out" / "train-00001.array_record"
    shard.write_bytes(shard.read_bytes()[:-65_536] + bytes(65_536))
    with raises_naming("train-00001.array_record") as caught:
        PreparedSource(str(tmp_path / "out"))
    assert "\n" not in str(caught.value)
    assert len(verify_shards(tmp_path / "out", "train")[1]) == 1


@pytest.mark.parametrize(
    "summary", [{"version": 1}, {"version": 1, "split": "train", "format": "jpeg", "classes": None, "shards": [{}]}, []]
)
def test_an_index_without_its_fields_is_refused(folder: Path, tmp_path: Path, summary: object) -> None:
    write_shards(opened(folder), tmp_path / "out", settings())
    (tmp_path / "out" / "train.json").write_text(json.dumps(summary))
    for call in (lambda: PreparedSource(str(tmp_path / "out")), lambda: verify_shards(tmp_path / "out", "train")):
        with raises_naming("train.json"):
            call()


def test_sources_without_a_length_or_images_and_remote_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    class Endless:
        name, classes, labels = "stream", None, None

        def __len__(self) -> int:
            raise TypeError("an endless stream has no length")

        def read(self, index: int) -> np.ndarray:
            return np.zeros((8, 8, 3), np.uint8)

        def describe(self, index: int) -> str:
            return f"stream[{index}]"

    source = opened(folder)
    for call, expected in [
        (lambda: write_shards(Endless(), tmp_path / "out", settings()), "stream"),
        (lambda: write_shards(Subset(source, np.zeros(0, np.int64)), tmp_path / "out", settings()), "no images"),
        (lambda: write_shards(source, "gs://bucket/out", settings()), "gs://bucket/out"),
        (lambda: PreparedSource("gs://bucket/out"), "gs://bucket/out"),
    ]:
        with raises_naming(expected):
            call()
    assert not (tmp_path / "out").exists()


def test_ids_do_not_depend_on_where_the_images_lie(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "my photos (2)" / "all"
    shutil.copytree(folder, moved)
    some = np.array([0, 3, 7])
    for number, source in enumerate([opened(folder), opened(moved), Subset(opened(moved), some)]):
        write_shards(source, tmp_path / f"out{number}", settings())
    ids = [PreparedSource(str(tmp_path / f"out{number}")).ids for number in range(3)]
    assert ids[0] == ids[1] and ids[2] == tuple(ids[0][index] for index in some) and ids[0][0] == "cat/1.jpg"
    write_shards(FolderSource(moved), tmp_path / "flat", settings(split="all"))
    assert PreparedSource(str(tmp_path / "flat")).ids[0] == "train/cat/1.jpg"


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_a_tfds_set_is_prepared_with_its_classes_and_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str) -> None:
    monkeypatch.setenv("JIGCLU_JAX_CACHE", str(tmp_path / "cache"))
    offline_builder.build(offline_builder.OfflinePictures, tmp_path / "tfds", file_format)
    source = open_tfds("offline_pictures", "train", str(tmp_path / "tfds"))
    write_shards(source, tmp_path / "out", settings(format="raw"))
    prepared = PreparedSource(str(tmp_path / "out"))
    assert prepared.classes == offline_builder.CLASSES
    assert source.labels is not None and prepared.labels is not None and prepared.labels.tolist() == source.labels.tolist()
    name = f"offline_pictures-train.{file_format}-00000-of-00001"
    assert prepared.ids == tuple(f"{name}, record {index}" for index in range(len(source)))
    for index in range(len(source)):
        np.testing.assert_array_equal(prepared.read(index), source.read(index))


def test_other_classes_or_labels_are_another_preparation(folder: Path, tmp_path: Path) -> None:
    write_shards(opened(folder), tmp_path / "out", settings())
    (tmp_path / "out" / "train-00001.array_record").unlink()
    (folder / "train" / "ant").mkdir()
    with raises_naming("'train'", "labels"):
        write_shards(opened(folder), tmp_path / "out", settings())
    images = np.stack([natural(8, 8, index) for index in range(6)])
    raw = settings(format="raw")
    write_shards(ArraySource(images, np.zeros(6, np.int64), ["a", "b"]), tmp_path / "raw", raw)
    with raises_naming("labels"):
        write_shards(ArraySource(images, np.ones(6, np.int64), ["a", "b"]), tmp_path / "raw", raw)


@pytest.mark.parametrize("damage", ["one shard twice", "two exchanged", "another's records"])
def test_whole_shards_under_a_wrong_name_are_written_anew(folder: Path, tmp_path: Path, damage: str) -> None:
    source, out = opened(folder), tmp_path / "out"
    write_shards(source, out, settings(format="raw", short_side=20))
    before = contents(out)
    names = ("train-00000", "train-00001")
    held = {f"{name}{end}": (out / f"{name}{end}").read_bytes() for name in names for end in (".array_record", ".npz")}
    assert len(held["train-00000.array_record"]) == len(held["train-00001.array_record"]), "the size tells nothing"
    for end in (".array_record", ".npz")[: 1 if damage == "another's records" else 2]:
        (out / f"train-00001{end}").write_bytes(held[f"train-00000{end}"])
        if damage == "two exchanged":
            (out / f"train-00000{end}").write_bytes(held[f"train-00001{end}"])
    assert write_shards(source, out, settings(format="raw", short_side=20)).shards_kept == (1 if damage == "two exchanged" else 2)
    assert contents(out) == before


def test_other_pixels_under_the_same_names_are_noticed_by_the_first_image(tmp_path: Path) -> None:
    images, raw = np.zeros((6, 8, 8, 3), np.uint8), settings(format="raw")
    write_shards(ArraySource(images, None), tmp_path / "out", raw)
    assert write_shards(ArraySource(images, None), tmp_path / "out", raw).shards_kept == 2
    assert write_shards(ArraySource(images + 9, None), tmp_path / "out", raw).shards_kept == 0
    assert PreparedSource(str(tmp_path / "out")).read(5).mean() == 9


def test_an_image_that_was_left_out_and_mended_is_taken_in(folder: Path, tmp_path: Path) -> None:
    file = folder / "train" / "dog" / "2.jpg"
    whole = file.read_bytes()
    file.write_bytes(b"")
    assert write_shards(opened(folder), tmp_path / "out", settings(), on_error="skip").skipped.keys() == {"dog/2.jpg"}
    again = write_shards(opened(folder), tmp_path / "out", settings(), on_error="skip")
    assert (again.shards_kept, again.images) == (3, COUNT - 1)
    with pytest.raises(ImageError, match="empty"):
        write_shards(opened(folder), tmp_path / "out", settings())
    file.write_bytes(whole)
    assert write_shards(opened(folder), tmp_path / "out", settings(), on_error="skip").images == COUNT
    assert "dog/2.jpg" in PreparedSource(str(tmp_path / "out")).ids


def test_too_small_and_too_long_images_are_named_and_may_be_left_out(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (65_501, 2)).save(folder / "train" / "cat" / "long.png")
    with raises_naming("cat/3.jpg", "36 x 30", "data.min_side=31", kind=ImageError):
        write_shards(opened(folder), tmp_path / "small", settings(min_side=31))
    with raises_naming("cat/long.png", "65501 x 2", kind=ImageError):
        write_shards(opened(folder), tmp_path / "long", settings())
    skipped = write_shards(opened(folder), tmp_path / "out", settings(min_side=31), on_error="skip").skipped
    assert set(skipped) == {"cat/3.jpg", "cat/long.png"}


def test_other_json_files_are_no_splits(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_shards(opened(folder), out, settings())
    (out / "result.json").write_text('{"job": "prepare", "images": 11}')
    assert len(PreparedSource(str(out))) == COUNT
    with raises_naming("'result'", "train"):
        PreparedSource(str(out), "result")


def test_a_name_that_is_no_text_is_prepared(tmp_path: Path) -> None:
    """As an archive of long ago leaves it."""
    (tmp_path / "images").mkdir()
    Image.fromarray(natural(20, 20, 0)).save(tmp_path / "plain.png")
    try:
        shutil.copy(tmp_path / "plain.png", bytes(tmp_path / "images") + b"/caf\xe9.png")
    except OSError as error:
        assert error.errno == errno.EILSEQ
        pytest.skip("this file system wants names in UTF-8")
    source = FolderSource(tmp_path / "images")
    assert write_shards(source, tmp_path / "out", settings()).images == 1
    prepared = PreparedSource(str(tmp_path / "out"))
    assert prepared.ids == source.ids and prepared.read(0).shape == (20, 20, 3)
    assert write_shards(source, tmp_path / "out", settings()).shards_kept == 1
