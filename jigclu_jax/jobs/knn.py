"""Job `knn`: k-nearest-neighbour accuracy of the cached features of a frozen backbone."""

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.jobs.evaluations import knn_fields, run_evaluation
from jigclu_jax.run_scope import run_scope


@run_scope()
def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Classify by neighbours of `config.checkpoint` or `config.weights`; leaves config.json, result.json and report.html."""
    run_evaluation(config, workdir, knn_fields)
