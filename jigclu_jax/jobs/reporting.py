"""Pictures of a job's input at its start, and its page at its end."""

import logging
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.data.augment.crops import resize_by_pillow
from jigclu_jax.data.input.preview import Stages, stages
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.data.view import View
from jigclu_jax.device import distributed
from jigclu_jax.device.mesh import create_mesh
from jigclu_jax.device.resident import resident_side
from jigclu_jax.errors import UserError, one_line
from jigclu_jax.ops.colour import augment
from jigclu_jax.ops.crop import crop_and_resize
from jigclu_jax.ops.montage import from_planes, to_planes
from jigclu_jax.report.pages import write_page
from jigclu_jax.report.pictures import crops_sheet, montage_sheet, patches_sheet, places_sheet
from jigclu_jax.report.workdir_files import has_picture, save_picture
from jigclu_jax.train.counting import announce
from jigclu_jax.train.loop import EpochHook, Plan
from jigclu_jax.train.run import Training
from jigclu_jax.train.supply import open_supply
from jigclu_jax.train.trackers import send_report

_PREVIEWED = 8  # images whose crops are shown


def save_pictures(training: Training, workdir: epath.PathLike) -> None:
    """Pictures of what the method sees in its first batch, of the crops of one image, and of the same crops made in each of the places."""
    config, source, views = training.config, training.source, training.method.views
    if not config.log.pictures or has_picture(workdir, "places"):
        return
    supply = training.supply
    if jax.process_count() > 1:
        if config.data.augment != "host":
            return  # the first batch would need every process
        supply = open_supply(config, source, training.method, training.facts, create_mesh(jax.local_devices()[:1]))
    announce("pictures: of the first batch, for the page")
    batch = jax.device_get(supply.first())
    reader = ImageReader(source, 1, config.data.on_error, "data")
    image, used = reader(0)
    found = stages(views[0], 0, config.seed, 0, used, image)
    places = patches_by_place(config, reader, views[0], found)
    for view in views:
        if view.montage:
            own = batch[view.name]
            save_picture(workdir, f"{view.name}s", montage_sheet(own["image"], own["cluster"], own["location"]).svg)
    singles = [batch[view.name]["image"][:_PREVIEWED] for view in views if not view.montage]
    if singles:
        save_picture(workdir, "views", crops_sheet(singles).svg)
    if views[0].grid > 1 and views[0].repeats == 1:
        save_picture(workdir, "patches", patches_sheet(image, found.regions, places[config.data.augment]).svg)
    save_picture(workdir, "places", places_sheet(places).svg)


def patches_by_place(config: ConfigDict, reader: ImageReader, view: View, found: Stages) -> dict[str, np.ndarray]:
    """The crops uint8[k, p, p, 3] of one image with the same parameters, from host (where there is TensorFlow), device and resident."""
    parameters, law, image = found.parameters, view.colours, found.image
    places: dict[str, np.ndarray] = {} if found.patches is None else {"host": found.patches}
    named = {name: jnp.asarray(values) for name, values in parameters.by_name().items()}

    def coloured(crops: jax.Array) -> jax.Array:
        return from_planes(augment(to_planes(crops), named, law))

    places["device"] = np.asarray(coloured(jnp.asarray(found.crops)))
    stored = resident_side(reader, config.data.resident_side, config.data.image_size)
    square = resize_by_pillow(image, stored)
    boxes = jnp.asarray(parameters.box * np.tile([stored / image.shape[1], stored / image.shape[0]], 2), jnp.float32)
    whole = jnp.asarray(np.repeat(square[None], len(boxes), 0))
    places["resident"] = np.asarray(coloured(from_planes(crop_and_resize(to_planes(whole), boxes, view.side))))
    return places


def report(workdir: epath.PathLike) -> None:
    """Write `report.html`, and give it to the workdir's run at a tracker, where it has one."""
    logging.info("report: %s", write_page(workdir))
    send_report(workdir)


def live_page(every: int, plan: Plan, workdir: epath.PathLike) -> tuple[EpochHook, ...]:
    """What writes the page of a run anew while it trains, every so many epochs, 0 for never; one that cannot be written ends no run."""
    if not every or not distributed.is_main():
        return ()

    def measure(step: int, _: object) -> dict[str, float]:
        if step < plan.total_steps and step // plan.steps_per_epoch % every == 0:
            try:
                write_page(workdir, live=True)
            except (OSError, UserError, ValueError) as error:
                logging.warning("report.html: %s", one_line(error))
        return {}

    return (EpochHook((), measure),)


def say_result(fields: Mapping[str, Any], where: str = "") -> None:
    """One line for each accuracy of a result.json that has an interval, with the seed, on the process that speaks."""
    if not distributed.is_main():
        return
    for name, value in fields.items():
        interval = fields.get(f"{name}_interval")
        if isinstance(value, float) and interval:
            low, high = (100 * end for end in interval)
            print(f"{where}{name} {100 * value:.2f} %  (95 % interval {low:.2f} to {high:.2f}, seed {fields['seed']})", flush=True)
