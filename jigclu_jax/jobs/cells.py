"""The heads of a jigsaw-clustering checkpoint on montages of other images: where the location head is wrong, how embeddings are spread."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jigclu_jax.config import config_from_dict
from jigclu_jax.data.input.order import steps_per_epoch
from jigclu_jax.data.sources.opening import Source
from jigclu_jax.device.feed import prepared_batch
from jigclu_jax.device.mesh import replicated, to_device
from jigclu_jax.evals.bootstrap import accuracy_interval
from jigclu_jax.evals.confusion import confusion_matrix
from jigclu_jax.evals.embeddings import collect_cells, compile_cells
from jigclu_jax.evals.spread import alignment, effective_rank, positive_pairs, uniformity
from jigclu_jax.jobs.backbones import Backbone
from jigclu_jax.methods import PRETRAINING, create_method
from jigclu_jax.train.supply import open_supply


def location_fields(config: ConfigDict, backbone: Backbone, source: Source, mesh: Mesh) -> tuple[dict[str, Any], np.ndarray]:
    """(fields of result.json, confusion of positions) on montages of `source`, made and augmented as the run made its own.

    Raises:
      UserError: the images make no montage batch as the run wants them.
    """
    run = config_from_dict(backbone.run)
    run.data.augment, run.method.shuffle_group, run.data.on_error = "device", 0, config.eval_data.on_error
    run.data.min_side = 1
    most = min(run.batch_size, len(source)) // mesh.size * mesh.size
    run.batch_size = most or mesh.size
    run.online.head = False
    method = create_method(run, choices=PRETRAINING)
    per_epoch = steps_per_epoch(len(source), run.batch_size)
    supply = open_supply(run, source, method.view, per_epoch, mesh)
    cells = compile_cells(method, run.model.dtype, mesh)
    trees = {name: backbone.all_params[name] for name in ("backbone", "projection", "location")}
    params, stats = jax.device_put((trees, backbone.all_stats), replicated(mesh))
    count = min(-(-config.reading.cells // (run.batch_size * run.method.grid**2)), per_epoch)
    stream = supply.batches(0, count)
    try:
        batches = (prepared_batch(supply.feed, to_device(batch, mesh)) for batch in stream)
        rows, logits, image, location = collect_cells(cells, params, stats, batches)
    finally:
        stream.close()
    first, second = positive_pairs(image)
    right = logits.argmax(1) == location
    fields = {
        "location_patches": len(rows),
        "location_top1": float(right.mean()),
        "location_top1_interval": list(accuracy_interval(int(right.sum()), len(right), config.seed)),
        "rank_embeddings": effective_rank(rows),
        "uniformity_embeddings": uniformity(rows, config.seed),
        "alignment_embeddings": alignment(rows[first], rows[second]),
    }
    return fields, confusion_matrix(logits.argmax(1), location, run.method.grid**2)
