"""What a montage method makes of the cells of some batches: the embeddings whose spread shows a collapse."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from jigclu_jax.device.mesh import batch_sharding, replicated
from jigclu_jax.methods.online import CellMethod
from jigclu_jax.ops.normalize import normalize

# (params, stats, batch) -> (embeddings [n, e], location logits [n, m * m], cluster [n], location [n]), whole on every device
CellOutputs = Callable[[Any, Any, Mapping[str, jax.Array]], tuple[jax.Array, jax.Array, jax.Array, jax.Array]]


def compile_cells(method: CellMethod, dtype: str, mesh: Mesh) -> CellOutputs:
    """The method's outputs for a batch of montages with BatchNorm in eval mode, jitted over the mesh."""
    whole = replicated(mesh)

    def cells(params: Any, stats: Any, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        _, embeddings, logits, _ = method.outputs(params, stats, normalize(batch["image"], dtype), False)
        return embeddings, logits, batch["cluster"].reshape(-1), batch["location"].reshape(-1)

    return jax.jit(cells, in_shardings=(whole, whole, batch_sharding(mesh)), out_shardings=whole)


def collect_cells(
    cells: CellOutputs, params: Any, stats: Any, batches: Iterable[Mapping[str, jax.Array]]
) -> tuple[Float[np.ndarray, "n e"], Float[np.ndarray, "n k"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """(embeddings, location logits, image, location) of all cells of the batches; the numbers of images run on from batch to batch."""
    parts: list[tuple[np.ndarray, ...]] = []
    first = 0
    for batch in batches:
        embeddings, logits, cluster, location = jax.device_get(cells(params, stats, batch))
        parts.append((embeddings, logits, first + cluster, location))
        first += len(batch["image"])
    embeddings, logits, image, location = (np.concatenate(column) for column in zip(*parts, strict=True))
    return embeddings, logits, image, location


__all__ = ["CellOutputs", "collect_cells", "compile_cells"]
