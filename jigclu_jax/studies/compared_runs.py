"""Reads the runs of a comparison, groups those that differ by their seed alone, and summarises their results."""

import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from jigclu_jax.atomic_file import is_remote
from jigclu_jax.config import read_config
from jigclu_jax.errors import UserError, one_line
from jigclu_jax.report.workdir_files import Run, is_fraction, read_run
from jigclu_jax.studies.seeds import Summary, summarise, verdict
from jigclu_jax.train.workdir import config_as_dict, flatten

# of a result: about the run and not about its outcome
_NO_FIGURES = (
    *("seed", "checkpoint_step", "images_skipped", "classes", "head_multiplier", "held_out"),
    *("train_images", "eval_images", "test_images", "watched_images", "held_out_images"),
)
# of a config: where and how a run was done, and its seed
NO_DIFFERENCE = (
    "seed",
    "log_every_steps",
    "force_config",
    "grown_data",
    "log.tensorboard",
    "log.pictures",
    "log.tracker",
    "log.project",
    "data.threads",
    "data.workers",
    "cache",
)


@dataclasses.dataclass(frozen=True)
class Compared:
    """One run: its name on the page, its files, its config flat, and the group of runs that differ from it by their seed alone."""

    name: str
    run: Run
    fields: Mapping[str, Any]
    group: str


def read_runs(names: Sequence[str]) -> tuple[list[Compared], list[str]]:
    """The runs that can be read, and one line on each of the others."""
    runs, broken = [], []
    short = _short_names(names)
    first: dict[str, str] = {}
    repeats: dict[tuple[str, str], int] = {}
    for name in names:
        twice = first.setdefault(name if is_remote(name) else str(epath.Path(name).resolve()), name)
        if twice != name:
            broken.append(f"{name} is the same workdir as {twice}")
            continue
        if not (epath.Path(name) / "config.json").exists():
            broken.append(f"{name} does not exist, or is no workdir of a run: there is no config.json in it")
            continue
        try:
            config = config_as_dict(read_config(name))
            run = read_run(name)
        except UserError as error:
            broken.append(str(error).removeprefix("--workdir="))
            continue
        except (ValueError, OSError) as error:  # a damaged result.json or picture
            broken.append(f"{name}: cannot be read: {one_line(error)}")
            continue
        if not isinstance(run.result, dict):
            broken.append(f"{name}: its result.json holds no result")
            continue
        if not run.result and not run.rows:
            broken.append(f"{name}: has neither a result nor a logged step yet")
            continue
        # of one backbone, two checkpoints; and a run that was made twice with the same seeds is no second seed
        fields, seeds = identity(config)
        group = f"{fields} {run.result.get('checkpoint_step')}"
        repeat = repeats[group, seeds] = repeats.get((group, seeds), 0) + 1
        runs.append(Compared(short[name], run, flatten(config), f"{group} {repeat}"))
    return runs, broken


def differences(runs: Sequence[Compared]) -> list[tuple[str, list[Any]]]:
    """The fields with more than one value among the configs that have them, with every run's value; None where a config has not."""
    names = dict.fromkeys(name for run in runs for name in run.fields)
    found = []
    for name in names:
        own = [run.fields[name] for run in runs if name in run.fields]
        if any(value != own[0] for value in own):
            found.append((name, [run.fields.get(name) for run in runs]))
    return found


def compared(runs: Sequence[Compared]) -> list[dict[str, Any]]:
    """Each group of runs that differ by their seed alone: its runs, seeds, and every result's mean, deviation and interval.

    The verdict of a result is against the first group that has it.
    """
    groups: dict[str, list[Compared]] = {}
    for run in runs:
        groups.setdefault(run.group, []).append(run)
    found: list[dict[str, Any]] = []
    references: dict[str, Summary] = {}
    for members in groups.values():
        entry: dict[str, Any] = {
            "runs": [run.name for run in members],
            "seeds": [run.run.result.get("seed") for run in members],
            "results": {},
        }
        for name in dict.fromkeys(name for run in members for name in outcomes(run.run.result)):
            own = [run.run.result for run in members if name in outcomes(run.run.result)]
            summary = summarise([result[name] for result in own], interval(own[0].get(f"{name}_interval")), fraction=is_fraction(name))
            reference = references.setdefault(name, summary)
            said = "reference" if reference is summary else verdict(summary, reference)
            entry["results"][name] = dataclasses.asdict(summary) | {"verdict": said}
        found.append(entry)
    return found


def outcomes(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a result that are an outcome."""
    return {
        name: value
        for name, value in result.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in _NO_FIGURES
    }


def interval(value: Any) -> tuple[float, float] | None:
    """Two numbers as a result holds them, None for anything else."""
    good = isinstance(value, list) and len(value) == 2 and all(isinstance(end, int | float) for end in value)
    return (value[0], value[1]) if good else None


def identity(config: Mapping[str, Any], depth: int = 3) -> tuple[str, str]:
    """(a text, the same for two runs exactly where nothing but seeds differs, in their backbones' runs neither; those seeds).

    `config` is nested or flat.
    """
    every = flatten(config)
    seeds = {name: value for name, value in every.items() if name == "seed" or name.endswith(".seed")}
    rest = {name: value for name, value in every.items() if name not in NO_DIFFERENCE and name not in seeds}
    backbone = every.get("checkpoint")
    if isinstance(backbone, str) and backbone and depth:
        # gone or elsewhere: its path tells it apart
        with contextlib.suppress(UserError, OSError):
            rest["checkpoint"], seeds["checkpoint"] = identity(config_as_dict(read_config(backbone)), depth - 1)
    return json.dumps(rest, sort_keys=True), json.dumps(seeds, sort_keys=True)


def _short_names(names: Sequence[str]) -> dict[str, str]:
    """The names without the folders that all of them share."""
    parts = [name.split("/") for name in names]
    shared = 0
    while len(names) > 1 and all(len(part) > shared + 1 and part[shared] == parts[0][shared] for part in parts):
        shared += 1
    return {name: "/".join(part[shared:]) if len(names) > 1 else part[-1] for name, part in zip(names, parts, strict=True)}
