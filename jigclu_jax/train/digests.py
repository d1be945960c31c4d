"""Digests of a state's leaves, stored with a checkpoint and compared when it is read: a file with a changed bit is found out.

A leaf's digest is a sum modulo 2^32, over its words of 32 bits, of a bijection that depends on the word's place. A change of one word
always shows, any other one does not with probability 2^-32. A sum can be made in parts, so that each process adds up the shards that it
holds, whatever the sharding is when the checkpoint is written and when it is read.
"""

import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

Index = tuple[slice, ...]
_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint32}
_CHUNK = 1 << 15  # words at a time: what is made of them stays in the processor's cache
_PLACE, _MIX, _LAST = np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)  # of Knuth and Appleby (MurmurHash3); odd


def digests(tree: Any) -> dict[str, str]:
    """Path of each leaf -> `float32[3,2] 9a8b7c6d`: its type, shape and digest; the same on every process, all of which must call it.

    Args:
      tree: JAX arrays, sharded and spread over processes in any way, or numpy arrays.
    """
    leaves = named_leaves(tree)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8), "digests") as pool:
        sums = np.array(list(pool.map(_own_part, leaves.values())), np.uint64)
    if any(isinstance(leaf, jax.Array) and not leaf.is_fully_addressable for leaf in leaves.values()):
        from jax.experimental import multihost_utils

        sums = multihost_utils.process_allgather(sums.astype(np.uint32)).astype(np.uint64).sum(0)
    return {name: f"{description(leaf)} {int(total) % 2**32:08x}" for (name, leaf), total in zip(leaves.items(), sums, strict=True)}


def description(leaf: Any) -> str:
    """Type and shape: `float32[3,2]`."""
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def changed_leaf(stored: Mapping[str, Any], found: Mapping[str, str]) -> str:
    """The first leaf whose digest is not the stored one, empty where all are."""
    return next((name for name in sorted(stored.keys() | found.keys()) if stored.get(name) != found.get(name)), "")


def named_leaves(tree: Any) -> dict[str, Any]:
    """Path -> leaf; a step of a path is a name or a number, whatever sort of node it belongs to."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: hasattr(node, "shape"))
    return {re.sub(r"[^\w]+", "/", jax.tree_util.keystr(path)).strip("/"): leaf for path, leaf in leaves}


def _own_part(leaf: Any) -> int:
    """The sum over the words that this process counts: of copies, the first one's holder counts them."""
    return sum(_sum(np.asarray(piece), index, leaf.shape) for piece, index in _pieces(leaf)) % 2**32


def _pieces(leaf: Any) -> Iterator[tuple[Any, Index]]:
    if isinstance(leaf, jax.Array):
        yield from ((shard.data, shard.index) for shard in leaf.addressable_shards if shard.replica_id == 0)
    else:
        yield leaf, (slice(None),) * np.ndim(leaf)


def _sum(piece: Any, index: Index, shape: tuple[int, ...]) -> int:
    """The sum over a part of a leaf of shape `shape`; `index` says which part."""
    if not piece.size:
        return 0
    words = np.ascontiguousarray(piece).reshape(piece.shape or (1,)).view(_WORDS[piece.dtype.itemsize])
    flat = words.reshape(-1)
    if piece.shape == shape:
        starts = range(0, flat.size, _CHUNK)
        return sum(
            _mixed(flat[start : start + _CHUNK], np.arange(start, min(start + _CHUNK, flat.size), dtype=np.uint32)) for start in starts
        )
    halves = words.shape[-1] // piece.shape[-1]  # words of an element
    whole = (*shape[:-1], shape[-1] * halves)
    begin = [part.start or 0 for part in index]
    begin[-1] *= halves
    axes = [np.arange(first, first + length) for first, length in zip(begin, words.shape, strict=True)]
    places = np.ravel_multi_index(np.ix_(*axes), whole).astype(np.uint32).reshape(-1)
    starts = range(0, flat.size, _CHUNK)
    return sum(_mixed(flat[start : start + _CHUNK], places[start : start + _CHUNK].copy()) for start in starts)


def _mixed(words: np.ndarray, places: np.ndarray) -> int:
    """Overwrites `places`."""
    places *= _PLACE
    places ^= words
    places *= _MIX
    places ^= places >> np.uint32(16)
    places *= _LAST
    return int(places.sum(dtype=np.uint32))
