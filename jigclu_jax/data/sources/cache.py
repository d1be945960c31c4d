"""Caches arrays derived from data sets (record offsets, labels) in the user's cache folder."""

import contextlib
import hashlib
import logging
import os
import pathlib
from collections.abc import Callable, Mapping

import numpy as np
from etils import epath

from jigclu_jax import atomic_file
from jigclu_jax.errors import one_line


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
    except Exception as error:  # whatever a damaged archive makes a reader raise
        if path.exists():
            logging.warning("%s cannot be read (%s): made anew", path, one_line(error))
    arrays = dict(make())
    with contextlib.suppress(OSError):
        atomic_file.write_file(path, lambda file: np.savez(file, allow_pickle=False, **arrays, stamp=np.array(stamp)))
    return arrays
