"""The losses in blocks against the dense matrix: any number of rows, any clusters, value and gradient; and what XLA holds."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jigclu_jax.losses import clustering_loss, pairs, retrieval_accuracy

BLOCK = 8


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pairs, "BLOCK", BLOCK)
    yield


def dense_loss(z: jax.Array, clusters: jax.Array, temperature: float, base_temperature: float) -> jax.Array:
    """The same formula over the whole matrix, differentiated by JAX."""
    itself = jnp.eye(len(z), dtype=bool)
    similarity = jnp.matmul(z, z.T, precision="highest") / temperature
    positive = (clusters[:, None] == clusters) & ~itself
    denominator = jax.nn.logsumexp(similarity, axis=1, where=~itself)
    log_probability = jnp.where(positive, similarity - denominator[:, None], 0.0).sum(1) / jnp.maximum(positive.sum(1), 1)
    return -temperature / base_temperature * log_probability.sum() / jnp.maximum(positive.any(1).sum(), 1)


def dense_retrieval(z: np.ndarray, clusters: np.ndarray) -> float:
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    return float(np.mean(clusters[cosine.argmax(axis=1)] == clusters))


def batch(n: int, kind: str = "ids of any kind") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    z = rng.standard_normal((n, 6))
    ids = {
        "ids of any kind": rng.permutation(rng.choice([-(2**31), -5, 0, 7, 2**31 - 1], n)),
        "fours": rng.permutation(np.arange(n) // 4),
        "one cluster": np.zeros(n, np.int64),
        "all alone": np.arange(n),
        "some alone": rng.permutation(np.r_[np.arange(n // 2), np.full(n - n // 2, -1)]),
    }[kind]
    return z / np.linalg.norm(z, axis=1, keepdims=True), ids.astype(np.int32)


KINDS = ["ids of any kind", "fours", "one cluster", "all alone", "some alone"]
# below, at and beyond one block, several whole blocks, a last one of a few rows
SIZES = [3, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 5]


@pytest.mark.parametrize(
    ("n", "dtype", "temperature"), [*((n, "float64", 0.3) for n in SIZES), (SIZES[-1], "float64", 0.07), (SIZES[-1], "float32", 0.07)]
)
def test_value_and_gradient_are_those_of_the_dense_matrix(small_blocks: None, n: int, dtype: str, temperature: float) -> None:
    tolerance = {"float32": 1e-5, "float64": 1e-10}[dtype]
    batches = [batch(n, kind) for kind in KINDS]
    with jax.enable_x64(dtype == "float64"):
        z, clusters = jnp.asarray([z for z, _ in batches], dtype), jnp.asarray([ids for _, ids in batches])
        blocked, dense = (
            jax.jit(jax.vmap(jax.value_and_grad(lambda z, ids, f=f: f(z, ids, temperature, 0.07))))(z, clusters)
            for f in (clustering_loss, dense_loss)
        )
    assert blocked[0].dtype == blocked[1].dtype == dtype
    np.testing.assert_allclose(blocked[0], dense[0], rtol=tolerance, atol=0)
    largest = np.abs(dense[1]).max(axis=(1, 2), keepdims=True)
    assert (np.abs(blocked[1] - dense[1]) <= tolerance * largest).all()
    assert [bool(x > 0) for x in largest.ravel()] == [len(set(ids.tolist())) < n for _, ids in batches]


def test_a_batch_beyond_the_real_block() -> None:
    z, clusters = batch(2 * pairs.BLOCK + 76, "fours")
    z32, ids = jnp.asarray(z, "float32"), jnp.asarray(clusters)
    blocked, dense = (jax.jit(jax.value_and_grad(lambda z, f=f: f(z, ids, 0.3, 0.07)))(z32) for f in (clustering_loss, dense_loss))
    assert float(blocked[0]) == pytest.approx(float(dense[0]), rel=1e-5)
    np.testing.assert_allclose(blocked[1], dense[1], rtol=0, atol=1e-5 * np.abs(dense[1]).max())
    assert float(retrieval_accuracy(z32, ids)) == pytest.approx(dense_retrieval(z, clusters))


def test_one_row_alone_is_no_anchor_and_has_no_gradient() -> None:
    value, gradient = jax.value_and_grad(lambda z: clustering_loss(z, jnp.zeros(1, int), 0.3, 0.07))(jnp.ones((1, 4)) / 2)
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


def test_the_cotangent_scales_the_gradient_and_bfloat16_gets_its_own(small_blocks: None) -> None:
    z, clusters = batch(20, "fours")
    z32, ids = jnp.asarray(z, "float32"), jnp.asarray(clusters)
    once = jax.grad(lambda z: clustering_loss(z, ids, 0.3, 0.07))(z32)
    np.testing.assert_allclose(jax.grad(lambda z: -3.0 * clustering_loss(z, ids, 0.3, 0.07))(z32), -3.0 * once, rtol=1e-6)
    half = jax.grad(lambda z: clustering_loss(z, ids, 0.3, 0.07))(z32.astype("bfloat16"))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype("float32"), once, atol=0.02 * np.abs(once).max())


@pytest.mark.parametrize("row", [0, 9, 19])
def test_a_row_that_is_no_number_is_seen(small_blocks: None, row: int) -> None:
    z, clusters = batch(20, "fours")
    z[row, 0] = np.nan
    value, gradient = jax.value_and_grad(lambda z: clustering_loss(z, jnp.asarray(clusters), 0.3, 0.07))(jnp.asarray(z, "float32"))
    assert np.isnan(value) and np.isnan(gradient).any()


@pytest.mark.parametrize("n", SIZES)
def test_retrieval_in_blocks(small_blocks: None, n: int) -> None:
    for kind in KINDS:
        z, clusters = batch(n, kind)
        assert float(retrieval_accuracy(jnp.asarray(z, "float32"), jnp.asarray(clusters))) == pytest.approx(dense_retrieval(z, clusters))


@pytest.mark.parametrize(("first", "second"), [(1, 2), (3, BLOCK + 3), (BLOCK - 1, 2 * BLOCK)])
def test_of_equally_near_rows_the_first_counts(small_blocks: None, first: int, second: int) -> None:
    """Row 0 has two twins, in one block or in two; the others lie across."""
    z = np.tile([0.0, 1.0], (20, 1))
    z[[0, first, second]] = [1.0, 0.0]
    for same, wrong in ((first, second), (second, first)):
        clusters = np.arange(100, 120)  # nobody else has a match
        clusters[[0, same]] = 5
        hits = {0: same == first, first: same == first, second: same == second}  # the twins' first other twin is row 0
        expected = sum(hits[row] for row in (0, same)) / 20
        assert float(retrieval_accuracy(jnp.asarray(z, "float32"), jnp.asarray(clusters))) == pytest.approx(expected), (same, wrong)


def test_no_buffer_of_the_compiled_loss_has_all_pairs() -> None:
    n, d = 1543, 16
    shapes = jax.ShapeDtypeStruct((n, d), "float32"), jax.ShapeDtypeStruct((n,), "int32")

    def both(loss: object) -> object:
        return jax.jit(lambda z, ids: (jax.value_and_grad(loss)(z, ids, 0.3, 0.07), retrieval_accuracy(z, ids))).lower(*shapes).compile()

    blocked, dense = both(clustering_loss), both(dense_loss)
    assert f"{n},{n}" in dense.as_text()
    assert f"{n},{n}" not in blocked.as_text()
    assert blocked.memory_analysis().temp_size_in_bytes < 4 * n * n < dense.memory_analysis().temp_size_in_bytes
