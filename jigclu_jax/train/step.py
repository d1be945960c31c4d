"""One training step: the only place where a training step is jitted."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jigclu_jax.device.mesh import batch_sharding, replicated
from jigclu_jax.methods import Method
from jigclu_jax.train.schedule import Schedule
from jigclu_jax.train.state import TrainState, Tree, zero_sums

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def train_step(
    method: Method, optimizer: optax.GradientTransformation, schedule: Schedule, steps_per_epoch: int, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """The mathematics of one update on a global batch; pure.

    Returns the new state and the metrics of this step (scalars): the method's own, `gradient_norm` (2-norm over all
    parameters, before weight decay) and `learning_rate`.
    """

    def objective(params: Tree) -> tuple[jax.Array, tuple[Tree, Tree, Metrics]]:
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


def compile_step(method: Method, optimizer: optax.GradientTransformation, schedule: Schedule, steps_per_epoch: int, mesh: Mesh) -> Step:
    """The step jitted over the mesh: state replicated and donated, batch sharded, so that BatchNorm and loss are global."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return train_step(method, optimizer, schedule, steps_per_epoch, state, batch)

    whole = replicated(mesh)
    return jax.jit(step, in_shardings=(whole, batch_sharding(mesh)), out_shardings=(whole, whole), donate_argnums=0)
