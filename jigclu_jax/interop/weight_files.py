"""Files of weights -> their arrays by name, none of them read yet: `.safetensors`, `.npz`, and PyTorch's, which need no PyTorch."""

import contextlib
import functools
import math
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath
from numpy.lib.npyio import NpzFile

from jigclu_jax.data.sources.file_kinds import kind_of
from jigclu_jax.data.sources.npz_file import read_header
from jigclu_jax.errors import UserError, first_few, one_line
from jigclu_jax.interop.torch_files import Contents, StoredArray, torch_arrays
from jigclu_jax.interop.torch_pickles import unknown_dtype
from jigclu_jax.json_file import check_kinds, parse_json, read_json
from jigclu_jax.models.architectures import ARCHITECTURES
from jigclu_jax.ops.normalize import IMAGENET_MEAN, IMAGENET_STD

_MOST_BYTES = 2**34  # of a file: no ResNet comes near
_LONGEST_HEADER = 2**22  # bytes, of a .safetensors: that of a ResNet with its optimizer's state takes less than a tenth
_OF_FOLDERS = ("model.safetensors", "pytorch_model.bin")  # what timm and the hub leave in a folder
# Arguments of timm's networks that do not change what the backbone computes in eval mode.
_OF_HEADS = ("num_classes", "in_chans", "global_pool", "pool_size", "zero_init_last", "drop_rate", "drop_path_rate", "drop_block_rate")
_NORMALISED = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
_SAFE_DTYPES = {
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "BOOL": np.bool_},
    **{"F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz},
    **{"F8_E5M2": ml_dtypes.float8_e5m2, "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz},
    **{f"{kind}{bits}": np.dtype(f"{code}{bits // 8}") for kind, code in (("I", "i"), ("U", "u")) for bits in (8, 16, 32, 64)},
}


@contextlib.contextmanager
def opened_arrays(path: epath.Path) -> Iterator[Contents]:
    """The arrays in a file, or in a folder's, by their names, and what else it holds. They can be read while the context lasts.

    Raises:
      UserError: no such file, a file of another kind, a damaged one, or one that claims more than it holds; says what can be done.
    """
    path, notes = _in_folder(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: weights are read from .safetensors, .npz, .pth, .pt, .ckpt, .bin and .pth.tar files")
    try:
        _check_kind(path)
        with path.open("rb") as file, reader(file) as found:
            yield found._replace(notes=notes)
    except UserError:
        raise
    except Exception as error:  # a damaged file: ValueError, BadZipFile, zlib.error, OverflowError, ...
        if "allow_pickle" in str(error):
            raise UserError(f"{path}: holds Python objects, not arrays alone: save each array by its name with numpy.savez") from None
        raise UserError(f"{path}: cannot be read as a {path.suffix} file ({one_line(error)}): fetch or export it again") from None


def files_in(folder: epath.Path) -> list[str]:
    """The names of the files in a folder that weights can be read from."""
    return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in _READERS) if folder.is_dir() else []


def _in_folder(path: epath.Path) -> tuple[epath.Path, tuple[str, ...]]:
    """The file of weights itself, which a folder of timm or of a hub holds, and what is to be said of it."""
    if not path.exists():
        raise UserError(f"{path}: no such file of weights")
    if not path.is_dir():
        return path, ()
    inside = [path / name for name in _OF_FOLDERS if (path / name).exists()]
    if not inside:
        there = files_in(path)
        instead = f"give one of its files: {first_few(there)}" if there else "give a file of weights, or the folder of one"
        raise UserError(f"{path}: a folder without {' and '.join(_OF_FOLDERS)}: {instead}")
    return inside[0], _check_network(path / "config.json", inside[0]) if (path / "config.json").exists() else ()


def _check_network(config: epath.Path, weights: epath.Path) -> tuple[str, ...]:
    """UserError where a folder of timm names another network: some, such as resnetblur18, have the arrays of one that is known here.

    Returns what differs otherwise.
    """
    found = read_json(config, {}, f"delete it to read {weights.name} alone")
    name, built, images = (found.get(field) or {} for field in ("architecture", "model_args", "pretrained_cfg"))
    if name and not re.search(rf"(?<![^_])({'|'.join(ARCHITECTURES)})(?![^_])", str(name)):
        raise UserError(f"{config}: says {name}, which is no {', '.join(ARCHITECTURES)}: if it computes as one of them, give {weights}")
    if isinstance(built, dict) and (other := [f"{field}={value}" for field, value in built.items() if field not in _OF_HEADS]):
        raise UserError(f"{config}: builds {name} with {first_few(other)}: if it computes as it does without, give {weights}")
    used = [list(images.get(field) or usual) for field, usual in _NORMALISED.items()] if isinstance(images, dict) else []
    if used and used != [list(usual) for usual in _NORMALISED.values()]:
        return (f"its images were normalised by mean {used[0]} and deviation {used[1]}; here they are by ImageNet's",)
    return ()


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
def _npz(file: Any) -> Iterator[Contents]:
    with np.load(file, allow_pickle=False) as archive:
        if not isinstance(archive, NpzFile):
            raise ValueError("a single array")
        found = {name: read_header(archive, name) for name in archive.files}
        if objects := [name for name, header in found.items() if header and header[1].hasobject]:
            raise ValueError(f"{objects[0]} needs allow_pickle")
        yield Contents(
            {name: StoredArray(*header, functools.partial(archive.__getitem__, name)) for name, header in found.items() if header}
        )


@contextlib.contextmanager
def _safetensors(file: Any) -> Iterator[Contents]:
    """The library of that name would read the whole file; here the header is read, and an array where it is wanted."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(size, _LONGEST_HEADER):
        raise ValueError(f"its header claims {length:,} bytes")
    header = parse_json(file.read(length))
    header.pop("__metadata__", None)
    yield Contents({name: _in_safetensors(file, name, about, 8 + length, size) for name, about in header.items()})


def _in_safetensors(file: Any, name: str, about: Any, data: int, size: int) -> StoredArray:
    """The array whose entry in the header is `about`; ValueError where it does not lie between `data`, the header's end, and the file's."""
    check_kinds(about if isinstance(about, dict) else {}, {"dtype": (str,), "shape": (list,), "data_offsets": (list,)})
    shape, offsets = about["shape"], about["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, *offsets)) or len(offsets) != 2:
        raise ValueError(f"the header's entry of {name} is damaged")
    if about["dtype"] not in _SAFE_DTYPES:  # those of quantised networks are none of a backbone
        return StoredArray(tuple(shape), unknown_dtype(about["dtype"]), lambda: np.zeros(0))
    dtype, (begin, end) = np.dtype(_SAFE_DTYPES[about["dtype"]]), offsets
    if end - begin != math.prod(shape) * dtype.itemsize or data + end > size:
        raise ValueError(f"{name} claims {math.prod(shape) * dtype.itemsize:,} bytes, and does not lie in the file")

    def read() -> np.ndarray:
        file.seek(data + begin)
        return np.frombuffer(file.read(end - begin), dtype).reshape(shape)

    return StoredArray(tuple(shape), dtype, read)


_READERS: dict[str, Callable[[Any], Any]] = {
    ".npz": _npz,
    ".safetensors": _safetensors,
    **dict.fromkeys((".pth", ".pt", ".ckpt", ".bin", ".tar", ".pyth"), torch_arrays),
}
