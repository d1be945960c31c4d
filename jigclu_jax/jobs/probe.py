"""Job `probe`: train a linear classifier on the frozen backbone of a pretraining run, and of one with random weights if wanted."""

import dataclasses
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.config import check_config
from jigclu_jax.device import distributed
from jigclu_jax.device.compilation import start_cache
from jigclu_jax.evals.scale import feature_size
from jigclu_jax.jobs.backbones import Backbone, check_origin, open_backbone, origin_fields, with_model
from jigclu_jax.jobs.classifier import Classification, open_labelled, prepare_classification
from jigclu_jax.jobs.reporting import report, say_result
from jigclu_jax.methods import Classifier
from jigclu_jax.run_scope import run_scope
from jigclu_jax.train.holding import held_workdir
from jigclu_jax.train.state import TrainState
from jigclu_jax.train.workdir import write_result


@run_scope()
def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Probe the backbone of `config.checkpoint` or `config.weights`; leaves the files of a training job and the accuracies in result.json.

    Raises:
      UserError: no checkpoint, no labels, or anything else of the config or the images that cannot work.
    """
    distributed.start()
    start_cache()
    check_origin(config)
    backbone = open_backbone(config)
    config = with_model(config, backbone)
    check_config(config)
    with held_workdir(workdir, config):
        _probe(config, workdir, backbone)


def _probe(config: ConfigDict, workdir: epath.PathLike, backbone: Backbone) -> None:
    probe = prepare_classification(config, workdir, *open_labelled(config))
    probed = probe.start(backbone)
    # the same rate for both: a random backbone's features are of another size, and a rate that suits one would hold the other back
    scale = _relative_size(probe, probed) if config.random_init else 1.0
    result = probe.train(workdir, probed)
    if config.random_init:
        random = probe.start(None)
        control = dataclasses.replace(random, extra=random.extra | {"scale": scale * random.extra["scale"]})
        result |= _of_random_backbone(probe.train(epath.Path(workdir) / "random_init", control))
    if distributed.is_main():
        write_result(workdir, result | origin_fields(config, backbone) | {"backbone_unchanged": True})
        report(workdir)
        say_result(result)


def _relative_size(probe: Classification, probed: TrainState) -> jax.Array:
    """Size of the probed backbone's features beside the random backbone's, on the first training batch."""
    method = probe.training.method
    image = probe.training.supply.first()[method.views[0].name]["image"][:, 0]

    assert isinstance(method, Classifier)

    def features(state: TrainState, image: jax.Array) -> jax.Array:
        return method.features(state.params, state.stats, state.extra, image, False)[0]

    return feature_size(features, probed, image) / feature_size(features, probe.start(None), image)


def _of_random_backbone(found: dict[str, Any]) -> dict[str, Any]:
    """The top-1 accuracies of the random backbone, named as such."""
    names = {"probe_top1_last": "probe_top1_random_init", "probe_top1_best": "probe_top1_best_random_init"}
    return {f"{new}{end}": found[f"{old}{end}"] for old, new in names.items() for end in ("", "_interval")}
