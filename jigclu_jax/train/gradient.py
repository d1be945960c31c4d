"""Loss and gradient of a batch: in one piece, or in micro-batches with the memory of one of them."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jigclu_jax.methods import Batch, Method, Metrics, Tree, without_features
from jigclu_jax.train.freezing import IsFrozen, join, split


class Result(NamedTuple):
    """Result of a batch: gradient by the parameters that move, loss, statistics, extra state and metrics after it."""

    gradient: Tree
    loss: jax.Array
    stats: Tree
    extra: Tree
    metrics: Metrics


@dataclasses.dataclass(frozen=True)
class Given:
    """What loss and gradient are computed from, beside the parameters.

    Attributes:
      method: the loss is that of its `objective` over the whole batch.
      frozen: which paths stand still.
      stats, extra: of the state.
      batch: global.
    """

    method: Method
    frozen: IsFrozen
    stats: Tree
    extra: Tree
    batch: Batch


def whole_batch(given: Given, params: Tree) -> Result:
    """Everything of a batch at once."""
    moving, still = split(params, given.frozen)

    def loss(moving: Tree) -> tuple[jax.Array, tuple[Tree, Tree, Metrics]]:
        return given.method.loss(join(moving, still), given.stats, given.extra, given.batch)

    (value, (stats, extra, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(moving)
    return Result(gradient, value, stats, extra, metrics)


def in_parts(given: Given, params: Tree, *, parts: int, unroll: bool) -> Result:
    """The same from `parts` micro-batches one after the other; exact, but that BatchNorm sees one micro-batch at a time.

    Micro-batch j holds the rows r (images, and pictures of each view) with r % parts == j, so that each device keeps its own. Each starts
    from the statistics and the extra state before the step, and the mean of those it leaves counts: the step is one update of the running
    averages. Gradients add up in the parameters' dtype.

    Where images meet in the loss (`Method.weight` is None) there are two passes (Gao et al. 2021, "Scaling deep contrastive
    learning batch size under memory limited setup"): outputs of all micro-batches without their activations, the loss over
    all of them and its derivative by the outputs, then each micro-batch again for the derivative by the parameters.

    Args:
      given: its batch has a multiple of `parts` rows.
      params: of the state.
      parts: number of micro-batches.
      unroll: False compiles a loop. True writes the micro-batches out one after the other: a CPU's convolutions are about ten
        times slower inside of loops.
    """
    compute = _weighted_mean if given.method.weight(given.batch) is not None else _two_passes
    return compute(given, params, _Parts(parts, unroll))


@dataclasses.dataclass(frozen=True)
class _Parts:
    """Micro-batches, and turns over them."""

    count: int
    unroll: bool

    def of(self, tree: Any, index: jax.Array) -> Any:
        """Rows r of each array with r % count == index."""
        return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x.reshape(-1, self.count, *x.shape[1:]), index, 1, keepdims=False), tree)

    def each(self, body: Callable[[Tree, Any, jax.Array], tuple[Any, Any]], params: Tree, start: Any, *after: Any) -> tuple[Any, Any]:
        """A scan of `body(params, carry, index)` whose turns wait for each other, and for `after`."""
        held, start, *_ = lax.optimization_barrier((params, start, *after))

        def turn(carry: Any, index: jax.Array) -> tuple[Any, Any]:
            # without it an unrolled scan would share what two passes have in common, and so keep the first one's activations
            held_now, carry = lax.optimization_barrier((held, carry))
            return body(held_now, carry, index)

        return lax.scan(turn, start, jnp.arange(self.count), unroll=self.count if self.unroll else 1)


def _two_passes(given: Given, params: Tree, parts: _Parts) -> Result:
    method, extra, batch = given.method, given.extra, dict(given.batch)

    def forward(params: Tree, index: jax.Array) -> tuple[Tree, Tree, Tree]:
        outputs, after, more = method.forward(params, given.stats, extra, parts.of(batch, index))
        return without_features(outputs), after, more

    def outputs_of(params: Tree, carry: Any, index: jax.Array) -> tuple[Any, Any]:
        total, change, _ = carry
        outputs, after, more = forward(params, index)
        moved, other = _changes(more, extra)
        return (_add(total, after), _add(change, moved), other), outputs

    (total, change, other), outputs = parts.each(outputs_of, params, (_zeros(given.stats), *_changes(extra, extra)))
    extra_after = _changed(extra, _scaled(change, 1 / parts.count), other)
    # [parts, n, ...] -> the order of the batch
    outputs = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), outputs)
    moving, still = split(params, given.frozen)

    def objective(moving: Tree, outputs: Tree) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        return method.objective(join(moving, still), outputs, extra_after, batch)

    (loss, (extra_after_loss, metrics)), (by_params, by_output) = jax.value_and_grad(objective, (0, 1), has_aux=True)(moving, outputs)

    def pull(params: Tree, total: Tree, index: jax.Array) -> tuple[Tree, None]:
        moving, still = split(params, given.frozen)
        _, back = jax.vjp(lambda moving: forward(join(moving, still), index)[0], moving)
        return _add(total, back(parts.of(by_output, index))[0]), None

    gradient, _ = parts.each(pull, params, by_params, by_output)
    return Result(gradient, loss, _scaled(total, 1 / parts.count), extra_after_loss, metrics)


def _weighted_mean(given: Given, params: Tree, parts: _Parts) -> Result:
    extra, batch = given.extra, dict(given.batch)

    def one(params: Tree, index: jax.Array) -> Result:
        return whole_batch(dataclasses.replace(given, batch=parts.of(batch, index)), params)

    def body(params: Tree, carry: Any, index: jax.Array) -> tuple[Any, None]:
        total, _ = carry
        found = one(params, index)
        weight = jnp.asarray(given.method.weight(parts.of(batch, index)), found.loss.dtype)
        means = _scaled((found.gradient, found.loss, found.metrics), weight)
        moved, other = _changes(found.extra, extra)
        return (_add(total, (means, found.stats, moved, weight)), other), None

    shapes = jax.eval_shape(one, params, jnp.zeros((), jnp.int32))
    unmoved, other = _changes(extra, extra)
    zero = _zeros(((shapes.gradient, shapes.loss, shapes.metrics), given.stats, unmoved, shapes.loss))
    ((means, total, change, weight), other), _ = parts.each(body, params, (zero, other))
    gradient, loss, metrics = _scaled(means, 1 / jnp.maximum(weight, 1))
    share = 1 / parts.count
    return Result(gradient, loss, _scaled(total, share), _changed(extra, _scaled(change, share), other), metrics)


def _changes(new: Tree, old: Tree) -> tuple[Tree, Tree]:
    """(change of the floating-point leaves of extra state, all other leaves); None where a leaf belongs to the other tree."""
    floats = jax.tree.map(lambda n, o: n - o if jnp.issubdtype(o.dtype, jnp.floating) else None, new, old)
    others = jax.tree.map(lambda n, o: None if jnp.issubdtype(o.dtype, jnp.floating) else n, new, old)
    return floats, others


def _changed(old: Tree, change: Tree, others: Tree) -> Tree:
    """Extra state with its change: what none of the micro-batches moved stays the same to the bit."""
    return jax.tree.map(lambda o, c, other: other if c is None else (o + c).astype(o.dtype), old, change, others)


def _zeros(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)


def _add(left: Any, right: Any) -> Any:
    return jax.tree.map(jnp.add, left, right)


def _scaled(tree: Any, factor: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf * factor).astype(leaf.dtype), tree)
