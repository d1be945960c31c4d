"""Fields of a config and their ranges, checked before anything is written."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jigclu_jax.config import prepare_config, pretrain_config, probe_config, saving_field
from jigclu_jax.config_evals import evaluate_config, fast_probe_config, knn_config
from jigclu_jax.config_override import field_names, nearest_field
from jigclu_jax.config_studies import ablation_config, compare_config, finetune_config
from jigclu_jax.errors import UserError

AUGMENT_PLACES = ("host", "device", "resident")
_COMPLETE = {
    "pretrain": pretrain_config,
    "probe": probe_config,
    "fast_probe": fast_probe_config,
    "knn": knn_config,
    "evaluate": evaluate_config,
    "finetune": finetune_config,
    "ablation": ablation_config,
    "compare": compare_config,
    "prepare": prepare_config,
}
_ALWAYS_THERE = {"seed", "data"}  # sections of every config that was ever stored
_AT_LEAST_ONE = (
    "batch_size",
    "accumulate",
    "log_every_steps",
    "eval_batch_size",
    "eval_every_epochs",
    "eval_data.resize",
    "eval_data.crop",
    "online.images",
    "online.neighbours",
    "online.eval_data.resize",
    "online.eval_data.crop",
    "head.embedding_dim",
    "data.image_size",
    "data.grid",
)
_POSITIVE = (
    "optimizer.epsilon",
    "optimizer.trust_coefficient",
    "epochs",
    "loss.temperature",
    "loss.base_temperature",
    "saving.every_epochs",
    "checkpoint.every_epochs",
)
_NOT_NEGATIVE = (
    "seed",
    "optimizer.learning_rate",
    "optimizer.momentum",
    "optimizer.weight_decay",
    "optimizer.warmup_epochs",
    "data.limit",
    "eval_data.limit",
    "data.threads",
    "data.workers",
    "data.shuffle_group",
    "data.resident_side",
    "data.dispatch_steps",
    "head.decouple_size",
    "head_multiplier",
    "search.epochs",
    "online.every_epochs",
    "online.rank_warning",
    "online.eval_data.limit",
)
STARTS = ("checkpoint", "weights", "random")


def check_fields(config: ConfigDict, where: str) -> None:
    """Refuse a config that is not as `jigclu_jax/config.py` lays it out for its job: a file may build its own, or be of another version.

    Args:
      config: with a `job`; an unknown job is left to `jobs.find_job`. Configs inside (those of a demo) are checked as well.
      where: the config's file, for messages.

    Raises:
      UserError: a field too many, a field too few, or one of another type.
    """
    for name in config:
        if isinstance(config[name], ConfigDict) and "job" in config[name]:
            check_fields(config[name], f"{where}, config.{name}")
    if config.job not in _COMPLETE:
        return
    complete = _COMPLETE[config.job]()
    names, known = field_names(config), field_names(complete)
    for name in names:
        if name not in known:
            raise UserError(f"{where}: config.{name} is no field of a {config.job} job: {nearest_field(name, known)}")
    for name in known:
        if name not in names:
            raise UserError(f"{where}: config.{name} is missing: start from {config.job}_config() of jigclu_jax.config")
        kind, value = type(_at(complete, name)), _at(config, name)
        accepted = (int, float) if kind is float else kind
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise UserError(f"{where}: config.{name}={value!r} is of type {type(value).__name__}, it must be {kind.__name__}")


def with_new_fields(tree: dict[str, Any]) -> dict[str, Any]:
    """A stored config (JSON types) with the fields that came after it was stored: their defaults keep what it computed.

    What lacks whole sections that every version had is left as it is, for `check_fields` to refuse.
    """
    filled = {name: with_new_fields(value) if isinstance(value, dict) and "job" in value else value for name, value in tree.items()}
    job = str(filled.get("job"))
    if job not in _COMPLETE or not filled.keys() >= _ALWAYS_THERE:
        return filled

    def fill(node: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        both = {name: fill(value, defaults[name]) if _are_groups(value, defaults.get(name)) else value for name, value in node.items()}
        return {**defaults, **both}

    return fill(filled, json.loads(_COMPLETE[job]().to_json()))


def _are_groups(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def check_run(config: ConfigDict) -> None:
    """Refuse numbers that no run can work with.

    Raises:
      UserError: naming the field, its value and its range.
    """
    for names, low, text in ((_AT_LEAST_ONE, 1, "at least 1"), (_POSITIVE, None, "greater than 0"), (_NOT_NEGATIVE, 0, "0 or more")):
        for name in names:
            value = _find(config, name)
            if value is None:
                continue
            good = math.isfinite(value) and (value > 0 if low is None else value >= low)
            if not good:
                raise UserError(f"config.{name}={value} must be {text}")
    if "profile" in config:
        profile_window(config.profile, 0)
    if "head" in config and config.head.decouple_size % config.data.grid:
        raise UserError(
            f"config.head.decouple_size={config.head.decouple_size} must be a multiple of config.data.grid={config.data.grid}, or 0"
        )
    if config.get("input", "montage") not in ("montage", "cells"):
        raise UserError(f"config.input={config.input!r} is unknown: use 'montage' or 'cells'")
    if not 0 <= config.get("ema_decay", 0.0) < 1:
        raise UserError(f"config.ema_decay={config.ema_decay} must be from 0 to below 1")
    _check_optimizer(config.optimizer)
    if config.data.augment not in AUGMENT_PLACES:
        raise UserError(f"config.data.augment={config.data.augment!r} is unknown: use 'host', 'device' or 'resident'")
    for field in ("data", "eval_data", "online.eval_data"):
        value = _at(config, f"{field}.on_error")
        if value not in (None, "stop", "skip"):
            raise UserError(f"config.{field}.on_error={value!r} is unknown: use 'stop' or 'skip'")
    field = saving_field(config)
    if config[field].best_mode not in ("max", "min"):
        raise UserError(f"config.{field}.best_mode={config[field].best_mode!r} is unknown: use 'max' or 'min'")


def _check_optimizer(config: ConfigDict) -> None:
    """Tuples of the optimizer: a command line cannot tell what belongs into an empty one."""

    def number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

    for name, good, text in (
        ("milestones", number, "numbers, as in 30,60"),
        ("betas", lambda beta: number(beta) and 0 <= beta < 1, "two numbers from 0 to below 1, as in 0.9,0.999"),
        ("no_decay", lambda pattern: isinstance(pattern, str), "patterns of paths, as in ('location/*',)"),
        (
            "multipliers",
            lambda pair: isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and number(pair[1]) and pair[1] >= 0,
            "pairs of a pattern of paths and a factor of 0 or more, as in (('backbone/*', 0.1),)",
        ),
    ):
        if not all(map(good, config[name])) or (name == "betas" and len(config[name]) != 2):
            raise UserError(f"config.optimizer.{name}={config[name]} must hold {text}")


def profile_window(text: str, done: int) -> tuple[int, int] | None:
    """First and last step of `config.profile`, counted from 1; None for "".

    Args:
      text: "A-B" for these steps, "N" for the N steps after the first of this process, which compiles.
      done: steps made before this process started.

    Raises:
      UserError: neither of these.
    """
    if not text:
        return None
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last:
        raise UserError(f"config.profile={text!r} is no span of steps: give 'A-B' for steps A to B, or 'N' for N steps after the first")
    return (first, last) if "-" in text else (done + 2, done + 1 + first)


def check_prepare(config: ConfigDict) -> None:
    """Refuse a prepare job that cannot work.

    Raises:
      UserError: naming the field, its value and its range.
    """
    if not config.output:
        raise UserError("config.output is empty: give the folder for the shards, --config.output=DIR")
    for name, choices in (("mode", ("write", "verify")), ("format", ("jpeg", "raw"))):
        if config[name] not in choices:
            raise UserError(f"config.{name}={config[name]!r} is unknown: use {' or '.join(map(repr, choices))}")
    for name, low, high in (("short_side", 1, 65_500), ("quality", 1, 100), ("shard_images", 1, 1 << 31), ("threads", 0, 1024)):
        if not low <= config[name] <= high:
            raise UserError(f"config.{name}={config[name]} must be from {low} to {high}")
    if config.data.on_error not in ("stop", "skip"):
        raise UserError(f"config.data.on_error={config.data.on_error!r} is unknown: use 'stop' or 'skip'")


def check_finetune(config: ConfigDict) -> None:
    """Refuse a start, a schedule, a search or controls of fine-tuning that cannot be.

    Raises:
      UserError: naming the field, its value and its range.
    """
    for name, choices in (("init", STARTS), ("schedule_as", ("meant", "coded"))):
        if config[name] not in choices:
            raise UserError(f"config.{name}={config[name]!r} is unknown: use {' or '.join(map(repr, choices))}")
    controls = control_names(config)
    for name in controls:
        if name not in ("random", "weights") or name == config.init or controls.count(name) > 1:
            raise UserError(
                f"config.controls={config.controls!r}: use 'random', 'weights' or 'random,weights', other starts than config.init"
            )
    starts = (config.init, *controls)
    for name, what in (("checkpoint", "the workdir of a pretraining run"), ("weights", "a file with the weights of a torchvision ResNet")):
        if name in starts and not config[name]:
            raise UserError(f"config.{name} is empty: give {what}, --config.{name}=PATH, or another config.init")
    if not 0 <= config.held_out < 1:
        raise UserError(f"config.held_out={config.held_out:g} must be 0 or a share below 1")
    if not 0 < config.search.held_out < 1:
        raise UserError(f"config.search.held_out={config.search.held_out:g} must lie between 0 and 1")
    for name in ("learning_rates", "weight_decays"):
        values = config.search[name]
        if not all(isinstance(value, int | float) and math.isfinite(value) and value >= 0 for value in values) or len(set(values)) < len(
            values
        ):
            raise UserError(f"config.search.{name}={tuple(values)} must be different numbers of 0 or more")
        if values and config.held_out:
            raise UserError(
                f"config.held_out={config.held_out:g} and config.search.{name} exclude each other: a search holds out by itself"
            )


def check_ablation(config: ConfigDict) -> None:
    """Refuse an ablation's own fields where they cannot work; its pretraining and judge are checked by their jobs.

    Raises:
      UserError: naming the field, its value and its range.
    """
    seeds = config.seeds
    if (
        not seeds
        or not all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
        or len(set(seeds)) < len(seeds)
    ):
        raise UserError(f"config.seeds={tuple(seeds)} must be different whole numbers of 0 or more, as in 0,1,2")
    for name in ("pretrain", "judge"):
        if "job" not in config[name]:
            raise UserError(f"config.{name} is no config of a job: start from ablation_config() of jigclu_jax.config_studies")
    if "checkpoint" not in config.judge or not config.figure:
        raise UserError("config.judge must be a job that reads a checkpoint, and config.figure a field of its result.json")


def control_names(config: ConfigDict) -> tuple[str, ...]:
    """The starts that `config.controls` of fine-tuning names."""
    return tuple(name.strip() for name in config.controls.split(",") if name.strip())


def check_best_metric(config: ConfigDict, names: tuple[str, ...]) -> None:
    """Refuse a best metric that the run does not measure.

    Raises:
      UserError: naming the metrics there are.
    """
    field = saving_field(config)
    metric = config[field].best_metric
    if metric and metric not in names:
        raise UserError(f"config.{field}.best_metric={metric!r} is not measured by this run: use one of {', '.join(names)}, or ''")


def _find(config: ConfigDict, name: str) -> float | None:
    value = _at(config, name)
    return value if isinstance(value, int | float) else None


def _at(config: ConfigDict, name: str) -> Any:
    """The value of a dotted path, None where there is none."""
    node: Any = config
    for part in name.split("."):
        if not isinstance(node, ConfigDict) or part not in node:
            return None
        node = node[part]
    return node
