"""Digest of a tree of arrays, which shows whether frozen weights have changed."""

import hashlib
from typing import Any

import jax
import numpy as np


def digest(tree: Any) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of every array of a tree; equal digests mean bit-identical weights."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
