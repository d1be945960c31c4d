"""Three training steps of montages whose BatchNorm notices at once how a batch lies on devices and processes."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from tiny_backbone import montage_batch, tiny_facts, tiny_method

from jigclu_jax.config import pretrain_config
from jigclu_jax.device.mesh import create_mesh, replicated, to_device
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.state import abstract_state, create_state
from jigclu_jax.train.step import Update, compile_step

STEPS, BATCH = 3, 16


def make_batch(step: int) -> dict[str, Any]:
    """Shards that differ much in brightness and contrast: statistics of one device are not those of another."""
    rng = np.random.default_rng(step)
    level = np.linspace(20, 230, BATCH)[:, None, None, None]
    image = np.clip(level + rng.normal(0, 1, (BATCH, 32, 32, 3)) * np.linspace(20, 60, BATCH)[:, None, None, None], 0, 255)
    return montage_batch(image, rng.permutation(4 * BATCH))


def train(devices: int, dtype: str, batch_of: Callable[[int], dict[str, Any]] = make_batch) -> dict[str, Any]:
    """What the steps leave: losses of each, norm and gradient (plus the decay) of the first, parameters and statistics after the last."""
    config = pretrain_config()
    config.optimizer.learning_rate = 0.03 * BATCH / 256  # the paper's rate is for batch 256: at 16 the run is chaotic in float32
    config.model.dtype = dtype
    mesh, facts = create_mesh(jax.devices()[:devices]), tiny_facts(config)
    method, optimizer = tiny_method(config, blocks=1), create_optimizer(config.optimizer)
    state = jax.device_put(create_state(method, facts, optimizer, 0, abstract_state(method, facts, optimizer, mesh)), replicated(mesh))
    step = compile_step(method, Update(optimizer, create_schedule(config.optimizer, 10, 1), 10), mesh)
    losses, found = [], {}
    for number in range(STEPS):
        state, metrics = step(state, to_device(batch_of(number), mesh))
        losses.append([metrics["loss_cluster"], metrics["loss_location"]])
        if number == 0:  # the momentum after one step is the gradient and the decay
            found = jax.device_get({"gradient": state.opt, "norm": metrics["gradient_norm"]})
    return found | jax.device_get({"loss": losses, "params": state.params, "stats": state.stats})
