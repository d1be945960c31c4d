"""The data-parallel mesh: batches are sharded over its devices, parameters replicated."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

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


def longest_axis_sharding(shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Sharding along the longest axis that the devices divide; replicated where there is none."""
    axes = [axis for axis, size in enumerate(shape) if size and size % mesh.size == 0]
    if not axes or mesh.size == 1:
        return NamedSharding(mesh, PartitionSpec())
    longest = max(axes, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*[None] * longest, DATA_AXIS))


def check_batch(batch_size: int, mesh: Mesh, field: str = "batch_size", accumulate: int = 1) -> None:
    """Refuse a global batch that the devices cannot split evenly, in each of `accumulate` micro-batches.

    Raises:
      UserError: naming the nearest sizes that fit, and where micro-batches are at fault the numbers of them that do.
    """
    count = mesh.size * accumulate
    if batch_size % count:
        below = batch_size // count * count
        fits = f"{below} or {below + count}" if below else f"{count}"
        if accumulate == 1:
            raise UserError(f"config.{field}={batch_size} cannot be shared by {count} devices: use {fits}")
        parts = [str(k) for k in range(1, batch_size // mesh.size + 1) if batch_size % (k * mesh.size) == 0]
        near = sorted(sorted(parts, key=lambda k: abs(int(k) - accumulate))[:3], key=int)
        other = f", or config.accumulate={' or '.join(near)}" if near else ""
        devices = f"{mesh.size} device{'s' if mesh.size > 1 else ''}"
        raise UserError(
            f"config.{field}={batch_size} cannot be shared by {devices} in config.accumulate={accumulate} micro-batches: use {fits}{other}"
        )


def to_device(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, Any]:
    """This host's part of a batch -> global arrays sharded over the mesh's data axis."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(sharding, array), dict(batch))


def stacked_to_device(batches: Sequence[Mapping[str, Any]], length: int, mesh: Mesh) -> dict[str, Any]:
    """This host's part of several batches -> global arrays with a first axis of `length`, filled up with copies of the last."""
    sharding = stacked_sharding(mesh)
    padded = [dict(batch) for batch in (*batches, *[batches[-1]] * (length - len(batches)))]
    return jax.tree.map(lambda *arrays: jax.make_array_from_process_local_data(sharding, np.stack(arrays)), *padded)


def device_batches(batches: Iterator[dict[str, Any]], mesh: Mesh, ahead: int = 2) -> Iterator[dict[str, Any]]:
    """Keep `ahead` batches on their way to the devices, so that the transfer overlaps the step before.

    Device memory: at most `ahead` + 1 batches beside the one in use.
    """
    waiting: list[dict[str, Any]] = []
    for batch in batches:
        waiting.append(to_device(batch, mesh))
        if len(waiting) > ahead:
            yield waiting.pop(0)
    yield from waiting
