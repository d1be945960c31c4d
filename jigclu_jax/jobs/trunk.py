"""The trunk that a probe or a fine-tuning starts from: a checkpoint's, or imported weights."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from jigclu_jax.errors import UserError
from jigclu_jax.interop.weights_file import read_trunk_weights
from jigclu_jax.methods import Tree
from jigclu_jax.train.checkpoint import read_checkpoint


@dataclasses.dataclass(frozen=True)
class Trunk:
    """A trained trunk.

    Attributes:
      tree: {"params", "stats"} as numpy arrays.
      model: arch, stem and width, empty where the file does not say.
      step: the checkpoint's step, None for imported weights.
      where: the field it came from with its value, for messages.
    """

    tree: Tree
    model: Mapping[str, Any]
    step: int | None
    where: str


def checkpoint_trunk(config: ConfigDict) -> Trunk:
    """The trunk in `config.checkpoint`; UserError where there is none."""
    step, meta, tree = read_checkpoint(config.checkpoint, config.checkpoint_which)
    where = f"config.checkpoint={config.checkpoint}"
    if "trunk" not in tree.get("params", {}):
        raise UserError(f"{where} is the workdir of a {meta['config']['job']} job: give a pretraining run's")
    return Trunk({"params": tree["params"]["trunk"], "stats": tree["stats"]["trunk"]}, meta["config"]["model"], step, where)


def imported_trunk(config: ConfigDict) -> Trunk:
    """The trunk in the file `config.weights`; UserError where there is none."""
    try:
        params, stats = read_trunk_weights(config.weights)
    except UserError as error:
        raise UserError(f"config.weights: {error}") from error
    return Trunk({"params": params, "stats": stats}, {}, None, f"config.weights={config.weights}")


def with_trunk_model(config: ConfigDict, trunk: Trunk) -> ConfigDict:
    """The config with the trunk's model filled in where it leaves it open; UserError where they differ."""
    config = config.copy_and_resolve_references()
    for name in ("arch", "stem", "width"):
        if name not in trunk.model:
            continue
        wanted = config.model[name]
        if wanted and wanted != trunk.model[name]:
            raise UserError(
                f"{trunk.where} belongs to another trunk: its model.{name} is {trunk.model[name]!r}, "
                f"config.model.{name} is {wanted!r}; leave that field out to take the checkpoint's"
            )
        config.model[name] = trunk.model[name]
    return config


def check_trunk_shapes(expected: Tree, trunk: Trunk, config: ConfigDict) -> None:
    """UserError where a trunk's arrays are not those of `config.model`."""
    want, found = (
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (expected, trunk.tree)
    )
    if want != found:
        name = sorted(want.items() ^ found.items())[0][0]
        raise UserError(
            f"{trunk.where} belongs to another trunk than {config.model.arch} with stem {config.model.stem} and width "
            f"{config.model.width:g}: {name} differs"
        )
