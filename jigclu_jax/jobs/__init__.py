"""Jobs, selected by `config.job`: each reads a config and wires the rooms of the library together."""

import importlib
from types import ModuleType

from jigclu_jax.config.jobs import JOBS
from jigclu_jax.errors import UserError

_STUDIES = ("ablation", "compare")  # made of many runs: they stand behind the jobs, in `studies/`


def find_job(name: str) -> ModuleType:
    """The module of a job: `run(config, workdir)` does it.

    Raises:
      UserError: there is no such job.
    """
    if name not in JOBS:
        raise UserError(f"config.job={name!r} is unknown: use one of {', '.join(JOBS)}")
    return importlib.import_module(f"jigclu_jax.{'studies' if name in _STUDIES else 'jobs'}.{name}")
