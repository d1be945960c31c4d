"""Evaluates a checkpoint's own heads on other images: how embeddings are spread, and where the method's classifications are wrong."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jigclu_jax.config import config_from_dict
from jigclu_jax.data.sources.opening import Source
from jigclu_jax.device.mesh import replicated
from jigclu_jax.evals.bootstrap import accuracy_interval
from jigclu_jax.evals.confusion import confusion_matrix
from jigclu_jax.evals.embeddings import collect, compile_outputs
from jigclu_jax.evals.spread import embedding_spread
from jigclu_jax.jobs.backbones import Backbone
from jigclu_jax.methods import create_method, output_shapes
from jigclu_jax.train.run import facts_of
from jigclu_jax.train.supply import open_supply


def pretext_fields(config: ConfigDict, backbone: Backbone, source: Source, mesh: Mesh) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(fields of result.json, confusion matrix by name of a classification) on `source`, augmented as the run augmented its own images.

    Nothing of a method that makes no embeddings, or needs extra state that a checkpoint's weights do not tell.

    Raises:
      UserError: the images make no batch as the run wants them.
    """
    run = _run_config(config, backbone, source, mesh)
    facts = facts_of(run, source)
    method = create_method(run, facts)
    params, stats, extra = jax.eval_shape(lambda: method.init(jax.random.key(0), facts))
    if jax.tree.leaves(extra) or "embeddings" not in output_shapes(method, facts):
        return {}, {}
    supply = open_supply(run, source, method, facts, mesh)
    trees = {name: backbone.all_params[name] for name in params}
    params, stats = jax.device_put((trees, {name: backbone.all_stats[name] for name in stats}), replicated(mesh))
    rows = output_shapes(method, facts)["embeddings"].shape
    count = min(-(-config.reading.cells // (rows[0] * rows[1])), facts.steps_per_epoch)
    with supply.prepared(count) as batches:
        found = collect(compile_outputs(method, mesh), params, stats, extra, batches)
    fields: dict[str, Any] = dict(embedding_spread(found.embeddings, found.image, config.seed))
    confusions = {}
    for name, (scores, answers) in found.tasks.items():
        right = scores.argmax(1) == answers
        fields[f"{name}_top1"] = float(right.mean())
        fields[f"{name}_top1_interval"] = list(accuracy_interval(int(right.sum()), len(right), config.seed))
        confusions[name] = confusion_matrix(scores.argmax(1), answers, scores.shape[1])
    return fields, confusions


def _run_config(config: ConfigDict, backbone: Backbone, source: Source, mesh: Mesh) -> ConfigDict:
    """The config of the run that trained the backbone, for batches of other images that are as large as there are images."""
    run = config_from_dict(backbone.run)
    with run.unlocked():
        run.data.augment, run.data.workers, run.data.on_error, run.data.min_side = "device", 0, config.eval_data.on_error, 1
        if "shuffle_group" in run.method:
            run.method.shuffle_group = 0
        most = min(run.batch_size, len(source)) // mesh.size * mesh.size
        run.batch_size, run.accumulate = most or mesh.size, 1
    return run
