"""Computes the fingerprint of a source, under which its features are stored, without reading every image."""

import hashlib
import json
import os
from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from jigclu_jax.data.sources.opening import Source
from jigclu_jax.data.sources.reader import ImageReader

_SAMPLE = 32  # images whose pixels are read


def fingerprint(source: Source, config: ConfigDict, group: str = "data") -> str:
    """SHA-256 over number, names, labels and classes of a source's images, the sizes and times of local files, and some pixels.

    config: the fields that the source was opened with, `group` their name in an error. Files that are changed are noticed by size
    or time; records of remote or packed data by their names, and by the pixels of 32 images spread over the set.

    Raises:
      ImageError: one of those images cannot be used.
    """
    total = hashlib.sha256()
    fields = ("source", "name", "data_dir", "split", "limit", "list", "fraction", "on_error", "min_side", "white")
    about = {name: config[name] for name in fields} | {"path": same_path(config.path)}
    total.update(json.dumps([about, len(source), source.classes]).encode())
    if source.labels is not None:
        total.update(np.ascontiguousarray(source.labels).tobytes())
    files, here = config.source == "folder", f"{os.getcwd()}/"
    for index in range(len(source)):
        name = source.describe(index)
        if files and not name.startswith("/") and "://" not in name:
            name = same_path(name) if ".." in name else here + name  # same_path takes long for a million names
        total.update(os.fsencode(f"{name} {_stamp(name) if files else ''}\n"))
    for name in _files(same_path(config.path)):
        total.update(os.fsencode(f"{name} {_stamp(name)}\n"))
    if config.on_error == "stop":  # else one of them may be damaged
        reader = ImageReader(source, 1, config.on_error, group)
        for index in np.unique(np.linspace(0, len(source) - 1, _SAMPLE, dtype=np.int64)):
            total.update(np.ascontiguousarray(reader(int(index))[0]).tobytes())
    return total.hexdigest()


def same_path(path: str) -> str:
    """A local path in the one form that all its spellings share: absolute, ~ expanded, no slash at its end; a remote one as it is."""
    return path if not path or "://" in path else os.path.abspath(os.path.expanduser(path))


def _files(path: str) -> Iterator[str]:
    """A source's own local file, or those directly in its folder (shards and their index)."""
    if os.path.isfile(path):
        yield path
    elif path and os.path.isdir(path):
        yield from sorted(entry.path for entry in os.scandir(path) if entry.is_file())


def _stamp(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:  # a remote file, or the name of a record
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"
