"""One training step: the only place where a training step is jitted."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from jigclu_jax.device.feed import Batch, Feed, host_feed
from jigclu_jax.device.mesh import batch_sharding, replicated, stacked_sharding
from jigclu_jax.methods import Method
from jigclu_jax.train.optimizer import Optimizer
from jigclu_jax.train.schedule import Schedule
from jigclu_jax.train.state import TrainState, Tree, zero_sums

Metrics = dict[str, jax.Array]
# (state, batch) -> (state, metrics); where a dispatch holds several steps (state, batches stacked along a new first axis, how many of
# them count) -> (state, metrics of the last).
Step = Callable[..., tuple[TrainState, Metrics]]


def train_step(
    method: Method, optimizer: Optimizer, schedule: Schedule, steps_per_epoch: int, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """The mathematics of one update on a global batch; pure.

    Returns the new state and the metrics of this step (scalars): the method's own, `gradient_norm` (2-norm over all
    parameters that train, before weight decay) and `learning_rate`.
    """

    trainable = optimizer.trainable(state.params)

    def objective(params: Tree) -> tuple[jax.Array, tuple[Tree, Tree, Metrics]]:
        # no gradient is computed for what is frozen, and none counts in the norm
        params = jax.tree.map(lambda p, moves: p if moves else lax.stop_gradient(p), params, trainable)
        return method.loss(params, state.stats, state.extra, batch)

    (loss, (stats, extra, metrics)), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
    rate = schedule(state.step)
    direction, opt = optimizer.update(gradient, state.opt, state.params)
    params = jax.tree.map(lambda p, d: (p - rate * d).astype(p.dtype), state.params, direction)
    norm = optax.tree.norm(gradient)
    metrics = {**metrics, "gradient_norm": norm, "learning_rate": rate}
    sums = _add(state, metrics, steps_per_epoch, jnp.isfinite(loss) & jnp.isfinite(norm))
    return TrainState(state.step + 1, params, stats, opt, extra, sums), metrics


def _add(state: TrainState, metrics: Metrics, steps_per_epoch: int, finite: jax.Array) -> Tree:
    """The epoch's sums with this step's metrics; they begin anew with each epoch."""
    first = state.step % steps_per_epoch == 0
    old = jax.tree.map(lambda zero, value: jnp.where(first, zero, value), zero_sums(tuple(metrics)), state.sums)
    sums: Tree = {name: old[name] + value.astype(jnp.float32) for name, value in metrics.items()}
    bad = state.sums["nonfinite_step"]
    return {**sums, "count": old["count"] + 1, "nonfinite_step": jnp.where((bad < 0) & ~finite, state.step + 1, bad)}


def compile_step(
    method: Method,
    optimizer: Optimizer,
    schedule: Schedule,
    steps_per_epoch: int,
    mesh: Mesh,
    feed: Feed | None = None,
) -> Step:
    """The step jitted over the mesh: state replicated and donated, batch sharded, so that BatchNorm and loss are global.

    With `feed`, the method sees what it makes of the host's batch; with `feed.dispatch` above 1 one call makes several updates.
    """
    feed = feed or host_feed()
    whole = replicated(mesh)

    def one(state: TrainState, batch: Batch, arrays: Any) -> tuple[TrainState, Metrics]:
        batch = feed.prepare(arrays, batch)
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # for losses that say what lies where (`losses/pairs.py`)
            return train_step(method, optimizer, schedule, steps_per_epoch, state, batch)

    def many(state: TrainState, batches: Batch, count: jax.Array, arrays: Any) -> tuple[TrainState, Metrics]:
        def body(index: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            return one(carry[0], {name: lax.dynamic_index_in_dim(x, index, keepdims=False) for name, x in batches.items()}, arrays)

        shapes = jax.eval_shape(one, state, {name: x[0] for name, x in batches.items()}, arrays)[1]
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        # a loop whose length is no constant: one program for every number of steps up to the next save
        return lax.fori_loop(0, count, body, (state, nothing))

    places = jax.tree.map(lambda array: array.sharding, feed.arrays)
    options: dict[str, Any] = {"out_shardings": (whole, whole), "donate_argnums": 0}
    if feed.dispatch > 1:
        several = jax.jit(many, in_shardings=(whole, stacked_sharding(mesh), whole, places), **options)
        return lambda state, batch, count: several(state, batch, count, feed.arrays)
    if not feed.arrays:
        return jax.jit(lambda state, batch: one(state, batch, ()), in_shardings=(whole, batch_sharding(mesh)), **options)
    single = jax.jit(one, in_shardings=(whole, batch_sharding(mesh), places), **options)
    return lambda state, batch: single(state, batch, feed.arrays)
