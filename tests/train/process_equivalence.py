"""Run by test_processes.py in each process of a group: the three steps of device_equivalence.py on 4 devices.

Writes every array that `train` found into an .npz file, from process 0.
"""

import sys

import jax
import numpy as np
from train import device_equivalence

from jigclu_jax.device import distributed


def main() -> None:
    dtype, path = sys.argv[1:]
    distributed.start()
    assert jax.device_count() == 4
    whole = device_equivalence.batch

    def share(step: int) -> dict[str, np.ndarray]:
        """This process's part of a batch."""
        rows = device_equivalence.BATCH // jax.process_count()
        return {name: array[jax.process_index() * rows :][:rows] for name, array in whole(step).items()}

    device_equivalence.batch = share
    found = device_equivalence.train(4, dtype)
    if distributed.is_main():
        np.savez(path, **{jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(found)})


if __name__ == "__main__":
    main()
