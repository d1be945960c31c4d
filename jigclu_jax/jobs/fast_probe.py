"""Job `fast_probe`: a grid of linear heads on the cached features of a frozen trunk."""

import time

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.device import distributed
from jigclu_jax.device.compilation import start_cache
from jigclu_jax.evals.check import check_features, check_probe
from jigclu_jax.jobs.banks import Features, open_sets
from jigclu_jax.jobs.evaluations import common_fields, of_random_trunk, probe_fields, say_result
from jigclu_jax.jobs.trunks import open_trunk, random_trunk
from jigclu_jax.report.evaluation_report import evaluation_page
from jigclu_jax.train.workdir import check_workdir, open_workdir, write_result


def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Probe the trunk of `config.checkpoint` or `config.weights`; leaves config.json, result.json and report.html."""
    distributed.start()
    start_cache()
    begun = time.monotonic()
    check_features(config)
    check_probe(config)
    check_workdir(workdir, config)
    trunk, sets = open_trunk(config), open_sets(config)
    features = Features(config, workdir)
    banks = features.of_sets(trunk, sets)
    fields = common_fields(config, trunk, banks, sets) | probe_fields(config, banks, sets)[0]
    if config.random_init:
        control = features.of_sets(random_trunk(trunk.model, config.seed), sets)
        fields |= of_random_trunk(probe_fields(config, control, sets)[0])
    if distributed.is_main():
        root = open_workdir(workdir, config)
        write_result(root, fields | {"seconds": time.monotonic() - begun})
        evaluation_page(root)
    say_result(fields)
