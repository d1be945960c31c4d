"""Resident and device batches on one device and on four: the same pictures, each made where it lies."""

import re

import jax
import numpy as np
import pytest
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


def collectives(feed: Feed, batch: dict[str, jax.Array]) -> list[str]:
    """What the compiled program sends between devices: operation and shape."""
    text = jax.jit(feed.prepare).lower(feed.arrays, batch).compile().as_text()
    pattern = r"= (\S+?)\{\S*\} (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
    return [f"{operation} {shape}" for shape, operation in re.findall(pattern, text)]


@pytest.mark.devices8
def test_several_devices_hold_shares_and_make_the_same_resident_batches() -> None:
    config = pretrain_config()
    config.data.update({"image_size": 32, "grid": 2})
    source = ArraySource(np.stack([natural(24, 24, index) for index in range(COUNT)]))
    plan = plan_for(source, config.data, config.augment, "montage", BATCH, COUNT // BATCH, 0, 1)
    stream = IndexStream(COUNT, None, plan, view="montage", seed=3, batch_size=BATCH, steps_per_epoch=COUNT // BATCH)
    batches = [next(stream) for _ in range(4)]
    pictures = {}
    for devices in (1, 4):
        mesh = create_mesh(jax.devices()[:devices])
        images, facts = resident.load(source, 24, ImageReader(source, 1, "stop", "data"), mesh)
        feed = resident.resident_feed(images, facts[:, :2], config.augment, plan, side=24, seed=3, mesh=mesh, dispatch=1)
        pictures[devices] = np.stack([np.asarray(prepared_batch(feed, to_device(batch, mesh))["image"]) for batch in batches])
    assert (pictures[1] == pictures[4]).all()
    assert (pictures[1][0] != pictures[1][3]).any(), "epochs differ"
    assert len({shard.index[0].start for shard in images.addressable_shards}) == 4, "a share on each device"
    found = collectives(feed, to_device(batches[0], mesh))
    sent = [entry for entry in found if " u32[" in entry]
    assert sent == ["reduce-scatter u32[8,512]"], "one exchange of images: each device's own cells"
    assert all(" s32[8,2,2]" in entry for entry in found if entry not in sent), "and the numbers of the cells"


@pytest.mark.devices8
def test_several_devices_augment_the_same_host_batches_where_they_lie() -> None:
    rng = np.random.default_rng(0)
    packed = np.zeros((BATCH, 2, 2, 12), np.float32)
    packed[..., 0], packed[..., 1:5], packed[..., 5:8] = 1, np.arange(4), rng.uniform(0.6, 1.4, (BATCH, 2, 2, 3))
    packed[..., 10], packed[..., 11] = 1.0, rng.integers(0, 2, (BATCH, 2, 2))
    montages = np.stack([natural(32, 32, index) for index in range(BATCH)])
    feed = device_feed(pretrain_config().augment, 2)
    batches = [to_device({"image": montages, "augment": packed}, create_mesh(jax.devices()[:devices])) for devices in (1, 4)]
    one, four = (np.asarray(prepared_batch(feed, batch)["image"]) for batch in batches)
    assert (one == four).all() and (one != montages).any()
    assert collectives(feed, batches[1]) == [], "a cell is augmented where it lies"
