"""Arrays of an `.npz` file, each checked against the size of the file before memory is taken for it."""

import math
import zipfile

import numpy as np
from numpy.lib.npyio import NpzFile

_DEFLATE = 1032  # bytes that one byte can stand for, at most


def read_array(archive: NpzFile, name: str) -> np.ndarray:
    """The array `name` of an opened file; ValueError where its header claims more than the file can hold."""
    read_header(archive, name)
    return archive[name]


def read_header(archive: NpzFile, name: str) -> tuple[tuple[int, ...], np.dtype] | None:
    """Shape and dtype of an array; None for a part that is none, ValueError where it claims more bytes than the file can hold."""
    if archive.zip is None or (entry := _entry(archive.zip, name)) is None:
        return None
    with archive.zip.open(entry) as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > min(entry.file_size, _DEFLATE * entry.compress_size + 1024) and not dtype.hasobject:
        raise ValueError(f"the header of {name} claims {claimed:,} bytes, more than the file holds")
    return shape, dtype


def _entry(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo | None:
    """The part of the archive, None for one that is no array."""
    names = set(archive.namelist())
    found = name if name in names and name.endswith(".npy") else f"{name}.npy"
    return archive.getinfo(found) if found in names else None
