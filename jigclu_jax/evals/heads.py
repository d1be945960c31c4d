"""Trains a grid of linear heads on one matrix of features, one head for each learning rate and weight decay.

The heads stand side by side in one matrix [D, heads * classes], so that a step is two matrix products for all of them; each has
its own rate and decay and never sees another. They share the order of the examples.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32, Int

from jigclu_jax.data.input.order import EpochOrders
from jigclu_jax.losses.cross_entropy import hits


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Training settings of the heads: SGD with PyTorch's momentum, cosine rate over all steps, weights and biases from zero.

    Attributes:
      epochs: passes over the features.
      batch_size: rows of a minibatch; the last of an epoch may be smaller.
      momentum: of SGD.
      seed: of the order of the rows.
    """

    epochs: int = 100
    batch_size: int = 256
    momentum: float = 0.9
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Heads:
    """Linear heads: scores of head h are x @ kernel[h] + bias[h]."""

    kernel: Float32[np.ndarray, "h d c"]
    bias: Float32[np.ndarray, "h c"]

    def scores(self, x: Float32[np.ndarray, "n d"], head: int = 0) -> Float32[np.ndarray, "n c"]:
        """Scores of one head."""
        return x @ self.kernel[head] + self.bias[head]


def fit_heads(
    x: Float32[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    classes: int,
    learning_rates: Sequence[float],
    weight_decays: Sequence[float],
    recipe: Recipe,
    say: Callable[[int], None] = lambda epoch: None,
) -> Heads:
    """One head for each pair (learning_rates[h], weight_decays[h]): mean cross entropy, weight_decay * kernel added to its gradient.

    The bias has no decay, so that a head's optimum is that of `evals/logistic.py` with penalty = weight_decay. A head that diverges
    holds numbers that are not finite. `say(epochs done)` after each epoch.
    """
    count, rows = len(learning_rates), len(x)
    batch = min(recipe.batch_size, rows)
    steps = -(-rows // batch)
    orders = EpochOrders(recipe.seed, rows)
    data = jnp.asarray(x), jnp.asarray(y, jnp.int32)
    rates, decays = (jnp.repeat(jnp.asarray(values, jnp.float32), classes) for values in (learning_rates, weight_decays))
    weights = jnp.zeros((x.shape[1], count * classes)), jnp.zeros((count * classes,))
    carry, course = (weights, jax.tree.map(jnp.zeros_like, weights)), _Course(recipe.epochs * steps, recipe.momentum, classes)
    for epoch in range(recipe.epochs):
        # rows past the end are marked -1 and weigh nothing
        order = np.full(steps * batch, -1, np.int32)
        order[:rows] = orders(epoch)
        first = jnp.float32(epoch * steps)
        carry = _epoch(data, jnp.asarray(order.reshape(steps, batch)), (rates, decays), carry, first, course)
        say(epoch + 1)
    kernel, bias = (np.asarray(leaf) for leaf in carry[0])
    return Heads(kernel.reshape(-1, count, classes).transpose(1, 0, 2), bias.reshape(count, classes))


class _Course(NamedTuple):
    """What is fixed when an epoch is compiled: steps of all epochs, momentum, number of classes."""

    steps: int
    momentum: float
    classes: int


@functools.partial(jax.jit, static_argnames="course", donate_argnames="carry")
def _epoch(
    data: tuple[Float[Array, "n d"], Int[Array, " n"]],
    order: Int[Array, "s b"],
    strengths: tuple[Float[Array, " hc"], Float[Array, " hc"]],
    carry: tuple[tuple[Array, Array], tuple[Array, Array]],
    first: Float[Array, ""],
    course: _Course,
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Kernel and bias, and the speeds of both, after an epoch; `strengths` are learning rates and weight decays."""
    (x, y), (rates, decays), (total, momentum, classes) = data, strengths, course

    def step(carry: tuple, at: tuple[Array, Array]) -> tuple[tuple, None]:
        (kernel, bias), (kernel_speed, bias_speed) = carry
        number, rows = at
        taken, counts = x[rows], rows >= 0  # row -1 is the last one, and its weight is 0
        scores = jnp.matmul(taken, kernel, precision=lax.Precision.HIGHEST) + bias
        chances = jax.nn.softmax(scores.reshape(len(rows), -1, classes), axis=-1)
        wanted = jax.nn.one_hot(y[rows], classes, dtype=chances.dtype)[:, None]
        weight = (counts / counts.sum()).astype(chances.dtype)
        error = ((chances - wanted) * weight[:, None, None]).reshape(len(rows), -1)
        kernel_speed = momentum * kernel_speed + jnp.matmul(taken.T, error, precision=lax.Precision.HIGHEST) + decays * kernel
        bias_speed = momentum * bias_speed + error.sum(0)
        rate = rates * 0.5 * (1 + jnp.cos(jnp.pi * number / total))
        return ((kernel - rate * kernel_speed, bias - rate * bias_speed), (kernel_speed, bias_speed)), None

    return lax.scan(step, carry, (first + jnp.arange(len(order)), order))[0]


def head_accuracies(heads: Heads, x: Float32[np.ndarray, "n d"], y: Int[np.ndarray, " n"]) -> list[float]:
    """Top-1 of every head as a fraction; 0 for one that diverged."""
    return [float(np.mean(hits(heads.scores(x, head), y))) for head in range(len(heads.kernel))]


def best_head(accuracies: Sequence[float], learning_rates: Sequence[float], weight_decays: Sequence[float]) -> int:
    """Index of the head with the best accuracy; ties go to the strongest weight decay, then to the lowest learning rate."""
    return max(range(len(accuracies)), key=lambda head: (accuracies[head], weight_decays[head], -learning_rates[head]))


def standardiser(x: Float32[np.ndarray, "n d"]) -> Callable[[Float32[np.ndarray, "k d"]], Float32[np.ndarray, "k d"]]:
    """A function that gives features mean 0 and deviation 1 by those of `x`; a feature that is constant there becomes 0."""
    mean, deviation = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0).astype(np.float32)
    centre = mean.astype(np.float32)
    return lambda features: (features - centre) * scale
