"""Measures a classifier's accuracy on held-out images after epochs, and reads it back for the result."""

from collections.abc import Mapping
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.data.input.evaluation import EvalStream
from jigclu_jax.data.sources.opening import Source, where_as
from jigclu_jax.evals.bootstrap import accuracy_interval
from jigclu_jax.evals.classification import compile_counts, evaluate
from jigclu_jax.json_file import DamagedFile
from jigclu_jax.methods import Classifier
from jigclu_jax.metrics import MetricSpec, accuracy_spec
from jigclu_jax.train.loop import EpochHook
from jigclu_jax.train.run import Training, open_images
from jigclu_jax.train.state import TrainState
from jigclu_jax.train.stop import STOP
from jigclu_jax.train.writers import METRICS_FILE, read_metrics

IMAGES = "eval_images"


def open_eval_source(config: ConfigDict, train: Source) -> Source:
    """The evaluation images, labels numbered as in training; what `eval_data` leaves empty of where they are is as in `data`."""
    config = config.copy_and_resolve_references()
    config.eval_data = where_as(config.eval_data, config.data)
    return open_images(config, "eval_data", train.classes)


def accuracy_hook(training: Training, eval_source: Source) -> EpochHook:
    """After an epoch: `{job}_top1` and `{job}_top5` on the evaluation images, and `eval_images`, how many of them counted.

    The counts are sums over all devices and processes, so that every process has the same.
    """
    config, mesh, method = training.config, training.mesh, training.method
    assert isinstance(method, Classifier)
    counts_fn = compile_counts(method.predict, mesh)
    job = config.job

    def measure(step: int, state: TrainState) -> Mapping[str, float]:
        epoch = step // training.plan.steps_per_epoch
        if epoch % config.eval_every_epochs and step != training.plan.total_steps:
            return {}
        batches = EvalStream(
            eval_source, config.eval_data, batch_size=config.eval_batch_size, host=jax.process_index(), hosts=jax.process_count()
        )
        try:
            found = evaluate(counts_fn, state.params, state.stats, state.extra, STOP.watched(batches), mesh)
        finally:
            batches.close()
        return {f"{job}_top1": found["top1"], f"{job}_top5": found["top5"], IMAGES: found["examples"]}

    chance = 1 / max(len(eval_source.classes or ()), 2)
    specs = (
        accuracy_spec(f"{job}_top1", "top-1, evaluation images", chance, "evaluation top-1"),
        accuracy_spec(f"{job}_top5", "top-5, evaluation images", min(5 * chance, 1.0)),
        MetricSpec(IMAGES, "evaluation images"),
    )
    return EpochHook(specs, measure)


def accuracy_results(workdir: epath.PathLike, config: ConfigDict, eval_source: Source) -> dict[str, Any]:
    """Last and best accuracies with their intervals, from the rows of metrics.jsonl, which a resumed run shares with its earlier parts.

    `eval_source` says how many images there are where rows of an earlier version do not say how many counted.
    """
    job = config.job
    rows = [row for row in read_metrics(workdir) if _measured(row, job)]
    if not rows:
        file = epath.Path(workdir) / METRICS_FILE
        raise DamagedFile(f"{file}: no row holds {job}_top1, it has been changed: restore it, or use another workdir")
    found: dict[str, Any] = {}
    for metric in (f"{job}_top1", f"{job}_top5"):
        for which, row in (("last", rows[-1]), ("best", max(rows, key=lambda row: row[metric]))):
            images = _images(row, eval_source)
            found[f"{metric}_{which}"] = row[metric]
            found[f"{metric}_{which}_interval"] = list(accuracy_interval(round(row[metric] * images), images, config.seed))
            if metric.endswith("5") and 0 < len(eval_source.classes or ()) <= 5:  # always right
                found |= {f"{metric}_{which}": None, f"{metric}_{which}_interval": None}
    found[f"{job}_best_epoch"] = max(rows, key=lambda row: row[f"{job}_top1"])["epoch"]
    return found | {IMAGES: _images(rows[-1], eval_source)}


def _measured(row: Mapping[str, Any], job: str) -> bool:
    """Whether a row holds an epoch's accuracies, as they can be."""
    found = [row.get(name) for name in (f"{job}_top1", f"{job}_top5")]
    return (
        all(value is not None and 0 <= value <= 1 for value in found)
        and row.get("epoch") is not None
        and 0 <= (row.get(IMAGES) or 0) < 2**40
    )


def _images(row: Mapping[str, Any], eval_source: Source) -> int:
    """How many images an accuracy is of; all, where an earlier version did not say."""
    images = row.get(IMAGES)
    return len(eval_source) if images is None else int(images)
