"""Rotation: tell by which of four quarter turns a picture was turned.

Source: Gidaris, Singh, Komodakis 2018, "Unsupervised representation learning by predicting image rotations", section 3, and the authors'
code (gidariss/FeatureLearningRotNet).
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped
from ml_collections import ConfigDict

from jigclu_jax.config import Field
from jigclu_jax.config.schema import CROP
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.view import View
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy
from jigclu_jax.methods import Batch, DataFacts, Method, Metrics, Tree
from jigclu_jax.metrics import MetricSpec, accuracy_spec, loss_spec
from jigclu_jax.models import Functional, build_backbone, create_linear, init_parts
from jigclu_jax.ops.normalize import normalize

TURNS = 4
FIELDS: dict[str, Field] = {}
DEFAULTS = {"saving.best_metric": "accuracy_rotation", "data.min_side": 1, **{f"augment.{name}": value for name, value in CROP.items()}}


@dataclasses.dataclass(frozen=True)
class Rotation(Method):
    """The method as a set of pure functions; `create` builds it from a config.

    Attributes:
      backbone: a ResNet.
      head: one linear layer, D -> 4.
      views: one crop of the whole image; the turned pictures are made of its bytes.
      metrics: the loss, and how often the turn is told.
      dtype: compute dtype of the backbone.
    """

    backbone: Functional
    head: Functional
    views: tuple[View, ...]
    metrics: tuple[MetricSpec, ...]
    dtype: str

    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """Parameters {backbone, head}, statistics {backbone}, no extra state."""
        del facts
        return *init_parts(jax.random.split(key), backbone=self.backbone, head=self.head), {}

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
        """Features float[b, 1, D] of the upright crops and logits float[b, 4, 4]; BatchNorm sees all turns of all images.

        All four turns of an image stand in one batch, as in the authors' code: what BatchNorm measures then says nothing of the turn.
        """
        turned = turns(batch[self.views[0].name]["image"][:, 0])
        x = normalize(turned.reshape(-1, *turned.shape[2:]), self.dtype)
        stages, backbone = self.backbone.apply(params["backbone"], stats["backbone"], x, train)
        logits, _ = self.head.apply(params["head"], {}, stages.features, train)
        rows = {"features": stages.features, "logits": logits}
        outputs = {name: row.reshape(len(turned), TURNS, -1) for name, row in rows.items()}
        return {**outputs, "features": outputs["features"][:, :1]}, {"backbone": backbone}, extra

    def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """Mean cross entropy over all turns of all images (paper, equations 1 and 2)."""
        logits, turn = self.tasks(outputs, batch)["rotation"]
        loss = cross_entropy(logits, turn)
        return loss, (extra, {"loss": loss, "accuracy_rotation": accuracy(logits, turn)})

    def weight(self, batch: Batch) -> jax.Array:
        """The images."""
        return jnp.asarray(len(batch["example"]))

    def tasks(self, outputs: Tree, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """The turn of each picture."""
        logits = outputs["logits"]
        return {"rotation": (logits, jnp.broadcast_to(jnp.arange(TURNS), logits.shape[:2]))}


def turns(images: Shaped[Array, "b side side 3"]) -> Shaped[Array, "b 4 side side 3"]:
    """Every picture turned counter-clockwise by 0, 90, 180 and 270 degrees: the same bytes elsewhere, nothing is computed."""
    return jnp.stack([jnp.rot90(images, turn, axes=(1, 2)) for turn in range(TURNS)], axis=1)


def create(config: ConfigDict, facts: DataFacts) -> Rotation:
    """The method for a pretraining config; labels are not needed."""
    del facts
    backbone = build_backbone(config.model)
    return Rotation(
        backbone=backbone,
        head=create_linear(backbone.dim, TURNS, dtype=config.model.dtype),
        views=(View("crop", config.data.image_size, Law.of(config.augment)),),
        metrics=(
            loss_spec("loss", "loss", math.log(TURNS)),
            accuracy_spec("accuracy_rotation", "rotation accuracy", 1 / TURNS, "rotation"),
        ),
        dtype=config.model.dtype,
    )
