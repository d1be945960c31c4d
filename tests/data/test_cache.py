"""The cache: made once, made again when stale or damaged, done without when it cannot be written."""

import pathlib

import numpy as np
import pytest

from jigclu_jax.data.sources.cache import cache_folder, cached, file_stamp


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return {"numbers": np.arange(3) + self.calls}


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("JIGCLU_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_made_once_for_each_kind_key_and_stamp(folder: pathlib.Path) -> None:
    make = Counter()
    for _ in range(2):
        assert cached("a", "key", "1", make)["numbers"].tolist() == [1, 2, 3]
    assert make.calls == 1
    assert cached("a", "key", "2", make)["numbers"].tolist() == [2, 3, 4]
    cached("a", "other", "2", make)
    cached("b", "key", "2", make)
    assert make.calls == 4
    cached("a", "key", "2", make)
    assert make.calls == 4
    assert len(list(folder.iterdir())) == 3


def test_damaged_entries_are_made_again(folder: pathlib.Path) -> None:
    make = Counter()
    cached("a", "key", "1", make)
    (entry,) = folder.iterdir()
    whole = entry.read_bytes()
    method = whole.index(b"PK\x01\x02") + 10
    unknown = whole[:method] + b"\x63\x00" + whole[method + 2 :]  # to be unpacked by a method that nobody has
    for damaged in (b"", b"text", whole[: len(whole) // 2], unknown):
        entry.write_bytes(damaged)
        before = make.calls
        cached("a", "key", "1", make)
        cached("a", "key", "1", make)
        assert make.calls == before + 1


def test_without_a_place_to_write(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JIGCLU_JAX_CACHE", str(tmp_path / "file" / "cache"))
    assert cached("a", "key", "1", Counter())["numbers"].tolist() == [1, 2, 3]


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JIGCLU_JAX_CACHE", "/chosen")
    assert cache_folder() == pathlib.Path("/chosen")
    monkeypatch.delenv("JIGCLU_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == pathlib.Path("/xdg/jigclu_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == pathlib.Path("/home/me/.cache/jigclu_jax")


def test_stamp_changes_with_the_file(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"1")
    first = file_stamp(file)
    assert first == file_stamp(file)
    file.write_bytes(b"12")
    assert file_stamp(file) != first
    with pytest.raises(OSError, match="No such file"):
        file_stamp(tmp_path / "gone")
