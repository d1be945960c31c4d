"""Rows on eight devices: the loss is that of one, and what is sent is the embeddings, once, and two numbers a row."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jigclu_jax.device.mesh import batch_sharding, create_mesh, replicated
from jigclu_jax.losses import clustering_loss, retrieval_accuracy

N, D = 1088, 32  # two blocks of keys and what is left
COLLECTIVE = re.compile(r" = (\(?)([a-z0-9]+)\[([\d,]*)\][^=]*? (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)")


def objective(weight: jax.Array, x: jax.Array, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    embeddings = jnp.tanh(x @ weight)
    embeddings = embeddings / jnp.linalg.norm(embeddings, axis=1, keepdims=True)
    return clustering_loss(embeddings, ids, 0.3, 0.07), retrieval_accuracy(embeddings, ids)


def collectives(text: str) -> list[tuple[str, str, int, bool]]:
    """Every collective of a compiled program: kind, dtype, numbers, whether it is in a loop."""
    found, entry = [], False
    for line in text.splitlines():
        if line and not line.startswith(" "):
            entry = line.startswith("ENTRY")
        if match := COLLECTIVE.search(line):
            shapes = [(match[2], match[3])] if not match[1] else re.findall(r"([a-z0-9]+)\[([\d,]*)\]", line.partition(match[4])[0])
            found += [(match[4], dtype, int(np.prod([int(n) for n in shape.split(",") if n])), not entry) for dtype, shape in shapes]
    return found


@pytest.mark.devices8
def test_rows_stay_where_they_are_and_embeddings_are_sent_once(float64: None) -> None:
    rng = np.random.default_rng(0)
    arrays = (rng.normal(size=(16, D)), rng.normal(size=(N, 16)), rng.permutation(np.arange(N) // 4))
    mesh = create_mesh(jax.devices()[:8])

    def on_the_mesh(weight: jax.Array, x: jax.Array, ids: jax.Array) -> object:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return jax.value_and_grad(objective, has_aux=True)(weight, x, ids)

    split, whole = batch_sharding(mesh), replicated(mesh)
    sharded = jax.jit(on_the_mesh, in_shardings=(whole, split, split), out_shardings=whole).lower(*arrays).compile()
    eight = jax.device_get(sharded(*(jax.device_put(a, s) for a, s in zip(arrays, (whole, split, split), strict=True))))
    one = jax.device_get(jax.jit(jax.value_and_grad(objective, has_aux=True))(*arrays))
    pairs = list(zip(jax.tree.leaves(eight), jax.tree.leaves(one), strict=True))
    assert len(pairs) == 3
    assert all(np.abs(a - b).max() <= 1e-12 * np.abs(b).max() for a, b in pairs)
    found = collectives(sharded.as_text())
    assert not [collective for collective in found if collective[3]], "a collective in a loop"
    rows, embeddings, weights = N, N * D, 16 * D
    gathered = sorted((dtype, numbers) for kind, dtype, numbers, _ in found if kind == "all-gather")
    assert gathered == sorted([("f64", embeddings), ("f64", rows), ("s64", rows)]), "embeddings, denominators, cluster ids"
    reduced = sorted(numbers for kind, _, numbers, _ in found if kind == "all-reduce")
    assert reduced[-1] == weights and all(numbers == 1 for numbers in reduced[:-1]), "the weight's gradient and scalars"
    assert {kind for kind, *_ in found} == {"all-gather", "all-reduce"}
