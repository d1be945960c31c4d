"""BYOL: predict what a slowly moving copy of the network makes of an image's other crop; there are no negatives.

Source: Grill et al. 2020, "Bootstrap your own latent: a new approach to self-supervised learning", and the authors' code
(google-deepmind/deepmind-research/byol).
"""

import dataclasses

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jigclu_jax.config import Field
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.view import View
from jigclu_jax.losses.collapse import EMBEDDING_STD, embedding_std
from jigclu_jax.losses.negative_cosine import negative_cosine
from jigclu_jax.methods import Batch, DataFacts, Method, Metrics, Tree
from jigclu_jax.metrics import MetricSpec, loss_spec
from jigclu_jax.models import Functional, build_backbone, create_mlp, init_parts
from jigclu_jax.ops.moving_average import moving_average
from jigclu_jax.ops.normalize import normalize
from jigclu_jax.ops.unit_length import unit_length

FIELDS = {
    "momentum": Field(0.996, low=0, below=1),  # of the target network at the first step; at the last it is 1
    "hidden_dim": Field(4096, 1, 2**16),  # of projection and predictor
    "embedding_dim": Field(256, 1, 2**16),
    "second_blur": Field(0.1, 0, 1),  # probability of blur for the second view; the first view's is that of config.augment
    "second_solarize": Field(0.2, 0, 1),
}
DEFAULTS = {
    "data.min_side": 1,
    "augment.crop_area": (0.08, 1.0),
    "augment.saturation": 0.2,
    "augment.blur_probability": 1.0,
}
_ONLINE = ("backbone", "projection")  # what the target network has of its own


@dataclasses.dataclass(frozen=True)
class BYOL(Method):
    """The method as a set of pure functions; `create` builds it from a config.

    Attributes:
      backbone: a ResNet.
      projection, predictor: MLPs of two layers with BatchNorm between them.
      views: two crops of the whole image with laws of their own.
      metrics: the loss, and the spread of the online projections.
      momentum: of the target network at the first step.
      steps: of the run, after which the momentum is 1.
      dtype: compute dtype of the backbone.
    """

    backbone: Functional
    projection: Functional
    predictor: Functional
    views: tuple[View, ...]
    metrics: tuple[MetricSpec, ...]
    momentum: float
    steps: int
    dtype: str

    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """Parameters and statistics {backbone, projection, predictor}; extra: the target network {params, stats}, updates made.

        The target begins as a copy; the authors' code draws it by itself and finds no difference.
        """
        del facts
        keys = jax.random.split(key, 3)
        params, stats = init_parts(keys, backbone=self.backbone, projection=self.projection, predictor=self.predictor)
        target = {"params": {name: params[name] for name in _ONLINE}, "stats": {name: stats[name] for name in _ONLINE}}
        return params, stats, {"target": target, "step": jnp.zeros((), jnp.int32)}

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
        """Features float[b, 2, D], unit-length embeddings, predictions and targets float[b, 2, E]; BatchNorm sees one view at a time."""
        crops = jnp.concatenate([batch[view.name]["image"] for view in self.views], axis=1)
        x = normalize(crops.reshape(-1, *crops.shape[2:]), self.dtype)
        features, projected, after = self._project(params, stats, x, train)
        predicted, predictor = self.predictor.apply(params["predictor"], stats["predictor"], projected, train, groups=2)
        target = extra["target"]
        _, taught, own = self._project(target["params"], target["stats"], x, train)
        rows = {"features": features, "embeddings": unit_length(projected), "predictions": predicted, "targets": taught}
        outputs = {name: row.reshape(len(crops), 2, -1) for name, row in rows.items()}
        return outputs, {**after, "predictor": predictor}, {**extra, "target": {**target, "stats": own}}

    def _project(self, params: Tree, stats: Tree, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array, Tree]:
        # a picture's row is image * 2 + view, so BatchNorm's groups are the views
        stages, backbone = self.backbone.apply(params["backbone"], stats["backbone"], x, train, groups=2)
        projected, projection = self.projection.apply(params["projection"], stats["projection"], stages.features, train, groups=2)
        return stages.features, projected, {"backbone": backbone, "projection": projection}

    def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """Squared distance of unit vectors between each view's prediction and the other view's target, the sum of both: 0 to 8."""
        loss = 4 + 4 * negative_cosine(outputs["predictions"], outputs["targets"][:, ::-1])
        return loss, (extra, {"loss": jax.lax.stop_gradient(loss), "embedding_std": embedding_std(outputs["embeddings"])})

    def weight(self, batch: Batch) -> jax.Array:
        """All images of the batch; the spread of micro-batches is the mean of theirs."""
        return batch["mask"].sum()

    def images(self, batch: Batch) -> jax.Array:
        """Two crops of each image."""
        count = len(batch["example"])
        return jnp.broadcast_to(jnp.arange(count)[:, None], (count, 2))

    def after_update(self, params: Tree, stats: Tree, extra: Tree) -> Tree:
        """The target's parameters follow with 1 - (1 - momentum) (cos(pi t / T) + 1) / 2; its BatchNorm statistics are its own."""
        target, step = extra["target"], extra["step"]
        momentum = 1 - (1 - self.momentum) * (jnp.cos(jnp.pi * step / self.steps) + 1) / 2
        moved = moving_average(target["params"], {name: params[name] for name in _ONLINE}, momentum)
        return {**extra, "target": {**target, "params": moved}, "step": step + 1}


def create(config: ConfigDict, facts: DataFacts) -> BYOL:
    """The method for a pretraining config; labels are not needed."""
    own, backbone, law, side = config.method, build_backbone(config.model), Law.of(config.augment), config.data.image_size
    second = dataclasses.replace(law, blur_probability=own.second_blur, solarize_probability=own.second_solarize)
    return BYOL(
        backbone=backbone,
        projection=create_mlp((backbone.dim, own.hidden_dim, own.embedding_dim), dtype=config.model.dtype),
        predictor=create_mlp((own.embedding_dim, own.hidden_dim, own.embedding_dim), dtype=config.model.dtype),
        views=(View("first", side, law), View("second", side, second)),
        metrics=(loss_spec("loss", "loss", 4.0), EMBEDDING_STD),
        momentum=own.momentum,
        steps=config.epochs * facts.steps_per_epoch,
        dtype=config.model.dtype,
    )
