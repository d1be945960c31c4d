"""Training with labels: cross entropy on single crops, the yardstick beside a pretrained backbone."""

import dataclasses
import math

import jax
from ml_collections import ConfigDict

from jigclu_jax.config.fields import Field
from jigclu_jax.config.schema import CROP
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.view import View
from jigclu_jax.errors import UserError
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy
from jigclu_jax.methods import Batch, Classifier, DataFacts, Metrics, Tree
from jigclu_jax.metrics import MetricSpec, accuracy_spec, loss_spec
from jigclu_jax.models import Functional, build_backbone, create_classifier, init_parts
from jigclu_jax.ops.normalize import normalize

FIELDS: dict[str, Field] = {}
DEFAULTS = {"data.min_side": 1, **{f"augment.{name}": value for name, value in CROP.items()}}


@dataclasses.dataclass(frozen=True)
class Supervised(Classifier):
    """Backbone, global average pool, one linear layer, all trained."""

    backbone: Functional
    classifier: Functional
    views: tuple[View, ...]
    metrics: tuple[MetricSpec, ...]
    dtype: str

    wants_labels = True

    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """Parameters {backbone, classifier}, statistics {backbone}, no extra state."""
        del facts
        return *init_parts(jax.random.split(key), backbone=self.backbone, classifier=self.classifier), {}

    def features(self, params: Tree, stats: Tree, extra: Tree, image: jax.Array, train: bool) -> tuple[jax.Array, Tree]:
        """u8[b, h, w, 3] -> pooled features float[b, D], and the statistics after it."""
        del extra
        stages, backbone = self.backbone.apply(params["backbone"], stats["backbone"], normalize(image, self.dtype), train)
        return stages.features, {"backbone": backbone}

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
        """Features float[b, 1, D] and logits float[b, classes]."""
        features, stats = self.features(params, stats, extra, batch[self.views[0].name]["image"][:, 0], train)
        logits, _ = self.classifier.apply(params["classifier"], {}, features, train)
        return {"features": features[:, None], "logits": logits}, stats, extra

    def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """Mean cross entropy over the examples of the batch that are not padding."""
        logits, label, mask = outputs["logits"], batch["label"], batch["mask"]
        loss = cross_entropy(logits, label, mask)
        return loss, (extra, {"loss": loss, "accuracy_top1": accuracy(logits, label, mask=mask)})

    def weight(self, batch: Batch) -> jax.Array:
        """The examples that are not padding."""
        return batch["mask"].sum()

    def predict(self, params: Tree, stats: Tree, extra: Tree, image: jax.Array) -> jax.Array:
        """u8[b, h, w, 3] -> logits float[b, classes], BatchNorm in eval mode."""
        return self.classifier.apply(params["classifier"], {}, self.features(params, stats, extra, image, False)[0], False)[0]


def create(config: ConfigDict, facts: DataFacts) -> Supervised:
    """The method for a config with labels.

    Raises:
      UserError: there are no labels.
    """
    classes = facts.class_count
    if classes < 2:
        raise UserError("training with labels needs images of at least two classes (folders split/class/file, or a label array)")
    backbone = build_backbone(config.model)
    metrics = (
        loss_spec("loss", "loss", math.log(classes)),
        accuracy_spec("accuracy_top1", "top-1, training images", 1 / classes, "top-1"),
    )
    views = (View("crop", config.data.image_size, Law.of(config.augment)),)
    return Supervised(backbone, create_classifier(backbone.dim, classes), views, metrics, config.model.dtype)
