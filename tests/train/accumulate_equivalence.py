"""Run by test_accumulate.py in a process of its own with 8 fake CPU devices and float64: one step in 4 micro-batches against its oracle.

The oracle is the step in one piece with BatchNorm in groups: row r of the batch is normalised with the rows r % 4 alone, and the
running averages move by the mean of the groups' statistics. Prints one JSON line: for each way to compute it the largest
difference of each quantity over its largest entry, array by array.
"""

import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jigclu_jax.config import pretrain_config
from jigclu_jax.device.mesh import create_mesh, to_device
from jigclu_jax.methods import create_method
from jigclu_jax.models.layers import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, BatchNorm
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.state import abstract_state, create_state
from jigclu_jax.train.step import Update, compile_step, train_step

PARTS, BATCH = 4, 32


def batch(method: str) -> dict[str, np.ndarray]:
    """Rows that differ much in brightness and contrast: statistics of one part are not those of another."""
    rng = np.random.default_rng(0)
    level = rng.uniform(20, 230, BATCH)[:, None, None, None]
    image = np.clip(level + rng.normal(0, 1, (BATCH, 16, 16, 3)) * rng.uniform(20, 60, BATCH)[:, None, None, None], 0, 255)
    if method == "supervised":
        # padding that the micro-batches do not share evenly
        return {"image": image.astype(np.uint8), "label": rng.integers(0, 5, BATCH).astype(np.int32), "mask": np.arange(BATCH) < 26}
    order = rng.permutation(4 * BATCH)
    return {
        "image": image.astype(np.uint8),
        "cluster": (order // 4).reshape(BATCH, 2, 2).astype(np.int32),
        "location": (order % 4).reshape(BATCH, 2, 2).astype(np.int32),
    }


def grouped(self: BatchNorm, x: Any, train: bool) -> Any:
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
    return y


def difference(found: Any, expected: Any) -> float:
    pairs = zip(jax.tree.leaves(jax.device_get(found)), jax.tree.leaves(jax.device_get(expected)), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-12)) for a, b in pairs)


def collectives(text: str) -> list[str]:
    """What the compiled program sends between devices: operation and shape."""
    pattern = r"= (\S+?)\{\S*\} (all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
    return sorted({f"{operation} {shape}" for shape, operation in re.findall(pattern, text)})


def compare(name: str) -> dict[str, Any]:
    config = pretrain_config()
    config.method = name
    config.model.update({"arch": "resnet18", "stem": "small", "width": 0.0625, "dtype": "float64"})
    method, optimizer = create_method(config, 5), create_optimizer(config.optimizer)
    schedule = create_schedule(config.optimizer, 10, 1)

    def run(mesh: Any, parts: int, unroll: bool) -> Any:
        update = Update(optimizer, schedule, 10, accumulate=parts)
        state = create_state(method, optimizer, 0, abstract_state(method, optimizer, mesh))
        if unroll:  # what `compile_step` does on a CPU
            step = compile_step(method, update, mesh)
        else:
            step = jax.jit(lambda state, batch: train_step(method, update, state, batch, unroll=False))
        after, metrics = step(state, to_device(batch(name), mesh))
        # after one step the momentum is the gradient plus the decay
        return {"gradient": after.opt, "params": after.params, "stats": after.stats, "metrics": metrics}

    one, eight = create_mesh(jax.devices()[:1]), create_mesh()
    original = BatchNorm.__call__
    plain = run(one, 1, True)
    BatchNorm.__call__ = grouped  # type: ignore[method-assign, assignment]
    expected = run(one, 1, True)
    BatchNorm.__call__ = original  # type: ignore[method-assign]
    found = {"unrolled": run(one, PARTS, True), "loop": run(one, PARTS, False), "eight": run(eight, PARTS, True)}
    errors: dict[str, Any] = {way: {part: difference(got[part], expected[part]) for part in expected} for way, got in found.items()}
    errors["other statistics"] = {part: difference(plain[part], expected[part]) for part in expected}
    state = abstract_state(method, optimizer, eight)
    step = compile_step(method, Update(optimizer, schedule, 10, accumulate=PARTS), eight)
    errors["sent"] = collectives(step.lower(state, to_device(batch(name), eight)).compile().as_text())  # type: ignore[attr-defined]
    return errors


def main() -> None:
    assert jax.device_count() == 8
    print(json.dumps({name: compare(name) for name in ("jigclu", "supervised")}))


if __name__ == "__main__":
    main()
