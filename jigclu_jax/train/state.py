"""State of a training run from step to step, and its sharding over the devices."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from jigclu_jax.device.mesh import longest_axis_sharding, replicated
from jigclu_jax.methods import DataFacts, Method
from jigclu_jax.metrics import MetricSpec
from jigclu_jax.train.optimizer import Optimizer

Tree = dict[str, Any]
# What every step measures beside the method's own metrics.
STEP_METRICS = (MetricSpec("gradient_norm", "gradient norm"), MetricSpec("learning_rate", "learning rate"))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a checkpoint holds of the training itself.

    Attributes:
      step: i32 scalar, number of updates made (leaves are arrays, or their shapes in a restore target).
      params: trainable parameters, nested dicts.
      stats: BatchNorm's running statistics.
      opt: the optimizer's state.
      extra: what the method keeps beside (a momentum encoder, a queue).
      sums: sums of the metrics over the steps of the current epoch, `count` of those steps, and `nonfinite_step`: the
        first step whose loss or gradient was not finite, -1 while all were.
      ema: moving averages {params, stats} over the steps; empty where `config.ema_decay` is 0.
    """

    step: Any
    params: Tree
    stats: Tree
    opt: Any
    extra: Tree
    sums: Tree
    ema: Tree = dataclasses.field(default_factory=dict)


def zero_sums(metric_names: tuple[str, ...]) -> Tree:
    """The epoch's sums before its first step."""
    sums: Tree = {name: jnp.zeros((), jnp.float32) for name in metric_names}
    return {**sums, "count": jnp.zeros((), jnp.int32), "nonfinite_step": jnp.full((), -1, jnp.int32)}


def init_state(method: Method, facts: DataFacts, optimizer: Optimizer, key: jax.Array, *, ema: bool = False) -> TrainState:
    """State at step 0; pure, so that it can run under `jit` and `eval_shape`. Averages begin as what they are averages of."""
    params, stats, extra = method.init(key, facts)
    names = (*(spec.name for spec in method.metrics), *(spec.name for spec in STEP_METRICS))
    averages = {"params": params, "stats": stats} if ema else {}
    return TrainState(jnp.zeros((), jnp.int32), params, stats, optimizer.init(params), extra, zero_sums(names), averages)


def create_state(method: Method, facts: DataFacts, optimizer: Optimizer, seed: int, target: TrainState) -> TrainState:
    """State at step 0, created in place on the devices, as `abstract_state` describes it."""
    places = jax.tree.map(lambda leaf: leaf.sharding, target)
    make = jax.jit(lambda key: init_state(method, facts, optimizer, key, ema=bool(target.ema)), out_shardings=places)
    return make(jax.random.key(seed))


def abstract_state(
    method: Method, facts: DataFacts, optimizer: Optimizer, mesh: Mesh, *, ema: bool = False, shard: bool = False
) -> TrainState:
    """Shapes, dtypes and shardings of a state: the target of a restore.

    Every device holds all of it; with `shard` the optimizer's state and the averages are shared among the devices along an axis
    that they divide, where there is one (the first stage of Rajbhandari et al. 2020, "ZeRO").
    """
    shapes = jax.eval_shape(lambda: init_state(method, facts, optimizer, jax.random.key(0), ema=ema))

    def whole(leaf: Any) -> NamedSharding:
        return replicated(mesh)

    def place(tree: Any, where: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where(leaf)), tree)

    def shared(leaf: Any) -> NamedSharding:
        return longest_axis_sharding(leaf.shape, mesh)

    state = place(shapes, whole)
    return dataclasses.replace(state, opt=place(shapes.opt, shared), ema=place(shapes.ema, shared)) if shard else state
