"""Growth of the process's resident memory over many batches of an input pipeline.

    python benchmarks/memory_growth.py --data FOLDER --place device --batches 10000

Batches of 16 montages of 64 pixels; memory is read after 500 batches and at the end. Prints one JSON row in MB.
"""

import argparse
from pathlib import Path

from rows import print_row

from jigclu_jax.config import pretrain_config
from jigclu_jax.data.sources.opening import open_source
from jigclu_jax.device.mesh import create_mesh
from jigclu_jax.methods import create_method
from jigclu_jax.train.run import facts_of
from jigclu_jax.train.supply import open_supply

BATCH, WARM = 16, 500


def resident_megabytes() -> float:
    """Resident set of this process (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="any tree of images")
    parser.add_argument("--place", choices=("host", "device"), default="device")
    parser.add_argument("--batches", type=int, default=10_000)
    arguments = parser.parse_args()
    config = pretrain_config()
    config.batch_size = BATCH
    config.data.update({"path": arguments.data, "split": "", "min_side": 1, "image_size": 64, "augment": arguments.place})
    source = open_source(config.data)
    facts = facts_of(config, source)
    stream = open_supply(config, source, create_method(config, facts), facts, create_mesh()).batches(0, WARM + arguments.batches)
    for _ in range(WARM):
        next(stream)
    before = resident_megabytes()
    for _ in range(arguments.batches):
        next(stream)
    after = resident_megabytes()
    stream.close()
    print_row(f"memory growth {arguments.place}", round(after - before, 1), "MB", batches=arguments.batches, at_start=round(before, 1))


if __name__ == "__main__":
    main()
