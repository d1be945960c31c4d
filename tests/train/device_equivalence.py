"""Run by test_devices.py in a process of its own with 8 fake CPU devices: three training steps on 1 and on 8 of them.

Prints one JSON line: for each quantity the largest difference over the largest entry, of each array in float64, of all in float32.
"""

import json
import sys

import jax
import numpy as np

from jigclu_jax.config import pretrain_config
from jigclu_jax.device.mesh import create_mesh, replicated, to_device
from jigclu_jax.methods import create_method
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.state import abstract_state, create_state
from jigclu_jax.train.step import Update, compile_step

STEPS, BATCH = 3, 16


def batch(step: int) -> dict[str, np.ndarray]:
    """Shards that differ much in brightness and contrast: statistics of one device are not those of another."""
    rng = np.random.default_rng(step)
    level = np.linspace(20, 230, BATCH)[:, None, None, None]
    image = np.clip(level + rng.normal(0, 1, (BATCH, 32, 32, 3)) * np.linspace(20, 60, BATCH)[:, None, None, None], 0, 255)
    order = rng.permutation(4 * BATCH)
    return {
        "image": image.astype(np.uint8),
        "cluster": (order // 4).reshape(BATCH, 2, 2).astype(np.int32),
        "location": (order % 4).reshape(BATCH, 2, 2).astype(np.int32),
    }


def train(devices: int, dtype: str) -> dict[str, object]:
    config = pretrain_config()
    config.optimizer.learning_rate = 0.03 * BATCH / 256  # the paper's rate is for batch 256: at 16 the run is chaotic in float32
    config.model.update({"arch": "resnet18", "stem": "small", "width": 0.125, "dtype": dtype})
    mesh = create_mesh(jax.devices()[:devices])
    method, optimizer = create_method(config), create_optimizer(config.optimizer)
    state = jax.device_put(create_state(method, optimizer, 0, abstract_state(method, optimizer, mesh)), replicated(mesh))
    step = compile_step(method, Update(optimizer, create_schedule(config.optimizer, 10, 1), 10), mesh)
    gradient = jax.jit(jax.grad(lambda p, s, b: method.loss(p, s, {}, b)[0]))
    first = to_device(batch(0), mesh)
    found: dict[str, object] = {"gradient": gradient(state.params, state.stats, first)}
    losses, norms = [], []
    for number in range(STEPS):
        state, metrics = step(state, to_device(batch(number), mesh))
        losses.append([metrics["loss_cluster"], metrics["loss_location"]])
        norms.append(metrics["gradient_norm"])
    return jax.device_get({**found, "loss": losses, "norm": norms[0], "params": state.params, "stats": state.stats})


def main() -> None:
    dtype = sys.argv[1]
    assert jax.device_count() == 8
    one, eight = train(1, dtype), train(8, dtype)
    errors = {}
    for name in one:
        pairs = list(zip(jax.tree.leaves(one[name]), jax.tree.leaves(eight[name]), strict=True))
        if dtype == "float64":  # array by array
            errors[name] = max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)) for a, b in pairs)
        else:  # beside the largest entry of all: later steps of a BatchNorm network drift in float32, whoever computes them
            errors[name] = float(max(np.abs(a - b).max() for a, b in pairs) / max(np.abs(a).max() for a, _ in pairs))
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
