"""The linear probe: one linear layer on the pooled features of a frozen backbone (paper, section 4.1)."""

import dataclasses

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jigclu_jax.config.fields import Field
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.view import View
from jigclu_jax.errors import UserError
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy
from jigclu_jax.methods import Batch, Classifier, DataFacts, Metrics, Tree
from jigclu_jax.methods.supervised import metric_specs
from jigclu_jax.metrics import MetricSpec
from jigclu_jax.models import Functional, build_backbone, create_classifier
from jigclu_jax.ops.normalize import normalize

FIELDS: dict[str, Field] = {}


@dataclasses.dataclass(frozen=True)
class LinearProbe(Classifier):
    """The backbone lies in `extra` and is no parameter: nothing can move it, its BatchNorm runs in eval mode."""

    backbone: Functional
    classifier: Functional
    views: tuple[View, ...]
    metrics: tuple[MetricSpec, ...]
    dtype: str

    whole_batches = False
    wants_labels = True
    trains_backbone = False

    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """Parameters {classifier}, no statistics, extra {backbone: {params, stats}, scale} with random weights and scale 1."""
        del facts
        backbone_key, classifier_key = jax.random.split(key)
        params, stats = self.backbone.init(backbone_key)
        classifier, _ = self.classifier.init(classifier_key)
        return {"classifier": classifier}, {}, {"backbone": {"params": params, "stats": stats}, "scale": jnp.ones((), jnp.float32)}

    def features(self, extra: Tree, image: jax.Array) -> jax.Array:
        """u8[b, h, w, 3] -> pooled features float32[b, D], times `scale`: 1 for the backbone that is probed (the paper's protocol)."""
        backbone = extra["backbone"]
        stages, _ = self.backbone.apply(backbone["params"], backbone["stats"], normalize(image, self.dtype), False)
        return extra["scale"] * stages.features

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
        """Logits float[b, classes]; there are no statistics."""
        return {"logits": self.predict(params, stats, extra, batch[self.views[0].name]["image"][:, 0])}, stats, extra

    def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """Mean cross entropy over the examples of the batch that are not padding."""
        logits, label, mask = outputs["logits"], batch["label"], batch["mask"]
        loss = cross_entropy(logits, label, mask)
        return loss, (extra, {"loss": loss, "accuracy_top1": accuracy(logits, label, mask=mask)})

    def weight(self, batch: Batch) -> jax.Array:
        """The examples that are not padding."""
        return batch["mask"].sum()

    def predict(self, params: Tree, stats: Tree, extra: Tree, image: jax.Array) -> jax.Array:
        """u8[b, h, w, 3] -> logits float[b, classes]."""
        return self.classifier.apply(params["classifier"], {}, self.features(extra, image), False)[0]


def create(config: ConfigDict, facts: DataFacts) -> LinearProbe:
    """The probe for a backbone as `config.model` describes it.

    Raises:
      UserError: there are no labels.
    """
    classes, model = facts.class_count, config.model
    if classes < 2:
        raise UserError("a linear probe needs images of at least two classes (folders split/class/file, or a label array)")
    backbone = build_backbone(model)
    views = (View("crop", config.data.image_size, Law.of(config.augment)),)
    return LinearProbe(backbone, create_classifier(backbone.dim, classes), views, metric_specs(classes), model.dtype)
