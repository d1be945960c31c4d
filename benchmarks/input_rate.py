"""Images a second of the input pipeline in each place that can make pictures, beside a peer loader, in one run.

    python benchmarks/input_rate.py --data FOLDER [--prepared DIR] [--prepared-raw DIR] [--peer SCRIPT] [--rounds 5]

Rows: `decode_only` (the peer's own `--decode-only` where a peer is given, else Pillow in as many threads), `decode_tensorflow`
(tf.data with tf.io.decode_jpeg at full resolution), `host`, `device`, `prepared` and `prepared_raw` (data.augment=device from shards
that the `prepare` job wrote, of JPEG and of RGB bytes; with `_workers` by data.workers processes instead of threads), each with
224-pixel montages of 2 x 2 patches and the paper's augmentation, batch 64, and `resident` (crop, colour and paste of images in device
memory, on JAX's default device).

Everything is measured in turn, round by round, each in a process of its own, as a run has it; a value is the median of the rounds,
with the lowest and the highest beside it. A peer script prints `... N images/s ...` and takes FOLDER, `--workers`, `--batch`,
`--batches` and `--decode-only`.
"""

import argparse
import functools
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from rows import print_row

from jigclu_jax.config import pretrain_config
from jigclu_jax.data.lazy_tf import tensorflow
from jigclu_jax.data.sources.opening import Source, Subset, open_source
from jigclu_jax.device.mesh import create_mesh, to_device
from jigclu_jax.methods import create_method
from jigclu_jax.train.run import facts_of
from jigclu_jax.train.supply import Supply, open_supply

BATCH = 64
FOREVER = 1 << 30  # steps: what is read ahead at the end counts as at the start
OURS = ("host", *(name + how for name in ("device", "prepared", "prepared_raw") for how in ("", "_workers")))


def settings(path: str, **data: Any) -> Any:
    """The paper's recipe on the images below `path`."""
    config = pretrain_config()
    config.batch_size = BATCH
    config.data.update({"path": path, "split": "", "min_side": 1} | data)
    return config


def supply_of(config: Any, source: Source) -> Supply:
    """The supply of a pretraining job."""
    facts = facts_of(config, source)
    return open_supply(config, source, create_method(config, facts), facts, create_mesh())


def rate(batches: Iterator[Any], size: int, count: int, warm: int = 3) -> float:
    """Images/s over `count` batches after the first few."""
    for _ in range(warm):
        next(batches)
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return size * count / (time.perf_counter() - start)


def ours(name: str, arguments: argparse.Namespace) -> float:
    """Images/s of one of our rows, in this process."""
    place, with_workers, _ = name.partition("_workers")
    path = {"prepared": arguments.prepared, "prepared_raw": arguments.prepared_raw}.get(place, arguments.data)
    config = settings(path, augment="host" if place == "host" else "device", threads=arguments.workers)
    config.data.workers = arguments.workers if with_workers else 0
    if place.startswith("prepared"):
        config.data.source = "prepared"
    source = open_source(config.data)
    # gone through over and over, so that few images fill many batches
    many = Subset(source, np.arange(-(-100 * BATCH // len(source)) * len(source)) % len(source))
    stream = supply_of(config, many).batches(0, FOREVER)
    found = rate(stream, BATCH, arguments.batches, warm=5)
    stream.close()
    return found


def peer(script: str, folder: str, workers: int, batches: int, *options: str) -> float:
    """Images/s that the peer prints."""
    command = [sys.executable, script, folder, "--workers", str(workers), "--batch", str(BATCH), "--batches", str(batches), *options]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"([0-9.]+) images/s", printed)
    if found is None:
        raise SystemExit(f"{script} printed no images/s: {printed!r}")
    return float(found.group(1))


def decode_tensorflow(folder: str, threads: int, batches: int) -> float:
    """tf.data with TensorFlow's own JPEG decoder, full resolution, the decoded image reduced to one pixel so that it can be batched."""
    tf = tensorflow()
    source = open_source(settings(folder).data)
    files = [name for i in range(len(source)) if (name := source.describe(i)).lower().endswith((".jpg", ".jpeg"))]

    def load(path: Any) -> Any:
        return tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method="INTEGER_ACCURATE")[0, 0]

    dataset = tf.data.Dataset.from_tensor_slices(files).repeat().map(load, num_parallel_calls=threads).batch(BATCH).prefetch(2)
    return rate(iter(dataset), BATCH, batches)


def decode_pillow(source: Source, threads: int, batches: int) -> float:
    """Our reader alone in as many threads."""
    with ThreadPoolExecutor(threads) as pool:
        indices = [index % len(source) for index in range(BATCH * batches)]
        start = time.perf_counter()
        for _ in pool.map(lambda index: source.read(index)[0, 0], indices):
            pass
        return len(indices) / (time.perf_counter() - start)


def resident_rate(arguments: argparse.Namespace) -> float:
    """Making of batches from resident images, without a training step."""
    config = settings(arguments.resident_data or arguments.data, image_size=arguments.resident_size, augment="resident")
    supply = supply_of(config, open_source(config.data))
    make, arrays = jax.jit(supply.feed.prepare), supply.feed.arrays
    ready = (jax.block_until_ready(make(arrays, to_device(batch, supply.mesh))) for batch in supply.batches(0, FOREVER))
    return rate(ready, BATCH, arguments.batches)


def in_a_process(name: str) -> float:
    """One of our rows, measured by this script started anew."""
    command = [sys.executable, *sys.argv, "--row", name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"row {name} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of JPEG images")
    parser.add_argument("--prepared", help="shards of the same images, written by the prepare job")
    parser.add_argument("--prepared-raw", help="the same with --config.format=raw")
    parser.add_argument("--peer", help="the peer loader's script")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=30, help="batches of 64 a round")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of the peer, threads or processes of ours")
    parser.add_argument("--resident-data", help="images for the resident row (default: --data), such as CIFAR-10's")
    parser.add_argument("--resident-size", type=int, default=224, help="side of the resident row's montages")
    parser.add_argument("--row", help=argparse.SUPPRESS)  # measure that row alone, print its rate
    arguments = parser.parse_args()
    workers, batches = arguments.workers, arguments.batches
    rows: dict[str, Callable[[], float]] = {
        "decode_only": lambda: decode_pillow(open_source(settings(arguments.data).data), workers, batches),
        "decode_tensorflow": lambda: decode_tensorflow(arguments.data, workers, batches),
        **{name: functools.partial(ours, name, arguments) for name in OURS},
        "resident": lambda: resident_rate(arguments),
    }
    if arguments.row:
        print(rows[arguments.row]())
        return
    for name in ("prepared", "prepared_raw"):
        if not getattr(arguments, name):
            del rows[name], rows[f"{name}_workers"]
    measured = {name: functools.partial(in_a_process, name) for name in rows}
    if arguments.peer:
        by_peer = functools.partial(peer, arguments.peer, arguments.data, workers, batches)
        measured |= {"peer": by_peer, "decode_only": functools.partial(by_peer, "--decode-only")}
    found: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(arguments.rounds):
        for name, measure in measured.items():
            found[name].append(measure())
    medians = {name: statistics.median(values) for name, values in found.items()}
    beside = "peer" if arguments.peer else "decode_only"
    for name, value in medians.items():
        print_row(
            name,
            round(value, 1),
            "images/s",
            peer=beside,
            peer_value=round(medians[beside], 1),
            lowest=round(min(found[name]), 1),
            highest=round(max(found[name]), 1),
            to_decode_only=round(value / medians["decode_only"], 3),
            workers=workers,
            rounds=arguments.rounds,
        )


if __name__ == "__main__":
    main()
