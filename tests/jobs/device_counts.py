"""Run by test_device_counts.py with some number of devices: pretraining in float64 that is stopped after a step, and goes on.

python device_counts.py WORKDIR STEP
"""

import sys
from collections.abc import Mapping
from typing import Any

from jobs import tiny

from jigclu_jax.errors import Preempted
from jigclu_jax.jobs import pretrain
from jigclu_jax.train.stop import STOP
from jigclu_jax.train.writers import JsonlWriter


def main() -> None:
    workdir, stop_after = sys.argv[1], int(sys.argv[2])
    write = JsonlWriter.write

    def stop_at(self: JsonlWriter, step: int, metrics: Mapping[str, Any]) -> None:
        write(self, step, metrics)
        if step == stop_after:
            STOP.request()

    JsonlWriter.write = stop_at  # type: ignore[method-assign]
    config = tiny.pretrain_config()
    config.model.dtype = "float64"
    config.optimizer.learning_rate = 0.002
    try:
        pretrain.run(config, workdir)
    except Preempted:
        return


if __name__ == "__main__":
    main()
