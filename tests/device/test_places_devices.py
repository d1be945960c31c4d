"""Resident and device batches on one device and on four: the same pictures, each made where it lies."""

import re
from typing import Any

import jax
import numpy as np
import pytest
from data.batches import PAPER, flat, montage, sampler
from data.pictures import natural

from jigclu_jax.data.input.cell_stream import CellStream
from jigclu_jax.data.input.index_stream import IndexStream
from jigclu_jax.data.sources.arrays import ArraySource
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.data.view import View
from jigclu_jax.device import resident
from jigclu_jax.device.feed import Feed, device_feed, prepared_batch
from jigclu_jax.device.mesh import create_mesh, to_device

BATCH, COUNT = 8, 27  # 27 images on 4 devices: one place is a copy


def collectives(feed: Feed, batch: dict[str, jax.Array]) -> list[str]:
    """What the compiled program sends between devices: operation and shape."""
    text = jax.jit(feed.prepare).lower(feed.arrays, batch).compile().as_text()
    pattern = r"= (\S+?)\{\S*\} (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
    return [f"{operation} {shape}" for shape, operation in re.findall(pattern, text)]


VIEWS = (montage(16), View("small", 8, PAPER, 4, 0.3, montage=4), View("pair", 24, PAPER, repeats=2))


def pictures(feed: Feed, batches: list[dict[str, Any]], devices: int) -> dict[str, np.ndarray]:
    mesh = create_mesh(jax.devices()[:devices])
    found = [flat(jax.device_get(prepared_batch(feed, to_device(batch, mesh)))) for batch in batches]
    return {name: np.stack([batch[name] for batch in found]) for name in found[0]}


@pytest.mark.devices8
def test_several_devices_hold_shares_and_make_the_same_resident_batches() -> None:
    source = ArraySource(np.stack([natural(24, 24, index) for index in range(COUNT)]))
    stream = IndexStream(sampler(COUNT, *VIEWS, seed=3), None)
    batches = [next(stream) for _ in range(4)]
    made = {}
    for devices in (1, 4):
        mesh = create_mesh(jax.devices()[:devices])
        images, facts = resident.load(source, 24, ImageReader(source, 1, "stop", "data"), mesh)
        feed = resident.resident_feed(images, facts, VIEWS, side=24, seed=3, mesh=mesh, dispatch=1)
        made[devices] = pictures(feed, batches, devices)
    for name, values in made[1].items():
        np.testing.assert_array_equal(values, made[4][name], err_msg=name)
    assert (made[1]["montage/image"][0] != made[1]["montage/image"][3]).any(), "epochs differ"
    assert len({shard.index[0].start for shard in images.addressable_shards}) == 4, "a share on each device"
    found = collectives(feed, to_device(batches[0], mesh))
    sent = [entry for entry in found if " u32[" in entry]
    assert sorted(sent) == [f"reduce-scatter u32[{crops},512]" for crops in (32, 4, 8)], "each device's own crops, once"
    assert all(re.fullmatch(r"all-gather s32\[\d+(,\d+)*\]", entry) for entry in found if entry not in sent), "and a number an image"


@pytest.mark.devices8
def test_several_devices_augment_the_same_host_batches_where_they_lie() -> None:
    source = ArraySource(np.stack([natural(24, 24, index) for index in range(COUNT)]))
    batches = list(CellStream(ImageReader(source, 1, "stop", "data"), sampler(COUNT, *VIEWS), threads=1, stop_step=1))
    feed = device_feed(VIEWS)
    one, four = (pictures(feed, batches, devices) for devices in (1, 4))
    for name in one:
        np.testing.assert_array_equal(one[name], four[name])
    assert (one["montage/image"] != batches[0]["montage"]["image"]).any()
    assert collectives(feed, to_device(batches[0], create_mesh(jax.devices()[:4]))) == [], "a crop is augmented where it lies"
