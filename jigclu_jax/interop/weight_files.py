"""Files of weights -> their arrays by name, none of them read yet: `.safetensors`, `.npz`, and PyTorch's, which need no PyTorch."""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
from etils import epath
from numpy.lib.npyio import NpzFile

from jigclu_jax.data.sources.file_kinds import kind_of
from jigclu_jax.data.sources.npz_file import claimed_bytes
from jigclu_jax.errors import UserError, one_line
from jigclu_jax.interop.torch_files import StoredArray, torch_arrays
from jigclu_jax.json_file import read_json
from jigclu_jax.models.architectures import ARCHITECTURES

_MOST_BYTES = 2**34  # of a file, and of all arrays of an archive together: no ResNet comes near
_OF_FOLDERS = ("model.safetensors", "pytorch_model.bin")  # what timm and the hub leave in a folder
_SAFE_DTYPES = {
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "BOOL": np.bool_},
    **{f"{kind}{bits}": np.dtype(f"{code}{bits // 8}") for kind, code in (("I", "i"), ("U", "u")) for bits in (8, 16, 32, 64)},
}
Arrays = dict[str, StoredArray]


@contextlib.contextmanager
def opened_arrays(path: epath.Path) -> Iterator[tuple[Arrays, list[str]]]:
    """The arrays in a file by their names, and the names of what else it holds. They can be read while the context lasts.

    Raises:
      UserError: no such file, a file of another kind, a damaged one, or one that claims more than it holds; says what can be done.
    """
    path = _in_folder(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: weights are read from .safetensors, .npz, .pth, .pt, .ckpt, .bin and .pth.tar files")
    try:
        _check_kind(path)
        with path.open("rb") as file, reader(file) as found:
            yield found
    except UserError:
        raise
    except Exception as error:  # a damaged file: ValueError, BadZipFile, SafetensorError, zlib.error, OverflowError, ...
        if "allow_pickle" in str(error):
            raise UserError(f"{path}: holds Python objects, not arrays alone: save each array by its name with numpy.savez") from None
        raise UserError(f"{path}: cannot be read as a {path.suffix} file ({one_line(error)}): fetch or export it again") from None


def _in_folder(path: epath.Path) -> epath.Path:
    """The file of weights itself, which a folder of timm or of a hub holds."""
    inside = [path / name for name in _OF_FOLDERS if path.is_dir() and (path / name).exists()]
    if not inside and (not path.exists() or path.is_dir()):
        raise UserError(f"{path}: no such file of weights")
    if not inside:
        return path
    if (path / "config.json").exists():
        _check_network(path / "config.json", inside[0])
    return inside[0]


def _check_network(config: epath.Path, weights: epath.Path) -> None:
    """UserError where a folder of timm names another network: some, such as resnetblur18, have the arrays of one that is known here."""
    found = read_json(config, {}, f"delete it to read {weights.name} alone").get("architecture", "")
    if found and not re.search(rf"(?<![^_])({'|'.join(ARCHITECTURES)})(?![^_])", str(found)):
        raise UserError(f"{config}: says {found}, which is no {', '.join(ARCHITECTURES)}: if it computes as one of them, give {weights}")


def _check_kind(path: epath.Path) -> None:
    """UserError for a page, a pointer or a text by the name of a file of weights, and for one that no backbone fills."""
    size = path.stat().length
    if size > _MOST_BYTES:
        raise UserError(f"{path}: has {size:,} bytes, more than any backbone: give a file of its weights alone")
    with path.open("rb") as file:
        kind = kind_of(file.read(1024))
    if kind is not None and re.search("HTML|LFS|text|zeros|HDF5", kind.name):
        raise UserError(f"{path}: {kind.name}, not a file of weights: {kind.advice}")


@contextlib.contextmanager
def _npz(file: Any) -> Iterator[tuple[Arrays, list[str]]]:
    with np.load(file, allow_pickle=False) as archive:
        if not isinstance(archive, NpzFile):
            raise ValueError("a single array")
        total = sum(claimed_bytes(archive, name) for name in archive.files)
        if total > _MOST_BYTES:
            raise ValueError(f"it claims {total:,} bytes of arrays, more than any backbone has")
        arrays = {name: archive[name] for name in archive.files}
    yield {name: _kept(array) for name, array in arrays.items()}, []


@contextlib.contextmanager
def _safetensors(file: Any) -> Iterator[tuple[Arrays, list[str]]]:
    arrays = {}
    for name, found in safetensors.deserialize(file.read()):
        if found["dtype"] in _SAFE_DTYPES:  # those of quantised networks are none of a backbone
            array = np.frombuffer(found["data"], _SAFE_DTYPES[found["dtype"]]).reshape(found["shape"])
            arrays[name] = _kept(array)
    yield arrays, []


def _kept(array: np.ndarray) -> StoredArray:
    return StoredArray(array.shape, array.dtype, functools.partial(np.array, array))


_READERS: dict[str, Callable[[Any], Any]] = {
    ".npz": _npz,
    ".safetensors": _safetensors,
    **dict.fromkeys((".pth", ".pt", ".ckpt", ".bin", ".tar", ".pyth"), torch_arrays),
}


__all__ = ["opened_arrays"]
