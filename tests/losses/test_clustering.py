"""The clustering loss against a literal transcription of the paper in plain Python, closed forms, and its derivative."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jigclu_jax.losses import clustering_loss, retrieval_accuracy


def transcribed_loss(z: np.ndarray, clusters: np.ndarray, temperature: float, base_temperature: float, decoupled: bool = False) -> float:
    """Equation 2 of the paper, anchor by anchor and pair by pair, times the code's temperature / base_temperature."""
    total = 0.0
    for i in range(len(z)):
        positives = [p for p in range(len(z)) if p != i and clusters[p] == clusters[i]]
        left_out = [i, *(positives if decoupled else ())]
        others = sum(math.exp(float(z[i] @ z[a]) / temperature) for a in range(len(z)) if a not in left_out)
        anchor = 0.0
        for p in positives:
            anchor += math.log(math.exp(float(z[i] @ z[p]) / temperature) / others)
        total += -anchor / len(positives)
    return temperature / base_temperature * total / len(z)


def unit_rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    z = np.random.default_rng(seed).standard_normal((n, d))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


CASES = {
    "four positives, shuffled ids": np.random.default_rng(1).permutation(np.repeat([7, -3, 1000, 0], 5)),
    "pairs": np.repeat(np.arange(10), 2),
    "uneven": np.array([0] * 2 + [1] * 3 + [2] * 15),
    "one cluster": np.zeros(20, np.int64),
}


@pytest.mark.parametrize("clusters", CASES.values(), ids=list(CASES))
@pytest.mark.parametrize("temperature", [0.07, 0.3, 1.0])
def test_against_the_transcription(clusters: np.ndarray, temperature: float) -> None:
    z = unit_rows(20, 8)
    computed = clustering_loss(jnp.asarray(z, "float32"), jnp.asarray(clusters, "int32"), temperature, 0.07)
    assert computed.dtype == jnp.float32
    assert float(computed) == pytest.approx(transcribed_loss(z, clusters, temperature, 0.07), rel=1e-5)


@pytest.mark.parametrize("rows", ["generic", "all equal", "duplicates"])
def test_gradient_against_central_differences(rows: str) -> None:
    z = unit_rows(8, 4)
    if rows == "all equal":
        z[:] = z[0]
    elif rows == "duplicates":
        z[1::2] = z[::2]
    clusters = np.repeat([0, 1], 4)
    step = 1e-6
    expected = np.zeros_like(z)
    for index in np.ndindex(*z.shape):
        shift = np.zeros_like(z)
        shift[index] = step
        up, down = (transcribed_loss(z + sign * shift, clusters, 0.3, 0.07) for sign in (1, -1))
        expected[index] = (up - down) / (2 * step)
    grad = jax.jit(jax.grad(lambda z: clustering_loss(z, jnp.asarray(clusters), 0.3, 0.07)))(jnp.asarray(z, "float32"))
    np.testing.assert_allclose(grad, expected, atol=2e-5 * max(1.0, np.abs(expected).max()))


def test_decoupled_against_the_transcription() -> None:
    z, clusters, step = unit_rows(12, 4), np.random.default_rng(1).permutation(np.repeat([0, 1, 2], 4)), 1e-6
    expected = np.zeros_like(z)
    for index in np.ndindex(*z.shape):
        shift = np.zeros_like(z)
        shift[index] = step
        up, down = (transcribed_loss(z + sign * shift, clusters, 0.3, 0.07, decoupled=True) for sign in (1, -1))
        expected[index] = (up - down) / (2 * step)
    value, grad = jax.value_and_grad(lambda z: clustering_loss(z, jnp.asarray(clusters), 0.3, 0.07, decoupled=True))(
        jnp.asarray(z, "float32")
    )
    assert float(value) == pytest.approx(transcribed_loss(z, clusters, 0.3, 0.07, decoupled=True), rel=1e-5)
    np.testing.assert_allclose(grad, expected, atol=2e-5 * np.abs(expected).max())


def test_decoupled_without_negatives_is_nothing() -> None:
    value, grad = jax.value_and_grad(lambda z: clustering_loss(z, jnp.zeros(4, int), 0.3, 0.07, decoupled=True))(
        jnp.asarray(unit_rows(4, 3))
    )
    assert value == 0 and not np.any(grad)


@pytest.mark.parametrize("n", [4, 24, 1024])
def test_equal_embeddings(n: int) -> None:
    z = jnp.tile(jnp.asarray(unit_rows(1, 16), "float32"), (n, 1))
    assert float(clustering_loss(z, jnp.arange(n) // 4, 0.3, 0.07)) == pytest.approx(0.3 / 0.07 * math.log(n - 1), rel=1e-5)


@pytest.mark.parametrize(("members", "count"), [(2, 3), (4, 8), (9, 4)])
def test_orthogonal_clusters(members: int, count: int) -> None:
    z = jnp.asarray(np.repeat(np.eye(count), members, axis=0), "float32")
    n, t = members * count, 0.3
    expected = t / 0.07 * (math.log((members - 1) * math.exp(1 / t) + n - members) - 1 / t)
    assert float(clustering_loss(z, jnp.repeat(jnp.arange(count), members), t, 0.07)) == pytest.approx(expected, rel=1e-5)


def test_two_opposite_clusters_and_the_wrong_labels_for_them() -> None:
    t, k = 0.5, 4
    z = jnp.asarray(np.repeat([[1.0, 0.0], [-1.0, 0.0]], k, axis=0), "float32")
    spread = math.log((k - 1) * math.exp(1 / t) + k * math.exp(-1 / t))
    right = clustering_loss(z, jnp.repeat(jnp.arange(2), k), t, 1.0)
    assert float(right) == pytest.approx(t * (spread - 1 / t), rel=1e-5)
    wrong = clustering_loss(z, jnp.tile(jnp.arange(2), k), t, 1.0)  # of an anchor's 3 positives 1 is near, 2 are opposite
    assert float(wrong) == pytest.approx(t * (spread - (1 - 2) / 3 / t), rel=1e-5)


def test_order_of_the_rows_does_not_matter() -> None:
    z, clusters = unit_rows(32, 8), np.repeat(np.arange(8), 4)
    order = np.random.default_rng(2).permutation(32)
    straight, mixed = (
        float(clustering_loss(jnp.asarray(z[o], "float32"), jnp.asarray(clusters[o]), 0.3, 0.07)) for o in (np.arange(32), order)
    )
    assert straight == pytest.approx(mixed, rel=1e-6)


def test_extreme_temperature_stays_finite() -> None:
    z = jnp.asarray(np.repeat([[1.0, 0.0], [-1.0, 0.0]], 4, axis=0), "float32")
    value, grad = jax.value_and_grad(lambda z: clustering_loss(z, jnp.tile(jnp.arange(2), 4), 1e-3, 0.07))(z)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


def test_a_row_alone_in_its_cluster_is_no_anchor() -> None:
    z = jnp.asarray(np.eye(3)[[0, 0, 1]], "float32")
    value, grad = jax.value_and_grad(lambda z: clustering_loss(z, jnp.array([0, 0, 1]), 1.0, 1.0))(z)
    assert float(value) == pytest.approx(math.log(math.e + 1) - 1, rel=1e-6)
    assert np.isfinite(grad).all()


def test_bfloat16_embeddings_are_widened() -> None:
    z = jnp.asarray(unit_rows(16, 8), "bfloat16")
    clusters = jnp.arange(16) // 4
    assert clustering_loss(z, clusters, 0.3, 0.07) == clustering_loss(z.astype("float32"), clusters, 0.3, 0.07)


def test_retrieval_accuracy_against_a_loop() -> None:
    z = np.random.default_rng(0).standard_normal((40, 3)) * np.random.default_rng(1).uniform(0.1, 5.0, (40, 1))
    clusters = np.random.default_rng(2).integers(0, 3, 40)
    hits = 0
    for i in range(40):
        cosine = {j: z[i] @ z[j] / np.linalg.norm(z[i]) / np.linalg.norm(z[j]) for j in range(40) if j != i}
        hits += clusters[max(cosine, key=lambda j: cosine[j])] == clusters[i]
    assert 0 < hits < 40
    assert float(retrieval_accuracy(jnp.asarray(z, "float32"), jnp.asarray(clusters))) == pytest.approx(hits / 40)


def test_retrieval_accuracy_of_perfect_wrong_and_equal_embeddings() -> None:
    clusters = jnp.repeat(jnp.arange(4), 4)
    perfect = jnp.repeat(jnp.eye(4), 4, axis=0)
    assert retrieval_accuracy(perfect, clusters) == 1.0
    assert retrieval_accuracy(jnp.repeat(jnp.eye(8), 2, axis=0), jnp.tile(jnp.arange(2), 8)) == 0.0
    assert float(retrieval_accuracy(jnp.ones((16, 4)), clusters)) == 4 / 16
