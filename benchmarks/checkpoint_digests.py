"""What the digests of a checkpoint cost: a ResNet-50 with momentum written and read again, beside the digests alone.

    JAX_PLATFORMS=cpu python benchmarks/checkpoint_digests.py

Prints JSON rows: milliseconds of the digests of the state as a save makes them and as a reading does, of the whole save until all is
on disk, and of the whole reading, each the median of the repeats.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np
from etils import epath
from rows import print_row

from jigclu_jax.models import build_backbone
from jigclu_jax.train.checkpoint import Checkpoints, read_checkpoint
from jigclu_jax.train.digests import digests
from jigclu_jax.train.state import TrainState, zero_sums

META = {"config": {"job": "pretrain"}, "seconds": 0.0}


def make_state(arch: str) -> TrainState:
    """Random parameters and momentum, as SGD has them."""
    network = build_backbone({"arch": arch})
    params, stats = jax.eval_shape(network.init, jax.random.key(0))
    rng = np.random.default_rng(0)

    def fill(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        return jax.numpy.asarray(rng.standard_normal(leaf.shape, np.float32))

    trees = [{"backbone": jax.tree.map(fill, tree)} for tree in (params, stats, params)]
    return TrainState(jax.numpy.int32(1), trees[0], trees[1], (trees[2],), {}, zero_sums(("loss",)))


def milliseconds(action: Callable[[], object], repeats: int) -> list[float]:
    """Of each of the repeats, in order of length."""
    found = []
    for _ in range(repeats):
        begun = time.perf_counter()
        action()
        found.append(round(1000 * (time.perf_counter() - begun), 1))
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    state, repeats = make_state(arguments.arch), arguments.repeats
    tree = {"params": state.params, "stats": state.stats, "opt": state.opt}
    megabytes = round(sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) / 1e6, 1)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints, steps = Checkpoints(folder), iter(range(1, 10_000))

        def save() -> None:
            checkpoints.save(next(steps), state, META)
            checkpoints.wait()

        save()  # orbax's first one is slower
        saves = milliseconds(save, repeats)
        checkpoints.close()
        host = read_checkpoint(epath.Path(folder))[2]
        reads = milliseconds(lambda: read_checkpoint(epath.Path(folder)), repeats)
    written, read = milliseconds(lambda: digests(tree), repeats), milliseconds(lambda: digests(host), repeats)
    for name, own, whole in (("save", written, saves), ("reading", read, reads)):
        value, peer_value = statistics.median(own), statistics.median(whole)
        print_row(f"digests of a {name}", value, "ms", peer=f"the whole {name}", peer_value=peer_value, megabytes=megabytes, runs=own)


if __name__ == "__main__":
    main()
