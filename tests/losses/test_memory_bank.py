"""Losses against a memory bank: a literal transcription, the authors' own code, closed forms, and what no gradient reaches."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jigclu_jax.losses.cross_entropy import cross_entropy
from jigclu_jax.losses.memory_bank import Scores, bank_accuracy, bank_logits, bank_scores, log_partition, moved_bank, nce_loss


def rows(count: int, dim: int, phase: float) -> np.ndarray:
    x = np.sin(phase + np.arange(count * dim) * 1.7).reshape(count, dim)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


EMBEDDINGS, BANK = rows(3, 4, 0.5), rows(12, 4, 2.0)
EXAMPLE, NEGATIVES = np.array([7, 2, 9]), np.array([0, 7, 4, 4, 11])  # the first image's own row is among them
TEMPERATURE = 0.1
# By the authors' code (zhirongw/lemniscate.pytorch f7cfe29: NCEFunction, NCECriterion, LinearAverageOp with CrossEntropyLoss), run in
# float64 by torch 2.14.1 on these rows, with the same negatives for every image; one call that takes a shape in place was rewritten.
AUTHORS_LOSS, AUTHORS_Z, AUTHORS_SOFTMAX = 8.903953431623526, 26704.003535619944, 9.173972252375213
AUTHORS_GRADIENT = [1.432055186833838, -1.914587127589293, -0.9386871663559124, 2.156476474090946]  # of the first row
AUTHORS_SOFTMAX_GRADIENT = [2.5013597544023054, 0.010572927970151517, -2.504084281517379, 0.6347020178807968]
AUTHORS_BANK = [
    [-0.03272061911888419, 0.7178213656464014, -0.1522540425835825, -0.6785871754041398],
    [0.6081526021667488, -0.3541820462254134, -0.5168837888978136, 0.4873773070056008],
    [0.5945843695103257, 0.36766974263753816, -0.6893288136287011, -0.19003729785689158],
]


def scores(embeddings: jax.Array, example: np.ndarray = EXAMPLE, bank: np.ndarray = BANK, negatives: np.ndarray = NEGATIVES) -> Scores:
    return bank_scores(embeddings, jnp.asarray(bank), jnp.asarray(example), jnp.asarray(negatives), TEMPERATURE)


def nce(embeddings: jax.Array) -> jax.Array:
    found = scores(embeddings)
    return nce_loss(found, log_partition(found, 12), 12)


def softmax(embeddings: jax.Array) -> jax.Array:
    return cross_entropy(bank_logits(embeddings, jnp.asarray(BANK), TEMPERATURE), jnp.asarray(EXAMPLE))


def test_losses_and_gradients_are_those_of_the_authors_code(float64: None) -> None:
    x = jnp.asarray(EMBEDDINGS)
    assert float(jnp.exp(log_partition(scores(x), 12))) == pytest.approx(AUTHORS_Z, rel=1e-7)
    # their 1e-7 in the denominators is left out here
    assert float(nce(x)) == pytest.approx(AUTHORS_LOSS, rel=1e-6)
    np.testing.assert_allclose(jax.grad(nce)(x)[0], AUTHORS_GRADIENT, rtol=1e-6)
    assert float(softmax(x)) == pytest.approx(AUTHORS_SOFTMAX, rel=1e-7)
    np.testing.assert_allclose(jax.grad(softmax)(x)[0], AUTHORS_SOFTMAX_GRADIENT, rtol=1e-6)
    moved = moved_bank(jnp.asarray(BANK), jnp.asarray(EXAMPLE), x, 0.5)
    np.testing.assert_allclose(moved[EXAMPLE], AUTHORS_BANK, rtol=1e-7)


@pytest.mark.parametrize(("images", "dim", "batch", "count"), [(12, 4, 3, 5), (200, 16, 8, 300), (5, 3, 2, 1)])
def test_the_loss_is_the_papers(images: int, dim: int, batch: int, count: int) -> None:
    """Equations 5 to 7, image by image and negative by negative; more negatives than images as well."""
    rng = np.random.default_rng(images)
    x, bank, log_z = rows(batch, dim, 0.1), rows(images, dim, 0.7), 3.0
    example, negatives = rng.permutation(images)[:batch], rng.integers(0, images, count)
    total = 0.0
    for own, image in zip(x, example, strict=True):

        def h(other: int, own: np.ndarray = own) -> float:
            p = math.exp(own @ bank[other] / TEMPERATURE) / math.exp(log_z)
            return p / (p + count / images)

        total -= math.log(h(image)) + sum(math.log(1 - h(other)) for other in negatives)
    found = nce_loss(scores(jnp.asarray(x, jnp.float32), example, bank.astype(np.float32), negatives), jnp.asarray(log_z), images)
    assert float(found) == pytest.approx(total / batch, rel=1e-5)


def test_closed_forms() -> None:
    """All scores equal to log Z, that is a model that tells nothing apart: h is 1 / (1 + k / n * n) with P = 1 / n."""
    k, n = 6, 12
    same = Scores(jnp.full(4, 2.0), jnp.full((4, k), 2.0), jnp.zeros((4, k), bool))
    log_z = log_partition(same, n)
    assert float(log_z) == pytest.approx(2 + math.log(n))
    expected = math.log(1 + k) + k * math.log(1 + 1 / k)
    assert float(nce_loss(same, log_z, n)) == pytest.approx(expected, rel=1e-6)
    told = Scores(jnp.full(4, 60.0), jnp.full((4, k), -60.0), jnp.zeros((4, k), bool))
    assert float(nce_loss(told, jnp.asarray(0.0), n)) == pytest.approx(0, abs=1e-6)
    far = Scores(jnp.full(4, -1e4), jnp.full((4, k), 1e4), jnp.zeros((4, k), bool))
    assert np.isfinite(float(nce_loss(far, jnp.asarray(0.0), n))), "nothing overflows"


def test_the_order_of_images_and_negatives_changes_nothing() -> None:
    x = jnp.asarray(EMBEDDINGS)
    expected = float(nce(x))
    turned = scores(x[::-1], EXAMPLE[::-1], BANK, NEGATIVES[::-1])
    assert float(nce_loss(turned, log_partition(turned, 12), 12)) == pytest.approx(expected, rel=1e-6)


def test_no_gradient_reaches_the_bank_or_the_partition_function() -> None:
    x = jnp.asarray(EMBEDDINGS)

    def by_bank(bank: jax.Array) -> jax.Array:
        found = bank_scores(x, bank, jnp.asarray(EXAMPLE), jnp.asarray(NEGATIVES), TEMPERATURE)
        return nce_loss(found, log_partition(found, 12), 12) + bank_logits(x, bank, TEMPERATURE).sum()

    assert (np.asarray(jax.grad(by_bank)(jnp.asarray(BANK))) == 0).all()
    fixed = jax.lax.stop_gradient(log_partition(scores(x), 12))
    np.testing.assert_allclose(jax.grad(nce)(x), jax.grad(lambda x: nce_loss(scores(x), fixed, 12))(x), rtol=1e-6)


def test_accuracy_leaves_out_negatives_that_are_the_own_row_and_counts_ties_as_misses() -> None:
    own = jnp.array([1.0, 1.0, 1.0])
    others = jnp.array([[1.0, 0.5], [0.9, 0.5], [1.0, 0.5]])
    same = jnp.array([[True, False], [False, False], [False, False]])
    assert float(bank_accuracy(Scores(own, others, same))) == pytest.approx(2 / 3)


def test_only_the_rows_of_the_batch_move_and_stay_of_unit_length() -> None:
    moved = np.asarray(moved_bank(jnp.asarray(BANK), jnp.asarray(EXAMPLE), jnp.asarray(EMBEDDINGS), 0.9))
    np.testing.assert_array_equal(np.delete(moved, EXAMPLE, 0), np.delete(np.asarray(jnp.asarray(BANK)), EXAMPLE, 0))
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, rtol=1e-6)
    before, after = (np.sum(EMBEDDINGS * bank[EXAMPLE], axis=1) for bank in (BANK, moved))
    assert (after > before).all(), "towards the embeddings"
    np.testing.assert_allclose(
        moved_bank(jnp.asarray(BANK), jnp.asarray(EXAMPLE), jnp.asarray(EMBEDDINGS), 0.0)[EXAMPLE], EMBEDDINGS, rtol=1e-6
    )
