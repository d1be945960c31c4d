"""Job `pretrain`: train a backbone by the method that `config.method` names."""

from collections.abc import Callable

import jax
import numpy as np
from etils import epath
from jaxtyping import Float32
from ml_collections import ConfigDict

from jigclu_jax.config import check_best_metric, check_config
from jigclu_jax.data.input.evaluation import EvalStream
from jigclu_jax.device import distributed
from jigclu_jax.device.compilation import start_cache
from jigclu_jax.errors import UserError
from jigclu_jax.evals.features import compile_features, compute_features
from jigclu_jax.jobs.backbones import Backbone, starting_backbone, with_backbone
from jigclu_jax.jobs.export import export_last
from jigclu_jax.jobs.reporting import live_page, report, save_pictures
from jigclu_jax.jobs.watching import open_watch
from jigclu_jax.methods import create_method
from jigclu_jax.models import build_backbone
from jigclu_jax.run_scope import run_scope
from jigclu_jax.train.holding import held_workdir
from jigclu_jax.train.memory import check_pass
from jigclu_jax.train.online import with_online_head
from jigclu_jax.train.run import Training, facts_of, metric_specs, open_images, prepare_training, run_training, training_result
from jigclu_jax.train.state import TrainState
from jigclu_jax.train.workdir import config_as_dict, write_result

_BATCH = 256  # images a batch of the backbone's pass over the whole set


@run_scope()
def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Pretrain as the config says; leaves config.json, checkpoints/, metrics.jsonl, tensorboard/, result.json, report.html."""
    distributed.start()
    start_cache()
    check_config(config)
    with held_workdir(workdir, config):
        _pretrain(config, workdir)


def _pretrain(config: ConfigDict, workdir: epath.PathLike) -> None:
    source = open_images(config, "data")
    facts = facts_of(config, source)
    method = create_method(config, facts)
    if not method.trains_backbone:
        raise UserError(f"config.method.name={config.method.name!r} trains no backbone: it belongs to another job than pretrain")
    if config.online.head:
        method = with_online_head(method, facts, build_backbone(config.model).dim)
    watch = open_watch(config, method, facts, source)
    check_best_metric(config, tuple(spec.name for spec in (*metric_specs(method, ()), *(watch.metrics if watch else ()))))
    backbone = starting_backbone(config)
    training = prepare_training(config, method, source)
    if watch or method.works_between_epochs:
        check_pass(config.model, _BATCH, config.online.eval_data.crop, training.mesh, "config.online.eval_data.crop")
    start = None if backbone is None else with_backbone(training.initial_state(), backbone)
    trained = run_training(
        training,
        workdir,
        start=start,
        identity={} if backbone is None else {"backbone": backbone.digest},
        begin=lambda root: save_pictures(training, root),
        features_of=features_of(training) if method.works_between_epochs else None,
        epoch_hooks=(*((watch.hook(training),) if watch else ()), *live_page(config.report.every, training.plan, workdir)),
    )
    if distributed.is_main():
        started = {"init": backbone and {"origin": backbone.origin, "report": list(backbone.imported)}}
        write_result(workdir, training_result(training, workdir, trained) | started)
        report(workdir)
        export_last(workdir, _trained_backbone(training, workdir, trained.state))


def _trained_backbone(training: Training, workdir: epath.PathLike, state: TrainState) -> Backbone:
    params, stats = jax.device_get((state.params["backbone"], state.stats["backbone"]))
    config = config_as_dict(training.config)
    model = {name: config["model"][name] for name in ("arch", "stem", "width")}
    return Backbone(params, stats, model, f"{workdir}, step {int(state.step)}", run=config, classes=training.facts.classes)


def features_of(training: Training) -> Callable[[TrainState], Float32[np.ndarray, "n d"]]:
    """Frozen features of the whole data set with a state's weights, resized and cropped as `config.online.eval_data` says.

    Rows of images that cannot be used (data.on_error=skip) are 0.
    """
    config, source, mesh = training.config, training.source, training.mesh
    forward = compile_features(config.model.to_dict(), mesh)
    sizes = config.online.eval_data.copy_and_resolve_references()
    sizes.on_error, sizes.min_side = config.data.on_error, 1
    batch_size = _BATCH // mesh.size * mesh.size or mesh.size

    def found(state: TrainState) -> Float32[np.ndarray, "n d"]:
        batches = EvalStream(source, sizes, batch_size=batch_size, host=jax.process_index(), hosts=jax.process_count(), group="data")
        try:
            bank = compute_features(forward, state.params["backbone"], state.stats["backbone"], batches, mesh)
        finally:
            batches.close()
        rows = np.zeros((len(source), bank.features.shape[1]), np.float32)
        rows[bank.indices] = bank.features
        return rows

    return found
