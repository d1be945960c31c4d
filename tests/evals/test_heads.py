"""A grid of heads against a transcription of SGD, one head alone, and the optimum that it tends to."""

import numpy as np
import pytest

from jigclu_jax.data.input.order import epoch_order
from jigclu_jax.evals.heads import Recipe, best_head, fit_heads, head_accuracies, standardiser
from jigclu_jax.evals.logistic import fit_logistic


def clouds(seed: int, n: int = 90, dim: int = 6, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n).astype(np.int32)
    return (centres[labels] + generator.normal(size=(n, dim))).astype(np.float32), labels


def slow_sgd(x: np.ndarray, y: np.ndarray, classes: int, rate: float, decay: float, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """PyTorch's SGD in float64, one example's gradient at a time."""
    kernel, bias = np.zeros((x.shape[1], classes)), np.zeros(classes)
    speeds = [np.zeros_like(kernel), np.zeros_like(bias)]
    total = recipe.epochs * -(-len(x) // recipe.batch_size)
    step = 0
    for epoch in range(recipe.epochs):
        order = epoch_order(recipe.seed, epoch, len(x))
        for begin in range(0, len(x), recipe.batch_size):
            rows = order[begin : begin + recipe.batch_size]
            gradients = [decay * kernel, np.zeros(classes)]
            for row in rows:
                scores = x[row].astype(np.float64) @ kernel + bias
                error = np.exp(scores) / np.exp(scores).sum() - np.eye(classes)[y[row]]
                gradients[0] = gradients[0] + np.outer(x[row], error) / len(rows)
                gradients[1] = gradients[1] + error / len(rows)
            now = rate * (1 + np.cos(np.pi * step / total)) / 2
            speeds = [recipe.momentum * speed + gradient for speed, gradient in zip(speeds, gradients, strict=True)]
            kernel, bias = kernel - now * speeds[0], bias - now * speeds[1]
            step += 1
    return kernel, bias


# 90 rows are no multiple of 32: the last batch has 26, and what fills it up must not count
@pytest.mark.parametrize("batch_size", [32, 90, 200])
def test_every_head_is_that_of_plain_sgd(batch_size: int) -> None:
    x, y = clouds(0)
    recipe = Recipe(epochs=4, batch_size=batch_size, momentum=0.9, seed=3)
    rates, decays = (0.01, 0.3, 0.1), (0.0, 0.1, 0.01)
    heads = fit_heads(x, y, 3, rates, decays, recipe)
    for number, (rate, decay) in enumerate(zip(rates, decays, strict=True)):
        kernel, bias = slow_sgd(x, y, 3, rate, decay, Recipe(4, min(batch_size, 90), 0.9, 3))
        np.testing.assert_allclose(heads.kernel[number], kernel, atol=2e-5)
        np.testing.assert_allclose(heads.bias[number], bias, atol=2e-5)


def test_a_head_is_the_same_in_company_and_alone_even_beside_one_that_diverges() -> None:
    x, y = clouds(1)
    recipe = Recipe(epochs=60, batch_size=30)
    together = fit_heads(100 * x, y, 3, (1e-4, 1e30), (0.0, 1e10), recipe)
    alone = fit_heads(100 * x, y, 3, (1e-4,), (0.0,), recipe)
    np.testing.assert_allclose(together.kernel[0], alone.kernel[0], rtol=1e-4, atol=1e-6)
    assert not np.isfinite(together.kernel[1]).all()
    assert head_accuracies(together, 100 * x, y)[1] == 0.0


def test_a_long_run_ends_at_the_optimum_of_its_decay() -> None:
    x, y = clouds(2, n=300)
    heads = fit_heads(x, y, 3, (0.1,), (0.05,), Recipe(epochs=200, batch_size=300))
    kernel, bias = fit_logistic(x, y, 3, 0.05)
    np.testing.assert_allclose(heads.kernel[0], kernel, atol=2e-3)
    np.testing.assert_allclose(heads.bias[0] - heads.bias[0].mean(), bias - bias.mean(), atol=2e-3)


def test_the_order_belongs_to_the_seed() -> None:
    x, y = clouds(3)
    first, again, other = (fit_heads(x, y, 3, (0.1,), (0.0,), Recipe(1, 10, seed=seed)).kernel for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_of_equally_good_heads_the_tamest_is_chosen() -> None:
    assert best_head([0.5, 0.7, 0.7, 0.7], (0.1, 0.1, 0.3, 0.1), (1.0, 0.0, 0.1, 0.1)) == 3


def test_standardising_is_by_the_training_features_alone() -> None:
    x = np.array([[1, 5, 7], [3, 5, 9]], np.float32)
    prepare = standardiser(x)
    np.testing.assert_allclose(prepare(x), [[-1, 0, -1], [1, 0, 1]])
    np.testing.assert_allclose(prepare(np.array([[5, 6, 8]], np.float32)), [[3, 0, 0]])
