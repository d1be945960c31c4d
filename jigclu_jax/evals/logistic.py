"""Multinomial logistic regression on a matrix of features, solved to the optimum, so that no learning rate favours one feature."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float32, Int

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_STEPS = 200
_TOLERANCE = 1e-4


@partial(jax.jit, static_argnames="classes")
def _solve(
    x: Float[Array, "n d"], y: Int[Array, " n"], penalty: Float[Array, ""], start: tuple[Array, Array], *, classes: int
) -> tuple[Float[Array, "d c"], Float[Array, " c"]]:
    target = jax.nn.one_hot(y, classes, dtype=x.dtype)

    def objective(parameters: tuple[Array, Array]) -> Array:
        weights, bias = parameters
        loss = -jnp.mean(jnp.sum(target * jax.nn.log_softmax(jnp.matmul(x, weights, precision=jax.lax.Precision.HIGHEST) + bias), axis=-1))
        return loss + penalty / 2 * jnp.sum(weights * weights)

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(objective)

    def step(carry: tuple) -> tuple:
        parameters, state, count, _ = carry
        value, gradient = value_and_grad(parameters, state=state)
        updates, state = solver.update(gradient, state, parameters, value=value, grad=gradient, value_fn=objective)
        return optax.apply_updates(parameters, updates), state, count + 1, optax.tree.norm(gradient)

    def unfinished(carry: tuple) -> Array:
        return (carry[2] < _STEPS) & (carry[3] > _TOLERANCE)

    result: tuple[Array, Array] = jax.lax.while_loop(unfinished, step, (start, solver.init(start), 0, jnp.asarray(jnp.inf, x.dtype)))[0]
    return result


def fit_logistic(
    x: Float32[np.ndarray, "n d"], y: Int[np.ndarray, " n"], classes: int, penalty: float
) -> tuple[Float32[np.ndarray, "d c"], Float32[np.ndarray, " c"]]:
    """Multinomial logistic regression by full-batch L-BFGS: weights float32[d, classes] and bias float32[classes].

    The minimum of the mean cross entropy + penalty / 2 * sum of squared weights (the bias is free); labels are 0..classes-1.
    """
    start = (jnp.zeros((x.shape[1], classes), jnp.float32), jnp.zeros((classes,), jnp.float32))
    weights, bias = _solve(jnp.asarray(x), jnp.asarray(y), jnp.float32(penalty), start, classes=classes)
    return np.asarray(weights), np.asarray(bias)


def linear_probe(
    train_x: Float32[np.ndarray, "n d"],
    train_y: Int[np.ndarray, " n"],
    test_x: Float32[np.ndarray, "k d"],
    test_y: Int[np.ndarray, " k"],
    classes: int,
    *,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
) -> float:
    """Top-1 accuracy on the test set, as a fraction, of logistic regression on standardised features.

    The penalty is the one that does best on a fifth of the training set, drawn with `seed`; the test set is looked at
    once, after the fit on the whole training set with that penalty.
    """
    order = np.random.default_rng(seed).permutation(len(train_x))
    held, kept = order[: len(order) // 5], order[len(order) // 5 :]

    def score(fit_x: np.ndarray, fit_y: np.ndarray, score_x: np.ndarray, score_y: np.ndarray, penalty: float) -> float:
        mean, deviation = fit_x.mean(0), fit_x.std(0)
        scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0).astype(np.float32)
        weights, bias = fit_logistic((fit_x - mean) * scale, fit_y, classes, penalty)
        return float(np.mean((((score_x - mean) * scale) @ weights + bias).argmax(1) == score_y))

    scores = [score(train_x[kept], train_y[kept], train_x[held], train_y[held], penalty) for penalty in penalties]
    return score(train_x, train_y, test_x, test_y, penalties[int(np.argmax(scores))])
