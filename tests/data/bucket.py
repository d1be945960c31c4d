"""A stand-in for a remote file system: paths `gs://bucket/...` of etils.epath that lie in a local folder."""

import os
import pathlib
import typing

import pytest
from etils.epath import backend, gpath, stat_utils


class LocalBucket(backend._OsPathBackend):
    """Answers for `gs://bucket/...` with what is below `root`; counts the files it opened."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.opened: list[str] = []

    def _local(self, path: str | os.PathLike[str]) -> str:
        text = os.fspath(path)
        assert text.startswith("gs://bucket"), f"a path lost its bucket: {text}"
        return str(self.root / text.removeprefix("gs://bucket").lstrip("/"))

    def open(self, path: str | os.PathLike[str], mode: str) -> typing.IO[str | bytes]:
        self.opened.append(os.fspath(path))
        return super().open(self._local(path), mode)

    def exists(self, path: str | os.PathLike[str]) -> bool:
        return super().exists(self._local(path))

    def isdir(self, path: str | os.PathLike[str]) -> bool:
        return super().isdir(self._local(path))

    def listdir(self, path: str | os.PathLike[str]) -> list[str]:
        return super().listdir(self._local(path))

    def glob(self, path: str | os.PathLike[str]) -> list[str]:
        found = super().glob(self._local(path))
        return [f"gs://bucket/{pathlib.Path(one).relative_to(self.root).as_posix()}" for one in found]

    def stat(self, path: str | os.PathLike[str]) -> stat_utils.StatResult:
        return super().stat(self._local(path))


def install(monkeypatch: pytest.MonkeyPatch, root: pathlib.Path) -> LocalBucket:
    """`gs://bucket` is `root` for the rest of the test, whether TensorFlow is installed or not."""
    bucket = LocalBucket(root)
    monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "gs", bucket)
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    return bucket
