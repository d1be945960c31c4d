"""Files of weights -> their arrays by name: `.npz`, and PyTorch's `.pth`, `.pt` and `.pth.tar` where PyTorch is installed."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from numpy.lib.npyio import NpzFile

from jigclu_jax.data.sources.file_kinds import kind_of
from jigclu_jax.data.sources.npz_file import claimed_bytes
from jigclu_jax.errors import UserError, first_few, one_line

_MOST_BYTES = 2**34  # of all arrays together: no ResNet comes near
_NESTED = ("state_dict", "model", "model_state_dict", "net", "network", "module", "params")
_TO_NPZ = (
    "import sys, torch, numpy; s = torch.load(sys.argv[1], map_location='cpu', weights_only=True); "
    "numpy.savez(sys.argv[2], **{k: v.float().numpy() for k, v in s.get('state_dict', s).items()})"
)
_TENSORS_ALONE = (
    "import sys, torch; s = torch.load(sys.argv[1], map_location='cpu', weights_only=False); "
    "s = s.state_dict() if hasattr(s, 'state_dict') else s; torch.save(s.get('state_dict', s), sys.argv[2])"
)


def read_state(path: epath.Path) -> Mapping[str, Any]:
    """The state dict in a file, name -> numpy array.

    Raises:
      UserError: no such file, a file of another kind, a damaged one, or one that holds something else; says what can be done.
    """
    if not path.exists() or path.is_dir():
        raise UserError(f"{path}: no such file of weights")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        raise UserError(f"{path}: safetensors files are not read: save the arrays as .npz: {_from_safetensors(path)}")
    if suffix not in (".npz", ".pth", ".pt", ".tar"):
        raise UserError(f"{path}: weights are read from .npz, .pth, .pt and .pth.tar files")
    _check_kind(path)
    found = _read_npz(path) if suffix == ".npz" else _read_torch(path)
    state = _state_of(found)
    if not isinstance(state, Mapping):
        raise UserError(f"{path}: holds {type(state).__name__}, not a state dict")
    return {str(name): _array(value, str(name), path) for name, value in state.items()}


def _check_kind(path: epath.Path) -> None:
    """UserError for a page, a pointer or a text by the name of a file of weights."""
    try:
        with path.open("rb") as file:
            kind = kind_of(file.read(1024))
    except Exception as error:  # remote file systems raise other things than OSError
        raise UserError(f"{path}: cannot be read: {one_line(error)}") from error
    if kind is not None and re.search("HTML|LFS|text|zeros|HDF5", kind.name):
        raise UserError(f"{path}: {kind.name}, not a file of weights: {kind.advice}")


def _read_npz(path: epath.Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, NpzFile):
                raise ValueError("a single array")
            total = sum(claimed_bytes(archive, name) for name in archive.files)
            if total > _MOST_BYTES:
                raise ValueError(f"it claims {total:,} bytes of arrays, more than any backbone has")
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged archive: ValueError, BadZipFile, zlib.error, TypeError, ...
        if "allow_pickle" in str(error):
            raise UserError(f"{path}: holds Python objects, not arrays alone: save each array by its name with numpy.savez") from None
        raise UserError(f"{path}: cannot be read as an .npz file ({one_line(error)}): fetch or export it again") from None


def _read_torch(path: epath.Path) -> Any:
    try:
        import torch
    except ImportError:
        command = _command(_TO_NPZ, path, path.with_suffix(".npz"))
        raise UserError(
            f"{path}: a file of PyTorch needs PyTorch to be read: pip install torch, or save its arrays where it is installed: {command}"
        ) from None
    try:
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damage leads to
        kept = re.findall(r"GLOBAL ([\w.]+)", str(error)) or re.findall(r"[Uu]nsupported (?:class|global|operand)\W+([\w.]+)", str(error))
        if kept or "weights_only" in str(error) or "Weights only" in str(error):
            what = f" ({first_few(sorted(set(kept)))})" if kept else ""
            raise UserError(
                f"{path}: holds more than tensors{what}, which is not loaded, as it could run a program; if you trust the file, "
                f"save its weights alone: {_command(_TENSORS_ALONE, path, path.with_name('weights.pth'))}"
            ) from None
        raise UserError(f"{path}: cannot be read as a file of PyTorch ({type(error).__name__}): fetch or export it again") from None


def _state_of(found: Any) -> Any:
    """The state dict itself, which training programs store beside other things."""
    for name in _NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            return _state_of(found[name])
    return found.state_dict() if hasattr(found, "state_dict") and not isinstance(found, Mapping) else found


def _array(value: Any, name: str, path: epath.Path) -> Any:
    """A tensor as a numpy array: without its graph, of a precision that numpy has; anything else as it is."""
    if not hasattr(value, "detach"):
        return value
    try:
        value = value.detach().cpu()
        return (value.float() if "float" in str(value.dtype) else value).numpy()
    except Exception as error:  # sparse and quantised tensors, those on "meta"
        raise UserError(f"{path}: {name} cannot be made an array ({one_line(error)}): save the weights as dense float32 tensors") from None


def _command(code: str, path: epath.Path, output: epath.Path) -> str:
    return f'python -c "{code}" {path} {output}'


def _from_safetensors(path: epath.Path) -> str:
    code = "import sys, numpy, safetensors.numpy as s; numpy.savez(sys.argv[2], **s.load_file(sys.argv[1]))"
    return _command(code, path, path.with_suffix(".npz"))


__all__ = ["read_state"]
