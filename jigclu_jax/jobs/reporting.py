"""What a finished or starting job shows a person: pictures of its input, and its page."""

import logging
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import UInt8
from ml_collections import ConfigDict

from jigclu_jax.data.augment.boxes import patch_boxes, patch_side
from jigclu_jax.data.augment.crops import crop_patches, resize_by_pillow
from jigclu_jax.data.augment.parameters import Draws, Steps, draw
from jigclu_jax.data.input.plan import with_layout
from jigclu_jax.data.input.preview import preview
from jigclu_jax.data.lazy_tf import has_tensorflow
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.device import distributed
from jigclu_jax.device.feed import Batch, Feed, device_feed, prepared_batch
from jigclu_jax.device.resident import resident_side
from jigclu_jax.ops.colour import augment
from jigclu_jax.ops.crop import crop_and_resize
from jigclu_jax.ops.montage import from_planes, to_planes
from jigclu_jax.report.pages import write_page
from jigclu_jax.report.pictures import montage_sheet, patches_sheet, places_sheet
from jigclu_jax.report.workdir_files import has_picture, save_picture
from jigclu_jax.train.run import Training

_PREVIEWED = 16  # montages of one shuffle group: enough that some share images


def save_pictures(training: Training, workdir: epath.PathLike) -> None:
    """Pictures of montages with their labels, of the patches of one image before and after augmentation, and of the same patches
    made in each of the three places."""
    config, source = training.config, training.source
    if not config.log.pictures or training.method.view != "montage" or has_picture(workdir, "montages"):
        return
    if config.data.augment == "host":
        batch, _ = preview(source, with_layout(config), config.augment, seed=config.seed, count=_PREVIEWED)
    elif jax.process_count() > 1:
        return  # the first batch would need every process
    else:
        batch = jax.device_get(training.supply.first())
    reader = ImageReader(source, 1, config.data.on_error, "data")
    image, cells, draws = _first_image(config, reader)
    places = patches_by_place(config, reader, image, draws)
    save_picture(workdir, "patches", patches_sheet(image, cells, places[config.data.augment]).svg)
    save_picture(workdir, "places", places_sheet(places).svg)
    save_picture(workdir, "montages", montage_sheet(batch["image"], batch["cluster"], batch["location"]).svg)


def patches_by_place(config: ConfigDict, reader: ImageReader, image: UInt8[np.ndarray, "h w 3"], draws: Draws) -> dict[str, np.ndarray]:
    """The patches uint8[k, p, p, 3] of one image with the same parameters, from host (where there is TensorFlow), device and resident."""
    side, steps = patch_side(config.data.image_size, config.method.grid), Steps.of(config.augment)
    packed = draws.pack()
    places: dict[str, np.ndarray] = {}
    if has_tensorflow():
        from jigclu_jax.data.augment import host_pictures as tf_ops

        places["host"] = np.asarray(tf_ops.augment(crop_patches(image, draws, side), packed, steps))
    cut = {"image": crop_patches(image, draws, side, flip=False), "augment": packed}
    places["device"] = np.asarray(prepared_batch(device_feed(config.augment, grid=1), jax.tree.map(jnp.asarray, cut))["image"])
    stored = resident_side(reader, config.data.resident_side, config.data.image_size)
    square = resize_by_pillow(image, stored)
    boxes = draws.box * np.tile([stored / image.shape[1], stored / image.shape[0]], 2)

    def prepare(_: Any, batch: Batch) -> Batch:
        planes = crop_and_resize(to_planes(batch["image"]), batch["box"], side)
        return {"image": from_planes(augment(planes, batch["augment"], steps))}

    whole = {"image": np.repeat(square[None], len(boxes), 0), "box": boxes.astype(np.float32), "augment": packed}
    places["resident"] = np.asarray(prepared_batch(Feed(prepare), jax.tree.map(jnp.asarray, whole))["image"])
    return places


def _first_image(config: ConfigDict, reader: ImageReader) -> tuple[UInt8[np.ndarray, "h w 3"], np.ndarray, Draws]:
    image, _ = reader(0)
    cells = patch_boxes(image.shape[1], image.shape[0], config.method.grid, config.method.overlap)
    return image, cells, draw(config.augment, config.seed, 0, 0, cells)


def report(workdir: epath.PathLike) -> None:
    """Write `report.html`."""
    logging.info("report: %s", write_page(workdir))


def say_result(fields: Mapping[str, Any], where: str = "") -> None:
    """One line for each accuracy of a result.json that has an interval, with the seed, on the process that speaks."""
    if not distributed.is_main():
        return
    for name, value in fields.items():
        interval = fields.get(f"{name}_interval")
        if isinstance(value, float) and interval:
            low, high = (100 * end for end in interval)
            print(f"{where}{name} {100 * value:.2f} %  (95 % interval {low:.2f} to {high:.2f}, seed {fields['seed']})", flush=True)
