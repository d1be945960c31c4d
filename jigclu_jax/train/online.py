"""Online head: a linear classifier trained beside a method on its features, without a gradient to the backbone."""

import dataclasses

import jax
import numpy as np
from jaxtyping import Int32

from jigclu_jax.data.view import View
from jigclu_jax.errors import UserError
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy
from jigclu_jax.methods import Batch, DataFacts, FeaturesOf, Method, Metrics, Tree, output_shapes
from jigclu_jax.metrics import MetricSpec, accuracy_spec, loss_spec
from jigclu_jax.models import Functional, create_classifier

_KEY = 0x6F6E6C  # of the classifier's first weights, so that the method's own stay as they are


@dataclasses.dataclass(frozen=True)
class OnlineHead(Method):
    """A method and a classifier of its features, each with the label of the image that it was made from.

    The classifier's gradient ends at the features; it learns with the run's own optimizer. Batches carry label i32[b] (-1: none).
    """

    method: Method
    classifier: Functional
    views: tuple[View, ...]
    metrics: tuple[MetricSpec, ...]

    wants_labels = True

    @property
    def whole_batches(self) -> bool:  # type: ignore[override]
        """The method's."""
        return self.method.whole_batches

    @property
    def works_between_epochs(self) -> bool:
        """The method's."""
        return self.method.works_between_epochs

    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """The method's trees, and the classifier's parameters under `online`."""
        params, stats, extra = self.method.init(key, facts)
        return {**params, "online": self.classifier.init(jax.random.fold_in(key, _KEY))[0]}, stats, extra

    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
        """The method's outputs, and the classifier's logits float[n, r, classes] under `online`."""
        outputs, stats, extra = self.method.forward(params, stats, extra, batch, train)
        logits, _ = self.classifier.apply(params["online"], {}, jax.lax.stop_gradient(outputs["features"]), train)
        return {**outputs, "online": logits}, stats, extra

    def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """The method's loss + the classifier's cross entropy; the metric `loss` stays the method's."""
        loss, (extra, metrics) = self.method.objective(params, outputs, extra, batch)
        logits = outputs["online"].reshape(-1, self.classifier.dim)
        labels = batch["label"][self.images(batch).reshape(-1)]
        known = labels >= 0
        online = cross_entropy(logits, labels, known)
        more = {"online_loss": online, "online_top1": accuracy(logits, labels, mask=known)}
        return loss + online, (extra, metrics | jax.tree.map(jax.lax.stop_gradient, more))

    def images(self, batch: Batch) -> jax.Array:
        """The method's."""
        return self.method.images(batch)

    def tasks(self, outputs: Tree, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """The method's."""
        return self.method.tasks(outputs, batch)

    def after_update(self, params: Tree, stats: Tree, extra: Tree) -> Tree:
        """The method's."""
        return self.method.after_update(params, stats, extra)

    def before_epoch(self, epoch: int, features_of: FeaturesOf, params: Tree, extra: Tree) -> Tree:
        """The method's."""
        return self.method.before_epoch(epoch, features_of, params, extra)

    def epoch_order(self, epoch: int, extra: Tree) -> Int32[np.ndarray, " n"] | None:
        """The method's."""
        return self.method.epoch_order(epoch, extra)


def with_online_head(method: Method, facts: DataFacts, dim: int) -> Method:
    """The method with an online head on its features of `dim` numbers.

    Raises:
      UserError: there are no labels, or the method gives no features.
    """
    if "features" not in output_shapes(method, facts):
        raise UserError("config.online.head=True: this method gives no features; its own metrics tell how it does")
    if facts.class_count < 2:
        raise UserError("config.online.head=True needs images of at least two classes (folders split/class/file, or a label array)")
    chance = 1 / facts.class_count
    more = (loss_spec("online_loss", "online head: loss"), accuracy_spec("online_top1", "top-1, online head", chance, "online"))
    return OnlineHead(method, create_classifier(dim, facts.class_count), method.views, (*method.metrics, *more))
