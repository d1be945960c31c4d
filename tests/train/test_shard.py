"""Optimizer's state and moving averages shared among devices: the same numbers, a share of the memory, any number of devices after."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec
from tiny_backbone import tiny_batch, tiny_facts, tiny_method

from jigclu_jax.config import pretrain_config
from jigclu_jax.device.mesh import create_mesh, longest_axis_sharding, to_device
from jigclu_jax.train.checkpoint import Checkpoints
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.state import TrainState, abstract_state, create_state
from jigclu_jax.train.step import Update, compile_step


def bytes_on_a_device(tree: Any) -> int:
    first = jax.devices()[0]
    return sum(shard.data.nbytes for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards if shard.device == first)


def difference(found: Any, expected: Any) -> float:
    """The largest of an array's differences over its largest entry."""
    pairs = zip(jax.tree.leaves(jax.device_get(found)), jax.tree.leaves(jax.device_get(expected)), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-12)) for a, b in pairs)


@pytest.mark.slow
@pytest.mark.devices8
def test_shared_state_gives_the_same_numbers(float64: None, tmp_path: Path) -> None:
    config = pretrain_config()
    config.model.dtype, config.optimizer.name, config.ema_decay = "float64", "adamw", 0.9
    method, optimizer, facts = tiny_method(config, blocks=1), create_optimizer(config.optimizer), tiny_facts(config)
    update = Update(optimizer, create_schedule(config.optimizer, 10, 1), 10, config.ema_decay)

    def target(devices: int, shard: bool) -> TrainState:
        return abstract_state(method, facts, optimizer, create_mesh(jax.devices()[:devices]), ema=True, shard=shard)

    mesh = create_mesh(jax.devices()[:8])
    states = []
    for shard in (False, True):
        state = create_state(method, facts, optimizer, 0, target(8, shard))
        step: Any = compile_step(method, update, mesh, target=target(8, shard))
        for seed in range(2):
            state, _ = step(state, to_device(tiny_batch(16, seed), mesh))
        states.append(state)
    whole, shared = states
    assert difference(shared, whole) < 1e-9
    size, part = (bytes_on_a_device((state.opt, state.ema)) for state in states)
    assert part < size / 7, "of the leaves only some scalars and the location head's bias do not divide by 8"
    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.save(2, shared, {"config": {"job": "pretrain"}, "seconds": 0.0})
    checkpoints.wait()
    on: dict[int, int] = {}
    for devices, shard in ((4, True), (1, False)):
        restored = checkpoints.restore_newest(target(devices, shard))
        assert restored is not None
        assert difference(restored[0], shared) == 0
        on[devices] = bytes_on_a_device((restored[0].opt, restored[0].ema))
    checkpoints.close()
    assert on[1] == size
    assert part < on[4] < size / 3


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((3, 3, 64, 128), (None, None, None, "data")), ((3, 3, 128, 64), (None, None, "data")), ((8,), ("data",)), ((6, 3), ()), ((), ())],
)
def test_the_longest_axis_that_divides_is_shared(shape: tuple[int, ...], axes: tuple[str | None, ...]) -> None:
    mesh = AbstractMesh((4,), ("data",))
    assert longest_axis_sharding(shape, mesh).spec == PartitionSpec(*axes)
    assert longest_axis_sharding(shape, create_mesh(jax.devices()[:1])).spec == PartitionSpec(), "one device holds everything"
