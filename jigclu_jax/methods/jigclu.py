"""Jigsaw clustering: tell which patches of a montage batch belong together, and where each one sat.

Source: Chen, Liu, Jia, CVPR 2021, section 3, and the authors' code.
"""

import dataclasses

import jax
from ml_collections import ConfigDict

from jigclu_jax.config.fields import Field
from jigclu_jax.data.augment.boxes import patch_side
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.view import View
from jigclu_jax.errors import UserError
from jigclu_jax.losses.chance import uninformed_losses
from jigclu_jax.losses.clustering import clustering_loss
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy
from jigclu_jax.losses.negative_cosine import mean_of_cluster, negative_cosine
from jigclu_jax.losses.retrieval import retrieval_accuracy
from jigclu_jax.methods import Batch, DataFacts, Method, Metrics, Tree
from jigclu_jax.metrics import MetricSpec, accuracy_spec, loss_spec
from jigclu_jax.models import Functional, build_backbone, create_linear, create_mlp, create_projection, init_parts
from jigclu_jax.ops.decouple import decouple
from jigclu_jax.ops.montage import split_cells
from jigclu_jax.ops.normalize import normalize

FIELDS = {
    "grid": Field(2, 2, 32),  # m: an image is cut into m x m patches
    "overlap": Field(0.3, 0, 32),  # a crop reaches overlap / (m - 1) of the image's side into its neighbours
    "shuffle_group": Field(0, 0, 2**20),  # patches are shuffled within that many consecutive images; 0: whole batch up to 256
    "input": Field("montage", choices=("montage", "cells")),  # cells: every cell through the backbone as an image of its own, to compare
    "temperature": Field(0.3, low=1e-3, high=1000),
    # the clustering loss carries temperature / base_temperature: in the code, not in the paper
    "base_temperature": Field(0.07, low=1e-3, high=1000),
    "cluster_weight": Field(1.0, 0, 1e6),
    "location_weight": Field(1.0, 0, 1e6),
    "embedding_dim": Field(128, 1, 2**16),
    "decouple_size": Field(0, 0, 1024),  # 0: 8 for m = 2, else see ops/decouple.py
    # Not of the paper, off by default (docs/results.md has what they give):
    "projection_norm": Field(False),  # BatchNorm before the ReLU of the clustering branch
    # a flipped patch's location is its place in the mirrored image: without, left and right cannot be told apart
    "mirrored_location": Field(False),
    "decoupled": Field(False),  # an image's own patches leave the clustering loss's denominator
    # > 0: weight of the cosine between a predictor's output and the mean of the image's other patches, which has no gradient (FastSiam)
    "centroid_weight": Field(0.0, 0, 1e6),
}
DEFAULTS = {"saving.best_metric": "accuracy_retrieval"}
# What "jigclu+" sets: a recipe of this library for batch 256 and 200 epochs, at the paper's cost (docs/which_method.md).
PLUS = {
    "optimizer.learning_rate": 0.12,
    "optimizer.per_epoch": False,
    "optimizer.warmup_epochs": 10.0,
    "method.projection_norm": True,
    "method.temperature": 0.1,
    "method.mirrored_location": True,
}


@dataclasses.dataclass(frozen=True)
class JigClu(Method):
    """The method as a set of pure functions; `create` builds it from a config.

    Attributes:
      backbone: ResNet without pool and classifier.
      projection: the clustering branch's MLP, D -> D -> embedding.
      location: the location branch's linear layer, D -> m * m.
      views: one of montages of m x m cells.
      metrics: both losses, both branches' accuracies.
      decouple_size: side that the last feature map is resized to before it is pooled to m x m; 0 for the default.
      temperature: T of the clustering loss.
      base_temperature: T0; the loss carries T / T0.
      cluster_weight: alpha.
      location_weight: beta.
      dtype: compute dtype of the backbone.
      decoupled: the clustering loss has negatives alone in its denominator.
      centroid_weight: of the centroid loss.
      predictor: its MLP, embedding -> embedding; None without it.
      separate: cells go through the backbone as images of their own, each pooled to one vector: the paper's comparison, no montages.
    """

    backbone: Functional
    projection: Functional
    location: Functional
    views: tuple[View, ...]
    metrics: tuple[MetricSpec, ...]
    decouple_size: int
    temperature: float
    base_temperature: float
    cluster_weight: float
    location_weight: float
    dtype: str
    separate: bool = False
    decoupled: bool = False
    centroid_weight: float = 0.0
    predictor: Functional | None = None

    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """Parameters {backbone, projection, location, predictor if any}, statistics of those that have BatchNorm; no extra state."""
        del facts
        keys = jax.random.split(key, 3)
        params, stats = init_parts(keys, backbone=self.backbone, projection=self.projection, location=self.location)
        if self.predictor is not None:
            params["predictor"], stats["predictor"] = self.predictor.init(jax.random.fold_in(key, 3))
        return params, stats, {}

    def outputs(self, params: Tree, stats: Tree, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array, jax.Array, Tree]:
        """Montages, normalised, float[b, S, S, 3] -> one row a cell, row-major within a montage, b * m * m in all.

        Returns vectors [b*m*m, D], unit-length embeddings [b*m*m, 128], location logits [b*m*m, m*m], new statistics.
        """
        grid = self.views[0].montage
        if self.separate:
            x = split_cells(x, grid)
        stages, backbone_stats = self.backbone.apply(params["backbone"], stats["backbone"], x, train)
        vectors = stages.features if self.separate else decouple(stages.maps[-1], grid, self.decouple_size)
        vectors = vectors.reshape(-1, vectors.shape[-1])
        embeddings, more = self.projection.apply(params["projection"], stats.get("projection", {}), vectors, train)
        logits, _ = self.location.apply(params["location"], {}, vectors, train)
        return vectors, embeddings, logits, {"backbone": backbone_stats} | ({"projection": more} if more else {})

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
        """Features float[b, m*m, D], embeddings float[b, m*m, 128] and location logits float[b, m*m, m*m] of the batch's cells."""
        images = batch[self.views[0].name]["image"]
        features, embeddings, logits, after = self.outputs(params, stats, normalize(images, self.dtype), train)
        rows = {"features": features, "embeddings": embeddings, "logits": logits}
        if self.predictor is not None:
            own = params["predictor"], stats["predictor"]
            rows["predictions"], after["predictor"] = self.predictor.apply(*own, embeddings, train)
        return {name: row.reshape(len(images), -1, row.shape[-1]) for name, row in rows.items()}, after, extra

    def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """alpha * clustering + beta * location over all patches of the global batch (paper, equations 1 to 4), and the centroid loss."""
        embeddings, logits = (outputs[name].reshape(-1, outputs[name].shape[-1]) for name in ("embeddings", "logits"))
        clusters, locations = (batch[self.views[0].name][name].reshape(-1) for name in ("cluster", "location"))
        temperatures = self.temperature, self.base_temperature
        loss_cluster = clustering_loss(embeddings, clusters, *temperatures, decoupled=self.decoupled)
        loss_location = cross_entropy(logits, locations)
        loss = self.cluster_weight * loss_cluster + self.location_weight * loss_location
        metrics = {
            "loss_cluster": loss_cluster,
            "loss_location": loss_location,
            "accuracy_location": accuracy(logits, locations),
            "accuracy_retrieval": retrieval_accuracy(embeddings, clusters),
        }
        if self.predictor is not None:
            centroids = mean_of_cluster(embeddings, clusters, len(batch["example"]))
            metrics["loss_centroid"] = negative_cosine(outputs["predictions"].reshape(embeddings.shape), centroids)
            loss += self.centroid_weight * metrics["loss_centroid"]
        metrics["loss"] = loss
        return loss, (extra, jax.tree.map(jax.lax.stop_gradient, metrics))

    def tasks(self, outputs: Tree, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Where each patch sat."""
        location = batch[self.views[0].name]["location"]
        return {"location": (outputs["logits"], location.reshape(len(location), -1))}


_LOCATION = "The share of patches whose place in their image is told right."
_RETRIEVAL = "The share of patches whose nearest other patch of the batch, by embedding, comes from the same image."


def metric_specs(own: ConfigDict, batch_size: int) -> tuple[MetricSpec, ...]:
    """The losses and both branches' accuracies for the settings `own`, with what a network reaches that tells nothing apart."""
    cells = own.grid * own.grid
    cluster, location = uninformed_losses(batch_size, own.grid, own.temperature, own.base_temperature, decoupled=own.decoupled)
    centroid = (loss_spec("loss_centroid", "centroid loss", 0.0),) if own.centroid_weight else ()
    return (
        loss_spec("loss", "loss", own.cluster_weight * cluster + own.location_weight * location),
        loss_spec("loss_cluster", "clustering loss", cluster),
        loss_spec("loss_location", "location loss", location),
        accuracy_spec("accuracy_location", "location accuracy", 1 / cells, about=_LOCATION),
        accuracy_spec("accuracy_retrieval", "retrieval accuracy", (cells - 1) / (batch_size * cells - 1), "retrieval", _RETRIEVAL),
        *centroid,
    )


def create(config: ConfigDict, facts: DataFacts) -> JigClu:
    """The method for a pretraining config; labels are not needed.

    Raises:
      UserError: a decouple size or a side of montages that the grid does not divide; a single image where negatives are needed.
    """
    model, own = config.model, config.method
    if own.decoupled and facts.batch_size < 2:
        raise UserError(
            f"config.method.decoupled needs the patches of other images, and config.batch_size is {facts.batch_size}: use 2 or more"
        )
    if own.decouple_size % own.grid:
        raise UserError(f"config.method.decouple_size={own.decouple_size} must be a multiple of config.method.grid={own.grid}, or 0")
    side = patch_side(config.data.image_size, own.grid)
    cells = {"montage": own.grid, "group": own.shuffle_group, "mirrored": own.mirrored_location}
    montage = View("montage", side, Law.of(config.augment), own.grid, own.overlap, **cells)
    backbone = build_backbone(model)
    return JigClu(
        backbone=backbone,
        projection=create_projection(backbone.dim, own.embedding_dim, norm=own.projection_norm, dtype=model.dtype),
        location=create_linear(backbone.dim, own.grid * own.grid, dtype=model.dtype),
        views=(montage,),
        metrics=metric_specs(own, facts.batch_size),
        decouple_size=own.decouple_size,
        temperature=own.temperature,
        base_temperature=own.base_temperature,
        cluster_weight=own.cluster_weight,
        location_weight=own.location_weight,
        dtype=model.dtype,
        separate=own.input == "cells",
        decoupled=own.decoupled,
        centroid_weight=own.centroid_weight,
        predictor=create_mlp([own.embedding_dim] * 3, dtype=model.dtype) if own.centroid_weight else None,
    )
