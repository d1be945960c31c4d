"""SimSiam: predict one crop's projection from another's by a small network, with no gradient into what is predicted.

With more than two views, FastSiam: the target is the mean of the other views' projections.

Source: Chen and He 2021, "Exploring simple Siamese representation learning", and the authors' code (facebookresearch/simsiam);
Pototzky, Sultan, Schmidt-Thieme 2022, "FastSiam: resource-efficient self-supervised learning on a single GPU".
"""

import dataclasses

import jax
from ml_collections import ConfigDict

from jigclu_jax.config import Field
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.view import View
from jigclu_jax.losses.collapse import EMBEDDING_STD, embedding_std
from jigclu_jax.losses.negative_cosine import mean_of_others, negative_cosine
from jigclu_jax.methods import Batch, DataFacts, Method, Metrics, Tree
from jigclu_jax.metrics import MetricSpec, loss_spec
from jigclu_jax.models import Functional, build_backbone, create_mlp, init_parts
from jigclu_jax.ops.normalize import normalize
from jigclu_jax.ops.unit_length import unit_length

FIELDS = {
    "views": Field(2, 2, 64),  # crops of each image: 4 in FastSiam
    "layers": Field(3, 1, 8),  # linear layers of the projection: 2 for CIFAR-10
    "embedding_dim": Field(2048, 1, 2**16),  # of the projection, hidden layers included
    "predictor_dim": Field(512, 1, 2**16),  # of the predictor's hidden layer, a bottleneck
}
DEFAULTS = {"data.min_side": 1}


@dataclasses.dataclass(frozen=True)
class SimSiam(Method):
    """The method as a set of pure functions; `create` builds it from a config.

    Attributes:
      backbone: a ResNet.
      projection: an MLP with BatchNorm behind every layer, the last one without scale and bias.
      predictor: an MLP of two layers.
      views: crops of the whole image.
      metrics: the loss, and the spread of the projections.
      dtype: compute dtype of the backbone.
    """

    backbone: Functional
    projection: Functional
    predictor: Functional
    views: tuple[View, ...]
    metrics: tuple[MetricSpec, ...]
    dtype: str

    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """Parameters and statistics {backbone, projection, predictor}, no extra state."""
        del facts
        keys = jax.random.split(key, 3)
        params, stats = init_parts(keys, backbone=self.backbone, projection=self.projection, predictor=self.predictor)
        return params, stats, {}

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
        """Features float[b, v, D], projections, their directions and predictions float[b, v, E]; BatchNorm sees one view at a time."""
        crops = batch[self.views[0].name]["image"]
        views = crops.shape[1]
        x = normalize(crops.reshape(-1, *crops.shape[2:]), self.dtype)
        # a picture's row is image * views + view, so BatchNorm's groups are the views
        stages, backbone = self.backbone.apply(params["backbone"], stats["backbone"], x, train, groups=views)
        projected, projection = self.projection.apply(params["projection"], stats["projection"], stages.features, train, groups=views)
        predicted, predictor = self.predictor.apply(params["predictor"], stats["predictor"], projected, train, groups=views)
        rows = {"features": stages.features, "projections": projected, "embeddings": unit_length(projected), "predictions": predicted}
        outputs = {name: row.reshape(len(crops), views, -1) for name, row in rows.items()}
        return outputs, {"backbone": backbone, "projection": projection, "predictor": predictor}, extra

    def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """Each view's prediction against the mean of the other views' projections."""
        loss = negative_cosine(outputs["predictions"], mean_of_others(outputs["projections"]))
        return loss, (extra, {"loss": jax.lax.stop_gradient(loss), "embedding_std": embedding_std(outputs["embeddings"])})

    def weight(self, batch: Batch) -> jax.Array:
        """All images of the batch; the spread of micro-batches is the mean of theirs."""
        return batch["mask"].sum()


def create(config: ConfigDict, facts: DataFacts) -> SimSiam:
    """The method for a pretraining config; labels are not needed."""
    del facts
    own, backbone = config.method, build_backbone(config.model)
    return SimSiam(
        backbone=backbone,
        projection=create_mlp(
            (backbone.dim, *[own.embedding_dim] * own.layers), norm_last=True, affine_last=False, dtype=config.model.dtype
        ),
        predictor=create_mlp((own.embedding_dim, own.predictor_dim, own.embedding_dim), dtype=config.model.dtype),
        views=(View("crops", config.data.image_size, Law.of(config.augment), repeats=own.views),),
        metrics=(loss_spec("loss", "loss", 0.0), EMBEDDING_STD),
        dtype=config.model.dtype,
    )
