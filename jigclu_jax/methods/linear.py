"""The linear probe: one linear layer on the pooled features of a frozen trunk (paper, section 4.1)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jigclu_jax.errors import UserError
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy
from jigclu_jax.methods import Batch, Classifier, Metrics, Tree
from jigclu_jax.models import Functional, create_classifier, create_trunk
from jigclu_jax.ops.normalize import normalize
from jigclu_jax.ops.pool import global_average_pool


@dataclasses.dataclass(frozen=True)
class LinearProbe(Classifier):
    """The trunk lies in `extra` and is no parameter: nothing can move it, its BatchNorm runs in eval mode."""

    trunk: Functional
    classifier: Functional
    dtype: str

    view = "crop"
    whole_batches = False
    metric_names = ("loss", "accuracy_top1")

    def init(self, key: jax.Array) -> tuple[Tree, Tree, Tree]:
        """Parameters {classifier}, no statistics, extra {trunk: {params, stats}, scale} with random weights and scale 1."""
        trunk_key, classifier_key = jax.random.split(key)
        params, stats = self.trunk.init(trunk_key)
        classifier, _ = self.classifier.init(classifier_key)
        return {"classifier": classifier}, {}, {"trunk": {"params": params, "stats": stats}, "scale": jnp.ones((), jnp.float32)}

    def features(self, extra: Tree, image: jax.Array) -> jax.Array:
        """u8[b, h, w, 3] -> pooled features float32[b, D], times `scale`: 1 for the trunk that is probed (the paper's protocol)."""
        trunk = extra["trunk"]
        features, _ = self.trunk.apply(trunk["params"], trunk["stats"], normalize(image, self.dtype), False)
        return extra["scale"] * global_average_pool(features)

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, Tree]:
        """Logits float[b, classes]; there are no statistics."""
        return self.predict(params, stats, extra, batch["image"]), stats

    def objective(self, outputs: Any, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """Mean cross entropy over the examples of the batch that are not padding."""
        loss = cross_entropy(outputs, batch["label"], batch["mask"])
        return loss, (extra, {"loss": loss, "accuracy_top1": accuracy(outputs, batch["label"], mask=batch["mask"])})

    def weight(self, batch: Batch) -> jax.Array:
        """The examples that are not padding."""
        return batch["mask"].sum()

    def predict(self, params: Tree, stats: Tree, extra: Tree, image: jax.Array) -> jax.Array:
        """u8[b, h, w, 3] -> logits float[b, classes]."""
        return self.classifier.apply(params["classifier"], {}, self.features(extra, image), False)[0]


def create(config: ConfigDict, classes: int) -> LinearProbe:
    """The probe for a trunk as `config.model` describes it.

    Raises:
      UserError: there are no labels.
    """
    if classes < 2:
        raise UserError("a linear probe needs images of at least two classes (folders split/class/file, or a label array)")
    model = config.model
    trunk = create_trunk(model.arch, stem=model.stem, width=model.width, dtype=model.dtype)
    return LinearProbe(trunk, create_classifier(trunk.dim, classes), model.dtype)
