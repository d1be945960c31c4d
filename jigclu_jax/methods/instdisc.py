"""Instance discrimination: every image is a class of its own, whose weights are its row of a memory bank.

Source: Wu, Xiong, Yu, Lin 2018, "Unsupervised feature learning via non-parametric instance discrimination", and the authors' code
(zhirongw/lemniscate.pytorch).
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32
from ml_collections import ConfigDict

from jigclu_jax.config import Field
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.augment.streams import image_uniforms
from jigclu_jax.data.view import View
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy
from jigclu_jax.losses.memory_bank import bank_accuracy, bank_logits, bank_scores, log_partition, moved_bank, nce_loss
from jigclu_jax.methods import Batch, DataFacts, Method, Metrics, Tree
from jigclu_jax.metrics import MetricSpec, accuracy_spec, loss_spec
from jigclu_jax.models import Functional, build_backbone, create_linear, init_parts
from jigclu_jax.models.functional import storage_dtype
from jigclu_jax.ops.normalize import normalize
from jigclu_jax.ops.unit_length import unit_length

BANK_FIELDS = {
    "temperature": Field(0.07, low=1e-3, high=1000),  # the authors' for ImageNet; 0.1 for CIFAR-10
    "momentum": Field(0.5, low=0, below=1),  # of a row of the memory bank
    # rows of the bank that a batch is contrasted with by noise-contrastive estimation; 0: all of them, in a softmax. Of a few hundred
    # images all embeddings fell together under the first, and were told apart under the second
    "negatives": Field(4096, 0, 2**24),
    "embedding_dim": Field(128, 1, 2**16),
}
FIELDS = BANK_FIELDS
DEFAULTS = {
    "saving.best_metric": "accuracy_instance",
    "data.min_side": 1,
    "augment.jitter_probability": 1.0,
    "augment.hue": 0.4,
    "augment.blur_probability": 0.0,
}
_UNKNOWN = -1e30  # exact in no run, and finite, so that `config.debug.nans` finds nothing


@dataclasses.dataclass(frozen=True)
class Bank:
    """Settings of a memory bank and of the loss against it.

    Attributes:
      images: n, rows of the bank.
      negatives: k, rows that a batch is contrasted with by noise-contrastive estimation; 0: a softmax over all n.
      temperature: of the scores.
      momentum: of a row.
      seed: of the run; draws the negatives.
    """

    images: int
    negatives: int
    temperature: float
    momentum: float
    seed: int

    def init(self, key: jax.Array, dim: int, dtype: str) -> Tree:
        """{bank: random unit rows, log_z: log of the partition function, which the first batch tells}."""
        rows = unit_length(jax.random.normal(key, (self.images, dim), storage_dtype(jnp.dtype(dtype))))
        return {"bank": rows, "log_z": jnp.full((), _UNKNOWN, rows.dtype)}

    def drawn(self, batch: Batch) -> Int32[Array, " k"]:
        """The negatives of a batch, uniform with repetition: a function of the seed, the epoch and the batch's first image."""
        u = image_uniforms(self.seed, batch["epoch"][:1], batch["example"][:1], self.negatives, jnp)[0]
        return jnp.minimum((u * self.images).astype(jnp.int32), self.images - 1)

    def scored(self, extra: Tree, batch: Batch, embeddings: Mapping[str, Float[Array, "b d"]]) -> "Scored":
        """Losses and accuracies of one or more unit-length embeddings of the batch's images; log Z, if unknown, is that of the first."""
        example = batch["example"]
        if not self.negatives:
            logits = {name: bank_logits(rows, extra["bank"], self.temperature) for name, rows in embeddings.items()}
            losses, found = ({name: of(each, example) for name, each in logits.items()} for of in (cross_entropy, accuracy))
            return Scored(losses, found, extra["log_z"])
        drawn = self.drawn(batch)
        scores = {name: bank_scores(rows, extra["bank"], example, drawn, self.temperature) for name, rows in embeddings.items()}
        first = log_partition(next(iter(scores.values())), self.images)
        log_z = jnp.where(extra["log_z"] == _UNKNOWN, first.astype(extra["log_z"].dtype), extra["log_z"])
        losses = {name: nce_loss(each, log_z, self.images) for name, each in scores.items()}
        return Scored(losses, {name: bank_accuracy(each) for name, each in scores.items()}, log_z)

    def after(self, extra: Tree, batch: Batch, embeddings: Float[Array, "b d"], scored: "Scored") -> Tree:
        """The extra state after the loss: the batch's rows of the bank moved towards their embeddings."""
        return {**extra, "bank": moved_bank(extra["bank"], batch["example"], embeddings, self.momentum), "log_z": scored.log_z}

    @property
    def chance(self) -> float:
        """The accuracy of a guess."""
        return 1 / (1 + (self.negatives or self.images - 1))


class Scored(NamedTuple):
    """Losses and accuracies by the name of the embeddings, and log Z of noise-contrastive estimation."""

    loss: dict[str, jax.Array]
    accuracy: dict[str, jax.Array]
    log_z: jax.Array


def create_bank(config: ConfigDict, facts: DataFacts) -> Bank:
    """The bank that `config.method` describes, for that data."""
    own = config.method
    return Bank(facts.images, own.negatives, own.temperature, own.momentum, config.seed)


@dataclasses.dataclass(frozen=True)
class InstanceDiscrimination(Method):
    """The method as a set of pure functions; `create` builds it from a config.

    Attributes:
      backbone: a ResNet.
      projection: one linear layer, D -> embedding.
      bank: of the images' embeddings.
      views: one crop of the whole image.
      metrics: the loss, and how often the own row is the nearest.
      dtype: compute dtype of the backbone.
    """

    backbone: Functional
    projection: Functional
    bank: Bank
    views: tuple[View, ...]
    metrics: tuple[MetricSpec, ...]
    dtype: str

    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """Parameters {backbone, projection}, statistics {backbone}, extra {bank, log_z}."""
        del facts
        keys = jax.random.split(key, 3)
        params, stats = init_parts(keys, backbone=self.backbone, projection=self.projection)
        return params, stats, self.bank.init(keys[2], self.projection.dim, self.dtype)

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
        """Features float[b, 1, D] and unit-length projections float[b, E]."""
        x = normalize(batch[self.views[0].name]["image"][:, 0], self.dtype)
        stages, backbone = self.backbone.apply(params["backbone"], stats["backbone"], x, train)
        projected, _ = self.projection.apply(params["projection"], {}, stages.features, train)
        outputs = {"features": stages.features[:, None], "projected": unit_length(projected)}
        return outputs, {"backbone": backbone}, extra

    def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """Noise-contrastive estimation, or the softmax over the whole bank (paper, equations 7 and 2); then the bank moves."""
        rows = outputs["projected"]
        scored = self.bank.scored(extra, batch, {"image": rows})
        metrics = {"loss": scored.loss["image"], "accuracy_instance": scored.accuracy["image"]}
        return metrics["loss"], (self.bank.after(extra, batch, rows, scored), jax.tree.map(jax.lax.stop_gradient, metrics))


def create(config: ConfigDict, facts: DataFacts) -> InstanceDiscrimination:
    """The method for a pretraining config; labels are not needed."""
    backbone, bank = build_backbone(config.model), create_bank(config, facts)
    return InstanceDiscrimination(
        backbone=backbone,
        projection=create_linear(backbone.dim, config.method.embedding_dim, dtype=config.model.dtype),
        bank=bank,
        views=(View("crop", config.data.image_size, Law.of(config.augment)),),
        metrics=(
            loss_spec("loss", "loss"),
            accuracy_spec("accuracy_instance", "instance accuracy", bank.chance, "instance"),
        ),
        dtype=config.model.dtype,
    )
