"""Job `pretrain`: train a trunk, with jigsaw clustering or with labels."""

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.config_check import check_best_metric
from jigclu_jax.data.sources import open_source
from jigclu_jax.device import distributed
from jigclu_jax.jobs.reporting import report_pretraining
from jigclu_jax.jobs.training import prepare_training, run_training, training_result
from jigclu_jax.methods import create_method
from jigclu_jax.train.workdir import write_result


def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Pretrain as the config says; leaves config.json, checkpoints/, metrics.jsonl, tensorboard/, result.json, report.html."""
    distributed.start()
    source = open_source(config.data, seed=config.seed)
    method = create_method(config, len(source.classes or ()))
    check_best_metric(config, method.metric_names)
    training = prepare_training(config, method, source)
    trained = run_training(training, workdir)
    if distributed.is_main():
        write_result(workdir, training_result(training, workdir, trained))
        report_pretraining(config, workdir, source)
