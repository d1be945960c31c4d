"""What a training run carries from step to step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jigclu_jax.device.mesh import replicated
from jigclu_jax.methods import Method
from jigclu_jax.train.optimizer import Optimizer

Tree = dict[str, Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a checkpoint holds of the training itself.

    Attributes:
      step: i32 scalar, number of updates made (leaves are arrays, or their shapes in a restore target).
      params: trainable parameters, nested dicts.
      stats: BatchNorm's running statistics.
      opt: the optimizer's state.
      extra: what the method keeps beside (a frozen trunk, a queue).
      sums: sums of the metrics over the steps of the current epoch, `count` of those steps, and `nonfinite_step`: the
        first step whose loss or gradient was not finite, -1 while all were.
    """

    step: Any
    params: Tree
    stats: Tree
    opt: Any
    extra: Tree
    sums: Tree


def zero_sums(metric_names: tuple[str, ...]) -> Tree:
    """The epoch's sums before its first step."""
    sums: Tree = {name: jnp.zeros((), jnp.float32) for name in metric_names}
    return {**sums, "count": jnp.zeros((), jnp.int32), "nonfinite_step": jnp.full((), -1, jnp.int32)}


def init_state(method: Method, optimizer: Optimizer, key: jax.Array) -> TrainState:
    """State at step 0; pure, so that it can run under `jit` and `eval_shape`."""
    params, stats, extra = method.init(key)
    names = (*method.metric_names, "gradient_norm", "learning_rate")
    return TrainState(jnp.zeros((), jnp.int32), params, stats, optimizer.init(params), extra, zero_sums(names))


def create_state(method: Method, optimizer: Optimizer, seed: int, mesh: Mesh) -> TrainState:
    """State at step 0, created in place on every device of the mesh."""
    return jax.jit(lambda key: init_state(method, optimizer, key), out_shardings=replicated(mesh))(jax.random.key(seed))


def abstract_state(method: Method, optimizer: Optimizer, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of a state: the target of a restore."""
    shapes = jax.eval_shape(lambda: init_state(method, optimizer, jax.random.key(0)))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated(mesh)), shapes)
