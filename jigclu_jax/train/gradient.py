"""Loss and gradient of a batch: in one piece, or in micro-batches with the memory of one of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jigclu_jax.methods import Batch, Method, Metrics, Tree
from jigclu_jax.train.freezing import IsFrozen, join, split


class Result(NamedTuple):
    """What a batch says: gradient by the parameters that move, loss, statistics, extra state and metrics after it."""

    gradient: Tree
    loss: jax.Array
    stats: Tree
    extra: Tree
    metrics: Metrics


def whole_batch(method: Method, frozen: IsFrozen, params: Tree, stats: Tree, extra: Tree, batch: Batch) -> Result:
    """Everything of a batch at once."""

    moving, still = split(params, frozen)

    def loss(moving: Tree) -> tuple[jax.Array, tuple[Tree, Tree, Metrics]]:
        return method.loss(join(moving, still), stats, extra, batch)

    (value, (stats, extra, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(moving)
    return Result(gradient, value, stats, extra, metrics)


def in_parts(method: Method, frozen: IsFrozen, params: Tree, stats: Tree, extra: Tree, batch: Batch, *, parts: int, unroll: bool) -> Result:
    """The same from `parts` micro-batches one after the other; exact, but that BatchNorm sees one micro-batch at a time.

    Micro-batch j holds the examples r with r % parts == j, so that each device keeps its own rows. Each starts from the
    statistics before the step, and the mean of those it leaves counts: the step is one update of the running averages. Gradients
    add up in the parameters' dtype.

    Where examples meet in the loss (`Method.weight` is None) there are two passes (Gao et al. 2021, "Scaling deep contrastive
    learning batch size under memory limited setup"): outputs of all micro-batches without their activations, the loss over
    all of them and its derivative by the outputs, then each micro-batch again for the derivative by the parameters.

    Args:
      method: the loss is that of its `objective` over the whole batch.
      frozen: which paths stand still.
      params, stats, extra: of the state.
      batch: global, its size a multiple of `parts`.
      parts: number of micro-batches.
      unroll: False compiles a loop. True writes the micro-batches out one after the other: a CPU's convolutions are about ten
        times slower inside of loops.
    """
    rows = {name: array.reshape(-1, parts, *array.shape[1:]) for name, array in batch.items()}

    def part(index: jax.Array) -> Batch:
        return {name: lax.dynamic_index_in_dim(array, index, axis=1, keepdims=False) for name, array in rows.items()}

    def each(body: Callable[[Tree, Any, jax.Array], tuple[Any, Any]], start: Any, *after: Any) -> tuple[Any, Any]:
        """A scan of `body(params, carry, index)` whose turns wait for each other, and for `after`."""
        held, start, *_ = lax.optimization_barrier((params, start, *after))

        def turn(carry: Any, index: jax.Array) -> tuple[Any, Any]:
            # without it an unrolled scan would share what two passes have in common, and so keep the first one's activations
            held_now, carry = lax.optimization_barrier((held, carry))
            return body(held_now, carry, index)

        return lax.scan(turn, start, jnp.arange(parts), unroll=parts if unroll else 1)

    if method.weight(batch) is None:
        return _two_passes(method, frozen, stats, extra, batch, parts, part, each, params)
    return _weighted_mean(method, frozen, stats, extra, parts, part, each, params)


def _two_passes(
    method: Method, frozen: IsFrozen, stats: Tree, extra: Tree, batch: Batch, parts: int, part: Any, each: Any, params: Tree
) -> Result:
    def outputs_of(params: Tree, total: Tree, index: jax.Array) -> tuple[Tree, Any]:
        outputs, after = method.forward(params, stats, extra, part(index))
        return _add(total, after), outputs

    total, outputs = each(outputs_of, _zeros(stats))
    # [parts, n, ...] -> the order of the batch
    outputs = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), outputs)
    (loss, (extra_after, metrics)), by_output = jax.value_and_grad(method.objective, has_aux=True)(outputs, extra, batch)
    by_output = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]), by_output)

    def pull(params: Tree, total: Tree, index: jax.Array) -> tuple[Tree, None]:
        moving, still = split(params, frozen)
        _, back = jax.vjp(lambda moving: method.forward(join(moving, still), stats, extra, part(index))[0], moving)
        own = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, index, axis=1, keepdims=False), by_output)
        return _add(total, back(own)[0]), None

    gradient, _ = each(pull, _zeros(split(params, frozen)[0]), by_output)
    return Result(gradient, loss, _scaled(total, 1 / parts), extra_after, metrics)


def _weighted_mean(method: Method, frozen: IsFrozen, stats: Tree, extra: Tree, parts: int, part: Any, each: Any, params: Tree) -> Result:
    def body(params: Tree, total: Any, index: jax.Array) -> tuple[Any, None]:
        own = part(index)
        found = whole_batch(method, frozen, params, stats, extra, own)
        weight = jnp.asarray(method.weight(own), found.loss.dtype)
        means = _scaled((found.gradient, found.loss, found.metrics), weight)
        return _add(total, (means, found.stats, weight)), None

    shapes = jax.eval_shape(lambda: whole_batch(method, frozen, params, stats, extra, part(jnp.zeros((), jnp.int32))))
    zero = _zeros(((shapes.gradient, shapes.loss, shapes.metrics), stats, shapes.loss))
    (means, total, weight), _ = each(body, zero)
    gradient, loss, metrics = _scaled(means, 1 / jnp.maximum(weight, 1))
    return Result(gradient, loss, _scaled(total, 1 / parts), extra, metrics)


def _zeros(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)


def _add(left: Any, right: Any) -> Any:
    return jax.tree.map(jnp.add, left, right)


def _scaled(tree: Any, factor: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf * factor).astype(leaf.dtype), tree)
