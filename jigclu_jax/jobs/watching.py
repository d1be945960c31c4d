"""Evaluates the backbone after some epochs of pretraining: kNN where there are labels, and measures of spread without."""

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jigclu_jax.data.input.evaluation import EvalStream
from jigclu_jax.data.sources.opening import Source, Subset, open_source, subset_indices, where_as
from jigclu_jax.device import distributed
from jigclu_jax.errors import UserError
from jigclu_jax.evals.embeddings import collect, compile_outputs
from jigclu_jax.evals.features import FeatureBank, Forward, compile_features, compute_features
from jigclu_jax.evals.knn import knn_predictions, nearest
from jigclu_jax.evals.labels import check_labels
from jigclu_jax.evals.spread import effective_rank, embedding_spread, uniformity
from jigclu_jax.methods import DataFacts, Method, output_shapes
from jigclu_jax.metrics import MetricSpec, accuracy_spec
from jigclu_jax.train.loop import EpochHook
from jigclu_jax.train.run import Training
from jigclu_jax.train.state import TrainState
from jigclu_jax.train.stop import STOP

_BATCH = 256  # images a batch of the backbone's pass
_VECTORS = 2048  # embeddings that are looked at, at least


@dataclasses.dataclass(frozen=True)
class Watch:
    """The evaluations of a run's epochs.

    Attributes:
      config: the run's.
      method: what is trained.
      train: a sample of the training images.
      test: images to classify by their neighbours in `train`; None where there are no labels.
      embeds: whether the method makes embeddings.
    """

    config: ConfigDict
    method: Method
    train: Source
    test: Source | None
    embeds: bool

    @property
    def metrics(self) -> tuple[MetricSpec, ...]:
        """What joins the row of an epoch that is watched."""
        found = [*_spread_specs("features")]
        if self.embeds:
            found += [*_spread_specs("embeddings"), MetricSpec("alignment_embeddings", "alignment, embeddings", better="min")]
        if self.test is not None:
            found.append(accuracy_spec("knn_top1", "top-1, nearest neighbours", 1 / max(len(self.test.classes or ()), 1), "kNN"))
        return tuple(found)

    def hook(self, training: Training) -> EpochHook:
        """The evaluation after an epoch."""
        mesh, online = training.mesh, self.config.online
        forward = compile_features(self.config.model.to_dict(), mesh)
        embeddings = self._embeddings(training) if self.embeds else None

        def measure(step: int, state: TrainState) -> Mapping[str, float]:
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

        return EpochHook(self.metrics, measure)

    def _bank(self, source: Source, forward: Forward, state: TrainState, mesh: Mesh) -> FeatureBank:
        size = _BATCH // mesh.size * mesh.size or mesh.size
        host, hosts = jax.process_index(), jax.process_count()
        batches = EvalStream(source, self.config.online.eval_data, batch_size=size, host=host, hosts=hosts)
        try:
            return compute_features(forward, state.params["backbone"], state.stats["backbone"], STOP.watched(batches), mesh)
        finally:
            batches.close()

    def _embeddings(self, training: Training) -> Callable[[TrainState], dict[str, float]]:
        """Of the run's first batches, augmented as in training: a fixed set, so that epochs can be compared."""
        outputs_of = compile_outputs(self.method, training.mesh)
        a_batch = math.prod(output_shapes(self.method, training.facts)["embeddings"].shape[:-1])
        count = min(-(-_VECTORS // a_batch), training.plan.steps_per_epoch)

        def found(state: TrainState) -> dict[str, float]:
            with training.supply.prepared(count) as batches:
                rows = collect(outputs_of, state.params, state.stats, state.extra, STOP.watched(batches))
            return embedding_spread(rows.embeddings, rows.image)

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


def open_watch(config: ConfigDict, method: Method, facts: DataFacts, source: Source) -> Watch | None:
    """What `config.online` wants watched, None for nothing; labels are used where the training images have them.

    Raises:
      UserError: `online.eval_data` cannot be opened, or has no labels that training has.
    """
    online = config.online
    if not online.every_epochs:
        return None
    embeds = "embeddings" in output_shapes(method, facts)
    train = _sample(source, online.images, config.seed)
    if source.classes is None:
        return Watch(config, method, train, None, embeds)
    try:
        test = open_source(where_as(online.eval_data, config.data), seed=config.seed, classes=source.classes)
    except UserError as error:
        raise UserError(f"config.online.eval_data: {error}") from error
    test = _sample(test, online.images, config.seed)
    known, asked = train.labels, test.labels
    assert known is not None and asked is not None
    check_labels(known, asked, source.classes)
    if online.neighbours > len(train):
        raise UserError(f"config.online.neighbours={online.neighbours} of the {len(train)} training images watched: choose at most those")
    return Watch(config, method, train, test, embeds)


def _spread_specs(what: str) -> tuple[MetricSpec, ...]:
    return (
        MetricSpec(f"rank_{what}", f"effective rank, {what}", better="max"),
        MetricSpec(f"uniformity_{what}", f"uniformity, {what}", better="min"),
    )


def _sample(source: Source, count: int, seed: int) -> Source:
    if count >= len(source):
        return source
    return Subset(source, subset_indices(len(source), source.labels if source.classes else None, count, seed))
