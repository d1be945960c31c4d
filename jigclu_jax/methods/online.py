"""A linear classifier that learns beside a method what its vectors are worth, and never touches the backbone."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
from ml_collections import ConfigDict

from jigclu_jax.errors import UserError
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy
from jigclu_jax.methods import Batch, Method, Metrics, Tree
from jigclu_jax.methods.jigclu import JigClu
from jigclu_jax.models import Functional, create_classifier

_KEY = 0x6F6E6C  # of the classifier's first weights, so that the method's own stay as they are


@runtime_checkable
class CellMethod(Protocol):
    """A method that makes something of every cell of its montages."""

    def outputs(self, params: Tree, stats: Tree, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array, jax.Array, Tree]:
        """Normalised montages -> vectors, embeddings, location logits of every cell, row-major within a montage; new statistics."""
        ...


@dataclasses.dataclass(frozen=True)
class OnlineHead(Method):
    """Jigsaw clustering and a classifier of its cells, each cell with the label of the image that it was cut from.

    The classifier's gradient ends at the vectors; it learns with the run's own optimizer. Batches carry label i32[b], where
    place k holds the label of the image with cluster id k (-1: none).
    """

    method: JigClu
    classifier: Functional

    view = "montage"
    metric_names = (*JigClu.metric_names, "online_loss", "online_top1")

    def init(self, key: jax.Array) -> tuple[Tree, Tree, Tree]:
        """The method's trees, and the classifier's parameters under `online`."""
        params, stats, extra = self.method.init(key)
        return {**params, "online": self.classifier.init(jax.random.fold_in(key, _KEY))[0]}, stats, extra

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch) -> tuple[dict[str, jax.Array], Tree]:
        """The method's outputs, and the classifier's logits float[b, m*m, classes] under `online`."""
        outputs, vectors, stats = self.method.forward_with_vectors(params, stats, batch)
        logits, _ = self.classifier.apply(params["online"], {}, jax.lax.stop_gradient(vectors), True)
        return {**outputs, "online": logits}, stats

    def objective(self, outputs: Any, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """The method's loss + the classifier's cross entropy; the metric `loss` stays the method's."""
        loss, (extra, metrics) = self.method.objective(outputs, extra, batch)
        logits = outputs["online"].reshape(-1, self.classifier.dim)
        labels = batch["label"][batch["cluster"].reshape(-1)]
        known = labels >= 0
        online = cross_entropy(logits, labels, known)
        more = {"online_loss": online, "online_top1": accuracy(logits, labels, mask=known)}
        return loss + online, (extra, metrics | jax.tree.map(jax.lax.stop_gradient, more))

    def outputs(self, params: Tree, stats: Tree, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array, jax.Array, Tree]:
        """The method's."""
        return self.method.outputs(params, stats, x, train)


def with_online_head(config: ConfigDict, method: Any, classes: int) -> Any:
    """The method, with an online head if `config.online.head` wants one.

    Raises:
      UserError: the method trains on no montages, or there are no labels.
    """
    if not config.online.head:
        return method
    if not isinstance(method, JigClu):
        raise UserError(
            f"config.online.head=True: config.method.name={config.method.name!r} trains on no montages; its own accuracy_top1 tells as much"
        )
    if classes < 2:
        raise UserError("config.online.head=True needs images of at least two classes (folders split/class/file, or a label array)")
    return OnlineHead(method, create_classifier(method.backbone.dim, classes))
