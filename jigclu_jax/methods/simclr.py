"""SimCLR: tell which two crops come from the same image, among all crops of the batch.

Source: Chen, Kornblith, Norouzi, Hinton 2020, "A simple framework for contrastive learning of visual representations", section 2, and the
authors' code (google-research/simclr).
"""

import dataclasses

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jigclu_jax.config import Field
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.view import View
from jigclu_jax.losses.nt_xent import nt_xent
from jigclu_jax.losses.retrieval import retrieval_accuracy
from jigclu_jax.methods import Batch, DataFacts, Method, Metrics, Tree
from jigclu_jax.metrics import MetricSpec, accuracy_spec, loss_spec
from jigclu_jax.models import Functional, build_backbone, create_mlp, init_parts
from jigclu_jax.ops.normalize import normalize
from jigclu_jax.ops.unit_length import unit_length

FIELDS = {
    "temperature": Field(0.1, low=1e-3, high=1000),  # the authors' for ImageNet; 0.5 for CIFAR-10
    "hidden_dim": Field(2048, 1, 2**16),  # of the projection's hidden layers
    "layers": Field(2, 1, 8),  # linear layers of the projection: 2 in the paper, 3 in the authors' later code
    "embedding_dim": Field(128, 1, 2**16),
}
DEFAULTS = {
    "saving.best_metric": "accuracy_contrastive",
    "data.min_side": 1,
    "augment.crop_area": (0.08, 1.0),
    **{f"augment.{name}": 0.8 for name in ("brightness", "contrast", "saturation")},
    "augment.hue": 0.2,
}


@dataclasses.dataclass(frozen=True)
class SimCLR(Method):
    """The method as a set of pure functions; `create` builds it from a config.

    Attributes:
      backbone: a ResNet.
      projection: the MLP with BatchNorm behind every layer, D -> embedding.
      views: two crops of the whole image.
      metrics: the loss, and how often the nearest other crop is the same image's.
      temperature: of the loss.
      dtype: compute dtype of the backbone.
    """

    backbone: Functional
    projection: Functional
    views: tuple[View, ...]
    metrics: tuple[MetricSpec, ...]
    temperature: float
    dtype: str

    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """Parameters and statistics {backbone, projection}, no extra state."""
        del facts
        return *init_parts(jax.random.split(key), backbone=self.backbone, projection=self.projection), {}

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
        """Features float[b, 2, D] and unit-length embeddings float[b, 2, E]; BatchNorm sees both crops of all images."""
        crops = batch[self.views[0].name]["image"]
        x = normalize(crops.reshape(-1, *crops.shape[2:]), self.dtype)
        stages, backbone = self.backbone.apply(params["backbone"], stats["backbone"], x, train)
        projected, projection = self.projection.apply(params["projection"], stats["projection"], stages.features, train)
        rows = {"features": stages.features, "embeddings": unit_length(projected)}
        outputs = {name: row.reshape(len(crops), crops.shape[1], -1) for name, row in rows.items()}
        return outputs, {"backbone": backbone, "projection": projection}, extra

    def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """NT-Xent over all crops of the global batch (paper, equation 1)."""
        embeddings = outputs["embeddings"]
        loss = nt_xent(embeddings, self.temperature)
        image = jnp.repeat(jnp.arange(len(embeddings)), embeddings.shape[1])
        found = retrieval_accuracy(embeddings.reshape(len(image), -1), image)
        return loss, (extra, jax.tree.map(jax.lax.stop_gradient, {"loss": loss, "accuracy_contrastive": found}))


def create(config: ConfigDict, facts: DataFacts) -> SimCLR:
    """The method for a pretraining config; labels are not needed."""
    own, backbone = config.method, build_backbone(config.model)
    dims = (backbone.dim, *[own.hidden_dim] * (own.layers - 1), own.embedding_dim)
    return SimCLR(
        backbone=backbone,
        projection=create_mlp(dims, norm_last=True, dtype=config.model.dtype),
        views=(View("crops", config.data.image_size, Law.of(config.augment), repeats=2),),
        metrics=(
            loss_spec("loss", "loss"),
            accuracy_spec("accuracy_contrastive", "contrastive accuracy", 1 / max(2 * facts.batch_size - 1, 1), "contrastive"),
        ),
        temperature=own.temperature,
        dtype=config.model.dtype,
    )
