"""Negative cosine and the mean of the other views against literal transcriptions and closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jigclu_jax.losses.negative_cosine import mean_of_cluster, mean_of_others, negative_cosine


def arrays(views: int = 4) -> tuple[jax.Array, jax.Array]:
    return tuple(jnp.asarray(np.random.default_rng(seed).normal(size=(5, views, 8)), jnp.float32) for seed in (4, 5))


def literal(predictions: np.ndarray, projections: np.ndarray) -> float:
    """The papers' loss, image by image and view by view."""
    total, (images, views, _) = 0.0, predictions.shape
    for image in range(images):
        for view in range(views):
            target = sum(projections[image, other] for other in range(views) if other != view) / (views - 1)
            own = predictions[image, view]
            total -= float(own @ target) / math.sqrt(float(own @ own) * float(target @ target))
    return total / images / views


@pytest.mark.parametrize("views", [2, 3, 4])
def test_the_loss_is_the_papers(views: int) -> None:
    predictions, projections = arrays(views)
    found = negative_cosine(predictions, mean_of_others(projections))
    assert float(found) == pytest.approx(literal(np.asarray(predictions, np.float64), np.asarray(projections, np.float64)), rel=1e-4)


def test_of_two_views_the_other_one_is_the_target() -> None:
    _, projections = arrays(2)
    np.testing.assert_allclose(mean_of_others(projections), projections[:, ::-1], atol=1e-6)


def test_the_mean_of_a_cluster_is_that_of_views_that_were_shuffled() -> None:
    _, projections = arrays()
    order = np.random.default_rng(0).permutation(20)
    rows, clusters = projections.reshape(20, 8)[order], jnp.repeat(jnp.arange(5), 4)[order]
    expected = mean_of_others(projections).reshape(20, 8)[order]
    np.testing.assert_allclose(mean_of_cluster(rows, clusters, 5), expected, atol=1e-6)


def test_closed_forms() -> None:
    eye = jnp.eye(4)
    assert float(negative_cosine(3 * eye, eye)) == pytest.approx(-1) and float(negative_cosine(eye, -2 * eye)) == pytest.approx(1)
    assert float(negative_cosine(eye, eye[::-1])) == pytest.approx(0)
    predictions, projections = arrays(2)
    unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (predictions, projections)]
    squared = np.mean(np.sum((unit[0] - unit[1]) ** 2, axis=-1))  # BYOL's
    assert 2 + 2 * float(negative_cosine(predictions, projections)) == pytest.approx(float(squared), rel=1e-5)


def test_no_gradient_reaches_the_targets() -> None:
    predictions, projections = arrays()
    by_prediction, by_projection = jax.grad(lambda p, z: negative_cosine(p, mean_of_others(z)), (0, 1))(predictions, projections)
    assert not by_projection.any() and by_prediction.any()
    # a cosine does not depend on the length
    np.testing.assert_allclose(np.sum(by_prediction * predictions, axis=-1), 0, atol=1e-6)


def test_the_loss_is_lightlys() -> None:
    """lightly 1.6.0, NegativeCosineSimilarity in float64, as its examples of FastSiam and SimSiam call it."""
    predictions, projections = arrays()
    assert float(negative_cosine(predictions, mean_of_others(projections))) == pytest.approx(0.0062922843796240704, rel=1e-4)
    found = negative_cosine(predictions[:, :2], mean_of_others(projections[:, :2]))
    assert float(found) == pytest.approx(-0.05733213233845897, rel=1e-4)
