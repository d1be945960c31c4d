"""Solving jigsaw puzzles: tell in which of a few fixed orders the tiles of an image were given.

Source: Noroozi and Favaro 2016, "Unsupervised learning of visual representations by solving jigsaw puzzles", with ResNets as in Goyal,
Mahajan, Gupta, Misra 2019, "Scaling and benchmarking self-supervised visual representation learning" (facebookresearch/vissl).
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, UInt8
from ml_collections import ConfigDict

from jigclu_jax.config import Field
from jigclu_jax.config.fields import MOST_SEED
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.augment.streams import image_uniforms
from jigclu_jax.data.view import View, tile_view
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy
from jigclu_jax.methods import Batch, DataFacts, Method, Metrics, Tree
from jigclu_jax.metrics import MetricSpec, accuracy_spec, loss_spec
from jigclu_jax.models import Functional, build_backbone, create_linear, create_mlp, init_parts
from jigclu_jax.ops.normalize import normalize
from jigclu_jax.ops.permutations import CRITERIA, permutation_set

FIELDS = {
    "grid": Field(3, 2, 3),  # an image is cut into grid x grid cells; 4 x 4 have more permutations than can be looked at
    "gap": Field(0.25, low=0, below=1),  # of a cell's side is left out around its tile: 85 pixels give 64. 0: edges tell neighbours
    "permutations": Field(2000, 2, math.factorial(9)),  # classes: how many orders there are
    "criterion": Field("max_avg", choices=CRITERIA),  # which reading of "maximal Hamming distance" chooses them
    "permutation_seed": Field(0, 0, MOST_SEED),  # of the first permutation; the set is kept in the checkpoint
    "tower_dim": Field(1000, 1, 2**16),  # numbers that a tile's tower hands on
    "normalize": Field("dataset", choices=("dataset", "tile")),  # tile: by its own mean and deviation, as the first authors did
}
# config.augment says what is done to the image before it is cut, and how the colours of each tile are changed.
DEFAULTS = {
    "saving.best_metric": "accuracy_jigsaw",
    "data.min_side": 1,
    "data.image_size": 255,
    "augment.crop_area": (0.6, 1.0),
    "augment.crop_aspect": (1.0, 1.0),
    "augment.grayscale_probability": 0.66,
    "augment.jitter_probability": 0.0,
    "augment.blur_probability": 0.0,
}


@dataclasses.dataclass(frozen=True)
class JigPuz(Method):
    """The method as a set of pure functions; `create` builds it from a config.

    Attributes:
      backbone: a ResNet; every tile goes through it by itself.
      tower: linear layer and BatchNorm, D -> tower_dim, the same for every tile; ReLU follows.
      classifier: linear layer, tiles * tower_dim -> permutations.
      views: the tiles.
      metrics: the loss, and how often the permutation is told.
      puzzle: (permutations, tiles, criterion, seed) of the set.
      seed: of the run; draws the permutation of each image.
      per_tile: whether tiles are normalised by themselves.
      dtype: compute dtype of the backbone.
    """

    backbone: Functional
    tower: Functional
    classifier: Functional
    views: tuple[View, ...]
    metrics: tuple[MetricSpec, ...]
    puzzle: tuple[int, int, str, int]
    seed: int
    per_tile: bool
    dtype: str

    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """Parameters {backbone, tower, classifier}, statistics {backbone, tower}, extra {permutations: int32[N, k]}."""
        del facts
        keys = jax.random.split(key, 3)
        params, stats = init_parts(keys, backbone=self.backbone, tower=self.tower, classifier=self.classifier)
        return params, stats, {"permutations": jnp.asarray(permutation_set(*self.puzzle))}

    def permutation(self, batch: Batch) -> Int32[Array, " b"]:
        """The number of each image's permutation, the label: a function of the seed, the epoch and the image."""
        count = self.puzzle[0]
        u = image_uniforms(self.seed, batch["epoch"], batch["example"], 1, jnp)[:, 0]
        return jnp.minimum((u * count).astype(jnp.int32), count - 1)

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
        """Features float[b, k, D] of the tiles in the order of the towers, and logits float[b, N]; BatchNorm sees all tiles of all images.

        Tower i gets tile permutation[i]; tiles are numbered down the columns (View), as in the authors' code.
        """
        order = extra["permutations"][self.permutation(batch)]
        tiles = jnp.take_along_axis(jnp.asarray(batch[self.views[0].name]["image"]), order[:, :, None, None, None], axis=1)
        x = self.normalised(tiles.reshape(-1, *tiles.shape[2:]))
        stages, backbone = self.backbone.apply(params["backbone"], stats["backbone"], x, train)
        towers, tower = self.tower.apply(params["tower"], stats["tower"], stages.features, train)
        logits, _ = self.classifier.apply(params["classifier"], {}, jax.nn.relu(towers).reshape(len(tiles), -1), train)
        features = stages.features.reshape(*tiles.shape[:2], -1)
        return {"features": features, "logits": logits}, {"backbone": backbone, "tower": tower}, extra

    def normalised(self, tiles: UInt8[Array, "n side side 3"]) -> Float[Array, "n side side 3"]:
        """Numbers of the tiles' bytes."""
        x = normalize(tiles, "float64" if self.dtype == "float64" else "float32")
        if self.per_tile:
            deviation = x.std(axis=(1, 2), keepdims=True)
            x = (x - x.mean(axis=(1, 2), keepdims=True)) / jnp.where(deviation > 1e-6, deviation, 1.0)
        return x.astype(self.dtype)

    def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """Mean cross entropy over the images."""
        logits, label = outputs["logits"], self.permutation(batch)
        loss = cross_entropy(logits, label)
        return loss, (extra, {"loss": loss, "accuracy_jigsaw": accuracy(logits, label)})

    def weight(self, batch: Batch) -> jax.Array:
        """The images."""
        return jnp.asarray(len(batch["example"]))


def create(config: ConfigDict, facts: DataFacts) -> JigPuz:
    """The method for a pretraining config; labels are not needed.

    Raises:
      UserError: more permutations than there are.
    """
    del facts
    own, law, backbone = config.method, Law.of(config.augment), build_backbone(config.model)
    tiles = own.grid * own.grid
    if own.permutations > math.factorial(tiles):
        permutation_set(own.permutations, tiles, own.criterion, 0)  # refuses it
    kept = ("crop_area", "crop_aspect", "flip_probability", "grayscale_probability")
    frame = Law(**{name: getattr(law, name) for name in kept})
    each = dataclasses.replace(law, flip_probability=0.0, grayscale_probability=0.0)
    side = max(round(config.data.image_size / own.grid * (1 - own.gap)), 1)
    return JigPuz(
        backbone=backbone,
        tower=create_mlp((backbone.dim, own.tower_dim), norm_last=True, dtype=config.model.dtype),
        classifier=create_linear(tiles * own.tower_dim, own.permutations, dtype=config.model.dtype),
        views=(tile_view("tiles", side, each, frame, grid=own.grid, gap=own.gap),),
        metrics=(
            loss_spec("loss", "loss", math.log(own.permutations)),
            accuracy_spec("accuracy_jigsaw", "jigsaw accuracy", 1 / own.permutations, "jigsaw"),
        ),
        puzzle=(own.permutations, tiles, own.criterion, own.permutation_seed),
        seed=config.seed,
        per_tile=own.normalize == "tile",
        dtype=config.model.dtype,
    )
