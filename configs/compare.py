"""Any number of runs side by side in one page: figures over seeds, where their configurations differ, curves laid over each other.

    python -m jigclu_jax --config=configs/compare.py --workdir=runs/compared --config.runs=runs/a,runs/b
    python -m jigclu_jax --config=configs/compare.py --workdir=runs/compared_seeds --config.runs=runs/cifar10_seed*

Runs that differ by their seed alone are put together: mean, deviation, interval. A workdir that is missing or damaged is named, and
left out. Every sort of job can stand beside every other.

Hardware: anything; a few seconds. Expected: runs/compared/report.html.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import compare_config, parse_arg


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: none; the runs are given as --config.runs."""
    parse_arg(arg)
    return compare_config()
