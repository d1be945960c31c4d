"""Computes the features of an evaluation's training and evaluation images, or reads them from disk."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from jigclu_jax.data.input.evaluation import EvalStream
from jigclu_jax.data.sources.fingerprint import fingerprint
from jigclu_jax.data.sources.opening import Source, subset_seed, why_unlabelled
from jigclu_jax.device import distributed
from jigclu_jax.device.mesh import check_batch, create_mesh, replicated
from jigclu_jax.errors import UserError
from jigclu_jax.evals.bank_file import bank_key, read_bank, write_bank
from jigclu_jax.evals.features import FeatureBank, Forward, compile_features, compute_features
from jigclu_jax.evals.frozen import digest
from jigclu_jax.evals.labels import check_labels
from jigclu_jax.jobs.accuracy import open_eval_source
from jigclu_jax.jobs.backbones import Backbone
from jigclu_jax.train.counting import counter, stopping
from jigclu_jax.train.run import open_images

FEATURES_STAY = "features that are complete stay where config.cache keeps them"


@dataclasses.dataclass(frozen=True)
class Sets:
    """Images of training and of evaluation, labels numbered alike.

    Attributes:
      train: images that classifiers are trained on, or neighbours are taken from.
      test: images that accuracies are measured on.
      classes: names of the labels.
    """

    train: Source
    test: Source
    classes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Banks:
    """Features of both sets, and what is odd about their labels."""

    train: FeatureBank
    test: FeatureBank
    oddities: Sequence[str]


def open_sets(config: ConfigDict) -> Sets:
    """Both sources of an evaluation.

    Raises:
      UserError: a source that cannot be opened, without labels, or with classes that training does not have.
    """
    train = open_images(config, "data")
    if train.classes is None:
        raise UserError(f"config.data: {train.name} has no labels: {why_unlabelled(train)}")
    test = open_eval_source(config, train)
    check_labels(_labels(train), _labels(test), train.classes)
    return Sets(train, test, train.classes)


class Features:
    """Computes banks for one config: the mesh, the compiled pass and the folder of the kept ones."""

    def __init__(self, config: ConfigDict, workdir: epath.PathLike) -> None:
        self._config, self.mesh = config, create_mesh()
        check_batch(config.eval_batch_size, self.mesh, "eval_batch_size")
        self._folder = None if config.cache == "none" else epath.Path(config.cache or epath.Path(workdir).parent / "features")
        self._compiled: tuple[dict, Forward] | None = None

    def of_sets(self, backbone: Backbone, sets: Sets) -> Banks:
        """Features of both sets; what is odd about their labels is logged, and returned."""
        train, test = self.of(backbone, sets.train, "data"), self.of(backbone, sets.test, "eval_data")
        oddities = check_labels(train.labels, test.labels, sets.classes)
        for line in oddities:
            logging.warning("%s", line)
        return Banks(train, test, oddities)

    def of(self, backbone: Backbone, source: Source, group: str) -> FeatureBank:
        """Features of a source that was opened with config[group], resized and cropped as `eval_data` says.

        Raises:
          UserError, ImageError: an image cannot be used.
        """
        config, sizes = self._config, self._sizes(group)
        images = fingerprint(source, config[group], group)
        size = {name: sizes[name] for name in ("resize", "crop", "min_side", "on_error")}
        seed = subset_seed(config[group], config.seed) if config[group].limit else 0
        key = bank_key(weights=backbone.digest, model=backbone.model, images=images, seed=seed, **size)
        bank = read_bank(self._folder, key) if self._folder else None
        if _all_have(bank):
            assert bank is not None
            return bank
        bank = self._compute(backbone, source, sizes, group)
        if self._folder and distributed.is_main():
            write_bank(self._folder, key, bank, {"backbone": backbone.origin, "images": source.name, "model": backbone.model, **size})
        return bank

    def of_batches(
        self, backbone: Backbone, batches: Iterator[dict[str, np.ndarray]], say: Callable[[int], None] = lambda done: None
    ) -> FeatureBank:
        """Features of images that come as batches; on several processes each gives its own part of a batch."""
        if self._compiled is None or self._compiled[0] != backbone.model:
            self._compiled = backbone.model, compile_features(backbone.model, self.mesh)
        params, stats = jax.device_put((backbone.params, backbone.stats), replicated(self.mesh))
        bank = compute_features(self._compiled[1], params, stats, batches, self.mesh, say)
        if digest(jax.device_get({"params": params, "stats": stats})) != backbone.digest:
            raise RuntimeError("the frozen backbone has changed: its features are void; this is a fault of the program")
        return bank

    def _compute(self, backbone: Backbone, source: Source, sizes: ConfigDict, group: str) -> FeatureBank:
        part = {"batch_size": self._config.eval_batch_size, "host": jax.process_index(), "hosts": jax.process_count()}
        batches = EvalStream(source, sizes, group=group, **part)
        say = counter(f"features of {source.name}, {backbone.origin}")
        if jax.process_count() == 1:  # several would have to stop at the same batch
            say = stopping(say, FEATURES_STAY)
        say(0, len(source))  # a set of one batch would be done before the first look
        try:
            return self.of_batches(backbone, batches, lambda done: say(done, len(source)))
        finally:
            batches.close()

    def _sizes(self, group: str) -> ConfigDict:
        """The evaluation's resize and crop with the source fields of the group."""
        sizes = self._config.eval_data.copy_and_resolve_references()
        for name in ("on_error", "min_side"):
            sizes[name] = self._config[group][name]
        return sizes


def _labels(source: Source) -> np.ndarray:
    labels = source.labels
    assert labels is not None
    return labels


def _all_have(bank: FeatureBank | None) -> bool:
    """Whether every process has found the bank: they go the same way, whatever the disks hold."""
    if jax.process_count() == 1:
        return bank is not None
    return bool(np.all(multihost_utils.process_allgather(np.array(bank is not None))))
