"""Rows of the paper's ablations: the fields of the pretraining's config that each of them changes.

The first row is what the others are held to.
"""

import dataclasses
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from ml_collections import ConfigDict

from jigclu_jax.config.command_line import override
from jigclu_jax.config.jobs import use_method
from jigclu_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
      key: its folder.
      label: its name in the table.
      fields: dotted path of the pretraining's config -> value.
      time_of: key of the row with the same fields whose measured rate decides how many epochs take the reference's time; "" for the
        reference's epochs.
    """

    key: str
    label: str
    fields: Mapping[str, Any]
    time_of: str = ""


def table_rows(config: ConfigDict) -> list[Row]:
    """The rows of `config.table`; UserError for a table that is not there."""
    if config.table == "arms":
        return _arms(config)
    if config.table not in TABLES:
        raise UserError(f"config.table={config.table!r} is unknown: use one of {', '.join((*TABLES, 'arms'))}")
    return TABLES[config.table](config.pretrain)


def row_config(pretrain: ConfigDict, row: Row, seed: int, epochs: int) -> ConfigDict:
    """The pretraining of a row."""
    config = pretrain.copy_and_resolve_references()
    if "method.name" in row.fields:
        use_method(config, row.fields["method.name"])
    config.update_from_flattened_dict(row.fields)
    config.seed, config.epochs = seed, epochs
    config.optimizer.warmup_epochs = min(config.optimizer.warmup_epochs, epochs / 2)
    return config


def _arms(config: ConfigDict) -> list[Row]:
    """The rows that `config.arms` spells out; UserError for an arm that cannot be read, naming it."""
    if not config.arms:
        raise UserError('config.arms is empty: name the rows of the table, as in ("jigclu", "simclr method.name=simclr")')
    rows = []
    for arm in config.arms:
        key, *settings = arm.split()
        found, fields = config.pretrain.copy_and_resolve_references(), {}
        for setting in settings:
            name, equals, text = setting.partition("=")
            try:
                override(found, name, text if equals else None, "config.pretrain", prefix="config.pretrain.")
            except UserError as error:
                raise UserError(f"config.arms, arm {arm!r}: {error}") from error
            fields[name] = attrgetter(name)(found)
        rows.append(Row(key, key, fields))
    if len({row.key for row in rows}) < len(rows):
        raise UserError(f"config.arms: two arms have one name: {', '.join(row.key for row in rows)}")
    return rows


def _montage(pretrain: ConfigDict) -> list[Row]:
    """Paper, section 4.3: montages, patches as small images of their own, and the same enlarged to the montage's size."""
    small = {"method.input": "cells"}
    large = small | {"data.image_size": pretrain.data.image_size * pretrain.method.grid}
    return [
        Row("montage", "montage", {}),
        Row("small", "small images, equal epochs", small),
        Row("large", "large images, equal epochs", large),
        Row("small_time", "small images, equal time", small, time_of="small"),
        Row("large_time", "large images, equal time", large, time_of="large"),
    ]


def _augmentation(pretrain: ConfigDict) -> list[Row]:
    del pretrain
    return [
        Row("all", "all", {}),
        Row("no_crop", "without random crop", {"augment.crop_area": (1.0, 1.0), "augment.crop_aspect": (1.0, 1.0)}),
        Row("no_jitter", "without colour jitter", {"augment.jitter_probability": 0.0}),
        Row("no_grayscale", "without grayscale", {"augment.grayscale_probability": 0.0}),
        Row("no_blur", "without blur", {"augment.blur_probability": 0.0}),
        Row("no_flip", "without flip", {"augment.flip_probability": 0.0}),
    ]


def _grid(pretrain: ConfigDict) -> list[Row]:
    size = pretrain.data.image_size
    sides = {m: m * max(round(size / m), 1) for m in (2, 3, 4)}
    return [
        Row(f"grid{m}", f"{m} x {m} patches of {side // m} pixels", {"method.grid": m, "data.image_size": side, "method.decouple_size": 0})
        for m, side in sides.items()
    ]


def _overlap(pretrain: ConfigDict) -> list[Row]:
    """The paper's 0.3 first; at 0.5 every patch of a 2 x 2 split is cut from the whole image."""
    del pretrain
    return [Row(f"overlap{value:g}", f"overlap {value:g}", {"method.overlap": value}) for value in (0.3, 0.0, 0.1, 0.2, 0.4, 0.5)]


def _branches(pretrain: ConfigDict) -> list[Row]:
    del pretrain
    return [
        _weighted("both", "both branches", 1, 1),
        _weighted("cluster", "clustering alone", 1, 0),
        _weighted("location", "location alone", 0, 1),
    ]


def _weights(pretrain: ConfigDict) -> list[Row]:
    """From clustering alone to location alone, the sum of the weights staying 2, so that the gradient keeps its size."""
    del pretrain
    shares = (1.0, 2.0, 1.75, 1.5, 0.5, 0.25, 0.0)
    return [_weighted(f"alpha{share:g}", f"clustering {share:g}, location {2 - share:g}", share, 2 - share) for share in shares]


def _weighted(key: str, label: str, cluster: float, location: float) -> Row:
    return Row(key, label, {"method.cluster_weight": float(cluster), "method.location_weight": float(location)})


def _plus(pretrain: ConfigDict) -> list[Row]:
    """From the authors' recipe to JigClu+, one change after the other; none of them costs a forward pass, so equal epochs are equal u."""
    rate = 0.03 * pretrain.batch_size / 256
    changes = (
        ("authors", "the authors' recipe", {"optimizer.learning_rate": rate, "optimizer.per_epoch": True, "optimizer.warmup_epochs": 0.0}),
        (
            "rate",
            "eight times the rate, a cosine by steps with warm-up",
            {"optimizer.learning_rate": 8 * rate, "optimizer.per_epoch": False, "optimizer.warmup_epochs": pretrain.epochs / 20},
        ),
        ("norm", "and BatchNorm in the projection", {"method.projection_norm": True}),
        ("temperature", "and temperature 0.1", {"method.temperature": 0.1}),
        ("mirrored", "and mirrored locations: JigClu+", {"method.mirrored_location": True}),
    )
    rows, fields = [], dict[str, Any]()
    for key, label, change in changes:
        fields = fields | change
        rows.append(Row(key, label, fields))
    return rows


TABLES: Mapping[str, Callable[[ConfigDict], list[Row]]] = {
    "montage": _montage,
    "augmentation": _augmentation,
    "grid": _grid,
    "overlap": _overlap,
    "branches": _branches,
    "weights": _weights,
    "plus": _plus,
}
