"""A method that nobody would train with: it uses everything that the contract offers, once.

Two views of different size, one of montages and one of single crops; labels that a clustering of the features gives to each image before
every epoch, kept by the image's index; an epoch's order that follows from them; a queue of embeddings whose length follows from the
number of images; a momentum encoder.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jigclu_jax.config import Field
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.view import View
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy
from jigclu_jax.methods import Batch, DataFacts, FeaturesOf, Method, Metrics, Tree
from jigclu_jax.metrics import MetricSpec, accuracy_spec, loss_spec
from jigclu_jax.models import Functional, build_backbone, create_linear
from jigclu_jax.ops.normalize import normalize

FIELDS = {"clusters": Field(3, 2, 100), "momentum": Field(0.9, 0, below=1)}
DEFAULTS = {"saving.best_metric": "accuracy_clusters"}


@dataclasses.dataclass(frozen=True)
class Ledger(Method):
    """See the module."""

    backbone: Functional
    head: Functional
    views: tuple[View, ...]
    metrics: tuple[MetricSpec, ...]
    momentum: float

    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """Parameters {backbone, head}; extra {teacher, queue, pointer, clusters, epochs}."""
        keys = jax.random.split(key, 3)
        backbone, stats = self.backbone.init(keys[0])
        params = {"backbone": backbone, "head": self.head.init(keys[1])[0]}
        length = facts.images // facts.batch_size * facts.batch_size  # whole batches of all images
        extra = {
            "teacher": backbone,
            "queue": jax.random.normal(keys[2], (length, self.head.dim)),
            "pointer": jnp.zeros((), jnp.int32),
            "clusters": jnp.arange(facts.images, dtype=jnp.int32) % self.head.dim,
            "epochs": jnp.zeros((), jnp.int32),
        }
        return params, {"backbone": stats}, extra

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
        """Scores of the small crops; the teacher's view of the montages."""
        crops = batch["small"]["image"]
        x = normalize(crops.reshape(-1, *crops.shape[2:]), "float32")
        seen, own = self.backbone.apply(params["backbone"], stats["backbone"], x, train)
        scores, _ = self.head.apply(params["head"], {}, seen.features, train)
        montages = normalize(batch["montage"]["image"], "float32")
        taught, _ = self.backbone.apply(extra["teacher"], stats["backbone"], montages, False)
        shape = (len(crops), crops.shape[1], -1)
        outputs = {"features": seen.features.reshape(shape), "scores": scores.reshape(shape), "taught": taught.features}
        return outputs, {"backbone": own}, extra

    def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """Cross entropy to the images' clusters, plus decay of the head, minus a little of the queue's agreement."""
        clusters = extra["clusters"][batch["example"]][:, None]
        scores = outputs["scores"]
        labels = jnp.broadcast_to(clusters, scores.shape[:2])
        loss = cross_entropy(scores, labels) + 1e-3 * jnp.mean(params["head"]["kernel"] ** 2)
        mean = scores.mean(axis=1)
        loss = loss - 1e-3 * jnp.mean(jax.lax.stop_gradient(extra["queue"]) @ mean.T) + 1e-3 * jnp.mean(outputs["taught"])
        queue = jax.lax.dynamic_update_slice(extra["queue"], jax.lax.stop_gradient(mean), (extra["pointer"], 0))
        pointer = (extra["pointer"] + len(mean)) % len(queue)
        metrics = {"loss": loss, "accuracy_clusters": accuracy(scores, labels), "epochs": extra["epochs"].astype(jnp.float32)}
        return loss, ({**extra, "queue": queue, "pointer": pointer}, jax.tree.map(jax.lax.stop_gradient, metrics))

    def images(self, batch: Batch) -> jax.Array:
        """Two crops of each image."""
        count = len(batch["example"])
        return jnp.broadcast_to(jnp.arange(count)[:, None], (count, self.views[1].crops))

    def after_update(self, params: Tree, stats: Tree, extra: Tree) -> Tree:
        """The teacher follows."""
        m = self.momentum
        return {**extra, "teacher": jax.tree.map(lambda t, p: m * t + (1 - m) * p, extra["teacher"], params["backbone"])}

    def before_epoch(self, epoch: int, features_of: FeaturesOf, params: Tree, extra: Tree) -> Tree:
        """Clusters by the head's largest score; and how often this was done."""
        clusters = np.argmax(features_of() @ np.asarray(params["head"]["kernel"]), axis=1).astype(np.int32)
        return {**extra, "clusters": clusters, "epochs": np.asarray(extra["epochs"]) + np.int32(1)}

    def epoch_order(self, epoch: int, extra: Tree) -> np.ndarray:
        """By cluster, and within one by a random number of the epoch."""
        clusters = np.asarray(extra["clusters"])
        order = np.random.default_rng(epoch).permutation(len(clusters))
        return order[np.argsort(clusters[order], kind="stable")].astype(np.int32)


def create(config: ConfigDict, facts: DataFacts) -> Any:
    """The method for a pretraining config."""
    own, law, side = config.method, Law.of(config.augment), config.data.image_size
    views = (View("montage", side // 2, law, 2, 0.3, montage=2), View("small", side // 2, law, repeats=2))
    backbone = build_backbone(config.model)
    metrics = (
        loss_spec("loss", "loss"),
        accuracy_spec("accuracy_clusters", "cluster accuracy", 1 / own.clusters, "clusters"),
        MetricSpec("epochs", "clusterings"),
    )
    return Ledger(backbone, create_linear(backbone.dim, own.clusters), views, metrics, own.momentum)
