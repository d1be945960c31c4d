"""Reads the tensors of a file of PyTorch without PyTorch, and without running anything that the file names.

`torch.save` writes a pickle and the raw numbers beside it: parts of a zip archive, or one after the other before version 1.6.
"""

import contextlib
import io
import math
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jigclu_jax.interop.torch_pickles import Storage, Tensor, Thing, unpickled

_MOST_PICKLE = 2**24  # bytes; that of a ResNet with its optimizer's state takes less than a hundredth
_LONGEST_NAME, _DEEPEST = 500, 50
_MAGIC = 0x1950A86A20F9469CFC6C  # of the form before PyTorch 1.6


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, not read yet: its shape and dtype as the file tells, and the function that reads it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    @property
    def kind(self) -> str:
        """The dtype's name, also where it is one of `unknown_dtype`."""
        return self.dtype.names[0] if self.dtype.names else str(self.dtype)


class Contents(NamedTuple):
    """What a file of weights holds.

    Attributes:
      arrays: by their names; can be read while the file is open.
      things: names of classes and functions in it, none of which was made or called.
      networks: what the file calls its network, where it says so (`arch` of a checkpoint).
      notes: lines for a person, of what lies beside the file.
    """

    arrays: dict[str, StoredArray]
    things: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def torch_arrays(file: Any) -> Iterator[Contents]:
    """Contents of an opened file; the names of its tensors are their dotted paths through dicts, lists and modules.

    Raises:
      ValueError, and what zipfile, pickletools and damage lead to.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            yield _zipped(archive)
    else:
        yield _in_a_row(file)


def _zipped(archive: zipfile.ZipFile) -> Contents:
    sizes = {info.filename: info for info in archive.infolist()}
    found = sorted((name for name in sizes if name.rpartition("/")[2] == "data.pkl" and name.count("/") <= 1), key=len)
    if not found:
        raise ValueError("the archive holds no data.pkl")
    root = found[0].removesuffix("data.pkl")
    if f"{root}byteorder" in sizes:
        with archive.open(f"{root}byteorder") as part:
            if part.read(10) != b"little":
                raise ValueError("it was written on a big-endian machine")
    if sizes[found[0]].file_size > _MOST_PICKLE:
        raise ValueError(f"its data.pkl claims {sizes[found[0]].file_size:,} bytes")

    def raw(storage: Storage, begin: int, count: int) -> bytes:
        info = sizes.get(f"{root}data/{storage.key}") or sizes.get(f"{root}tensors/{storage.key}")
        if info is None or info.compress_type != zipfile.ZIP_STORED or begin + count > info.file_size:
            raise ValueError(f"its part data/{storage.key} is missing, compressed or too short")
        with archive.open(info) as part:
            part.seek(begin)
            return part.read(count)

    return _named(unpickled(io.BytesIO(archive.read(found[0]))), raw)


def _in_a_row(file: Any) -> Contents:
    """The form before PyTorch 1.6: five pickles, then for each storage the number of its elements and the elements."""
    file.seek(0)
    head = io.BytesIO(file.read(_MOST_PICKLE))
    storages: dict[str, Storage] = {}
    magic, version, machine = (unpickled(head) for _ in range(3))
    if magic != _MAGIC or version != 1001:
        raise ValueError("it is no file of torch.save")
    if isinstance(machine, dict) and machine.get("little_endian") is False:
        raise ValueError("it was written on a big-endian machine")
    value, keys = unpickled(head, storages), unpickled(head)
    begins, at = {}, head.tell()
    for key in keys if isinstance(keys, list) else []:
        if str(key) not in storages:
            raise ValueError(f"storage {str(key)[:40]} is of no tensor")
        begins[str(key)] = at + 8
        at += 8 + storages[str(key)].numel * storages[str(key)].dtype.itemsize

    def raw(storage: Storage, begin: int, count: int) -> bytes:
        if storage.key not in begins:
            raise ValueError(f"storage {storage.key} is missing")
        file.seek(begins[storage.key] + begin)
        return file.read(count)

    return _named(value, raw)


def _named(value: Any, raw: Callable[[Storage, int, int], bytes]) -> Contents:
    """Every tensor by its path. A container counts once, where it is met first: pickles may share them, and be circular."""
    arrays: dict[str, StoredArray] = {}
    things: dict[str, None] = {}
    networks: dict[str, None] = {}
    seen: set[int] = set()
    waiting: list[tuple[str, int, Any]] = [("", 0, value)]
    while waiting:
        path, depth, node = waiting.pop()
        if isinstance(node, Tensor):
            arrays.setdefault(path, StoredArray(node.shape, node.storage.dtype, _reader(node, raw)))
            continue
        if isinstance(node, Thing):
            things.setdefault(node.name)
            node = node.state
        if id(node) in seen or depth > _DEEPEST or not isinstance(node, dict | list | tuple):
            continue
        seen.add(id(node))
        if isinstance(node, dict) and isinstance(network := node.get("arch"), str):
            networks.setdefault(network)
        children = node.items() if isinstance(node, dict) else enumerate(node)
        for name, child in reversed([(name, child) for name, child in children if isinstance(child, Thing | dict | list | tuple)]):
            # a module keeps its parts in dicts of these names
            below = path if name in ("_modules", "_parameters", "_buffers") else f"{path}.{name}" if path else str(name)
            if len(below) <= _LONGEST_NAME:
                waiting.append((below, depth + 1, child))
    return Contents(arrays, tuple(things), tuple(networks))


def _reader(tensor: Tensor, raw: Callable[[Storage, int, int], bytes]) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        storage, offset, shape, stride = tensor
        size, extent = storage.dtype.itemsize, 0 if 0 in shape else 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        if offset < 0 or min((*shape, *stride), default=0) < 0 or max(math.prod(shape), offset + extent) > storage.numel:
            raise ValueError(f"a tensor of shape {shape} does not lie within its storage of {storage.numel} elements")
        data = raw(storage, offset * size, extent * size)
        if len(data) != extent * size:
            raise ValueError(f"storage {storage.key} is cut off")
        return np.ndarray(shape, storage.dtype, data, 0, [size * step for step in stride]).copy()

    return read
