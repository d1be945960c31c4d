"""Training methods behind one interface, one file each, and their registry.

A method says which views of an image it needs, builds its trees and computes its loss; the loop never learns its name.
How to add one: docs/add_a_method.md.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from jigclu_jax.config.jobs import find_method
from jigclu_jax.errors import UserError

Tree = dict[str, Any]
Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]
# What trains a backbone, and what judges one: a job takes one sort or the other.
PRETRAINING, PROBES = ("jigclu", "supervised"), ("linear",)
METHODS = (*PRETRAINING, *PROBES)


class Method(abc.ABC):
    """What the training step needs of a method; methods inherit from it.

    Attributes:
      view: which batches it trains on, "montage" or "crop" (`data/input/pipeline.py`).
      whole_batches: whether an epoch's incomplete last batch is left out, as montages leave it out in any case. True where
        BatchNorm takes its statistics from the batch, since padding would enter them.
      metric_names: the metrics that `objective` returns.
    """

    view: str
    whole_batches: bool = True
    metric_names: tuple[str, ...]

    @abc.abstractmethod
    def init(self, key: jax.Array) -> tuple[Tree, Tree, Tree]:
        """Parameters, BatchNorm statistics and extra state at step 0."""

    @abc.abstractmethod
    def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch) -> tuple[Any, Tree]:
        """What the loss needs to know of each example (arrays whose first axis is the batch's), and the new statistics."""

    @abc.abstractmethod
    def objective(self, outputs: Any, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        """Loss of a global batch (scalar) from the outputs of all its examples, with the new extra state and the metrics."""

    def weight(self, batch: Batch) -> jax.Array | None:
        """How many examples loss and metrics are means over, if they are; None (as here) where examples meet in the loss.

        It says how the loss of a batch follows from those of its parts; extra state must then stay as it is.
        """
        del batch
        return None

    def loss(self, params: Tree, stats: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Tree, Metrics]]:
        """Loss of a global batch (scalar), with the new statistics, the new extra state and the metrics."""
        outputs, stats = self.forward(params, stats, extra, batch)
        loss, (extra, metrics) = self.objective(outputs, extra, batch)
        return loss, (stats, extra, metrics)


class Classifier(Method):
    """A method that also gives class scores for single images."""

    @abc.abstractmethod
    def predict(self, params: Tree, stats: Tree, extra: Tree, image: jax.Array) -> jax.Array:
        """u8[b, h, w, 3] -> logits float[b, classes], BatchNorm in eval mode."""


def create_method(config: ConfigDict, classes: int = 0, *, choices: Sequence[str] = METHODS) -> Any:
    """The method that `config.method.name` names, one of `choices`, for that many classes where it needs labels.

    Raises:
      UserError: an unknown method, or a method that needs labels without any.
    """
    name = config.method.name
    module = find_method(name)
    if name not in choices:
        raise UserError(f"config.method.name={name!r} is no method of a {config.job} job: use one of {', '.join(choices)}")
    return module.create(config, classes)
