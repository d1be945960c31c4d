"""The authors' network on the golden files' inputs, computed by the package: what both precisions of the test share.

The .npz files hold what the authors' PyTorch code (commit 1490f3b) gave in float64 on a CPU. Weights and inputs are
functions of names and seeds, so that the files hold results alone.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jigclu_jax import models
from jigclu_jax.interop import from_authors, to_authors
from jigclu_jax.losses import clustering_loss, cross_entropy
from jigclu_jax.ops import decouple

FOLDER = Path(__file__).resolve().parent
FILES = ("resnet18_p32.npz", "resnet18_p112.npz", "resnet50_p112.npz")


def drawn_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The golden weights: a function of a tensor's PyTorch name and shape alone."""
    normal = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    leaf = name.split(".")[-1]
    if leaf == "running_var":
        return 1.0 + 0.2 * np.tanh(normal)
    if leaf == "running_mean":
        return 0.1 * normal
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if len(shape) == 4:
        return normal * np.sqrt(2.0 / (shape[0] * shape[2] * shape[3]))
    if len(shape) == 2:
        return normal * np.sqrt(1.0 / shape[1])
    return 1.0 + 0.2 * np.tanh(normal) if leaf == "weight" else 0.1 * normal


@dataclass
class Batch:
    """Montages [n, S, S, 3] of normalised pixels, label grids [n, 2, 2], and the permutation behind them."""

    image: np.ndarray
    cluster: np.ndarray
    location: np.ndarray
    permutation: np.ndarray


def golden_batch(config: dict[str, Any], step: int) -> Batch:
    """The input of one step, channels last."""
    n, side = config["images"], config["patch"]
    rng = np.random.default_rng(config["seed"] + step)
    patches = rng.standard_normal((4, n, 3, side, side)).astype(np.float32)
    patches = 0.5 * patches + 0.5 * patches.mean(0, keepdims=True)
    permutation = rng.permutation(4 * n)
    cells = patches.reshape(4 * n, 3, side, side)[permutation].reshape(2, 2, n, 3, side, side)  # row, column, montage
    image = cells.transpose(2, 0, 4, 1, 5, 3).reshape(n, 2 * side, 2 * side, 3)
    labels = permutation.reshape(2, 2, n).transpose(2, 0, 1)
    return Batch(image, labels % n, labels // n, permutation)


def cell_major(grid: Any) -> np.ndarray:
    """[n, 2, 2, ...] -> [4n, ...], all top-left cells first, as the authors stack them."""
    grid = np.asarray(grid)
    return grid.transpose(1, 2, 0, *range(3, grid.ndim)).reshape(-1, *grid.shape[3:])


class Network:
    """Backbone, projection and location head with the golden weights, in one dtype."""

    def __init__(self, config: dict[str, Any], dtype: str) -> None:
        self.config, self.dtype = config, dtype
        self.backbone = models.build_backbone({"arch": config["arch"], "dtype": dtype, "precision": "highest"})
        self.projection = models.create_projection(self.backbone.dim, 128, dtype=dtype)
        self.location = models.create_linear(self.backbone.dim, 4, dtype=dtype)

    def weights(self) -> tuple[Any, Any]:
        """(params, stats) through the names of the authors' state dict."""

        def zeros(key: jax.Array) -> Any:
            backbone, stats = self.backbone.init(key)
            return {"backbone": backbone, "projection": self.projection.init(key)[0], "location": self.location.init(key)[0]}, {
                "backbone": stats
            }

        shapes = jax.tree.map(lambda leaf: np.zeros(leaf.shape), jax.eval_shape(zeros, jax.random.key(0)))
        state = {name: drawn_tensor(name, value.shape) for name, value in to_authors(*shapes).items()}
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, self.dtype), from_authors(state))

    def outputs(self, params: Any, stats: Any, image: jax.Array) -> tuple[dict[str, jax.Array], Any]:
        """vectors, embeddings and logits, each [n, 2, 2, ...], and the statistics after the batch."""
        stages, backbone_stats = self.backbone.apply(params["backbone"], stats["backbone"], image, True)
        vectors = decouple(stages.maps[-1], 2)
        embeddings, _ = self.projection.apply(params["projection"], {}, vectors, True)
        logits, _ = self.location.apply(params["location"], {}, vectors, True)
        return {"vectors": vectors, "embeddings": embeddings, "logits": logits}, {"backbone": backbone_stats}

    def loss(self, params: Any, stats: Any, image: jax.Array, cluster: jax.Array, location: jax.Array) -> tuple[jax.Array, Any]:
        """The sum of both losses, and ((clustering, location), outputs, statistics)."""
        outputs, stats = self.outputs(params, stats, image)
        rows = outputs["embeddings"].reshape(-1, 128)
        clu = clustering_loss(rows, cluster.reshape(-1), self.config["temperature"], self.config["base_temperature"])
        loc = cross_entropy(outputs["logits"], location)
        return clu + loc, ((clu, loc), outputs, stats)


def load(file: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(config, arrays) of one golden file."""
    with np.load(FOLDER / file) as archive:
        arrays = dict(archive)
    return json.loads(str(arrays.pop("config"))), arrays


def relative(value: Any, reference: np.ndarray) -> float:
    """max |value - reference| / max |reference|; infinite where shapes differ or a value is no number."""
    value = np.asarray(value, np.float64)
    if value.shape != reference.shape or not np.isfinite(value).all():
        return float("inf")
    return float(np.abs(value - reference).max() / np.abs(reference).max())


def output_errors(arrays: dict[str, np.ndarray], batch: Batch, clu: Any, loc: Any, outputs: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """(name, relative error) of everything that the file holds of step 0 before any gradient."""
    vectors = np.asarray(outputs["vectors"])
    computed = {
        "permutation": batch.permutation,
        "label_clu": cell_major(batch.cluster),
        "label_loc": cell_major(batch.location),
        "montage_first": batch.image[0, ::7, ::7].transpose(2, 0, 1),
        "montage_sum_by_montage": batch.image.sum((1, 2, 3), dtype=np.float64),
        "features": vectors.transpose(0, 3, 1, 2),
        "vectors": cell_major(vectors),
        "embeddings": cell_major(outputs["embeddings"]),
        "logits": cell_major(outputs["logits"]),
        "loss_clu": clu,
        "loss_loc": loc,
    }
    expected = {name.removeprefix("step0/") for name in arrays if name.startswith("step0/")}
    if expected != set(computed):
        raise AssertionError(f"the file holds {sorted(expected)}, compared are {sorted(computed)}")
    for name, value in computed.items():
        yield f"step0/{name}", relative(value, arrays[f"step0/{name}"])
