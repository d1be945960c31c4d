"""Images into shards that are quick to read.

    python -m jigclu_jax --config=configs/prepare.py --workdir=runs/prepare --config.data.path=/path/to/images --config.data.split=train \
        --config.output=/path/to/shards
    python -m jigclu_jax --config=configs/prepare.py:verify --workdir=runs/verify --config.data.split=train --config.output=/path/to/shards

Reads a folder (or `--config.data.source=tfds --config.data.name=...`), reduces each image to a short side of 256 pixels, and writes
ArrayRecord shards with an index: class list, ids, labels, checksums. Started again after a kill, it goes on with the first shard that
is not complete; the result is the same to the byte. `verify` reads everything and names every damaged record.

Train from them with `--config.data.source=prepared --config.data.path=/path/to/shards`.

Hardware: CPU cores alone. Expected: docs/results.md; about as long as decoding the images twice.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, prepare_config


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: verify (check what is there), raw (RGB bytes instead of JPEG, for small images), short_side."""
    args = parse_arg(arg, verify=False, raw=False, short_side=256)
    config = prepare_config()
    config.mode = "verify" if args["verify"] else "write"
    config.format = "raw" if args["raw"] else "jpeg"
    config.short_side = args["short_side"]
    return config
