"""SeLa: tell the labels of each image, labels being those of equal share that the network's own scores transport best.

Source: Asano, Rupprecht, Vedaldi 2020, "Self-labelling via simultaneous clustering and representation learning", sections 3.1 to 3.3, and
the authors' code (yukimasano/self-label). What differs:

- The authors label from augmented images with BatchNorm in train mode (their model is never put into eval mode while labelling). Here the
  scores are of centre crops with BatchNorm in eval mode, so that a label does not depend on the draw of a crop nor on the images beside it
  in a batch, and a run that goes on finds the same.
- Re-labellings of theirs fall between any two batches. Here each falls on the beginning of its epoch, and those that fall into one epoch
  are one: of 100 in 400 epochs the four that would come within the first epoch, and two or three of each of the next few, are lost.
- Their ResNet is the pre-activation one.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jigclu_jax.config import Field
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.view import View
from jigclu_jax.device.mesh import create_mesh
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy
from jigclu_jax.methods import Batch, DataFacts, FeaturesOf, Method, Metrics, Tree
from jigclu_jax.metrics import MetricSpec, accuracy_spec, loss_spec
from jigclu_jax.models import Functional, build_backbone, create_linear, init_parts
from jigclu_jax.ops.normalize import normalize
from jigclu_jax.pseudo_labels.agreement import normalized_mutual_information
from jigclu_jax.pseudo_labels.sinkhorn import balanced_labels
from jigclu_jax.pseudo_labels.sizes import cluster_specs, enough_images, measured, warn_of_collapse

FIELDS = {
    "clusters": Field(3000, 2, 2**24),  # of each head
    "heads": Field(10, 1, 1000),
    "sharpness": Field(25.0, above=0, high=1e4),  # lambda: the power of the probabilities that are transported; 10 for CIFAR-10
    "relabellings": Field(100, 1, 10**6),  # at the times epochs * linspace(0, 1) ** relabel_power
    "relabel_power": Field(2.0, above=0, high=10),  # 2: often at the beginning; 1: evenly
    "heads_in_turn": Field(False),  # True: a re-labelling is of one head, the epoch's number modulo the heads, as for CIFAR-10
}
DEFAULTS = {
    "saving.best_metric": "accuracy_clusters",
    "data.min_side": 1,
    "augment.crop_area": (0.08, 1.0),
    "augment.jitter_probability": 1.0,
    "augment.hue": 0.4,
    "augment.blur_probability": 0.0,
    **{"optimizer.learning_rate": 0.08, "optimizer.weight_decay": 1e-5, "optimizer.schedule": "step"},
    "optimizer.milestones": (150, 300, 350),
}


@dataclasses.dataclass(frozen=True)
class SeLa(Method):
    """The method as a set of pure functions; `create` builds it from a config.

    Attributes:
      backbone: a ResNet.
      head: the heads side by side, D -> heads * clusters.
      views: one crop of the whole image.
      metrics: loss and accuracy over all heads, and what the clusters are like, as means over the heads.
      clusters: of each head.
      heads: how many.
      sharpness: lambda of the transport.
      epochs_to_label: before which ones.
      heads_in_turn: whether one head alone is labelled anew.
      dtype: compute dtype of the backbone.
    """

    backbone: Functional
    head: Functional
    views: tuple[View, ...]
    metrics: tuple[MetricSpec, ...]
    clusters: int
    heads: int
    sharpness: float
    epochs_to_label: frozenset[int]
    heads_in_turn: bool
    dtype: str

    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """Parameters {backbone, head}, statistics {backbone}; extra {labels int32[heads, n], and metrics}: random labels of equal share."""
        keys = jax.random.split(key, 3)
        params, stats = init_parts(keys, backbone=self.backbone, head=self.head)
        equal = jnp.arange(facts.images, dtype=jnp.int32) % self.clusters
        labels = jax.vmap(lambda key: jax.random.permutation(key, equal))(jax.random.split(keys[2], self.heads))
        extra = {"labels": labels, **{spec.name: jnp.zeros(self.heads, jnp.float32) for spec in cluster_specs()}}
        return params, stats, extra

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
        """Features float[b, 1, D] and scores float[b, heads, clusters]."""
        x = normalize(batch[self.views[0].name]["image"][:, 0], self.dtype)
        stages, backbone = self.backbone.apply(params["backbone"], stats["backbone"], x, train)
        scores, _ = self.head.apply(params["head"], {}, stages.features, train)
        outputs = {"features": stages.features[:, None], "scores": scores.reshape(len(scores), self.heads, self.clusters)}
        return outputs, {"backbone": backbone}, extra

    def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """Cross entropy of each head's scores with its labels, the mean over images and heads (paper, equation 1 and section 3.3)."""
        labels, scores = extra["labels"][:, batch["example"]].T, outputs["scores"]
        loss = cross_entropy(scores, labels)
        metrics = {"loss": loss, "accuracy_clusters": accuracy(scores, labels)}
        metrics |= {spec.name: extra[spec.name].mean() for spec in cluster_specs()}
        return loss, (extra, jax.tree.map(jax.lax.stop_gradient, metrics))

    def weight(self, batch: Batch) -> jax.Array:
        """All images: each counts for itself."""
        return batch["mask"].sum()

    def before_epoch(self, epoch: int, features_of: FeaturesOf, params: Tree, extra: Tree) -> Tree:
        """Labels of all images from the scores of their features, in the epochs whose turn it is; each head is applied to the same."""
        if epoch not in self.epochs_to_label:
            return extra
        found = {name: np.array(value) for name, value in extra.items()}
        x, mesh = features_of(), create_mesh()
        kernel = np.asarray(params["head"]["kernel"]).reshape(-1, self.heads, self.clusters)
        for head in [epoch % self.heads] if self.heads_in_turn else range(self.heads):
            labels = balanced_labels(x, kernel[:, head], self.sharpness, mesh).labels
            found["nmi"][head] = normalized_mutual_information(labels, found["labels"][head])
            for name, value in measured(labels).items():
                found[name][head] = value
            found["labels"][head] = labels
        warn_of_collapse(epoch, float(found["largest_cluster"].max()))
        return found


def epochs_to_label(relabellings: int, power: float, epochs: float) -> frozenset[int]:
    """The epochs before which labels are made: those that hold one of the times epochs * linspace(0, 1, relabellings) ** power.

    The authors' times end just behind the run, as here: labels of its end would train nothing.
    """
    times = (epochs + 0.01) * np.linspace(0, 1, relabellings) ** power
    return frozenset(int(time) for time in times)


def create(config: ConfigDict, facts: DataFacts) -> SeLa:
    """The method for a pretraining config; labels are not needed.

    Raises:
      UserError: fewer images than clusters.
    """
    own, backbone = config.method, build_backbone(config.model)
    enough_images(own.clusters, facts.images)
    return SeLa(
        backbone=backbone,
        head=create_linear(backbone.dim, own.heads * own.clusters, dtype=config.model.dtype),
        views=(View("crop", config.data.image_size, Law.of(config.augment)),),
        metrics=(
            loss_spec("loss", "loss", math.log(own.clusters)),
            accuracy_spec("accuracy_clusters", "cluster accuracy", 1 / own.clusters, "clusters"),
            *cluster_specs(),
        ),
        clusters=own.clusters,
        heads=own.heads,
        sharpness=own.sharpness,
        epochs_to_label=epochs_to_label(own.relabellings, own.relabel_power, config.epochs),
        heads_in_turn=own.heads_in_turn,
        dtype=config.model.dtype,
    )
