"""Checks a config against the fields of its job: names, types, ranges and choices.

What depends on two fields or on the data is checked where it is used.
"""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from jigclu_jax.config.fields import Field, flat
from jigclu_jax.config.jobs import fields_of, method_name
from jigclu_jax.config.stored import RENAMED
from jigclu_jax.errors import UserError, one_line


def check_config(config: ConfigDict, where: str = "") -> None:
    """Refuse a config that is not as its job wants it: a file may build its own, or be of another version.

    Args:
      config: with a `job`. Configs inside (those of a demo) are checked as well.
      where: the config's file, for messages.

    Raises:
      UserError: an unknown job or method, a field too many, one too few, one of another type, or a value out of its range.
    """
    _check(config, f"{where}: " if where else "", "config.")


def _check(config: ConfigDict, where: str, prefix: str) -> None:
    try:
        known = flat(fields_of(config.job, method_name(config)))
    except UserError as error:
        raise UserError(where + str(error).replace("config.", prefix, 1)) from None
    found = dict(_flat(config))
    for name in found:
        if name not in known:
            raise UserError(f"{where}{prefix}{name} is no field of a {config.job} job: {meant(name, list(known), prefix)}")
    for name, field in known.items():
        if name not in found:
            raise UserError(f"{where}{prefix}{name} is missing: start from {config.job}_config() of jigclu_jax.config")
        if not isinstance(field, Field):
            if not (isinstance(found[name], ConfigDict) and "job" in found[name]):
                raise UserError(f"{where}{prefix}{name} is no config of a job: start from {config.job}_config() of jigclu_jax.config")
            _check(found[name], where, f"{prefix}{name}.")
        elif problem := field.problem(found[name]):  # a value may be the command line's, a type is the file's
            raise UserError(f"{'' if field.of_type(found[name]) else where}{prefix}{name}={one_line(repr(found[name]))} {problem}")


def meant(name: str, known: Sequence[str], prefix: str = "config.") -> str:
    """Which field was meant: the new name of an old one, one of that name in another group, else one that is spelt alike."""
    if RENAMED.get(name) in known:
        return f"it is called {prefix}{RENAMED[name]} now"
    leaf = name.rpartition(".")[2]
    same = [field for field in known if field.rpartition(".")[2] == leaf]
    close = same or difflib.get_close_matches(name, known, 1, 0.6)
    if not close:
        leaves = {field.rpartition(".")[2]: field for field in reversed(known)}
        close = [leaves[found] for found in difflib.get_close_matches(leaf, leaves, 1, 0.6)]
    return f"did you mean {prefix}{close[0]}?" if close else "jigclu_jax/config/jobs.py lists the fields"


def check_best_metric(config: ConfigDict, names: tuple[str, ...]) -> None:
    """Refuse a best metric that the run does not measure.

    Raises:
      UserError: naming the metrics there are.
    """
    metric = config.saving.best_metric
    if metric and metric not in names:
        raise UserError(f"config.saving.best_metric={metric!r} is not measured by this run: use one of {', '.join(names)}, or ''")


def _flat(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name in config:
        value = config[name]
        if isinstance(value, ConfigDict) and len(value) and "job" not in value:  # a config inside is one value
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
