"""Ranges of a training config's fields, checked before anything is written."""

import math

from ml_collections import ConfigDict

from jigclu_jax.errors import UserError

_AT_LEAST_ONE = ("batch_size", "log_every_steps", "eval_batch_size", "eval_every_epochs", "head.embedding_dim", "data.image_size")
_POSITIVE = ("epochs", "loss.temperature", "loss.base_temperature", "saving.every_epochs", "checkpoint.every_epochs")
_NOT_NEGATIVE = (
    "seed",
    "optimizer.learning_rate",
    "optimizer.momentum",
    "optimizer.weight_decay",
    "optimizer.warmup_epochs",
    "data.limit",
    "data.threads",
    "data.shuffle_group",
    "head.decouple_size",
)


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
    if config.data.augment != "host":
        raise UserError(f"config.data.augment={config.data.augment!r} is unknown: use 'host'")
    saving = config.saving if "saving" in config else config.checkpoint
    if saving.best_mode not in ("max", "min"):
        raise UserError(f"best_mode={saving.best_mode!r} is unknown: use 'max' or 'min'")


def check_best_metric(config: ConfigDict, names: tuple[str, ...]) -> None:
    """Refuse a best metric that the run does not measure.

    Raises:
      UserError: naming the metrics there are.
    """
    field = "saving" if "saving" in config else "checkpoint"
    metric = config[field].best_metric
    if metric and metric not in names:
        raise UserError(f"config.{field}.best_metric={metric!r} is not measured by this run: use one of {', '.join(names)}, or ''")


def _find(config: ConfigDict, name: str) -> float | None:
    node = config
    for part in name.split("."):
        if not isinstance(node, ConfigDict) or part not in node:
            return None
        node = node[part]
    return node if isinstance(node, int | float) else None
