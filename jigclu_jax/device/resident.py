"""Keeps a data set on the accelerators, where every picture is cut, resized, augmented and pasted from uint8 images.

Images are stored as squares. One that is not square is stretched to one, and its own width and height are kept: crops are drawn in
the image's own geometry, their edges are scaled into the square, and the resize undoes the stretch. So no pixel is cut away, none
is padding, and all images have one shape.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Array, Int32, UInt8, UInt32

from jigclu_jax.data.augment.boxes import mirrored
from jigclu_jax.data.augment.crops import resize_by_pillow
from jigclu_jax.data.augment.parameters import Parameters, draw
from jigclu_jax.data.augment.streams import crop_keys
from jigclu_jax.data.sources.opening import Source
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.data.view import View
from jigclu_jax.device.feed import Batch, Feed, pictures_of
from jigclu_jax.device.mesh import batch_sharding, replicated
from jigclu_jax.device.rows import pack, take, unpack, words_of
from jigclu_jax.errors import UserError, counted
from jigclu_jax.ops.colour import augment
from jigclu_jax.ops.crop import cell_boxes, crop_and_resize
from jigclu_jax.ops.montage import from_planes

SHARE_OF_MEMORY = 0.8  # of the memory that JAX has on a device; parameters and activations want the rest

_GIB = 2**30
_LOOKED_AT = 64  # images that tell what all are like


def resident_side(reader: ImageReader, configured: int, image_size: int) -> int:
    """Side in pixels of the stored images: `configured`; for 0 the images' own side if all are one small square, else image_size.

    "All" are up to 64 images spread over the set.

    Raises:
      ImageError, UserError: as the reader does, where one of them, or with on_error=skip none, can be used.
    """
    if configured:
        return configured
    side = 0
    for index in np.unique(np.linspace(0, len(reader.source) - 1, _LOOKED_AT, dtype=np.int64)):
        height, width = reader(int(index))[0].shape[:2]
        if height != width or height > image_size or side not in (0, height):
            return image_size
        side = height
    return side


def load(
    source: Source, side: int, reader: ImageReader, mesh: Mesh, say: Callable[[int, int], None] = lambda done, count: None
) -> tuple[UInt32[Array, "n words"], Int32[np.ndarray, "n 3"]]:
    """Read every image once and put it where it will stay: (rows, sharded over the devices; width, height, index it was read from).

    Each process reads the images of its own devices. The count is rounded up to a multiple of the devices with copies of the last
    image, which no index names. `say(images read, images to read)` is called now and then.

    Raises:
      UserError: the images do not fit into the devices' memory.
      ImageError: an image that cannot be used (on_error=stop).
    """
    count = len(source)
    rows = -(-count // mesh.size)
    check_memory(rows * words_of(side) * 4, count, side, mesh)
    facts = np.zeros((rows * mesh.size, 3), np.int32)
    own = sum(device.process_index == jax.process_index() for device in mesh.devices.flat) * rows
    done = 0

    def one(index: int) -> UInt8[np.ndarray, "side side 3"]:
        image, used = reader(min(index, count - 1))
        height, width = image.shape[:2]
        facts[index] = width, height, used
        # anti-aliased when it shrinks; the crop's own resize follows from these pixels
        return image if width == height == side else resize_by_pillow(image, side)

    def block(where: Any) -> UInt32[np.ndarray, "rows words"]:
        nonlocal done
        start, stop, _ = where[0].indices(rows * mesh.size)
        images = np.empty((stop - start, words_of(side)), np.uint32)
        for first in range(start, stop, 1024):  # in pieces: what is read ahead stays small
            last = min(first + 1024, stop)
            for index, image in zip(range(first, last), pool.map(one, range(first, last)), strict=True):
                images[index - start] = pack(image)
            done += last - first
            say(min(done, own), own)
        return images

    with ThreadPoolExecutor(max(os.cpu_count() or 1, 2), "resident") as pool:
        images = jax.make_array_from_callback((rows * mesh.size, words_of(side)), batch_sharding(mesh), block)
    if jax.process_count() > 1:
        # each process knows its own images alone, the rows of others are 0
        facts = np.asarray(multihost_utils.process_allgather(facts)).max(axis=0)
    return images, facts


def check_memory(wanted: int, count: int, side: int, mesh: Mesh) -> None:
    """Refuse `wanted` bytes a device where that is more than `SHARE_OF_MEMORY` of it, if the device tells how much it has.

    Raises:
      UserError: saying how much is wanted, how much there is, and what would fit.
    """
    device = mesh.local_devices[0]
    limit = ((device.memory_stats() or {}) if device.platform != "cpu" else {}).get("bytes_limit")
    room = int(SHARE_OF_MEMORY * limit) if limit else _host_memory()
    if device.platform == "cpu":  # its "devices" share the machine's memory
        wanted *= len(mesh.local_devices)
    if wanted <= room:
        return
    fits = next((less for less in range(side, 1, -1) if wanted * words_of(less) <= room * words_of(side)), 1)
    where = "this machine has room for" if device.platform == "cpu" else "a device has room for"
    more = "" if device.platform == "cpu" else f" use {-(-wanted * mesh.size // room)} devices,"
    raise UserError(
        f"data.augment=resident: {counted(count, 'image')} of {side} x {side} pixels take {wanted / _GIB:.2f} GiB a device, and {where}"
        f" {room / _GIB:.2f}: set data.resident_side to at most {fits}, data.limit to at most {int(count * room / wanted)},"
        f"{more} or set data.augment=device"
    )


def _host_memory() -> int:
    try:
        return int(SHARE_OF_MEMORY * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return 1 << 62  # a system that does not say


def resident_feed(
    rows: UInt32[Array, "n words"],
    facts: Int32[np.ndarray, "n 3"],
    views: Sequence[View],
    *,
    side: int,
    seed: int,
    mesh: Mesh,
    dispatch: int,
) -> Feed:
    """Batches made of resident images (`load`) of side x side pixels; the host sends `data/input/index_stream.py`'s numbers alone."""

    def prepare(arrays: Any, batch: Batch) -> Batch:
        rows, facts = arrays
        sizes = facts[:, :2]
        # random numbers are keyed by the image that was asked for, methods are told the one that was read
        made = {**batch, "example": facts[batch["example"], 2]}
        drawn_by = made.pop("draw")
        for number, view in enumerate(views):
            own = batch[view.name]
            example, epoch, position = _crops(view, own, batch["example"], drawn_by, mesh)
            width, height = sizes[example].T
            parameters = _parameters(view, number, seed, (epoch, example, position), (width, height))
            scale = side / jnp.stack([width, height, width, height], axis=1).astype(jnp.float32)
            squares = unpack(take(rows, example, mesh), side)
            planes = augment(crop_and_resize(squares, parameters.box * scale, view.side), parameters.by_name(), view.colours)
            made[view.name] = {**own, "image": pictures_of(view, from_planes(planes))}
        return made

    return Feed(prepare, (rows, jax.device_put(facts, replicated(mesh))), dispatch)


def _parameters(view: View, number: int, seed: int, crops: tuple[Array, Array, Array], size: tuple[Array, Array]) -> Parameters:
    """`data/input/cells.py: crop_parameters` of crops (epoch, image, position) of images of a size (width, height), each int32[n]."""
    epoch, example, position = crops
    width, height = size
    key, location = crop_keys(seed, epoch, example, number, position, jnp), position % (view.grid * view.grid)
    if view.frame is None:
        return draw(view.law, key, cell_boxes(width, height, location, view.grid, view.overlap), jnp)
    whole = jnp.stack([jnp.zeros_like(width), jnp.zeros_like(width), width, height], axis=1)
    frame = draw(view.frame, crop_keys(seed, epoch, example, number, view.crops, jnp), whole, jnp)
    left, top, right, bottom = frame.box.T
    location = jnp.where(frame.flip, mirrored(location, view.grid), location)
    regions = cell_boxes(right - left, bottom - top, location, view.grid, view.overlap) + frame.box[:, jnp.array([0, 1, 0, 1])]
    return draw(view.law, key, regions, jnp, relative=True).within(frame)


def _crops(
    view: View, own: Mapping[str, Array], example: Int32[Array, " b"], epoch: Int32[Array, " b"], mesh: Mesh
) -> tuple[Int32[Array, " n"], Int32[Array, " n"], Int32[Array, " n"]]:
    """(image, epoch, position) of a view's crops in the order of its cells, each device those of its own pictures."""
    if not view.montage:
        return jnp.repeat(example, view.crops), jnp.repeat(epoch, view.crops), jnp.tile(jnp.arange(view.crops), len(example))
    cluster, position = own["cluster"].reshape(-1), own["position"].reshape(-1)
    # cells look up their images by their place in the global batch: a few bytes an image, on every device
    whole = jax.lax.with_sharding_constraint((example, epoch), replicated(mesh))
    found = whole[0][cluster], whole[1][cluster]
    return (*jax.lax.with_sharding_constraint(found, batch_sharding(mesh)), position)
