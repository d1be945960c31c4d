"""The data-parallel mesh and what lies on it: batches sharded over devices, parameters replicated."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jigclu_jax.errors import UserError

DATA_AXIS = "data"
Tree = TypeVar("Tree")


def create_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A one-dimensional mesh over all devices of all processes.

    `Mesh` rather than `jax.make_mesh`: its axes are Auto, so that the compiler places the collectives.
    """
    return Mesh(np.array(devices if devices is not None else jax.devices()), (DATA_AXIS,))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of an array whose first axis is the batch."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def stacked_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of batches stacked along a new first axis."""
    return NamedSharding(mesh, PartitionSpec(None, DATA_AXIS))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def everywhere(tree: Tree) -> Tree:
    """Inside a computation: arrays whole on every device of the mesh that is set; as they are where none is set."""
    return _placed(tree, PartitionSpec())


def row_by_row(tree: Tree) -> Tree:
    """Inside a computation: arrays split by their first axis over the mesh that is set; as they are where none is set."""
    return _placed(tree, PartitionSpec(DATA_AXIS))


def _placed(tree: Tree, spec: PartitionSpec) -> Tree:
    return tree if jax.sharding.get_abstract_mesh().empty else jax.lax.with_sharding_constraint(tree, spec)


def check_batch(batch_size: int, mesh: Mesh, field: str = "batch_size") -> None:
    """Refuse a global batch that the devices cannot share evenly.

    Raises:
      UserError: naming the nearest sizes that fit.
    """
    count = mesh.size
    if batch_size % count:
        below = batch_size // count * count
        fits = f"{below} or {below + count}" if below else f"{count}"
        raise UserError(f"config.{field}={batch_size} cannot be shared by {count} devices: use {fits}")


def to_device(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This host's part of a batch -> global arrays sharded over the mesh's data axis."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def stacked_to_device(batches: Sequence[Mapping[str, np.ndarray]], length: int, mesh: Mesh) -> dict[str, jax.Array]:
    """This host's part of several batches -> global arrays with a first axis of `length`, filled up with copies of the last."""
    sharding = stacked_sharding(mesh)
    padded = [*batches, *[batches[-1]] * (length - len(batches))]
    return {name: jax.make_array_from_process_local_data(sharding, np.stack([batch[name] for batch in padded])) for name in padded[0]}


def device_batches(batches: Iterator[dict[str, np.ndarray]], mesh: Mesh, ahead: int = 2) -> Iterator[dict[str, jax.Array]]:
    """Keep `ahead` batches on their way to the devices, so that the transfer overlaps the step before.

    Device memory: at most `ahead` + 1 batches beside the one in use.
    """
    waiting: list[dict[str, jax.Array]] = []
    for batch in batches:
        waiting.append(to_device(batch, mesh))
        if len(waiting) > ahead:
            yield waiting.pop(0)
    yield from waiting
