"""Converts the JigClu authors' PyTorch checkpoints to our trees and back: backbone, clustering projection, location head."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jigclu_jax.errors import UserError
from jigclu_jax.interop.torchvision import NumpyTree, TreeLike, from_torchvision, to_torchvision

# their name, our path under params
_HEADS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("fc_clu.0", ("projection", "hidden")),
    ("fc_clu.2", ("projection", "output")),
    ("fc_loc", ("location",)),
)
_PREFIXES = ("module.encoder.", "encoder.", "module.")  # of DistributedDataParallel and of the authors' wrapper, longest first


def from_authors(state_dict: Mapping[str, Any]) -> tuple[NumpyTree, NumpyTree]:
    """(params, stats) as numpy arrays: params {"backbone", "projection", "location"}, stats {"backbone"}; dtypes kept.

    Takes a checkpoint's `state_dict`, or the checkpoint itself (`torch.load(path, map_location="cpu")`), with or without
    the prefixes `module.` and `encoder.`. UserError names missing, unexpected and misshapen keys.
    """
    inner = state_dict.get("state_dict", state_dict)
    bare: dict[str, ArrayLike] = {_without_prefix(key): value for key, value in inner.items()}
    params: NumpyTree = {}
    for theirs, ours in _HEADS:
        missing = [f"{theirs}.{leaf}" for leaf in ("weight", "bias") if f"{theirs}.{leaf}" not in bare]
        if missing:
            raise UserError(f"from_authors: missing: {', '.join(missing)}; a backbone without heads is read by from_torchvision")
        weight, bias = np.asarray(bare.pop(f"{theirs}.weight")), np.array(bare.pop(f"{theirs}.bias"))
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise UserError(
                f"from_authors: {theirs} has weight {weight.shape} and bias {bias.shape}, a linear layer's are (out, in) and (out,)"
            )
        node = params
        for name in ours:
            node = node.setdefault(name, {})
        node["kernel"], node["bias"] = np.ascontiguousarray(weight.T), bias
    backbone, stats = from_torchvision(bare)
    return {"backbone": backbone, **params}, {"backbone": stats}


def to_authors(params: TreeLike, stats: TreeLike) -> dict[str, np.ndarray]:
    """The authors' state dict, without prefix, from {"backbone", "projection", "location"} and {"backbone"}."""
    state = to_torchvision(params["backbone"], stats["backbone"])
    for theirs, ours in _HEADS:
        node: Any = params
        for name in ours:
            node = node[name]
        state[f"{theirs}.weight"] = np.ascontiguousarray(np.asarray(node["kernel"]).T)
        state[f"{theirs}.bias"] = np.array(node["bias"])
    return state


def _without_prefix(key: str) -> str:
    for prefix in _PREFIXES:
        if key.startswith(prefix):
            return key[len(prefix) :]
    return key
