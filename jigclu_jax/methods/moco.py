"""MoCo: tell an image's other crop among the embeddings of earlier batches, which a slowly moving copy of the encoder made.

Source: He, Fan, Wu, Xie, Girshick 2020, "Momentum contrast for unsupervised visual representation learning" (version 1); Chen, Fan,
Girshick, He 2020, "Improved baselines with momentum contrastive learning" (version 2); the authors' code (facebookresearch/moco).
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jigclu_jax.config import Field
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.augment.streams import image_uniforms
from jigclu_jax.data.view import View
from jigclu_jax.device.mesh import row_by_row
from jigclu_jax.errors import UserError, counted
from jigclu_jax.losses.collapse import EMBEDDING_STD, embedding_std
from jigclu_jax.losses.info_nce import info_nce
from jigclu_jax.methods import Batch, DataFacts, Method, Metrics, Tree
from jigclu_jax.metrics import MetricSpec, accuracy_spec, loss_spec
from jigclu_jax.models import Functional, build_backbone, create_mlp, init_parts
from jigclu_jax.ops.moving_average import moving_average
from jigclu_jax.ops.normalize import normalize
from jigclu_jax.ops.unit_length import unit_length

FIELDS = {
    "temperature": Field(0.2, low=1e-3, high=1000),  # 0.07 in version 1
    "queue": Field(65_536, 1, 2**24),  # embeddings of earlier batches, a multiple of the batch size
    "momentum": Field(0.999, low=0, below=1),  # of the key encoder
    "layers": Field(2, 1, 8),  # linear layers of the projection: 1 in version 1
    "embedding_dim": Field(128, 1, 2**16),
    "bn_groups": Field(8, 1, 2**16),  # parts of a batch that BatchNorm normalises one by one, as on the authors' eight GPUs
    "shuffle": Field(True),  # False: a key's group is its query's, by whose statistics the two are recognised
}
DEFAULTS = {"saving.best_metric": "accuracy_contrastive", "data.min_side": 1}


@dataclasses.dataclass(frozen=True)
class MoCo(Method):
    """The method as a set of pure functions; `create` builds it from a config.

    Attributes:
      backbone: a ResNet.
      projection: an MLP without BatchNorm, D -> embedding.
      views: two crops of the whole image: the query's and the key's.
      metrics: the loss, how often the key is nearer than all of the queue, and the spread of queries.
      temperature, queue, momentum, bn_groups, shuffle: as in FIELDS.
      seed: of the run, draws the shuffle.
      dtype: compute dtype of the backbone.
    """

    backbone: Functional
    projection: Functional
    views: tuple[View, ...]
    metrics: tuple[MetricSpec, ...]
    temperature: float
    queue: int
    momentum: float
    bn_groups: int
    shuffle: bool
    seed: int
    dtype: str

    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """Parameters {backbone, projection}; extra: the key encoder {params, stats}, queue float[k, E] and pointer."""
        del facts
        keys = jax.random.split(key, 3)
        params, stats = init_parts(keys, backbone=self.backbone, projection=self.projection)
        extra = {
            "key_encoder": {"params": params, "stats": stats},
            "queue": unit_length(
                jax.random.normal(keys[2], (self.queue, self.projection.dim), jax.tree.leaves(params["projection"])[0].dtype)
            ),
            "pointer": jnp.zeros((), jnp.int32),
        }
        return params, stats, extra

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
        """Features float[b, 1, D] and unit-length embeddings float[b, 1, E] of the queries, unit-length keys float[b, E]."""
        crops = batch[self.views[0].name]["image"]
        features, queries, stats = self._encode(params, stats, crops[:, 0], train)
        order = self._order(batch)
        own = extra["key_encoder"]
        _, keys, own_stats = self._encode(own["params"], own["stats"], row_by_row(crops[:, 1][order]), train)
        outputs = {"features": features[:, None], "embeddings": queries[:, None], "keys": keys[jnp.argsort(order)]}
        return outputs, stats, {**extra, "key_encoder": {**own, "stats": own_stats}}

    def _encode(self, params: Tree, stats: Tree, image: jax.Array, train: bool) -> tuple[jax.Array, jax.Array, Tree]:
        x = normalize(image, self.dtype)
        stages, after = self.backbone.apply(params["backbone"], stats["backbone"], x, train, groups=self.bn_groups)
        projected, _ = self.projection.apply(params["projection"], {}, stages.features, train)
        return stages.features, unit_length(projected), {"backbone": after}

    def _order(self, batch: Batch) -> jax.Array:
        """The images in the order in which the key encoder's BatchNorm sees them."""
        if self.bn_groups == 1 or not self.shuffle:
            return jnp.arange(len(batch["example"]))
        return jnp.argsort(image_uniforms(self.seed, batch["epoch"], batch["example"], 1, jnp)[:, 0])

    def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """InfoNCE against the queue; afterwards the batch's keys replace the oldest ones."""
        queries, keys, queue, pointer = outputs["embeddings"][:, 0], outputs["keys"], extra["queue"], extra["pointer"]
        loss, found = info_nce(queries, keys, queue, self.temperature)
        metrics = {"loss": loss, "accuracy_contrastive": found, "embedding_std": embedding_std(queries)}
        written = jax.lax.dynamic_update_slice(queue, jax.lax.stop_gradient(keys), (pointer, jnp.zeros_like(pointer)))
        extra = {**extra, "queue": written, "pointer": (pointer + len(keys)) % len(queue)}
        return loss, (extra, jax.tree.map(jax.lax.stop_gradient, metrics))

    def images(self, batch: Batch) -> jax.Array:
        """Features and embeddings are those of one crop an image."""
        return jnp.arange(len(batch["example"]))[:, None]

    def after_update(self, params: Tree, stats: Tree, extra: Tree) -> Tree:
        """The key encoder's parameters follow; its BatchNorm statistics are its own.

        The authors move it at the beginning of a step, before the keys are made: the same sequence, since both encoders start alike.
        """
        own = extra["key_encoder"]
        return {**extra, "key_encoder": {**own, "params": moving_average(own["params"], params, self.momentum)}}


def create(config: ConfigDict, facts: DataFacts) -> MoCo:
    """The method for a pretraining config; labels are not needed.

    Raises:
      UserError: a queue that holds no whole number of batches, or a batch (micro-batch) of which BatchNorm's groups get unequal parts.
    """
    own, backbone, seen = config.method, build_backbone(config.model), facts.batch_size // config.accumulate
    if own.queue % facts.batch_size:
        near = max(round(own.queue / facts.batch_size), 1) * facts.batch_size
        raise UserError(f"config.method.queue={own.queue} is no multiple of config.batch_size={facts.batch_size}: use {near}")
    if seen % own.bn_groups:
        raise UserError(
            f"config.method.bn_groups={own.bn_groups} does not divide {counted(seen, 'image')}: use {math.gcd(seen, own.bn_groups)}"
        )
    dims = (*[backbone.dim] * own.layers, own.embedding_dim)
    return MoCo(
        backbone=backbone,
        projection=create_mlp(dims, norm=False, dtype=config.model.dtype),
        views=(View("crops", config.data.image_size, Law.of(config.augment), repeats=2),),
        metrics=(
            loss_spec("loss", "loss"),
            accuracy_spec("accuracy_contrastive", "contrastive accuracy", 1 / (own.queue + 1), "contrastive"),
            EMBEDDING_STD,
        ),
        seed=config.seed,
        dtype=config.model.dtype,
        **{name: own[name] for name in ("temperature", "queue", "momentum", "bn_groups", "shuffle")},
    )
