"""PIRL: an image and its shuffled tiles shall both lie near the image's row of a memory bank.

Source: Misra and van der Maaten 2020, "Self-supervised learning of pretext-invariant representations", and the authors' code
(facebookresearch/vissl: pirl_jigsaw_4node_resnet50.yaml, nce_loss.py).
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from jigclu_jax.config import Field
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.augment.streams import image_uniforms
from jigclu_jax.data.view import View, tile_view
from jigclu_jax.methods import Batch, DataFacts, Method, Metrics, Tree
from jigclu_jax.methods.instdisc import BANK_FIELDS, Bank, create_bank
from jigclu_jax.metrics import MetricSpec, accuracy_spec, loss_spec
from jigclu_jax.models import Functional, build_backbone, create_linear, init_parts
from jigclu_jax.ops.normalize import normalize
from jigclu_jax.ops.unit_length import unit_length

GRID = 3
FIELDS = {
    **BANK_FIELDS,
    "negatives": dataclasses.replace(BANK_FIELDS["negatives"], default=32000),
    "tile_weight": Field(0.5, 0, 1),  # lambda: of the tiles' loss; the image's own has the rest
    "tile_size": Field(64, 1, 8192),  # pixels
    "gap": Field(0.25, low=0, below=1),  # of a cell's side is left out around its tile: 85 pixels give 64
    "tiles_area": Field((0.6, 1.0), above=0, high=1, least=2, most=2),  # of the part of the image that is cut into tiles
}
DEFAULTS = {
    "saving.best_metric": "accuracy_tiles",
    "data.min_side": 1,
    "augment.crop_area": (0.08, 1.0),
    "augment.jitter_probability": 1.0,
    "augment.hue": 0.2,
    "augment.blur_probability": 0.0,
}


@dataclasses.dataclass(frozen=True)
class PIRL(Method):
    """The method as a set of pure functions; `create` builds it from a config.

    Attributes:
      backbone: a ResNet.
      image_head: f, linear, D -> embedding.
      tile_head: first layer of g, linear, D -> embedding, the same for every tile.
      join_head: second layer of g, linear, 9 * embedding -> embedding.
      bank: of the images' embeddings by f.
      views: one crop of the whole image; the tiles of another part of it.
      metrics: the loss, those of both parts, and how often each finds the own row of the bank.
      tile_weight: lambda.
      seed: of the run; draws the order of each image's tiles.
      dtype: compute dtype of the backbone.
    """

    backbone: Functional
    image_head: Functional
    tile_head: Functional
    join_head: Functional
    bank: Bank
    views: tuple[View, ...]
    metrics: tuple[MetricSpec, ...]
    tile_weight: float
    seed: int
    dtype: str

    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """Parameters {backbone, image_head, tile_head, join_head}, statistics {backbone}, extra {bank, log_z}."""
        del facts
        keys = jax.random.split(key, 5)
        heads = {"image_head": self.image_head, "tile_head": self.tile_head, "join_head": self.join_head}
        params, stats = init_parts(keys, backbone=self.backbone, **heads)
        return params, stats, self.bank.init(keys[4], self.image_head.dim, self.dtype)

    def shuffled(self, tiles: UInt8[Array, "b k side side 3"], batch: Batch) -> UInt8[Array, "b k side side 3"]:
        """The tiles of each image in a random order, a function of the seed, the epoch and the image."""
        order = jnp.argsort(image_uniforms(self.seed, batch["epoch"], batch["example"], tiles.shape[1], jnp), axis=1)
        return jnp.take_along_axis(tiles, order[:, :, None, None, None], axis=1)

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
        """Features float[b, 1, D] of the images; unit-length projections float[b, E] of their tiles and of themselves.

        Tiles go through the backbone first and images after them, each with statistics of their own sort, as in the authors' code.
        """
        tiles = self.shuffled(jnp.asarray(batch["tiles"]["image"]), batch)
        _, by_tiles, stats = self.projected(params, stats, tiles.reshape(-1, *tiles.shape[2:]), "tile_head", train)
        joined, _ = self.join_head.apply(params["join_head"], {}, by_tiles.reshape(len(tiles), -1), train)
        features, by_image, stats = self.projected(params, stats, batch["image"]["image"][:, 0], "image_head", train)
        return {"features": features[:, None], "tiles": unit_length(joined), "image": unit_length(by_image)}, stats, extra

    def projected(
        self, params: Tree, stats: Tree, images: UInt8[Array, "n side side 3"], head: str, train: bool
    ) -> tuple[Float[Array, "n d"], Float[Array, "n e"], Tree]:
        """Features, what a head makes of them, and the statistics after it."""
        stages, backbone = self.backbone.apply(params["backbone"], stats["backbone"], normalize(images, self.dtype), train)
        projected, _ = getattr(self, head).apply(params[head], {}, stages.features, train)
        return stages.features, projected, {"backbone": backbone}

    def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """lambda * L(tiles, bank) + (1 - lambda) * L(images, bank) (paper, equation 5); then the bank moves towards the images."""
        scored = self.bank.scored(extra, batch, {name: outputs[name] for name in ("tiles", "image")})
        loss = self.tile_weight * scored.loss["tiles"] + (1 - self.tile_weight) * scored.loss["image"]
        metrics = {"loss": loss}
        for name in ("tiles", "image"):
            metrics |= {f"loss_{name}": scored.loss[name], f"accuracy_{name}": scored.accuracy[name]}
        return loss, (self.bank.after(extra, batch, outputs["image"], scored), jax.tree.map(jax.lax.stop_gradient, metrics))


def create(config: ConfigDict, facts: DataFacts) -> PIRL:
    """The method for a pretraining config; labels are not needed."""
    own, law, backbone = config.method, Law.of(config.augment), build_backbone(config.model)
    image, bank = View("image", config.data.image_size, law), create_bank(config, facts)
    tiles = tile_view("tiles", own.tile_size, law, Law(tuple(own.tiles_area), law.crop_aspect), grid=GRID, gap=own.gap)
    return PIRL(
        backbone=backbone,
        image_head=create_linear(backbone.dim, own.embedding_dim, dtype=config.model.dtype),
        tile_head=create_linear(backbone.dim, own.embedding_dim, dtype=config.model.dtype),
        join_head=create_linear(GRID * GRID * own.embedding_dim, own.embedding_dim, dtype=config.model.dtype),
        bank=bank,
        views=(image, tiles),
        metrics=(
            loss_spec("loss", "loss"),
            loss_spec("loss_tiles", "loss, tiles"),
            loss_spec("loss_image", "loss, images"),
            accuracy_spec("accuracy_tiles", "instance accuracy, tiles", bank.chance, "tiles"),
            accuracy_spec("accuracy_image", "instance accuracy, images", bank.chance),
        ),
        tile_weight=own.tile_weight,
        seed=config.seed,
        dtype=config.model.dtype,
    )
