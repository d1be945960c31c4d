"""One training step: the only place where a training step is jitted."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from jigclu_jax.device.feed import HOST_FEED, Batch, Feed
from jigclu_jax.device.mesh import batch_sharding, replicated, stacked_sharding
from jigclu_jax.methods import Method
from jigclu_jax.ops.moving_average import moving_average
from jigclu_jax.train.freezing import IsFrozen, freeze_statistics, join, split, thaw_statistics
from jigclu_jax.train.gradient import Given, in_parts, whole_batch
from jigclu_jax.train.optimizer import Optimizer
from jigclu_jax.train.schedule import Schedule
from jigclu_jax.train.state import TrainState, Tree, zero_sums

Metrics = dict[str, jax.Array]
# (state, batch) -> (state, metrics); where a dispatch holds several steps (state, batches stacked along a new first axis, how many of
# them count) -> (state, metrics of the last).
Step = Callable[..., tuple[TrainState, Metrics]]


@dataclasses.dataclass(frozen=True)
class Update:
    """What one update does beside the method's loss.

    Attributes:
      optimizer: gradient -> direction.
      schedule: step -> learning rate.
      steps_per_epoch: after how many steps the sums of the metrics begin anew.
      ema_decay: fraction of the old in the moving averages, 0 where the state has none.
      accumulate: micro-batches a batch is computed in, see `train/gradient.py`.
    """

    optimizer: Optimizer
    schedule: Schedule
    steps_per_epoch: int
    ema_decay: float = 0.0
    accumulate: int = 1


def train_step(method: Method, update: Update, state: TrainState, batch: Batch, *, unroll: bool = True) -> tuple[TrainState, Metrics]:
    """The mathematics of one update on a global batch; pure. `unroll`: how micro-batches are compiled, see `in_parts`.

    Returns the new state and the metrics of this step (scalars): the method's own, `gradient_norm` (2-norm over all
    parameters that train, before weight decay) and `learning_rate`.
    """
    optimizer = update.optimizer
    frozen = optimizer.frozen
    given = Given(method, frozen, freeze_statistics(state.stats, frozen), state.extra, batch)
    parts = update.accumulate
    found = whole_batch(given, state.params) if parts == 1 else in_parts(given, state.params, parts=parts, unroll=unroll)
    rate = update.schedule(state.step)
    moving, still = split(state.params, frozen)
    change, opt = optimizer.update(found.gradient, state.opt, moving, rate=rate)
    params = join(jax.tree.map(lambda p, d: (p - d).astype(p.dtype), moving, change), still)
    stats = thaw_statistics(found.stats, state.stats, frozen)
    norm = optax.tree.norm(found.gradient)
    metrics = {**found.metrics, "gradient_norm": norm, "learning_rate": rate}
    extra = method.after_update(params, stats, found.extra)
    sums = _add(state, metrics, update.steps_per_epoch, jnp.isfinite(found.loss) & jnp.isfinite(norm))
    ema = state.ema
    if ema:
        # statistics as well: those of the newest weights are ahead of what averaged weights see
        now = {"params": params, "stats": stats}
        ema = {name: _averaged(ema[name], now[name], update.ema_decay, frozen) for name in now}
    return TrainState(state.step + 1, params, stats, opt, extra, sums, ema), metrics


def _averaged(old: Tree, new: Tree, decay: float, frozen: IsFrozen) -> Tree:
    """Moving averages a step later; what stands still keeps its bits."""
    moving, still = split(old, frozen)
    return join(moving_average(moving, split(new, frozen)[0], decay), still)


def _add(state: TrainState, metrics: Metrics, steps_per_epoch: int, finite: jax.Array) -> Tree:
    """The epoch's sums with this step's metrics; they begin anew with each epoch."""
    first = state.step % steps_per_epoch == 0
    old = jax.tree.map(lambda zero, value: jnp.where(first, zero, value), zero_sums(tuple(metrics)), state.sums)
    sums: Tree = {name: old[name] + value.astype(jnp.float32) for name, value in metrics.items()}
    bad = state.sums["nonfinite_step"]
    return {**sums, "count": old["count"] + 1, "nonfinite_step": jnp.where((bad < 0) & ~finite, state.step + 1, bad)}


def compile_step(method: Method, update: Update, mesh: Mesh, feed: Feed | None = None, target: TrainState | None = None) -> Step:
    """The step jitted over the mesh: state donated, batch sharded, so that BatchNorm and loss are global.

    With `feed`, the method sees what it makes of the host's batch; with `feed.dispatch` above 1 one call makes several updates.
    The state is replicated, or lies where `target` (`abstract_state`) says.
    """
    feed = feed or HOST_FEED
    whole = replicated(mesh)
    state_places: Any = whole if target is None else jax.tree.map(lambda leaf: leaf.sharding, target)
    unroll = mesh.devices.flat[0].platform == "cpu"

    def one(state: TrainState, batch: Batch, arrays: Any) -> tuple[TrainState, Metrics]:
        batch = feed.prepare(arrays, batch)
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # for losses that say what lies where (`losses/pairs.py`)
            return train_step(method, update, state, batch, unroll=unroll)

    def many(state: TrainState, batches: Batch, count: jax.Array, arrays: Any) -> tuple[TrainState, Metrics]:
        def body(index: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            return one(carry[0], jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, index, keepdims=False), batches), arrays)

        shapes = jax.eval_shape(one, state, jax.tree.map(lambda x: x[0], batches), arrays)[1]
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        # a loop whose length is no constant: one program for every number of steps up to the next save
        return lax.fori_loop(0, count, body, (state, nothing))

    places = jax.tree.map(lambda array: array.sharding, feed.arrays)
    options: dict[str, Any] = {"out_shardings": (state_places, whole), "donate_argnums": 0}
    if feed.dispatch > 1:
        several = jax.jit(many, in_shardings=(state_places, stacked_sharding(mesh), whole, places), **options)
        return lambda state, batch, count: several(state, batch, count, feed.arrays)
    if not feed.arrays:
        return jax.jit(lambda state, batch: one(state, batch, ()), in_shardings=(state_places, batch_sharding(mesh)), **options)
    single = jax.jit(one, in_shardings=(state_places, batch_sharding(mesh), places), **options)
    return lambda state, batch: single(state, batch, feed.arrays)
