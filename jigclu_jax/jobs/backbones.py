"""Opens the frozen backbone of an evaluation: from a run's checkpoint, from a file of weights, or random."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jigclu_jax.device import distributed
from jigclu_jax.errors import UserError
from jigclu_jax.evals.frozen import digest
from jigclu_jax.interop.weights import load_weights
from jigclu_jax.methods import Tree
from jigclu_jax.models import build_backbone
from jigclu_jax.train.checkpoint import read_checkpoint, stored_backbone, weights


@dataclasses.dataclass(frozen=True)
class Backbone:
    """Weights on the host and what they are.

    Attributes:
      params: the backbone's parameters, nested dicts of numpy arrays.
      stats: its BatchNorm statistics.
      model: arch, stem, width, dtype, precision.
      origin: where they come from, for a person.
      step: the checkpoint's step, None where there is none.
      run: config of the run that trained it, empty where it is not known.
      all_params: parameters of the checkpoint, heads included; empty where there is none.
      all_stats: its statistics.
      classes: of the training images, None where there are none.
      imported: what was mapped and left of a file of weights; empty where it comes from a run.
    """

    params: Tree
    stats: Tree
    model: dict[str, Any]
    origin: str
    step: int | None = None
    run: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    all_params: Tree = dataclasses.field(default_factory=dict)
    all_stats: Tree = dataclasses.field(default_factory=dict)
    imported: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return digest({"params": self.params, "stats": self.stats})


def open_backbone(config: ConfigDict) -> Backbone:
    """The backbone of `config.checkpoint` or `config.weights`.

    Raises:
      UserError: it cannot be read, or is another backbone than the fields of `config.model` say.
    """
    return imported_backbone(config) if config.weights else checkpoint_backbone(config)


def imported_backbone(config: ConfigDict) -> Backbone:
    """The backbone in the file `config.weights`; UserError as `open_backbone`."""
    found = load_weights(config.weights, config.weights_prefix, config.weights_channels)
    model = _agreed(config, found.model, f"config.weights={config.weights}")
    if distributed.is_main():
        print("\n".join(found.report), flush=True)
    return Backbone(found.params, found.stats, model, str(config.weights), imported=found.report)


def checkpoint_backbone(config: ConfigDict) -> Backbone:
    """The backbone in the workdir `config.checkpoint`; UserError as `open_backbone`."""
    step, meta, tree = read_checkpoint(config.checkpoint, config.checkpoint_which)
    where = f"config.checkpoint={config.checkpoint}"
    params, stats, found = stored_backbone(tree, meta, config.checkpoint_weights, where)
    all_params, all_stats = weights(tree, meta, config.checkpoint_weights, where)
    model = _agreed(config, found, where)
    origin = f"{config.checkpoint}, step {step}" + (", moving averages" if config.checkpoint_weights == "ema" else "")
    classes = tuple(meta["classes"]) if meta.get("classes") else None
    return Backbone(params, stats, model, origin, step, meta["config"], all_params, all_stats, classes=classes)


def with_model(config: ConfigDict, backbone: Backbone) -> ConfigDict:
    """The config with the backbone's arch, stem and width filled in."""
    config = config.copy_and_resolve_references()
    config.model.update({name: backbone.model[name] for name in ("arch", "stem", "width")})
    return config


def random_backbone(model: Mapping[str, Any], seed: int) -> Backbone:
    """A backbone of the same architecture with the random weights of `seed`."""
    backbone = build_backbone(model)
    params, stats = jax.tree.map(np.asarray, backbone.init(jax.random.key(seed)))
    return Backbone(params, stats, dict(model), "random weights")


def origin_fields(config: ConfigDict, backbone: Backbone | None) -> dict[str, Any]:
    """What a result says of where its backbone comes from; None: from random weights."""
    step, report = (backbone.step, list(backbone.imported)) if backbone else (None, [])
    return {
        "checkpoint": str(config.checkpoint) if step is not None else None,
        "checkpoint_step": step,
        "weights": str(config.weights) if report else None,
        "weights_report": report or None,
    }


def _agreed(config: ConfigDict, found: Mapping[str, Any], where: str) -> dict[str, Any]:
    """arch, stem and width as found, dtype and precision as the config says."""
    for name in ("arch", "stem", "width"):
        wanted = config.model[name]
        if wanted and wanted != found[name]:
            raise UserError(
                f"{where} belongs to another backbone: its model.{name} is {found[name]!r}, config.model.{name} is {wanted!r}; "
                "leave that field out to take its own"
            )
    own = {name: config.model[name] for name in ("dtype", "precision")}
    return {name: found[name] for name in ("arch", "stem", "width")} | own
