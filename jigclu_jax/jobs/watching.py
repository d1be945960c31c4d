"""What a pretraining run tells of its backbone after some epochs: kNN where there are labels, and without any how features are spread."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jigclu_jax.data.input.evaluation import EvalStream
from jigclu_jax.data.sources.opening import Source, Subset, open_source, subset_indices
from jigclu_jax.device import distributed
from jigclu_jax.device.feed import prepared_batch
from jigclu_jax.device.mesh import to_device
from jigclu_jax.errors import UserError
from jigclu_jax.evals.embeddings import collect_cells, compile_cells
from jigclu_jax.evals.features import FeatureBank, Forward, compile_features, compute_features
from jigclu_jax.evals.knn import knn_predictions, nearest
from jigclu_jax.evals.labels import check_labels
from jigclu_jax.evals.spread import alignment, effective_rank, positive_pairs, uniformity
from jigclu_jax.methods.online import CellMethod
from jigclu_jax.train.loop import EpochHook
from jigclu_jax.train.run import Training
from jigclu_jax.train.state import TrainState

_BATCH = 256  # images a batch of the backbone's pass
_CELLS = 2048  # cells of montages whose embeddings are looked at, at least


@dataclasses.dataclass(frozen=True)
class Watch:
    """What is looked at.

    Attributes:
      config: the run's.
      method: what is trained.
      train: a sample of the training images.
      test: images to classify by their neighbours in `train`; None where there are no labels.
    """

    config: ConfigDict
    method: Any
    train: Source
    test: Source | None

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics that join the row of an epoch that is watched."""
        names: tuple[str, ...] = ("rank_features", "uniformity_features")
        if isinstance(self.method, CellMethod):
            names += ("rank_embeddings", "uniformity_embeddings", "alignment_embeddings")
        return (*names, "knn_top1") if self.test is not None else names

    def hook(self, training: Training) -> EpochHook:
        """The evaluation after an epoch."""
        mesh, online = training.mesh, self.config.online
        forward = compile_features(self.config.model.to_dict(), mesh)
        embeddings = self._embeddings(training) if isinstance(self.method, CellMethod) else None

        def hook(step: int, state: TrainState) -> Mapping[str, float]:
            epoch = step // training.plan.steps_per_epoch
            if epoch % online.every_epochs and step != training.plan.total_steps:
                return {}
            bank = self._bank(self.train, forward, state, mesh)
            found = {"rank_features": effective_rank(bank.features), "uniformity_features": uniformity(bank.features)}
            if embeddings is not None:
                found |= embeddings(state)
            if self.test is not None:
                found["knn_top1"] = self._knn(bank, self._bank(self.test, forward, state, mesh))
            self._warn(epoch, found)
            return found

        return hook

    def _bank(self, source: Source, forward: Forward, state: TrainState, mesh: Mesh) -> FeatureBank:
        size = _BATCH // mesh.size * mesh.size or mesh.size
        host, hosts = jax.process_index(), jax.process_count()
        batches = EvalStream(source, self.config.online.eval_data, batch_size=size, host=host, hosts=hosts)
        try:
            return compute_features(forward, state.params["backbone"], state.stats["backbone"], batches, mesh)
        finally:
            batches.close()

    def _embeddings(self, training: Training) -> Callable[[TrainState], dict[str, float]]:
        """Of the cells of the run's first montages, augmented as in training: a fixed set, so that epochs can be compared."""
        config = self.config
        cells = compile_cells(self.method, config.model.dtype, training.mesh)
        count = min(-(-_CELLS // (config.batch_size * config.method.grid**2)), training.plan.steps_per_epoch)

        def found(state: TrainState) -> dict[str, float]:
            stream = training.supply.batches(0, count)
            try:
                batches = (prepared_batch(training.supply.feed, to_device(batch, training.mesh)) for batch in stream)
                rows, _, image, _ = collect_cells(cells, state.params, state.stats, batches)
            finally:
                stream.close()
            first, second = positive_pairs(image)
            return {
                "rank_embeddings": effective_rank(rows),
                "uniformity_embeddings": uniformity(rows),
                "alignment_embeddings": alignment(rows[first], rows[second]),
            }

        return found

    def _knn(self, bank: FeatureBank, test: FeatureBank) -> float:
        k = min(self.config.online.neighbours, len(bank))  # fewer where images were skipped
        similarity, index = nearest(test.features, bank.features, k)
        classes = int(max(bank.labels.max(), test.labels.max())) + 1
        predicted = knn_predictions(similarity, bank.labels[index], classes, (k,))[f"weighted_{k}"]
        return float((predicted == test.labels).mean())

    def _warn(self, epoch: int, found: Mapping[str, float]) -> None:
        least = self.config.online.rank_warning
        for name in ("rank_features", "rank_embeddings"):
            if distributed.is_main() and found.get(name, least) < least:
                logging.warning(
                    "epoch %d: the effective rank of the %s is %.2f, below config.online.rank_warning=%g: they have collapsed to almost"
                    " one direction; lower the learning rate, or look at the augmentation",
                    epoch, name.removeprefix("rank_"), found[name], least,
                )  # fmt: skip


def open_watch(config: ConfigDict, method: Any, source: Source) -> Watch | None:
    """What `config.online` wants watched, None for nothing; labels are used where the training images have them.

    Raises:
      UserError: `online.eval_data` cannot be opened, or has no labels that training has.
    """
    online = config.online
    if not online.every_epochs:
        return None
    train = _sample(source, online.images, config.seed)
    if source.classes is None:
        return Watch(config, method, train, None)
    settings = config.copy_and_resolve_references()
    for name in ("source", "path", "name", "data_dir"):
        settings.online.eval_data[name] = online.eval_data[name] or config.data[name]
    try:
        test = open_source(settings.online.eval_data, seed=config.seed, classes=source.classes)
    except UserError as error:
        raise UserError(f"config.online.eval_data: {error}") from error
    test = _sample(test, online.images, config.seed)
    known, asked = train.labels, test.labels
    assert known is not None and asked is not None
    check_labels(known, asked, source.classes)
    if online.neighbours > len(train):
        raise UserError(f"config.online.neighbours={online.neighbours} of the {len(train)} training images watched: choose at most those")
    return Watch(config, method, train, test)


def _sample(source: Source, count: int, seed: int) -> Source:
    if count >= len(source):
        return source
    return Subset(source, subset_indices(len(source), source.labels if source.classes else None, count, seed))
