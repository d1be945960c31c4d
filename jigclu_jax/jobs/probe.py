"""Job `probe`: train a linear classifier on the frozen backbone of a pretraining run."""

import dataclasses
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.config import check_best_metric, check_config
from jigclu_jax.data.sources.opening import why_unlabelled
from jigclu_jax.device import distributed
from jigclu_jax.device.compilation import start_cache
from jigclu_jax.device.mesh import check_batch, replicated
from jigclu_jax.errors import UserError
from jigclu_jax.evals.frozen import digest
from jigclu_jax.evals.scale import feature_size
from jigclu_jax.jobs.accuracy import accuracy_hook, accuracy_results, open_eval_source
from jigclu_jax.jobs.backbones import checkpoint_backbone, with_model
from jigclu_jax.jobs.reporting import report, say_result
from jigclu_jax.methods import create_method
from jigclu_jax.methods.linear import LinearProbe
from jigclu_jax.train.loop import EpochHook, Trained
from jigclu_jax.train.run import Training, facts_of, open_images, prepare_training, run_training, training_result
from jigclu_jax.train.state import TrainState
from jigclu_jax.train.workdir import check_workdir, write_result


def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Probe the checkpoint in `config.checkpoint`; leaves the files of a training job and the accuracies in result.json.

    Raises:
      UserError: no checkpoint, no labels, or anything else of the config or the images that cannot work.
    """
    distributed.start()
    start_cache()
    if not config.checkpoint:
        raise UserError("config.checkpoint is empty: give the workdir of a pretraining run, --config.checkpoint=DIR")
    backbone = checkpoint_backbone(config)
    config = with_model(config, backbone)
    check_config(config)
    check_workdir(workdir, config)
    source = open_images(config, "data")
    if source.classes is None:
        raise UserError(f"config.data: {source.name} has no labels, and a probe needs them: {why_unlabelled(source)}")
    eval_source = open_eval_source(config, source)
    method = create_method(config, facts_of(config, source))
    check_best_metric(config, ("probe_top1", "probe_top5", *(spec.name for spec in method.metrics)))
    training = prepare_training(config, method, source)
    check_batch(config.eval_batch_size, training.mesh, "eval_batch_size")
    hook = accuracy_hook(training, method, eval_source, "probe")
    start = training.initial_state()
    weights = jax.device_put({"params": backbone.params, "stats": backbone.stats}, replicated(training.mesh))
    probed = dataclasses.replace(start, extra=start.extra | {"backbone": weights})
    # the same rate for both: a random backbone's features are of another size, and a rate that suits one would hold the other back
    scale = _relative_size(training, method, probed, start) if config.random_init else 1.0
    trained = _probe(training, workdir, probed, hook)
    results = accuracy_results(workdir, "probe", eval_source, config.seed)
    if config.random_init:
        control = epath.Path(workdir) / "random_init"
        random = training.initial_state()
        _probe(training, control, dataclasses.replace(random, extra=random.extra | {"scale": scale * random.extra["scale"]}), hook)
        results |= _of_random_backbone(accuracy_results(control, "probe", eval_source, config.seed))
    if distributed.is_main():
        result = training_result(training, workdir, trained) | results
        write_result(workdir, result | {"checkpoint": str(config.checkpoint), "checkpoint_step": backbone.step, "backbone_unchanged": True})
        report(workdir)
        say_result(result)


def _probe(training: Training, workdir: epath.PathLike, start: TrainState, hook: EpochHook) -> Trained:
    """Train the linear layer from a state that holds the backbone, and make sure that the backbone did not move."""
    before = digest(start.extra["backbone"])
    trained = run_training(training, workdir, start=start, identity={"backbone": before}, epoch_hooks=(hook,))
    if digest(trained.state.extra["backbone"]) != before:
        raise RuntimeError("the frozen backbone has changed during the probe: its results are void; this is a fault of the program")
    return trained


def _relative_size(training: Training, method: LinearProbe, probed: TrainState, random: TrainState) -> jax.Array:
    """Size of the probed backbone's features beside the random backbone's, on the first training batch."""
    image = training.supply.first()[method.views[0].name]["image"][:, 0]
    return feature_size(method.features, probed.extra, image) / feature_size(method.features, random.extra, image)


def _of_random_backbone(found: dict[str, Any]) -> dict[str, Any]:
    """The top-1 accuracies of the random backbone, named as such."""
    names = {"probe_top1_last": "probe_top1_random_init", "probe_top1_best": "probe_top1_best_random_init"}
    return {f"{new}{end}": found[f"{old}{end}"] for old, new in names.items() for end in ("", "_interval")}
