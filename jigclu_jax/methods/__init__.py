"""The contract for training methods, one file each: what the rest of the program may know of a method is a value, never its name or type.

A method says which views of an image it needs, builds its trees and computes its loss. It is found by its file's name: `config.method.name`
"jigclu" is `methods/jigclu.py`, whose `create(config, facts)` builds it. How to add one: docs/add_a_method.md.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32, Int32
from ml_collections import ConfigDict

from jigclu_jax.config.jobs import find_method
from jigclu_jax.data.input.montage import GRIDS
from jigclu_jax.data.view import View, shape_of
from jigclu_jax.metrics import MetricSpec

Tree = dict[str, Any]
# Arrays by name: `example` (index in the data set), `epoch` int32[b]; `mask` bool[b] (False: padding); `label` int32[b] where the method
# wants labels and there are any; and under the name of each view its own: `image`, for montages `cluster`, `position`, `location`.
Batch = Mapping[str, Any]
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """What is known of the data before the state is made: the size of a queue or a label store follows from it.

    Attributes:
      images: in the data set.
      classes: names of the labels, None where there are none.
      batch_size: images a step, over all devices.
      steps_per_epoch: updates an epoch.
    """

    images: int
    classes: tuple[str, ...] | None
    batch_size: int
    steps_per_epoch: int

    @property
    def class_count(self) -> int:
        """Number of classes, 0 where there are no labels."""
        return len(self.classes or ())


# Frozen features of the whole data set, float32[n, D], row i of image i, with the state's weights; every process gets all of them.
FeaturesOf = Callable[[], Float32[np.ndarray, "n d"]]


class Method(abc.ABC):
    """What the training step needs of a method; methods inherit from it.

    Attributes:
      views: what it wants to see of each image.
      metrics: what `objective` measures; `loss` among them.
      whole_batches: whether an epoch's incomplete last batch is left out. True where BatchNorm takes its statistics from the batch, since
        padding would enter them, and where views are montages.
      wants_labels: whether batches carry `label`.
      trains_backbone: False for what only judges a backbone that stands still.
    """

    views: tuple[View, ...]
    metrics: tuple[MetricSpec, ...]
    whole_batches: bool = True
    wants_labels: bool = False
    trains_backbone: bool = True

    @abc.abstractmethod
    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """Parameters, BatchNorm statistics and extra state at step 0: nested dicts; the backbone under "backbone" in the first two."""

    @abc.abstractmethod
    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
        """(outputs, new statistics, new extra state) of a batch, or of a micro-batch of it.

        Outputs are arrays by name whose first axis is that of a view's pictures, or of the images. Those under "features", float[n, r, D],
        are r vectors of the backbone a picture: what an online head looks at; the loss does not see them. Effective rank looks at
        "embeddings" float[n, r, E]. Of the extra state micro-batches average floating-point leaves, others are those of the last one.
        """

    @abc.abstractmethod
    def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """Loss of a global batch (scalar) from the outputs of all its pictures, with the new extra state and the metrics."""

    def weight(self, batch: Batch) -> jax.Array | None:
        """How many images loss and metrics are means over, if they are; None (as here) where images meet in the loss.

        It says how the loss of a batch follows from those of its parts; `objective` must then leave the extra state as it is.
        """
        del batch
        return None

    def images(self, batch: Batch) -> Int32[jax.Array, "n r"]:
        """The position in the global batch of the image that each vector of "features" and "embeddings" was made from.

        Here: of a method with one view, all crops of each picture.
        """
        view = self.views[0]
        own = batch[view.name]
        if view.montage:
            return own["cluster"].reshape(len(own["cluster"]), -1)
        count = len(batch["example"])
        return jax.numpy.broadcast_to(jax.numpy.arange(count)[:, None], (count, view.crops))

    def tasks(self, outputs: Tree, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """The classifications that the method trains on, name -> (scores float[..., classes], right answers int[...]): for confusions."""
        del outputs, batch
        return {}

    def after_update(self, params: Tree, stats: Tree, extra: Tree) -> Tree:
        """The extra state after an update, from the parameters and statistics after it: momentum encoders, averages. Pure, under jit."""
        del params, stats
        return extra

    def before_epoch(self, epoch: int, features_of: FeaturesOf, params: Tree, extra: Tree) -> Tree:
        """The extra state (arrays of the same shapes and dtypes) with which an epoch begins: clusterings. Runs on the host, outside of jit.

        Every process calls it with the same arguments and must return the same. A run that goes on in mid-epoch does not call it: what it
        made is in the checkpoint. The parameters are there to be read: heads that score the features, say.
        """
        del epoch, features_of, params
        return extra

    def epoch_order(self, epoch: int, extra: Tree) -> Int32[np.ndarray, " n"] | None:
        """The images in the order in which the epoch sees them, with repetitions if need be; None: a random permutation."""
        del epoch, extra
        return None

    @property
    def works_between_epochs(self) -> bool:
        """Whether `before_epoch` or `epoch_order` does anything: batches are then asked for epoch by epoch."""
        return any(getattr(type(self), hook) is not getattr(Method, hook) for hook in ("before_epoch", "epoch_order"))

    def loss(self, params: Tree, stats: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Tree, Metrics]]:
        """Loss of a global batch (scalar), with the new statistics, the new extra state and the metrics."""
        outputs, stats, extra = self.forward(params, stats, extra, batch)
        loss, (extra, metrics) = self.objective(params, without_features(outputs), extra, batch)
        return loss, (stats, extra, metrics)


class Classifier(Method):
    """A method that also gives class scores for single images."""

    @abc.abstractmethod
    def features(self, params: Tree, stats: Tree, extra: Tree, image: jax.Array, train: bool) -> tuple[jax.Array, Tree]:
        """u8[b, h, w, 3] -> what the classifier sees, float[b, D], and the statistics after it."""

    @abc.abstractmethod
    def predict(self, params: Tree, stats: Tree, extra: Tree, image: jax.Array) -> jax.Array:
        """u8[b, h, w, 3] -> logits float[b, classes], BatchNorm in eval mode."""


def without_features(outputs: Tree) -> Tree:
    """What the loss sees of the outputs: it has no use for the backbone's own vectors, which are many numbers to keep."""
    return {name: value for name, value in outputs.items() if name != "features"}


def batch_shapes(method: Method, facts: DataFacts) -> dict[str, Any]:
    """Shapes and dtypes of the global batch that the method is given."""

    def shape(dtype: Any, *sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, dtype)

    b = facts.batch_size
    batch: dict[str, Any] = {"example": shape(np.int32, b), "epoch": shape(np.int32, b), "mask": shape(np.bool_, b)}
    if method.wants_labels and facts.classes:
        batch["label"] = shape(np.int32, b)
    for view in method.views:
        grids = GRIDS if view.montage else ()
        cells = (view.pictures(b), view.montage, view.montage)
        batch[view.name] = {"image": shape(np.uint8, *shape_of(view, b)), **{name: shape(np.int32, *cells) for name in grids}}
    return batch


def output_shapes(method: Method, facts: DataFacts) -> Tree:
    """Shapes and dtypes of what the method's forward pass gives for a global batch."""
    trees = jax.eval_shape(lambda: method.init(jax.random.key(0), facts))
    return jax.eval_shape(method.forward, *trees, batch_shapes(method, facts))[0]


def create_method(config: ConfigDict, facts: DataFacts) -> Any:
    """The method that `config.method.name` names, for that data.

    Raises:
      UserError: an unknown method, or one that needs labels where there are none.
    """
    return find_method(config.method.name).create(config, facts)
