"""A trunk's weights from a file of PyTorch names: `.npz`, `.safetensors`, or PyTorch's own format where PyTorch is installed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from jigclu_jax.errors import UserError
from jigclu_jax.interop.authors import from_authors
from jigclu_jax.interop.torchvision import NumpyTree, from_torchvision

_PREFIXES = ("module.", "backbone.", "encoder.")


def read_trunk_weights(path: str) -> tuple[NumpyTree, NumpyTree]:
    """A trunk's (params, stats), float32, from a file with a torchvision ResNet's or the JigClu authors' state dict.

    Raises:
      UserError: no such file, a file that cannot be read or needs a package that is missing, or other keys than a ResNet's.
    """
    file = epath.Path(path).expanduser()
    if not file.exists() or file.is_dir():
        raise UserError(f"{path}: {'a folder' if file.exists() else 'no such file'}: give a file with a torchvision ResNet's weights")
    try:
        state = _read(file)
    except UserError:
        raise
    except Exception as error:  # zip, pickle, JSON and header errors of three libraries
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UserError(f"{path}: cannot be read as a file of weights: {reason[:200]}") from error
    inner = state.get("state_dict", state)
    if not isinstance(inner, Mapping):
        raise UserError(f"{path}: holds no state dict: give a file with a torchvision ResNet's weights")
    try:
        if any("fc_clu." in key for key in inner):
            params, stats = from_authors(inner)
            trunk, trunk_stats = params["trunk"], stats["trunk"]
        else:
            trunk, trunk_stats = from_torchvision({_bare(key): value for key, value in inner.items()})
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return _float32(trunk, path), _float32(trunk_stats, path)


def _read(file: epath.Path) -> Mapping[str, Any]:
    if file.suffix == ".npz":
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    if file.suffix == ".safetensors":
        try:
            from safetensors.numpy import load
        except ImportError:
            raise UserError(f"{file}: needs the package safetensors: pip install safetensors") from None
        return load(file.read_bytes())
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{file}: PyTorch's own format needs the package torch: pip install torch, or save it with numpy.savez or safetensors elsewhere"
        ) from None
    with file.open("rb") as opened:
        return torch.load(opened, map_location="cpu", weights_only=True)


def _bare(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key


def _float32(tree: Mapping[str, Any], path: str) -> NumpyTree:
    found: NumpyTree = {}
    for name, value in tree.items():
        found[name] = _float32(value, path) if isinstance(value, Mapping) else np.asarray(value, np.float32)
        if not isinstance(value, Mapping) and not np.isfinite(found[name]).all():
            raise UserError(f"{path}: {name} holds numbers that are not finite")
    return found


__all__ = ["read_trunk_weights"]
