"""Images a second of the input pipeline in each place that can make pictures, beside a peer loader, in one run.

    python benchmarks/input_rate.py --data FOLDER [--prepared DIR] [--peer SCRIPT] [--rounds 5]

Rows: `decode_only` (the peer's own `--decode-only` where a peer is given, else Pillow in as many threads), `decode_tensorflow`
(tf.data with tf.io.decode_jpeg at full resolution), `host`, `device` and `prepared` (data.augment=device from shards that the
`prepare` job wrote), each with 224-pixel montages of 2 x 2 patches and the paper's augmentation, batch 64, and `resident` (crop,
colour and paste of images in device memory, on JAX's default device). Peers are measured in turn with ours, round by round; a value
is the median of the rounds, with the lowest and the highest beside it. A peer script prints `... N images/s ...` and takes FOLDER,
`--workers`, `--batches` and `--decode-only`.
"""

import argparse
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
from jigclu_jax.data.index_stream import IndexStream
from jigclu_jax.data.lazy_tf import tensorflow
from jigclu_jax.data.pipeline import train_batches
from jigclu_jax.data.plan import plan_for
from jigclu_jax.data.reader import ImageReader
from jigclu_jax.data.sources import Source, load_image, open_source
from jigclu_jax.device import resident
from jigclu_jax.device.feed import prepared_batch
from jigclu_jax.device.mesh import create_mesh, to_device

BATCH = 64


def settings(path: str, **data: Any) -> Any:
    """The paper's recipe on the images below `path`."""
    config = pretrain_config()
    config.batch_size = BATCH
    config.data.update({"path": path, "split": "", "min_side": 1} | data)
    return config


class Repeated:
    """A source gone through over and over, so that few images fill many batches."""

    def __init__(self, source: Source, times: int) -> None:
        self.name, self.classes, self.labels, self._source, self._times = source.name, None, None, source, times

    def __len__(self) -> int:
        return len(self._source) * self._times

    def read(self, index: int) -> np.ndarray:
        return self._source.read(index % len(self._source))

    def decode(self, index: int) -> Any:
        return load_image(self._source, index % len(self._source))

    def describe(self, index: int) -> str:
        return self._source.describe(index % len(self._source))


def rate(batches: Iterator[Any], size: int, count: int, warm: int = 3) -> float:
    """Images/s over `count` batches after the first few."""
    for _ in range(warm):
        next(batches)
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return size * count / (time.perf_counter() - start)


class Pipeline:
    """One of our pipelines, kept open over the rounds."""

    def __init__(self, config: Any, source: Source, threads: int) -> None:
        config.data.threads = threads
        steps = len(source) // BATCH
        self.stream = train_batches(source, config.data, config.augment, view="montage", seed=0, batch_size=BATCH, steps_per_epoch=steps)

    def __call__(self, batches: int) -> float:
        return rate(self.stream, BATCH, batches)


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
        for _ in pool.map(lambda index: np.asarray(load_image(source, index))[0, 0], indices):
            pass
        return len(indices) / (time.perf_counter() - start)


def resident_rate(config: Any, source: Source, batches: int) -> Callable[[], float]:
    """Making of batches from resident images, without a training step."""
    mesh = create_mesh()
    steps = len(source) // BATCH
    plan = plan_for(source, config.data, config.augment, "montage", BATCH, steps, 0, 1)
    side = resident.resident_side(source, config.data.resident_side, config.data.image_size)
    images, facts = resident.load(source, side, ImageReader(source, 1, "stop", "data"), mesh)
    feed = resident.resident_feed(images, facts[:, :2], config.augment, plan, seed=0, mesh=mesh, dispatch=1)
    stream = IndexStream(len(source), None, plan, view="montage", seed=0, batch_size=BATCH, steps_per_epoch=steps)
    ready = (jax.block_until_ready(prepared_batch(feed, to_device(next(stream), mesh))) for _ in iter(int, 1))
    return lambda: rate(ready, BATCH, batches, warm=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of JPEG images")
    parser.add_argument("--prepared", help="shards of the same images, written by the prepare job")
    parser.add_argument("--peer", help="the peer loader's script")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=30, help="batches of 64 a round")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="worker processes of the peer, threads of ours")
    parser.add_argument("--resident-data", help="images for the resident row (default: --data), such as CIFAR-10's")
    parser.add_argument("--resident-size", type=int, default=224, help="side of the resident row's montages")
    arguments = parser.parse_args()
    workers, batches = arguments.workers, arguments.batches
    source = open_source(settings(arguments.data).data)
    many = Repeated(source, -(-100 * BATCH // len(source)))
    measured: dict[str, Callable[[], float]] = {}
    if arguments.peer:
        measured["peer"] = lambda: peer(arguments.peer, arguments.data, workers, batches)
        measured["decode_only"] = lambda: peer(arguments.peer, arguments.data, workers, batches, "--decode-only")
    else:
        measured["decode_only"] = lambda: decode_pillow(source, workers, batches)
    measured["decode_tensorflow"] = lambda: decode_tensorflow(arguments.data, workers, batches)
    pipelines = {place: Pipeline(settings(arguments.data, augment=place), many, workers) for place in ("host", "device")}
    if arguments.prepared:
        config = settings(arguments.prepared, augment="device", source="prepared")
        shards = open_source(config.data)
        pipelines["prepared"] = Pipeline(config, Repeated(shards, -(-100 * BATCH // len(shards))), workers)
    measured |= {name: (lambda pipeline=pipeline: pipeline(batches)) for name, pipeline in pipelines.items()}
    config = settings(arguments.resident_data or arguments.data, image_size=arguments.resident_size)
    measured["resident"] = resident_rate(config, open_source(config.data), batches)
    found: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(arguments.rounds):
        for name, measure in measured.items():
            found[name].append(measure())
    for pipeline in pipelines.values():
        pipeline.stream.close()
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
            device=jax.devices()[0].device_kind if name == "resident" else "host",
        )


if __name__ == "__main__":
    main()
