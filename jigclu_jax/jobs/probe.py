"""Job `probe`: how good a linear classifier on the frozen trunk of a pretraining run is."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.config_check import check_best_metric, check_run
from jigclu_jax.data.eval_stream import EvalStream
from jigclu_jax.data.sources import Source
from jigclu_jax.device import distributed
from jigclu_jax.device.compilation import start_cache
from jigclu_jax.device.mesh import check_batch, replicated
from jigclu_jax.errors import UserError
from jigclu_jax.evals.classification import compile_counts, evaluate
from jigclu_jax.evals.frozen import digest
from jigclu_jax.evals.scale import feature_size
from jigclu_jax.jobs.reporting import report_probe
from jigclu_jax.jobs.training import Training, open_images, prepare_training, run_training, training_result
from jigclu_jax.methods import PROBES, Tree, create_method
from jigclu_jax.methods.linear import LinearProbe
from jigclu_jax.train.checkpoint import read_checkpoint, weights
from jigclu_jax.train.loop import EpochHook, Trained
from jigclu_jax.train.state import TrainState
from jigclu_jax.train.workdir import check_workdir, write_result
from jigclu_jax.train.writers import read_metrics


def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Probe the checkpoint in `config.checkpoint`; leaves the files of a training job and the accuracies in result.json."""
    distributed.start()
    start_cache()
    if not config.checkpoint:
        raise UserError("config.checkpoint is empty: give the workdir of a pretraining run, --config.checkpoint=DIR")
    step, meta, tree = read_checkpoint(config.checkpoint, config.checkpoint_which)
    params, stats = weights(tree, meta, config.checkpoint_weights, f"config.checkpoint={config.checkpoint}")
    if "trunk" not in params:
        raise UserError(f"config.checkpoint={config.checkpoint} is the workdir of a {meta['config']['job']} job: give a pretraining run's")
    config = _with_trunk(config, meta["config"]["model"])
    check_run(config)
    check_workdir(workdir, config)
    source = open_images(config, "data")
    if source.classes is None:
        raise UserError(f"{source.name} has no labels, and a probe needs them: give folders split/class/file, or a label array")
    eval_source = open_eval_source(config, source)
    method = create_method(config, len(source.classes), choices=PROBES)
    check_best_metric(config, ("probe_top1", "probe_top5", *method.metric_names))
    training = prepare_training(config, method, source)
    check_batch(config.eval_batch_size, training.mesh, "eval_batch_size")
    hook = _evaluation(training, method, eval_source)
    trunk = {"params": params["trunk"], "stats": stats["trunk"]}
    start = training.initial_state()
    _check_shapes(start.extra["trunk"], trunk, config)
    probed = dataclasses.replace(start, extra=start.extra | {"trunk": jax.device_put(trunk, replicated(training.mesh))})
    # the same rate for both: a random trunk's features are of another size, and a rate that suits one would hold the other back
    scale = _relative_size(training, method, probed, start) if config.random_init else 1.0
    trained = _probe(training, workdir, probed, hook)
    figures = _figures(workdir, "")
    if config.random_init:
        control = epath.Path(workdir) / "random_init"
        random = training.initial_state()
        _probe(training, control, dataclasses.replace(random, extra=random.extra | {"scale": scale * random.extra["scale"]}), hook)
        figures |= _figures(control, "_random_init")
    if distributed.is_main():
        result = training_result(training, workdir, trained) | figures
        write_result(workdir, result | {"checkpoint": str(config.checkpoint), "checkpoint_step": step, "trunk_unchanged": True})
        report_probe(workdir, len(source.classes))


def _probe(training: Training, workdir: epath.PathLike, start: TrainState, hook: EpochHook) -> Trained:
    """Train the linear layer from a state that holds the trunk, and make sure that the trunk did not move."""
    before = digest(start.extra["trunk"])
    trained = run_training(training, workdir, start=start, identity={"trunk": before}, epoch_hooks=(hook,))
    if digest(trained.state.extra["trunk"]) != before:
        raise RuntimeError("the frozen trunk has changed during the probe: its figures are void; this is a fault of the program")
    return trained


def _relative_size(training: Training, method: LinearProbe, probed: TrainState, random: TrainState) -> jax.Array:
    """Size of the probed trunk's features beside the random trunk's, on the first training batch."""
    image = training.supply.first()["image"]
    return feature_size(method.features, probed.extra, image) / feature_size(method.features, random.extra, image)


def _evaluation(training: Training, method: LinearProbe, eval_source: Source) -> EpochHook:
    """After an epoch: top-1 and top-5 on the evaluation images."""
    config, mesh = training.config, training.mesh
    counts_fn = compile_counts(method.predict, mesh)

    def hook(step: int, state: TrainState) -> Mapping[str, float]:
        epoch = step // training.plan.steps_per_epoch
        if epoch % config.eval_every_epochs and step != training.plan.total_steps:
            return {}
        batches = EvalStream(
            eval_source, config.eval_data, batch_size=config.eval_batch_size, host=jax.process_index(), hosts=jax.process_count()
        )
        try:
            found = evaluate(counts_fn, state.params, state.stats, state.extra, batches, mesh)
        finally:
            batches.close()
        return {"probe_top1": found["top1"], "probe_top5": found["top5"]}

    return hook


def _figures(workdir: epath.PathLike, suffix: str) -> dict[str, Any]:
    """Last and best accuracies from the rows of metrics.jsonl, which a resumed run shares with its earlier parts."""
    rows = [row for row in read_metrics(workdir) if row.get("probe_top1") is not None]
    best = max(rows, key=lambda row: row["probe_top1"])
    if suffix:
        return {f"probe_top1{suffix}": rows[-1]["probe_top1"], f"probe_top1_best{suffix}": best["probe_top1"]}
    return {
        "probe_top1_last": rows[-1]["probe_top1"],
        "probe_top1_best": best["probe_top1"],
        "probe_top5_last": rows[-1]["probe_top5"],
        "probe_top5_best": max(row["probe_top5"] for row in rows),
        "probe_best_epoch": best["epoch"],
    }


def _with_trunk(config: ConfigDict, trained: Mapping[str, Any]) -> ConfigDict:
    """The config with the checkpoint's trunk filled in where it leaves it open."""
    config = config.copy_and_resolve_references()
    for name in ("arch", "stem", "width"):
        wanted = config.model[name]
        if wanted and wanted != trained[name]:
            raise UserError(
                f"config.checkpoint={config.checkpoint} belongs to another trunk: its model.{name} is {trained[name]!r}, "
                f"config.model.{name} is {wanted!r}; leave that field out to take the checkpoint's"
            )
        config.model[name] = trained[name]
    return config


def open_eval_source(config: ConfigDict, train: Source) -> Source:
    """The evaluation images, labels numbered as in training; fields of `eval_data` left empty are those of `data`."""
    config = config.copy_and_resolve_references()
    for name in ("source", "path", "name", "data_dir"):
        config.eval_data[name] = config.eval_data[name] or config.data[name]
    return open_images(config, "eval_data", train.classes)


def _check_shapes(expected: Tree, trunk: Tree, config: ConfigDict) -> None:
    want, found = (
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)} for tree in (expected, trunk)
    )
    if want != found:
        names = sorted(want.items() ^ found.items())
        raise UserError(f"config.checkpoint={config.checkpoint} belongs to another trunk than {config.model.arch}: {names[0][0]} differs")
