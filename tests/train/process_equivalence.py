"""Run by test_processes.py in each process of a group: three steps on 4 devices, of which this process has some.

python process_equivalence.py FOLDER: writes every array that `train` found into FOLDER/DTYPE.npz, from process 0.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from train.three_steps import BATCH, make_batch, train

from jigclu_jax.device import distributed


def own_rows(step: int) -> dict[str, Any]:
    """This process's part of a batch."""
    rows = BATCH // jax.process_count()
    return jax.tree.map(lambda array: array[jax.process_index() * rows :][:rows], make_batch(step))


def main() -> None:
    (folder,) = sys.argv[1:]
    distributed.start()
    assert jax.device_count() == 4
    for dtype in ("float64", "float32"):
        with jax.enable_x64(dtype == "float64"):
            found = train(4, dtype, own_rows)
        if distributed.is_main():
            arrays = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(found)}
            np.savez(Path(folder) / f"{dtype}.npz", **arrays)


if __name__ == "__main__":
    main()
