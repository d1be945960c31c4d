"""TFDS data sets in both formats, prepared offline: pixels, labels, parts of splits, and what is said when one is not there."""

import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from data import bucket, offline_builder
from data.offline_builder import CLASSES, SPLIT_SIZES, label_of, picture

from jigclu_jax.config import source_config
from jigclu_jax.data.prepare.shards import Settings, write_shards
from jigclu_jax.data.sources import tfds as tfds_source
from jigclu_jax.data.sources.opening import open_source
from jigclu_jax.data.sources.prepared import PreparedSource
from jigclu_jax.data.sources.tfds import TfdsSource, open_tfds
from jigclu_jax.errors import ImageError, UserError

FORMATS = ("tfrecord", "array_record")
NAME = "offline_pictures"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with `tfrecord/` and `array_record/`, each a data_dir."""
    root = tmp_path_factory.mktemp("tfds")
    for file_format in FORMATS:
        offline_builder.build(offline_builder.OfflinePictures, root / file_format, file_format)
        offline_builder.build(offline_builder.OfflineArrays, root / file_format, file_format)
    offline_builder.build(offline_builder.OfflineNumbers, root / "tfrecord", "tfrecord")
    return root


@pytest.fixture(autouse=True)
def offline_and_uncached(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, prepared: pathlib.Path) -> Iterator[None]:
    def refuse(*args: object, **kwargs: object) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setenv("JIGCLU_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield


def problem(*args: str) -> str:
    """The text of the error; checks that it is one line and comes at once."""
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        open_tfds(*args)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 10
    return str(caught.value)


def identify(source: TfdsSource) -> list[tuple[str, int]]:
    """Which picture each example is (TFDS stores them in an order of its own); fails for pixels that are none of them."""
    known = {picture(split, index).tobytes(): (split, index) for split, size in SPLIT_SIZES.items() for index in range(size)}
    return [known[source.read(index).tobytes()] for index in range(len(source))]


@pytest.mark.parametrize("file_format", FORMATS)
def test_pixels_labels_and_classes(prepared: pathlib.Path, file_format: str) -> None:
    for split, size in SPLIT_SIZES.items():
        source = open_tfds(NAME, split, str(prepared / file_format))
        found = identify(source)
        assert sorted(found) == [(split, index) for index in range(size)]
        assert source.classes == CLASSES
        assert source.labels is not None and source.labels.dtype == np.int32
        assert source.labels.tolist() == [label_of(*which) for which in found]
        assert source.describe(1).endswith(f"{NAME}-{split}.{file_format}-00000-of-00001, record 1")


@pytest.mark.parametrize("file_format", FORMATS)
def test_parts_of_splits(prepared: pathlib.Path, file_format: str) -> None:
    def of(split: str) -> list[tuple[str, int]]:
        return identify(open_tfds(NAME, split, str(prepared / file_format)))

    train, test = of("train"), of("test")
    assert of("train[:5]") == train[:5]
    assert of("train[50%:]") == train[9:]
    assert of("train[3:7]+test") == train[3:7] + test
    assert of("test+train[:2]+train[16:]") == test + train[:2] + train[16:]
    assert sorted(of("all")) == sorted(train + test)


def test_both_formats_hold_the_same(prepared: pathlib.Path) -> None:
    one, two = (open_tfds(NAME, "train", str(prepared / file_format)) for file_format in FORMATS)
    assert sorted(identify(one)) == sorted(identify(two))


@pytest.mark.parametrize("file_format", FORMATS)
def test_raw_pixels_without_labels(prepared: pathlib.Path, file_format: str) -> None:
    source = open_tfds("offline_arrays", "train", str(prepared / file_format))
    assert source.classes is None and source.labels is None
    assert sorted(int(source.read(index).max()) for index in range(5)) == list(range(5))
    assert source.read(0).shape == (9, 7, 3) and source.read(0).dtype == np.uint8


def test_name_with_version_and_the_folder_of_a_version(prepared: pathlib.Path) -> None:
    folder = prepared / "tfrecord"
    assert len(open_tfds(f"{NAME}:1.0.0", "train", str(folder))) == 18
    for name in ("", NAME):
        assert len(open_tfds(name, "test", str(folder / NAME / "1.0.0"))) == 6


@pytest.mark.parametrize("file_format", FORMATS)
def test_labels_are_gathered_once(prepared: pathlib.Path, file_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_tfds(NAME, "train", str(prepared / file_format)).labels
    monkeypatch.setattr(tfds_source, "_parse", lambda *_: pytest.fail("the records were read again"))
    again = open_tfds(NAME, "train", str(prepared / file_format)).labels
    assert first is not None and again is not None
    np.testing.assert_array_equal(first, again)


def test_open_source_with_a_limit(prepared: pathlib.Path) -> None:
    config = source_config()
    config.update({"source": "tfds", "name": NAME, "data_dir": str(prepared / "array_record"), "limit": 9})
    source = open_source(config, seed=1)
    assert source.labels is not None and np.bincount(source.labels).tolist() == [3, 3, 3]


def test_tfrecord_on_a_remote_file_system(prepared: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = open_tfds(NAME, "train", str(prepared / "tfrecord"))
    bucket.install(monkeypatch, prepared)
    remote = open_tfds(NAME, "train", "gs://bucket/tfrecord")
    assert identify(remote) == identify(local)
    assert remote.describe(0).startswith("gs://bucket/tfrecord/")


def test_unknown_names(prepared: pathlib.Path) -> None:
    folder = str(prepared / "tfrecord")
    assert "did you mean 'offline_pictures'?" in problem("ofline_pictures", "train", folder)
    assert "did you mean 'cifar10'?" in problem("cifr10", "train", folder)
    assert "not of the form" in problem("two words", "train", folder)
    assert "no data set of this name" in problem("huggingface:mnist", "train", folder)
    assert "needs name" in problem("", "train", folder)


def test_not_prepared(prepared: pathlib.Path) -> None:
    folder = str(prepared / "tfrecord")
    text = problem("cifar10", "train", folder)
    assert text.startswith(f"cifar10: not prepared in {folder}") and "download_and_prepare()" in text
    text = problem(f"{NAME}:3.0.0", "train", folder)
    assert f"which has {NAME}:1.0.0: set name to one of these" in text
    assert problem(NAME, "train", f"{folder}/gone").startswith(f"{folder}/gone: no such folder: set data_dir to ")


def test_the_command_for_preparing_is_python(prepared: pathlib.Path) -> None:
    text = problem("cifar10", "train", str(prepared / "tfrecord"))
    program = text.split('python -c "')[1].rsplit('"', 1)[0]
    compile(program, "command", "exec")
    assert f"data_dir='{prepared}/tfrecord'" in program


def test_unknown_splits(prepared: pathlib.Path) -> None:
    folder = str(prepared / "tfrecord")
    assert problem(NAME, "trian", folder) == f"{NAME}: no split 'trian': did you mean 'train'? there are 'train', 'test'"
    assert "no split 'validation'" in problem(NAME, "train+validation[:3]", folder)
    assert "no split ''" in problem(NAME, "", folder)
    assert "is not understood" in problem(NAME, "train[:x%]", folder)
    assert "has no examples" in problem(NAME, "train[:0]", folder)


def test_no_images(prepared: pathlib.Path) -> None:
    assert "no uint8 image among its features (value (" in problem("offline_numbers", "train", str(prepared / "tfrecord"))


@pytest.mark.parametrize("file_format", FORMATS)
def test_missing_and_damaged_files(prepared: pathlib.Path, tmp_path: pathlib.Path, file_format: str) -> None:
    folder = tmp_path / "copy" / NAME / "1.0.0"
    folder.mkdir(parents=True)
    for file in (prepared / file_format / NAME / "1.0.0").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    shard = folder / f"{NAME}-test.{file_format}-00000-of-00001"
    whole = shard.read_bytes()
    middle = whole.index(b"IDAT") + 40 if b"IDAT" in whole else len(whole) // 2
    shard.write_bytes(whole[:middle] + bytes(byte ^ 0xFF for byte in whole[middle : middle + 8]) + whole[middle + 8 :])
    source = open_tfds(NAME, "test", str(tmp_path / "copy"))
    failures = []
    for index in range(len(source)):
        try:
            source.read(index)
        except ImageError as error:
            failures.append(str(error))
    # the other records can still be read
    assert len(failures) == 1 and failures[0].startswith(f"{shard}, record ") and "\n" not in failures[0]
    shard.unlink()
    assert problem(NAME, "test", str(tmp_path / "copy")) == f"{shard}: no such file: prepare the data set again"


def test_a_truncated_array_record_file(prepared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "copy" / NAME / "1.0.0"
    folder.mkdir(parents=True)
    for file in (prepared / "array_record" / NAME / "1.0.0").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    shard = folder / f"{NAME}-train.array_record-00000-of-00001"
    whole = shard.read_bytes()
    for length in (0, 70_000, len(whole) // 2, len(whole) - 100):
        shard.write_bytes(whole[:length])
        with pytest.raises(ImageError, match=f"^{shard}, record 3: cannot be read: ") as caught:
            open_tfds(NAME, "train", str(tmp_path / "copy")).read(3)
        assert "\n" not in str(caught.value)


def test_a_shard_with_other_records_than_the_data_set_says(prepared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "copy" / NAME / "1.0.0"
    folder.mkdir(parents=True)
    for file in (prepared / "tfrecord" / NAME / "1.0.0").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    shard = folder / f"{NAME}-test.tfrecord-00000-of-00001"
    shard.write_bytes(shard.read_bytes() * 2)
    assert problem(NAME, "test", str(tmp_path / "copy")).startswith(f"{shard}: 12 records, its data set says 6")


def test_reading_imports_no_tensorflow_and_labels_are_read_when_asked_for(prepared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    # in a process of its own also because the tests' annotation checker looks at every attribute of a Source
    program = f"""
import sys
from jigclu_jax.config import source_config
from jigclu_jax.data.sources.opening import open_source
from jigclu_jax.data.sources.tfds import TfdsSource
gather, calls = TfdsSource._gather_labels, []
TfdsSource._gather_labels = lambda source: calls.append(1) or gather(source)
for file_format in {FORMATS}:
    config = source_config()
    config.update({{"source": "tfds", "name": {NAME!r}, "data_dir": {str(prepared)!r} + "/" + file_format}})
    source = open_source(config, classes={CLASSES})
    print(source.read(0).shape[1], source.classes == {CLASSES}, len(calls), len(source.labels), len(calls), "tensorflow" in sys.modules)
"""
    environment = {**os.environ, "JIGCLU_JAX_CACHE": str(tmp_path / "other")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "12 True 0 18 1 False\n12 True 1 18 2 False\n"


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_tfds_set_can_be_prepared(prepared: pathlib.Path, tmp_path: pathlib.Path, file_format: str) -> None:
    """Pixels, labels and class list of the shards are those of the set; an id says from which record an image came."""
    source = open_tfds(NAME, "train", str(prepared / file_format))
    write_shards(source, tmp_path / "out", Settings("train", "raw", 256, 90, 8))
    shards = PreparedSource(str(tmp_path / "out"))
    assert shards.classes == source.classes and len(shards) == SPLIT_SIZES["train"] == len(set(shards.ids))
    assert shards.labels is not None and source.labels is not None and shards.labels.tolist() == source.labels.tolist()
    for index in range(len(shards)):
        np.testing.assert_array_equal(shards.read(index), source.read(index))
        assert "record" in shards.ids[index] and file_format in shards.ids[index]
