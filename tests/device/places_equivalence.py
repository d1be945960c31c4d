"""Run by test_places.py in a process of its own with 4 fake CPU devices: resident and device batches on 1 and on 4 of them.

Prints one JSON line of findings.
"""

import json
import re

import jax
import numpy as np
from data.pictures import natural

from jigclu_jax.config import pretrain_config
from jigclu_jax.data.input.index_stream import IndexStream
from jigclu_jax.data.input.plan import plan_for
from jigclu_jax.data.sources.arrays import ArraySource
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.device import resident
from jigclu_jax.device.feed import Feed, device_feed, prepared_batch
from jigclu_jax.device.mesh import create_mesh, to_device

BATCH, COUNT = 8, 27  # 27 images on 4 devices: one place is a copy


def main() -> None:
    assert jax.device_count() == 4
    config = pretrain_config()
    config.data.update({"image_size": 32, "grid": 2})
    source = ArraySource(np.stack([natural(24, 24, index) for index in range(COUNT)]))
    found: dict[str, object] = {}
    pictures, own = {}, {}
    for devices in (1, 4):
        mesh = create_mesh(jax.devices()[:devices])
        plan = plan_for(source, config.data, config.augment, "montage", BATCH, COUNT // BATCH, 0, 1)
        images, facts = resident.load(source, 24, ImageReader(source, 1, "stop", "data"), mesh)
        feed = resident.resident_feed(images, facts[:, :2], config.augment, plan, side=24, seed=3, mesh=mesh, dispatch=1)
        stream = IndexStream(COUNT, None, plan, view="montage", seed=3, batch_size=BATCH, steps_per_epoch=COUNT // BATCH)
        batches = [next(stream) for _ in range(4)]
        pictures[devices] = np.stack([np.asarray(prepared_batch(feed, to_device(batch, mesh))["image"]) for batch in batches])
        if devices == 4:
            found["sharded"] = len({shard.index[0].start for shard in images.addressable_shards}) == 4
            found["collectives"] = collectives(feed, to_device(batches[0], mesh))
        rng = np.random.default_rng(0)
        packed = np.zeros((BATCH, 2, 2, 12), np.float32)
        packed[..., 0], packed[..., 1:5], packed[..., 5:8] = 1, np.arange(4), rng.uniform(0.6, 1.4, (BATCH, 2, 2, 3))
        packed[..., 10], packed[..., 11] = 1.0, rng.integers(0, 2, (BATCH, 2, 2))
        montages = np.stack([natural(32, 32, index) for index in range(BATCH)])
        place = device_feed(config.augment, 2)
        batch = to_device({"image": montages, "augment": packed}, mesh)
        own[devices] = np.asarray(prepared_batch(place, batch)["image"])
        if devices == 4:
            found["collectives_device"] = collectives(place, batch)
    found["resident_equal"] = bool((pictures[1] == pictures[4]).all())
    found["device_equal"] = bool((own[1] == own[4]).all())
    found["epochs_differ"] = bool((pictures[1][0] != pictures[1][3]).any())
    print(json.dumps(found))


def collectives(feed: Feed, batch: dict[str, jax.Array]) -> list[str]:
    """What the compiled program sends between devices: operation and shape."""
    text = jax.jit(feed.prepare).lower(feed.arrays, batch).compile().as_text()
    pattern = r"= (\S+?)\{\S*\} (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
    return [f"{operation} {shape}" for shape, operation in re.findall(pattern, text)]


if __name__ == "__main__":
    main()
