"""Computes the features of all images of a source in one pass of a frozen backbone."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32, Int32, Int64

from jigclu_jax.device.mesh import batch_sharding, device_batches, replicated
from jigclu_jax.errors import UserError
from jigclu_jax.models import build_backbone
from jigclu_jax.ops.normalize import normalize

# (params, stats, batch) -> (features float32[b, D], label, mask), whole on every device
Forward = Callable[[Any, Any, Mapping[str, jax.Array]], tuple[jax.Array, jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class FeatureBank:
    """Features of the images of one source, in its order.

    Attributes:
      features: pooled features of the backbone, BatchNorm in eval mode.
      labels: -1 where an image has none.
      indices: each row's position in the source; images left out by on_error=skip have no row.
    """

    features: Float32[np.ndarray, "n d"]
    labels: Int32[np.ndarray, " n"]
    indices: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.features)


def compile_features(model: Mapping[str, Any], mesh: Mesh) -> Forward:
    """The backbone of `model` (arch, stem, width, dtype, precision), jitted over the mesh: batch sharded, results whole everywhere."""
    backbone = build_backbone(model)
    whole = replicated(mesh)

    def forward(params: Any, stats: Any, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        stages, _ = backbone.apply(params, stats, normalize(batch["image"], model["dtype"]), False)
        return stages.features.astype(jnp.float32), batch["label"], batch["mask"]

    return jax.jit(forward, in_shardings=(whole, whole, batch_sharding(mesh)), out_shardings=whole)


def compute_features(
    forward: Forward,
    params: Any,
    stats: Any,
    batches: Iterator[dict[str, np.ndarray]],
    mesh: Mesh,
    say: Callable[[int], None] = lambda images: None,
) -> FeatureBank:
    """Features of every image of `batches` (`data/input/evaluation.py`) that is no padding; `say(images done)` after each batch.

    Raises:
      UserError: no image is left, or a feature is not finite.
    """
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    seen = done = 0
    for batch in device_batches(batches, mesh):
        features, label, mask = jax.device_get(forward(params, stats, batch))
        rows = np.flatnonzero(mask)
        parts.append((features[rows], label[rows], seen + rows))
        seen += len(mask)
        done += len(rows)
        say(done)
    if not done:
        raise UserError("no image of the source could be used: there are no features")
    features, labels, indices = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not np.isfinite(features).all():
        bad = int(np.flatnonzero(~np.isfinite(features).all(1))[0])
        raise UserError(
            f"the features of image {indices[bad]} are not finite: the backbone's weights are damaged, or overflow in this dtype"
        )
    return FeatureBank(features, labels.astype(np.int32), indices.astype(np.int64))
