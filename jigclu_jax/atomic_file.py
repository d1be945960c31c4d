"""Writes files in one step: a reader, or a run that is killed, sees the old content or the new one, never a part."""

import os
from collections.abc import Callable
from typing import BinaryIO

from etils import epath


def is_remote(path: epath.PathLike) -> bool:
    """True for a path with a scheme (`gs://`, `s3://`): an object store, which puts whole objects and cannot append."""
    return "://" in os.fspath(path)


def write_bytes(path: epath.PathLike, data: bytes, *, partial: str = "") -> None:
    """Replaces the content of `path` (missing parent folders are made) in one step; `OSError` where that is impossible.

    It is first written as `partial` beside `path`. That name carries the number of the process where none is given: two writers
    of one file then cannot mix, the later one wins whole. A given name is overwritten by the next try, so that a kill leaves nothing.
    """
    write_file(path, lambda file: file.write(data), partial=partial)


def write_file(path: epath.PathLike, write: Callable[[BinaryIO], object], *, partial: str = "") -> None:
    """The same with whatever `write` puts into the opened file, for what is too large to be held twice."""
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = path.parent / (partial or f".{path.name}.{os.getpid()}.partial")
    try:
        with begun.open("wb") as file:
            write(file)
        if not is_remote(path):
            with open(os.fspath(begun), "rb") as written:
                os.fsync(written.fileno())  # else a power cut may leave the new name on an empty file
        begun.replace(path)
    except BaseException:
        begun.unlink(missing_ok=True)
        raise


def write_text(path: epath.PathLike, text: str) -> None:
    """`write_bytes` of a text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))
