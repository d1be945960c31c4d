"""Opens the frozen backbone of an evaluation: from a run's checkpoint, from a file of weights, or random."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.device import distributed
from jigclu_jax.errors import UserError
from jigclu_jax.evals.frozen import digest
from jigclu_jax.interop.weights import load_weights
from jigclu_jax.methods import Tree
from jigclu_jax.models import build_backbone
from jigclu_jax.train.checkpoint import FOLDER, read_checkpoint, stored_backbone, weights
from jigclu_jax.train.state import TrainState


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


def check_origin(config: ConfigDict) -> None:
    """UserError unless one of `config.checkpoint` and `config.weights` is given."""
    if bool(config.checkpoint) == bool(config.weights):
        which = "both are set" if config.checkpoint else "both are empty"
        raise UserError(
            f"config.checkpoint and config.weights: {which}; give one of them, a pretraining run's workdir "
            "(--config.checkpoint=DIR) or a file of weights (--config.weights=FILE)"
        )


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


def starting_backbone(config: ConfigDict) -> Backbone | None:
    """The backbone of `config.init` of a pretraining, a workdir's or a file's; None where it starts from random weights.

    Raises:
      UserError: it cannot be read, or is another one than `config.model` describes.
    """
    init, where = config.init, f"config.init.weights={config.init.weights}"
    if not init.weights:
        return None
    path = epath.Path(init.weights).expanduser()
    if path.is_dir() and (path / FOLDER).exists():
        step, meta, tree = read_checkpoint(path, init.which)
        params, stats, model = stored_backbone(tree, meta, "params", where)
        found = Backbone(params, stats, model, f"{path}, step {step}", step)
    else:
        params, stats, model, report = load_weights(path, init.prefix, init.channels)
        found = Backbone(params, stats, model, str(path), imported=report)
    _agreed(config, found.model, where, "set that field so")
    if distributed.is_main():
        print("\n".join(found.imported or (f"the backbone starts from {found.origin}",)), flush=True)
    return found


def with_backbone(state: TrainState, backbone: Backbone) -> TrainState:
    """The state with these weights in place of the backbone's, wherever it stands: trained, averaged, or in what the method keeps."""
    trees = [(state.params["backbone"], backbone.params), (state.stats["backbone"], backbone.stats)]

    def put(node: Any) -> Any:
        if not isinstance(node, Mapping):
            return node
        return {name: _like(child, trees) if name == "backbone" else put(child) for name, child in node.items()}

    fields = {name: put(getattr(state, name)) for name in ("params", "stats", "ema", "extra")}
    return dataclasses.replace(state, **fields)


def _like(node: Any, trees: Sequence[tuple[Any, Any]]) -> Any:
    """The new one of the trees that are built as the node is, in its dtypes and at its places; the node where none is."""
    for old, new in trees:
        if jax.tree.map(jnp.shape, old) == jax.tree.map(jnp.shape, node):
            # half precision or double in a file of weights becomes what is trained
            return jax.tree.map(lambda leaf, like: jax.device_put(np.asarray(leaf, like.dtype), like.sharding), new, node)
    return node


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


def _agreed(
    config: ConfigDict, found: Mapping[str, Any], where: str, remedy: str = "leave that field out to take its own"
) -> dict[str, Any]:
    """arch, stem and width as found, dtype and precision as the config says."""
    for name in ("arch", "stem", "width"):
        wanted = config.model[name]
        if wanted and wanted != found[name]:
            raise UserError(
                f"{where} belongs to another backbone: its model.{name} is {found[name]!r}, config.model.{name} is {wanted!r}; {remedy}"
            )
    own = {name: config.model[name] for name in ("dtype", "precision")}
    return {name: found[name] for name in ("arch", "stem", "width")} | own
