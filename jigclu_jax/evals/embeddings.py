"""Collects a method's embeddings, whose spread shows a collapse, and its classifications, with BatchNorm in eval mode."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from jigclu_jax.device.mesh import batch_sharding, replicated
from jigclu_jax.methods import Method


class Collected(NamedTuple):
    """Of all vectors of some batches.

    Attributes:
      embeddings: one row a vector.
      image: which image it was made from; the numbers run on from batch to batch.
      tasks: name -> (scores, right answers) of the method's own classifications.
    """

    embeddings: Float[np.ndarray, "n e"]
    image: Int[np.ndarray, " n"]
    tasks: dict[str, tuple[Float[np.ndarray, "n k"], Int[np.ndarray, " n"]]]


# (params, stats, extra, batch) -> (embeddings [n, r, e], image [n, r], tasks), whole on every device
Outputs = Callable[[Any, Any, Any, Mapping[str, Any]], tuple[jax.Array, jax.Array, dict[str, tuple[jax.Array, jax.Array]]]]


def compile_outputs(method: Method, mesh: Mesh) -> Outputs:
    """The method's embeddings and classifications of a batch, BatchNorm in eval mode, jitted over the mesh."""
    whole = replicated(mesh)

    def outputs_of(params: Any, stats: Any, extra: Any, batch: Mapping[str, Any]) -> Any:
        outputs, _, _ = method.forward(params, stats, extra, batch, train=False)
        return outputs["embeddings"], method.images(batch), method.tasks(outputs, batch)

    return jax.jit(outputs_of, in_shardings=(whole, whole, whole, batch_sharding(mesh)), out_shardings=whole)


def collect(outputs_of: Outputs, params: Any, stats: Any, extra: Any, batches: Iterable[Mapping[str, Any]]) -> Collected:
    """What `compile_outputs` gives for all batches, as rows."""
    parts, first = [], 0
    for batch in batches:
        embeddings, image, tasks = jax.device_get(outputs_of(params, stats, extra, batch))
        parts.append((_rows(embeddings), first + image.reshape(-1), {name: (_rows(s), t.reshape(-1)) for name, (s, t) in tasks.items()}))
        first += len(batch["example"])
    embeddings, image, tasks = zip(*parts, strict=True)
    joined = {name: tuple(np.concatenate([own[name][i] for own in tasks]) for i in range(2)) for name in tasks[0]}
    return Collected(np.concatenate(embeddings), np.concatenate(image), joined)  # type: ignore[arg-type]


def _rows(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, values.shape[-1])
