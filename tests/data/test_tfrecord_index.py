"""Random access to TFRecord files: every record, stale indices, damage, and a remote file system."""

import os
import pathlib

import pytest
from data import bucket, tfrecords
from named_errors import raises_naming

from jigclu_jax.data.sources import tfrecord_index
from jigclu_jax.data.sources.tfrecord_index import index_shards
from jigclu_jax.errors import ImageError

RECORDS = [b"first", b"", b"x" * 5000, bytes(range(256)) * 9]


@pytest.fixture(autouse=True)
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("JIGCLU_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path: pathlib.Path, records: list[bytes]) -> pathlib.Path:
    path.write_bytes(b"".join(map(tfrecords.frame, records)))
    return path


def test_records_in_any_order(tmp_path: pathlib.Path) -> None:
    one, two = write(tmp_path / "one", RECORDS), write(tmp_path / "two", RECORDS[::-1])
    shards = index_shards([one, two])
    assert [len(shard) for shard in shards] == [4, 4]
    for index in (2, 0, 3, 1):
        assert shards[0].read(index) == RECORDS[index]
        assert shards[1].read(index) == RECORDS[3 - index]


def test_an_empty_file_has_no_records(tmp_path: pathlib.Path) -> None:
    assert len(index_shards([write(tmp_path / "none", [])])[0]) == 0


def test_the_index_is_made_once_and_again_when_the_file_changed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "one", RECORDS)
    index_shards([path])
    with monkeypatch.context() as patched:
        patched.setattr(tfrecord_index, "_find_records", lambda *_: pytest.fail("the file was read again"))
        assert index_shards([path])[0].read(3) == RECORDS[3]
    changed = [b"other", *RECORDS]
    write(path, changed)
    assert [index_shards([path])[0].read(index) for index in range(5)] == changed
    # as long as before, but of another time
    write(path, changed[::-1])
    os.utime(path, ns=(1, 1))
    assert [index_shards([path])[0].read(index) for index in range(5)] == changed[::-1]


def test_damaged_bytes_are_found(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "one", RECORDS)
    data = bytearray(path.read_bytes())
    place = data.index(b"xxxx") + 1000
    data[place] ^= 1
    path.write_bytes(data)
    (shard,) = index_shards([path])
    with raises_naming(f"{path}, record 2", kind=ImageError):
        shard.read(2)
    assert shard.read(2, check=False) != RECORDS[2]
    assert shard.read(3) == RECORDS[3]


def test_damaged_and_truncated_files_are_named(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "one", RECORDS)
    whole = path.read_bytes()
    second = len(tfrecords.frame(RECORDS[0]))
    cases = [
        (whole[:-1], "record 3"),
        (whole[: second + 5], "record 1"),
        (whole[: second + 14], "record 1"),
        (whole[:second] + b"\1" + whole[second + 1 :], "record 1"),
        (b"\x89PNG\r\n\x1a\n and no record at all", "TFRecord"),
    ]
    for data, text in cases:
        path.write_bytes(data)
        with raises_naming(str(path), text):
            index_shards([path])
    with raises_naming(f"{tmp_path}/gone"):
        index_shards([tmp_path / "gone"])


def test_a_file_cut_after_it_was_indexed(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "one", RECORDS)
    (shard,) = index_shards([path])
    path.write_bytes(path.read_bytes()[:-10])
    with raises_naming(f"{path}, record 3", kind=ImageError):
        shard.read(3)
    path.unlink()
    with raises_naming(f"{path}, record 0", kind=ImageError):
        shard.read(0)


@pytest.mark.parametrize("window", [12, 64, 4000, 2**20])
def test_a_remote_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    write(tmp_path / "one", RECORDS * 3)
    store = bucket.install(monkeypatch, tmp_path)
    monkeypatch.setattr(tfrecord_index, "_REMOTE_WINDOW", window)
    (shard,) = index_shards(["gs://bucket/one"])
    assert [shard.read(index) for index in range(12)] == RECORDS * 3
    store.opened.clear()
    index_shards(["gs://bucket/one"])
    assert store.opened == []
