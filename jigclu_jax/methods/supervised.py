"""Training with labels: cross entropy on single crops, the yardstick beside a pretrained backbone."""

import dataclasses
from typing import Any

import jax
from ml_collections import ConfigDict

from jigclu_jax.config.fields import Field
from jigclu_jax.config.schema import CROP
from jigclu_jax.errors import UserError
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy
from jigclu_jax.methods import Batch, Classifier, Metrics, Tree
from jigclu_jax.models import Functional, build_backbone, create_classifier
from jigclu_jax.ops.normalize import normalize

FIELDS: dict[str, Field] = {}
DEFAULTS = {"data.min_side": 1, **{f"augment.{name}": value for name, value in CROP.items()}}


@dataclasses.dataclass(frozen=True)
class Supervised(Classifier):
    """Backbone, global average pool, one linear layer, all trained."""

    backbone: Functional
    classifier: Functional
    dtype: str

    view = "crop"
    metric_names = ("loss", "accuracy_top1")

    def init(self, key: jax.Array) -> tuple[Tree, Tree, Tree]:
        """Parameters {backbone, classifier}, statistics {backbone}, no extra state."""
        backbone_key, classifier_key = jax.random.split(key)
        backbone, stats = self.backbone.init(backbone_key)
        classifier, _ = self.classifier.init(classifier_key)
        return {"backbone": backbone, "classifier": classifier}, {"backbone": stats}, {}

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, Tree]:
        """Logits float[b, classes], new statistics."""
        x = normalize(batch["image"], self.dtype)
        stages, backbone_stats = self.backbone.apply(params["backbone"], stats["backbone"], x, True)
        logits, _ = self.classifier.apply(params["classifier"], {}, stages.features, True)
        return logits, {"backbone": backbone_stats}

    def objective(self, outputs: Any, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """Mean cross entropy over the examples of the batch that are not padding."""
        loss = cross_entropy(outputs, batch["label"], batch["mask"])
        return loss, (extra, {"loss": loss, "accuracy_top1": accuracy(outputs, batch["label"], mask=batch["mask"])})

    def weight(self, batch: Batch) -> jax.Array:
        """The examples that are not padding."""
        return batch["mask"].sum()

    def predict(self, params: Tree, stats: Tree, extra: Tree, image: jax.Array) -> jax.Array:
        """u8[b, h, w, 3] -> logits float[b, classes], BatchNorm in eval mode."""
        stages, _ = self.backbone.apply(params["backbone"], stats["backbone"], normalize(image, self.dtype), False)
        return self.classifier.apply(params["classifier"], {}, stages.features, False)[0]


def create(config: ConfigDict, classes: int) -> Supervised:
    """The method for a config with `method.name="supervised"`.

    Raises:
      UserError: there are no labels.
    """
    if classes < 2:
        raise UserError("config.method.name='supervised' needs images of at least two classes (folders split/class/file, or a label array)")
    backbone = build_backbone(config.model)
    return Supervised(backbone, create_classifier(backbone.dim, classes), config.model.dtype)
