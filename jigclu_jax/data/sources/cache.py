"""What is worked out once about data that lies elsewhere (record offsets, labels), kept in the user's cache folder."""

import hashlib
import io
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Callable, Mapping

import numpy as np
from etils import epath


def cache_folder() -> pathlib.Path:
    """`$JIGCLU_JAX_CACHE`, else `jigclu_jax` in `$XDG_CACHE_HOME` or `~/.cache`; it may not exist yet."""
    if chosen := os.environ.get("JIGCLU_JAX_CACHE"):
        return pathlib.Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(base).expanduser() / "jigclu_jax"


def file_stamp(path: epath.PathLike) -> str:
    """Size and time of last change of a file, as text that differs when the file was written anew; raises OSError."""
    where = os.fspath(epath.Path(path))
    if "://" not in where:
        local = os.stat(where)  # epath gives whole seconds only
        return f"{local.st_size}:{local.st_mtime_ns}"
    remote = epath.Path(where).stat()
    return f"{remote.length}:{remote.mtime}"


def cached(kind: str, key: str, stamp: str, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays that `make` gives, from the cache where an entry for `kind` and `key` with the same `stamp` is there.

    An entry that is stale or damaged is made again; a cache that cannot be written is done without.
    """
    path = cache_folder() / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            if str(archive["stamp"]) == stamp:
                return {name: archive[name] for name in archive.files if name != "stamp"}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    arrays = dict(make())
    _write(path, {**arrays, "stamp": np.array(stamp)})
    return arrays


def _write(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # written beside and renamed: several processes may make the same entry, and none sees half of it
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(buffer.getbuffer())
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    except OSError:
        return


__all__ = ["cache_folder", "cached", "file_stamp"]
