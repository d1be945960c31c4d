"""Job `fast_probe`: a grid of linear heads on the cached features of a frozen backbone."""

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.jobs.evaluations import probe_fields, run_evaluation
from jigclu_jax.run_scope import run_scope


@run_scope()
def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Probe the backbone of `config.checkpoint` or `config.weights`; leaves config.json, result.json and report.html."""
    run_evaluation(config, workdir, probe_fields)
