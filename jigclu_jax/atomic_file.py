"""Writing a file so that a reader, or a run that is killed, sees the old content or the new one and never a part."""

import os

from etils import epath


def is_remote(path: epath.PathLike) -> bool:
    """True for a path with a scheme (`gs://`, `s3://`): an object store, which puts whole objects and cannot append."""
    return "://" in os.fspath(path)


def write_bytes(path: epath.PathLike, data: bytes) -> None:
    """Replaces the content of `path` (missing parent folders are made) in one step; `OSError` where that is impossible."""
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name carries the process: two writers of one file then cannot mix, the later one wins whole
    partial = path.parent / f".{path.name}.{os.getpid()}.partial"
    try:
        partial.write_bytes(data)
        if not is_remote(path):
            with open(os.fspath(partial), "rb") as written:
                os.fsync(written.fileno())  # else a power cut may leave the new name on an empty file
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: epath.PathLike, text: str) -> None:
    """`write_bytes` of a text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


__all__ = ["is_remote", "write_bytes", "write_text"]
