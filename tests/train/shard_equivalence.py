"""Run by test_shard.py in a process of its own with 8 fake CPU devices and float64: optimizer's state and averages shared or not.

Prints one JSON line: the largest relative difference after two steps, bytes on a device, and what a checkpoint brings back.
"""

import json
import sys
from typing import Any

import jax
import numpy as np
from tiny_backbone import tiny_batch, tiny_method

from jigclu_jax.config import pretrain_config
from jigclu_jax.device.mesh import create_mesh, to_device
from jigclu_jax.train.checkpoint import Checkpoints
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.state import TrainState, abstract_state, create_state
from jigclu_jax.train.step import Update, compile_step


def bytes_on_a_device(tree: Any) -> int:
    first = jax.devices()[0]
    return sum(shard.data.nbytes for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards if shard.device == first)


def difference(found: Any, expected: Any) -> float:
    pairs = zip(jax.tree.leaves(jax.device_get(found)), jax.tree.leaves(jax.device_get(expected)), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-12)) for a, b in pairs)


def main() -> None:
    assert jax.device_count() == 8
    folder, name = sys.argv[1:]
    config = pretrain_config()
    config.model.dtype, config.optimizer.name, config.ema_decay = "float64", name, 0.9
    method, optimizer = tiny_method(config, blocks=1), create_optimizer(config.optimizer)
    update = Update(optimizer, create_schedule(config.optimizer, 10, 1), 10, config.ema_decay)

    def target(devices: int, shard: bool) -> TrainState:
        return abstract_state(method, optimizer, create_mesh(jax.devices()[:devices]), ema=True, shard=shard)

    found: dict[str, Any] = {}
    states = {}
    mesh = create_mesh()
    for shard in (False, True):
        state = create_state(method, optimizer, 0, target(8, shard))
        step: Any = compile_step(method, update, mesh, target=target(8, shard))
        compiled = step.lower(state, to_device(tiny_batch(16), mesh)).compile()
        for seed in range(2):
            state, _ = compiled(state, to_device(tiny_batch(16, seed), mesh))
        states[shard] = state
        found["shared" if shard else "whole"] = bytes_on_a_device((state.opt, state.ema))
        found["params"] = bytes_on_a_device(state.params)
    found["difference"] = difference(states[True], states[False])
    checkpoints = Checkpoints(folder)
    checkpoints.save(2, states[True], {"config": {}})
    checkpoints.wait()
    for devices, shard in ((4, True), (1, False)):
        restored = checkpoints.restore_newest(target(devices, shard))
        assert restored is not None
        state = restored[0]
        found[f"restored on {devices}"] = difference(state, states[True])
        found[f"bytes on {devices}"] = bytes_on_a_device((state.opt, state.ema))
    checkpoints.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
