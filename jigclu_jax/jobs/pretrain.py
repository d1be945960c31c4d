"""Job `pretrain`: train a backbone, with jigsaw clustering or with labels."""

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.config import check_best_metric, check_config
from jigclu_jax.device import distributed
from jigclu_jax.device.compilation import start_cache
from jigclu_jax.jobs.reporting import report, save_pictures
from jigclu_jax.jobs.watching import open_watch
from jigclu_jax.methods import PRETRAINING, create_method
from jigclu_jax.methods.online import with_online_head
from jigclu_jax.train.run import open_images, prepare_training, run_training, training_result
from jigclu_jax.train.workdir import check_workdir, write_result


def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Pretrain as the config says; leaves config.json, checkpoints/, metrics.jsonl, tensorboard/, result.json, report.html."""
    distributed.start()
    start_cache()
    check_config(config)
    check_workdir(workdir, config)
    source = open_images(config, "data")
    classes = len(source.classes or ())
    method = with_online_head(config, create_method(config, classes, choices=PRETRAINING), classes)
    watch = open_watch(config, method, source)
    watched = watch.metric_names if watch else ()
    check_best_metric(config, (*method.metric_names, "gradient_norm", "learning_rate", *watched))
    training = prepare_training(config, method, source)
    hooks = (watch.hook(training),) if watch else ()
    trained = run_training(training, workdir, begin=lambda root: save_pictures(training, root), epoch_hooks=hooks)
    if distributed.is_main():
        write_result(workdir, training_result(training, workdir, trained))
        report(workdir)
