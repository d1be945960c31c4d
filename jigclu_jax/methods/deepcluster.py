"""DeepCluster: tell the cluster of each image, clusters being those of k-means of the network's own features before each epoch.

Source: Caron, Bojanowski, Joulin, Douze 2018, "Deep clustering for unsupervised learning of visual features", section 3, and the authors'
code (facebookresearch/deepcluster), which has AlexNet and VGG alone. There the last ReLU of the classifier's MLP is taken off before
features are computed; a ResNet has no such MLP, and its pooled features are both clustered and classified. Sobel filters belong to
those networks as well and are left out.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32
from ml_collections import ConfigDict

from jigclu_jax.config import Field
from jigclu_jax.config.schema import CROP
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.view import View
from jigclu_jax.device.mesh import create_mesh
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy
from jigclu_jax.methods import Batch, DataFacts, FeaturesOf, Method, Metrics, Tree
from jigclu_jax.metrics import MetricSpec, accuracy_spec, loss_spec
from jigclu_jax.models import Functional, build_backbone, create_classifier
from jigclu_jax.ops.normalize import normalize
from jigclu_jax.pseudo_labels.agreement import normalized_mutual_information
from jigclu_jax.pseudo_labels.kmeans import kmeans
from jigclu_jax.pseudo_labels.sampling import uniform_over_clusters
from jigclu_jax.pseudo_labels.sizes import cluster_specs, enough_images, measured, warn_of_collapse
from jigclu_jax.pseudo_labels.whitening import whitened

FIELDS = {
    "clusters": Field(10_000, 2, 2**24),
    "pca_dim": Field(256, 1, 2**16),  # whitened principal components that are clustered
    "iterations": Field(20, 1, 10_000),  # of k-means
    "head_learning_rate": Field(0.05, 0, 1e6),  # constant: the head has SGD without momentum of its own, drawn anew each epoch as it is
    "head_weight_decay": Field(1e-5, 0, 100),
}
DEFAULTS = {
    "saving.best_metric": "accuracy_clusters",
    "data.min_side": 1,
    **{f"augment.{name}": value for name, value in CROP.items()},
    **{"optimizer.learning_rate": 0.05, "optimizer.weight_decay": 1e-5, "optimizer.schedule": "constant"},
}
_START, _ORDER = 0, 1  # what random numbers of an epoch are for


@dataclasses.dataclass(frozen=True)
class DeepCluster(Method):
    """The method as a set of pure functions; `create` builds it from a config.

    The head is drawn anew before each epoch, so it is no parameter of the run's optimizer, whose momentum would outlive it: it lies in the
    extra state, and `objective` makes its step of plain SGD. `gradient_norm` is the backbone's alone.

    Attributes:
      backbone: a ResNet.
      head: linear, D -> clusters, weights N(0, 0.01), bias 0.
      views: one crop of the whole image.
      metrics: loss and accuracy of the head, and what the clusters are like.
      clusters: k of k-means.
      pca_dim: whitened principal components that are clustered.
      iterations: of k-means.
      head_learning_rate: of the head's SGD.
      head_weight_decay: the same.
      seed: of the run.
      dtype: compute dtype of the backbone.
    """

    backbone: Functional
    head: Functional
    views: tuple[View, ...]
    metrics: tuple[MetricSpec, ...]
    clusters: int
    pca_dim: int
    iterations: int
    head_learning_rate: float
    head_weight_decay: float
    seed: int
    dtype: str

    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """Parameters and statistics {backbone}; extra {head, labels int32[n], and the clusters' metrics}: all images in one cluster."""
        keys = jax.random.split(key)
        backbone, stats = self.backbone.init(keys[0])
        extra = {"head": self.head.init(keys[1])[0], "labels": jnp.zeros(facts.images, jnp.int32)}
        extra |= {spec.name: jnp.zeros((), jnp.float32) for spec in cluster_specs()}
        return {"backbone": backbone}, {"backbone": stats}, extra

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
        """Features float[b, 1, D], and the same as `pooled` float[b, D] for the loss."""
        x = normalize(batch[self.views[0].name]["image"][:, 0], self.dtype)
        stages, backbone = self.backbone.apply(params["backbone"], stats["backbone"], x, train)
        return {"features": stages.features[:, None], "pooled": stages.features}, {"backbone": backbone}, extra

    def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """Cross entropy of the head's scores with the images' clusters (paper, equation 1); the head after its own step."""
        labels, pooled = extra["labels"][batch["example"]], outputs["pooled"]

        def loss_of(head: Tree, pooled: jax.Array) -> tuple[jax.Array, jax.Array]:
            scores, _ = self.head.apply(head, {}, pooled, True)
            return cross_entropy(scores, labels), accuracy(scores, labels)

        loss, right = loss_of(extra["head"], pooled)
        gradient = jax.grad(loss_of, has_aux=True)(extra["head"], jax.lax.stop_gradient(pooled))[0]
        head = jax.tree.map(lambda p, g: p - self.head_learning_rate * (g + self.head_weight_decay * p), extra["head"], gradient)
        metrics = {"loss": loss, "accuracy_clusters": right, **{spec.name: extra[spec.name] for spec in cluster_specs()}}
        return loss, ({**extra, "head": head}, jax.tree.map(jax.lax.stop_gradient, metrics))

    def before_epoch(self, epoch: int, features_of: FeaturesOf, params: Tree, extra: Tree) -> Tree:
        """Clusters of the features of all images (centre crop, BatchNorm in eval mode), and a new head."""
        mesh = create_mesh()
        x = whitened(features_of(), self.pca_dim, mesh)
        start = x[self._random(epoch, _START).choice(len(x), self.clusters, replace=False)]
        labels = kmeans(x, start, mesh, self.iterations).labels
        agreement = normalized_mutual_information(labels, np.asarray(extra["labels"]))
        head, _ = self.head.init(jax.random.fold_in(jax.random.key(self.seed), epoch))
        found = {"nmi": np.float32(agreement), **measured(labels)}
        warn_of_collapse(epoch, float(found["largest_cluster"]))
        return {"head": jax.device_get(head), "labels": labels, **found}

    def epoch_order(self, epoch: int, extra: Tree) -> Int32[np.ndarray, " n"]:
        """As many images of each cluster that has any."""
        return uniform_over_clusters(np.asarray(extra["labels"]), self._random(epoch, _ORDER))

    def _random(self, epoch: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, epoch, purpose])


def create(config: ConfigDict, facts: DataFacts) -> DeepCluster:
    """The method for a pretraining config; labels are not needed.

    Raises:
      UserError: fewer images than clusters.
    """
    own, backbone = config.method, build_backbone(config.model)
    enough_images(own.clusters, facts.images)
    return DeepCluster(
        backbone=backbone,
        head=create_classifier(backbone.dim, own.clusters, dtype=config.model.dtype),
        views=(View("crop", config.data.image_size, Law.of(config.augment)),),
        metrics=(
            loss_spec("loss", "loss", float(np.log(own.clusters))),
            accuracy_spec("accuracy_clusters", "cluster accuracy", 1 / own.clusters, "clusters"),
            *cluster_specs(),
        ),
        clusters=own.clusters,
        pca_dim=own.pca_dim,
        iterations=own.iterations,
        head_learning_rate=own.head_learning_rate,
        head_weight_decay=own.head_weight_decay,
        seed=config.seed,
        dtype=config.model.dtype,
    )
