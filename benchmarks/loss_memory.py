"""Memory and time of the clustering loss, in blocks and over the whole matrix.

    python benchmarks/loss_memory.py                    # 65,536 patches alone, then 4,096 beside the dense matrix
    python benchmarks/loss_memory.py --blocks 128,256,512,1024,2048
    python benchmarks/loss_memory.py --small            # 4,096 and 1,024, for a try

Value and gradient of the loss for unit rows of 128 numbers in clusters of four, float32. Temporaries are what XLA says of the compiled
function (`memory_analysis`), the peak of resident memory is that of a process that does nothing else, once before and once after. The
two ways take turns, and the medians are compared. One JSON row a figure.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hlo import shapes_of
from jax import lax
from rows import print_row

from jigclu_jax.losses import clustering_loss, pairs

DIMENSION, TEMPERATURE, BASE_TEMPERATURE = 128, 0.3, 0.07
MEBIBYTE = 2**20


def dense_loss(embeddings: Any, clusters: Any, temperature: float, base_temperature: float) -> Any:
    """The peer: the whole matrix, differentiated by JAX."""
    similarity = jnp.matmul(embeddings, embeddings.T, precision=lax.Precision.HIGHEST) / temperature
    itself = jnp.eye(len(embeddings), dtype=bool)
    positive = (clusters[:, None] == clusters) & ~itself
    denominator = jax.nn.logsumexp(jnp.where(itself, -jnp.inf, similarity), axis=1)
    count = positive.sum(axis=1)
    attraction = jnp.where(positive, similarity, 0.0).sum(axis=1) / jnp.maximum(count, 1)
    return temperature / base_temperature * jnp.where(count > 0, denominator - attraction, 0.0).sum() / jnp.maximum((count > 0).sum(), 1)


def batch(patches: int) -> tuple[Any, Any]:
    """Unit rows, and ids of clusters of four in random order."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((patches, DIMENSION), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return jnp.asarray(rows), jnp.asarray(rng.permutation(np.arange(patches, dtype=np.int32) // 4))


def compiled(loss: Callable[..., Any], arrays: tuple[Any, Any]) -> Any:
    return jax.jit(jax.value_and_grad(lambda rows, ids: loss(rows, ids, TEMPERATURE, BASE_TEMPERATURE))).lower(*arrays).compile()


def buffers_of_all_pairs(function: Any, patches: int) -> int:
    """How many shapes of the compiled program have two axes as long as the batch."""
    return sum(shape[:2] == (patches, patches) for shape in shapes_of(function.as_text()))


def peak_mebibytes() -> float:
    """Highest resident memory of this process so far (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(patches: int) -> None:
    """In a process of its own: temporaries, peak, time of one run, and buffers with all pairs."""
    arrays = batch(patches)
    function = compiled(clustering_loss, arrays)
    temporaries = function.memory_analysis().temp_size_in_bytes
    name = f"clustering loss {patches} patches alone:"
    print_row(f"{name} buffers of all pairs", buffers_of_all_pairs(function, patches), "buffers")
    print_row(f"{name} temporaries", temporaries / MEBIBYTE, "MiB", peer="one n x n matrix", peer_value=4 * patches**2 / MEBIBYTE)
    eighth = tuple(array[: patches // 8] for array in arrays)
    smaller = compiled(clustering_loss, eighth)
    jax.block_until_ready(smaller(*eighth))
    start = time.perf_counter()
    jax.block_until_ready(smaller(*eighth))
    print(f"{patches} patches: about {64 * (time.perf_counter() - start):.0f} s", file=sys.stderr, flush=True)
    before, start = peak_mebibytes(), time.perf_counter()
    value, gradient = jax.block_until_ready(function(*arrays))
    seconds = time.perf_counter() - start
    print_row(f"{name} peak resident memory", round(peak_mebibytes(), 1), "MiB", before_the_run=round(before, 1))
    print_row(f"{name} forward and backward", round(seconds, 2), "s", gflops=round(6 * patches**2 * DIMENSION / seconds / 1e9, 1))
    assert np.isfinite(value) and np.abs(gradient).max() > 0


def time_beside_dense(patches: int, repeats: int, blocks: list[int]) -> None:
    """Medians of alternating runs, and the largest difference of value and gradient."""
    arrays, default = batch(patches), pairs.BLOCK
    functions = {"dense": compiled(dense_loss, arrays)}
    for block in blocks or [default]:
        pairs.BLOCK = block
        functions[f"blocks of {block}"] = compiled(clustering_loss, arrays)
    results = {name: jax.block_until_ready(function(*arrays)) for name, function in functions.items()}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function(*arrays))
            seconds[name].append(time.perf_counter() - start)
    value, gradient = results["dense"]
    middle = {name: 1000 * statistics.median(times) for name, times in seconds.items()}
    for name in list(functions)[1:]:
        print_row(
            f"clustering loss {patches} patches in {name}",
            round(middle[name], 2),
            "ms",
            peer="dense",
            peer_value=round(middle["dense"], 2),
            repeats=repeats,
            temporaries_mib=round(functions[name].memory_analysis().temp_size_in_bytes / MEBIBYTE, 1),
            peer_temporaries_mib=round(functions["dense"].memory_analysis().temp_size_in_bytes / MEBIBYTE, 1),
            buffers_of_all_pairs=buffers_of_all_pairs(functions[name], patches),
            peer_buffers_of_all_pairs=buffers_of_all_pairs(functions["dense"], patches),
            value_error=float(abs(results[name][0] - value) / abs(value)),
            gradient_error=float(jnp.abs(results[name][1] - gradient).max() / jnp.abs(gradient).max()),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=int, default=65_536, help="patches of the run for memory; 0 leaves it out")
    parser.add_argument("--patches", type=int, default=4_096, help="patches of the runs beside the dense matrix")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--blocks", default="", help="block sizes to compare beside the dense matrix; the library's own without")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--memory-of", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        memory(arguments.memory_of)
        return
    if arguments.small:
        arguments.large, arguments.patches, arguments.repeats = 4_096, 1_024, 5
    if arguments.large:
        subprocess.run([sys.executable, __file__, "--memory-of", str(arguments.large)], check=True)
    time_beside_dense(arguments.patches, arguments.repeats, [int(block) for block in arguments.blocks.split(",") if block])


if __name__ == "__main__":
    main()
