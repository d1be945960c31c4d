"""Micro-batches against BatchNorm in groups, on one device and on four, in float64.

The oracle is the step in one piece with BatchNorm in groups: row r of the batch is normalised with the rows r % 4 alone, and the
running averages move by the mean of the groups' statistics.
"""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_backbone import crop_batch, montage_batch, tiny_facts, tiny_method

from jigclu_jax.config import pretrain_config
from jigclu_jax.device.mesh import create_mesh, to_device
from jigclu_jax.models.layers import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, BatchNorm
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.state import abstract_state, create_state
from jigclu_jax.train.step import Update, compile_step, train_step

EMBEDDINGS = 4 * 16 * 16  # cells of 16 montages, 16 numbers each
PARTS, BATCH = 4, 16


def make_batch(method: str) -> dict[str, Any]:
    """Rows that differ much in brightness and contrast: statistics of one part are not those of another."""
    rng = np.random.default_rng(0)
    level = rng.uniform(20, 230, BATCH)[:, None, None, None]
    image = np.clip(level + rng.normal(0, 1, (BATCH, 12, 12, 3)) * rng.uniform(20, 60, BATCH)[:, None, None, None], 0, 255)
    if method == "supervised":
        # padding that the micro-batches do not share evenly
        return crop_batch(image, rng.integers(0, 5, BATCH), np.arange(BATCH) < 13)
    return montage_batch(image, rng.permutation(4 * BATCH))


def grouped(self: BatchNorm, x: Any, train: bool, *, relu: bool = False) -> Any:
    """BatchNorm in groups of rows r % PARTS, written out."""
    assert train
    groups = [x[part::PARTS] for part in range(PARTS)]
    count = groups[0].size // x.shape[-1]
    means, variances = [], []
    y = jnp.zeros_like(x)
    for part, group in enumerate(groups):
        mean = group.mean((0, 1, 2))
        variance = ((group - mean) ** 2).mean((0, 1, 2))
        y = y.at[part::PARTS].set((group - mean) / jnp.sqrt(variance + BATCH_NORM_EPSILON) * self.scale[...] + self.bias[...])
        means.append(mean)
        variances.append(variance * count / (count - 1))
    stop = jax.lax.stop_gradient
    self.mean[...] = BATCH_NORM_MOMENTUM * self.mean[...] + (1 - BATCH_NORM_MOMENTUM) * stop(sum(means)) / PARTS
    self.var[...] = BATCH_NORM_MOMENTUM * self.var[...] + (1 - BATCH_NORM_MOMENTUM) * stop(sum(variances)) / PARTS
    return jax.nn.relu(y) if relu else y


def difference(found: Any, expected: Any) -> float:
    """The largest of an array's differences over its largest entry."""
    pairs = zip(jax.tree.leaves(jax.device_get(found)), jax.tree.leaves(jax.device_get(expected)), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-12)) for a, b in pairs)


def collectives(text: str) -> list[str]:
    """What the compiled program sends between devices: operation and shape."""
    pattern = r"= (\S+?)\{\S*\} (all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
    return sorted({f"{operation} {shape}" for shape, operation in re.findall(pattern, text)})


def step_once(name: str, devices: int, parts: int, unroll: bool) -> tuple[dict[str, Any], str]:
    """What one step leaves, and its compiled program."""
    config = pretrain_config(name)
    config.model.dtype, config.batch_size = "float64", BATCH
    facts = tiny_facts(config)
    method, optimizer = tiny_method(config, blocks=1), create_optimizer(config.optimizer)
    mesh = create_mesh(jax.devices()[:devices])
    update = Update(optimizer, create_schedule(config.optimizer, 10, 1), 10, accumulate=parts)
    state = create_state(method, facts, optimizer, 0, abstract_state(method, facts, optimizer, mesh))
    step: Any = compile_step(method, update, mesh)
    if not unroll:  # what `compile_step` does on an accelerator
        step = jax.jit(lambda state, batch: train_step(method, update, state, batch, unroll=False))
    batch = to_device(make_batch(name), mesh)
    compiled = step.lower(state, batch).compile()
    after, metrics = compiled(state, batch)
    # after one step the momentum is the gradient plus the decay
    found = {"gradient": after.opt, "params": after.params, "stats": after.stats, "metrics": metrics}
    return jax.device_get(found), compiled.as_text()


@pytest.mark.slow
@pytest.mark.devices8
@pytest.mark.parametrize(
    ("name", "ways"),
    # each method one way round: four compilations are enough
    [("jigclu", {"loop": (1, False), "devices": (4, True)}), ("supervised", {"loop on devices": (4, False)})],
)
def test_micro_batches_compute_what_batch_norm_in_groups_does(
    float64: None, monkeypatch: pytest.MonkeyPatch, name: str, ways: dict[str, tuple[int, bool]]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(BatchNorm, "__call__", grouped)
        expected, _ = step_once(name, 1, 1, True)
    for way, (devices, unroll) in ways.items():
        found, text = step_once(name, devices, PARTS, unroll)
        for part in expected:
            assert difference(found[part], expected[part]) < 1e-12, (way, part)
        assert (" while(" in text) == way.startswith("loop"), "on a CPU convolutions in loops are ten times slower"
        # the loss gathers embeddings and less; images and activations stay where they are
        sent = collectives(text)
        sizes = [math.prod(map(int, re.findall(r"\d+(?=[,\]])", what))) for what in sent]
        assert all(what.startswith("all-gather ") for what in sent) and max(sizes, default=0) <= EMBEDDINGS, sent
        assert way != "devices" or EMBEDDINGS in sizes, sent
