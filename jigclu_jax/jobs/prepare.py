"""Job `prepare`: write images of any source as shards that are quick to read, or verify such shards."""

import sys
import time

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.atomic_file import is_remote
from jigclu_jax.config import check_config
from jigclu_jax.data.prepare.shards import Settings, write_shards
from jigclu_jax.data.prepare.verify import verify_shards
from jigclu_jax.device import distributed
from jigclu_jax.errors import UserError, counted
from jigclu_jax.run_scope import run_scope
from jigclu_jax.train.claim import claimed_folder
from jigclu_jax.train.counting import counter, stopping
from jigclu_jax.train.disk import disk_error
from jigclu_jax.train.holding import check_apart, held_workdir
from jigclu_jax.train.run import open_images
from jigclu_jax.train.skipped import note_skipped
from jigclu_jax.train.workdir import open_workdir, write_result


@run_scope()
def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Write or verify; leaves config.json and result.json in the workdir, the shards in `config.output`.

    Raises:
      UserError: a configuration or folder that cannot work, or, when verifying, damaged records (each named on a line before).
      ImageError: an image that cannot be used (data.on_error=stop).
    """
    check_config(config)
    distributed.check_devices()  # the first lines name them
    if not config.output:
        raise UserError("config.output is empty: give the folder for the shards, --config.output=DIR")
    split = config.output_split or config.data.split or "all"
    if "/" in split or split.startswith("."):
        raise UserError(f"split {split!r} cannot be the beginning of file names: set config.output_split")
    if epath.Path(workdir).resolve() == epath.Path(config.output).expanduser().resolve():
        raise UserError(f"config.output={config.output} is the workdir as well: give the shards a folder of their own")
    if is_remote(config.output):
        raise UserError(f"config.output={config.output}: shards are written to a local folder: choose one, and copy it afterwards")
    output = epath.Path(config.output).expanduser()
    if config.mode == "write":
        check_apart(output, config, "--config.output")
    with held_workdir(workdir, config):
        begun = time.monotonic()
        if config.mode == "verify":
            found = _verified(config, split)
        else:
            with claimed_folder(output, f".{split}.claim", "--config.output"):  # other splits may be written beside it
                found = _written(config, epath.Path(workdir), split)
        seconds = time.monotonic() - begun
        rate = found["images"] / max(seconds, 1e-9)
        root = open_workdir(workdir, config)
        write_result(root, {"job": config.job, "seed": config.seed, "seconds": seconds, "images_per_second": rate, **found})


def _verified(config: ConfigDict, split: str) -> dict[str, int]:
    images, damaged = verify_shards(config.output, split, stopping(counter(f"verifying {config.output}"), "nothing was changed"))
    for line in damaged:
        print(line, file=sys.stderr)
    if damaged:
        what = f"{len(damaged)} of {counted(images, 'record')} or their shards are damaged, as named above"
        raise UserError(f"{config.output}: {what}: delete the shards named and start the prepare job again")
    return {"images": images, "damaged": 0}


def _written(config: ConfigDict, root: epath.Path, split: str) -> dict[str, int]:
    source = open_images(config, "data")
    least = max(config.data.min_side, 1)
    settings = Settings(split, config.format, config.short_side, config.quality, config.shard_images, least)
    say = stopping(counter(f"preparing {source.name}"), "complete shards stay")
    try:
        written = write_shards(source, config.output, settings, on_error=config.data.on_error, threads=config.threads, say=say)
    except Exception as error:
        told = disk_error(error, config.output, "complete shards stay")
        if told is None:
            raise
        raise told from error
    note_skipped(open_workdir(root, config), written.skipped.values())
    return {
        "images": written.images,
        "images_skipped": len(written.skipped),
        "bytes": written.bytes,
        "shards_kept": written.shards_kept,
    }
