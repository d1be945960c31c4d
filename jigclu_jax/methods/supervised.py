"""Training with labels: cross entropy on single crops, the yardstick beside a pretrained trunk."""

import dataclasses
from collections.abc import Mapping

import jax
from ml_collections import ConfigDict

from jigclu_jax.errors import UserError
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy
from jigclu_jax.methods import Tree
from jigclu_jax.models import Functional, create_classifier, create_trunk
from jigclu_jax.ops.normalize import normalize
from jigclu_jax.ops.pool import global_average_pool


@dataclasses.dataclass(frozen=True)
class Supervised:
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

    def loss(
        self, params: Tree, stats: Tree, extra: Tree, batch: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, tuple[Tree, Tree, dict[str, jax.Array]]]:
        """Mean cross entropy over the examples of the batch that are not padding."""
        x = normalize(batch["image"], self.dtype)
        features, trunk_stats = self.trunk.apply(params["trunk"], stats["trunk"], x, True)
        logits, _ = self.classifier.apply(params["classifier"], {}, global_average_pool(features), True)
        loss = cross_entropy(logits, batch["label"], batch["mask"])
        metrics = {"loss": loss, "accuracy_top1": accuracy(logits, batch["label"], mask=batch["mask"])}
        return loss, ({"trunk": trunk_stats}, extra, metrics)

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
    trunk = create_trunk(model.arch, stem=model.stem, width=model.width, dtype=model.dtype)
    return Supervised(trunk, create_classifier(trunk.dim, classes), model.dtype)
