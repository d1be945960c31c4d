"""Visits all pairs of rows in blocks: every row beside a few hundred keys at a time, never beside all of them."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jigclu_jax.device.mesh import everywhere, row_by_row

# Keys a block: a pass needs memory for rows x BLOCK pairs. From 128 to 512 the time on a CPU is the same, from 1,024 it is longer
# (benchmarks/loss_memory.py --blocks), and multiples of 128 fill a TPU's matrix unit.
BLOCK = 512

Carry = TypeVar("Carry")
Keys = TypeVar("Keys")


class Rows(NamedTuple):
    """Embeddings with their cluster ids and their places in the batch; one first axis."""

    embedding: Float[Array, "n d"]
    cluster: Int[Array, " n"]
    number: Int[Array, " n"]


def rows_and_keys(embeddings: Float[Array, "n d"], clusters: Int[Array, " n"]) -> tuple[Rows, Rows]:
    """The batch twice: its rows split over the devices, and whole on each of them, which is the one exchange of embeddings."""
    batch = Rows(embeddings, clusters, jnp.arange(len(clusters)))
    return row_by_row(batch), everywhere(batch)


def over_blocks(visit: Callable[[Carry, Keys], Carry], start: Carry, keys: Keys) -> Carry:
    """Fold `visit(carry, block of keys)` over all keys in their order; with fewer than BLOCK keys there is no loop.

    Args:
      visit: called for blocks of BLOCK keys, and for a last one of what is left.
      start: the carry before the first block; every array has a value for each row, and stays split over the devices.
      keys: pytree of arrays with one first axis, whole on each device.
    """
    whole, left = divmod(len(jax.tree.leaves(keys)[0]), BLOCK)
    carry = row_by_row(start)
    if whole:
        blocks = jax.tree.map(lambda x: x[: whole * BLOCK].reshape(whole, BLOCK, *x.shape[1:]), keys)
        carry, _ = lax.scan(lambda carry, block: (visit(carry, block), None), carry, blocks)
    return visit(carry, jax.tree.map(lambda x: x[whole * BLOCK :], keys)) if left else carry


def dot_products(rows: Rows, keys: Rows) -> Float[Array, "n k"]:
    """Of every row with every key, -inf for a row with itself."""
    products = jnp.matmul(rows.embedding, keys.embedding.T, precision=lax.Precision.HIGHEST)
    return jnp.where(_same(rows, keys), -jnp.inf, products)


def positives(rows: Rows, keys: Rows) -> Bool[Array, "n k"]:
    """Which keys are other rows of the row's cluster."""
    return (rows.cluster[:, None] == keys.cluster) & ~_same(rows, keys)


def _same(rows: Rows, keys: Rows) -> Bool[Array, "n k"]:
    return rows.number[:, None] == keys.number
