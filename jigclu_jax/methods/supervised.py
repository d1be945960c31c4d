"""Training with labels: cross entropy on single crops, the yardstick beside a pretrained trunk."""

import dataclasses
from typing import Any

import jax
from ml_collections import ConfigDict

from jigclu_jax.errors import UserError
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy
from jigclu_jax.methods import Batch, Classifier, Metrics, Tree
from jigclu_jax.models import Functional, create_classifier, create_trunk
from jigclu_jax.ops.normalize import normalize
from jigclu_jax.ops.pool import global_average_pool


@dataclasses.dataclass(frozen=True)
class Supervised(Classifier):
    """Trunk, global average pool, one linear layer, all trained."""

    trunk: Functional
    classifier: Functional
    dtype: str

    view = "crop"
    metric_names = ("loss", "accuracy_top1")

    def init(self, key: jax.Array) -> tuple[Tree, Tree, Tree]:
        """Parameters {trunk, classifier}, statistics {trunk}, no extra state."""
        trunk_key, classifier_key = jax.random.split(key)
        trunk, stats = self.trunk.init(trunk_key)
        classifier, _ = self.classifier.init(classifier_key)
        return {"trunk": trunk, "classifier": classifier}, {"trunk": stats}, {}

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, Tree]:
        """Logits float[b, classes], new statistics."""
        x = normalize(batch["image"], self.dtype)
        features, trunk_stats = self.trunk.apply(params["trunk"], stats["trunk"], x, True)
        logits, _ = self.classifier.apply(params["classifier"], {}, global_average_pool(features), True)
        return logits, {"trunk": trunk_stats}

    def objective(self, outputs: Any, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """Mean cross entropy over the examples of the batch that are not padding."""
        loss = cross_entropy(outputs, batch["label"], batch["mask"])
        return loss, (extra, {"loss": loss, "accuracy_top1": accuracy(outputs, batch["label"], mask=batch["mask"])})

    def weight(self, batch: Batch) -> jax.Array:
        """The examples that are not padding."""
        return batch["mask"].sum()

    def predict(self, params: Tree, stats: Tree, extra: Tree, image: jax.Array) -> jax.Array:
        """u8[b, h, w, 3] -> logits float[b, classes], BatchNorm in eval mode."""
        features, _ = self.trunk.apply(params["trunk"], stats["trunk"], normalize(image, self.dtype), False)
        return self.classifier.apply(params["classifier"], {}, global_average_pool(features), False)[0]


def create(config: ConfigDict, classes: int) -> Supervised:
    """The method for a config with `method="supervised"`.

    Raises:
      UserError: there are no labels.
    """
    if classes < 2:
        raise UserError("config.method='supervised' needs images of at least two classes (folders split/class/file, or a label array)")
    model = config.model
    trunk = create_trunk(model.arch, stem=model.stem, width=model.width, dtype=model.dtype, remat=model.remat)
    return Supervised(trunk, create_classifier(trunk.dim, classes), model.dtype)
