"""Top-1 and top-5 accuracy of a classifier over an evaluation set."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jigclu_jax.device.mesh import batch_sharding, device_batches, replicated
from jigclu_jax.losses.cross_entropy import hits

Counts = dict[str, jax.Array]


def compile_counts(predict: Callable[..., jax.Array], mesh: Mesh) -> Callable[..., Counts]:
    """`predict(params, stats, extra, image) -> logits` -> a jitted function that adds a batch to the counts.

    The function takes (counts, params, stats, extra, batch); padding (mask False) never counts.
    """

    def count(counts: Counts, params: Any, stats: Any, extra: Any, batch: dict[str, jax.Array]) -> Counts:
        logits = predict(params, stats, extra, batch["image"])
        mask = batch["mask"] & (batch["label"] >= 0)
        label = jnp.where(mask, batch["label"], 0)
        return {
            "examples": counts["examples"] + mask.sum(),
            "top1": counts["top1"] + (mask & hits(logits, label)).sum(),
            "top5": counts["top5"] + (mask & hits(logits, label, 5)).sum(),
        }

    whole = replicated(mesh)
    return jax.jit(count, in_shardings=(whole, whole, whole, whole, batch_sharding(mesh)), out_shardings=whole)


def evaluate(
    counts_fn: Callable[..., Counts], params: Any, stats: Any, extra: Any, batches: Iterator[dict[str, np.ndarray]], mesh: Mesh
) -> dict[str, float]:
    """Accuracies over all batches: {"top1", "top5"} as fractions of the examples seen, and how many those were."""
    counts: Counts = {name: jnp.zeros((), jnp.int32) for name in ("examples", "top1", "top5")}
    for batch in device_batches(batches, mesh):
        before = counts
        counts = counts_fn(before, params, stats, extra, batch)
        jax.block_until_ready(before)  # else the host would read on, far ahead of a slow device
    numbers = {name: int(value) for name, value in jax.device_get(counts).items()}
    examples = max(numbers["examples"], 1)
    return {"top1": numbers["top1"] / examples, "top5": numbers["top5"] / examples, "examples": numbers["examples"]}
