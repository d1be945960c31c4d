"""Run by test_sharded.py in a process of its own with 8 fake CPU devices: the losses of rows that lie on eight devices.

Prints one JSON line: relative errors against one device, and every collective of the compiled program as [kind, dtype, numbers,
whether it is in a loop].
"""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np

from jigclu_jax.device.mesh import batch_sharding, create_mesh, replicated
from jigclu_jax.losses import clustering_loss, retrieval_accuracy

N, D = 1088, 32  # two blocks of keys and what is left
COLLECTIVE = re.compile(r" = (\(?)([a-z0-9]+)\[([\d,]*)\][^=]*? (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)")


def objective(weight: jax.Array, x: jax.Array, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    embeddings = jnp.tanh(x @ weight)
    embeddings = embeddings / jnp.linalg.norm(embeddings, axis=1, keepdims=True)
    return clustering_loss(embeddings, ids, 0.3, 0.07), retrieval_accuracy(embeddings, ids)


def main() -> None:
    assert jax.device_count() == 8
    rng = np.random.default_rng(0)
    arrays = (rng.normal(size=(16, D)), rng.normal(size=(N, 16)), rng.permutation(np.arange(N) // 4))
    mesh = create_mesh()

    def on_the_mesh(weight: jax.Array, x: jax.Array, ids: jax.Array) -> object:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return jax.value_and_grad(objective, has_aux=True)(weight, x, ids)

    split, whole = batch_sharding(mesh), replicated(mesh)
    sharded = jax.jit(on_the_mesh, in_shardings=(whole, split, split), out_shardings=whole).lower(*arrays).compile()
    eight = jax.device_get(sharded(*(jax.device_put(a, s) for a, s in zip(arrays, (whole, split, split), strict=True))))
    one = jax.device_get(jax.jit(jax.value_and_grad(objective, has_aux=True))(*arrays))
    errors = [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(jax.tree.leaves(eight), jax.tree.leaves(one), strict=True)]
    found, entry = [], False
    for line in sharded.as_text().splitlines():
        if line and not line.startswith(" "):
            entry = line.startswith("ENTRY")
        if match := COLLECTIVE.search(line):
            shapes = [(match[2], match[3])] if not match[1] else re.findall(r"([a-z0-9]+)\[([\d,]*)\]", line.partition(match[4])[0])
            found += [[match[4], dtype, int(np.prod([int(n) for n in shape.split(",") if n])), not entry] for dtype, shape in shapes]
    print(json.dumps({"errors": errors, "collectives": found}))


if __name__ == "__main__":
    main()
