"""Checks the fields of an evaluation's config before anything is computed."""

import math
from collections.abc import Sequence

from ml_collections import ConfigDict

from jigclu_jax.errors import UserError

CHECKS = ("ridge", "lbfgs")


def check_features(config: ConfigDict) -> None:
    """Refuse fields of an evaluation on features that cannot work.

    Raises:
      UserError: naming the field, its value and its range.
    """
    _at_least(config, 0, "seed", "data.limit", "eval_data.limit")
    _at_least(config, 1, "eval_batch_size", "eval_data.resize", "eval_data.crop")
    for group in ("data", "eval_data"):
        if config[group].on_error not in ("stop", "skip"):
            raise UserError(f"config.{group}.on_error={config[group].on_error!r} is unknown: use 'stop' or 'skip'")
    check_origin(config)


def check_origin(config: ConfigDict) -> None:
    """Refuse a backbone from two places, or from none; UserError names the fields."""
    if bool(config.checkpoint) == bool(config.weights):
        which = "both are set" if config.checkpoint else "both are empty"
        raise UserError(
            f"config.checkpoint and config.weights: {which}; give one of them, a pretraining run's workdir "
            "(--config.checkpoint=DIR) or a file of weights (--config.weights=FILE)"
        )


def check_probe(config: ConfigDict) -> None:
    """Refuse a grid of heads (`config.probe`) that cannot be trained; UserError names the field."""
    probe = config.probe
    _at_least(config, 1, "probe.epochs", "probe.batch_size")
    for name in ("learning_rates", "weight_decays"):
        values = probe[name]
        if not values or not _numbers(values) or any(not math.isfinite(value) or value < 0 for value in values):
            raise UserError(f"config.probe.{name}={values} must be one number or more, each 0 or more")
    if not 0 <= probe.momentum < 1:
        raise UserError(f"config.probe.momentum={probe.momentum} must be in [0, 1)")
    if not 0 < probe.held_out < 1:
        raise UserError(f"config.probe.held_out={probe.held_out} must be between 0 and 1: a fraction of the training images")
    unknown = [name for name in probe.checks if name not in CHECKS]
    if unknown:
        raise UserError(f"config.probe.checks: {unknown[0]!r} is unknown: use {' and '.join(map(repr, CHECKS))}")


def check_knn(config: ConfigDict) -> None:
    """Refuse numbers of neighbours or a temperature (`config.knn`) that cannot be used; UserError names the field."""
    neighbours = config.knn.neighbours
    if not neighbours or not all(isinstance(k, int) and not isinstance(k, bool) and k >= 1 for k in neighbours):
        raise UserError(f"config.knn.neighbours={neighbours} must be one whole number or more, each at least 1")
    if not (math.isfinite(config.knn.temperature) and config.knn.temperature > 0):
        raise UserError(f"config.knn.temperature={config.knn.temperature} must be greater than 0")


def check_reading(config: ConfigDict) -> None:
    """Refuse sizes of an evaluation's page (`config.reading`) that cannot be; UserError names the field."""
    _at_least(config, 1, *(f"reading.{name}" for name in config.reading))


def _numbers(values: Sequence[object]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _at_least(config: ConfigDict, low: int, *names: str) -> None:
    for name in names:
        node = config
        for part in name.split("."):
            node = node[part]
        if node < low:
            raise UserError(f"config.{name}={node} must be {'0 or more' if low == 0 else f'at least {low}'}")


__all__ = ["CHECKS", "check_features", "check_knn", "check_probe", "check_reading"]
