"""Part of the compiled step before the method: nothing, colour and flip, or everything from resident images."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jaxtyping import Array, UInt8

from jigclu_jax.data.view import View
from jigclu_jax.ops.colour import augment, by_name
from jigclu_jax.ops.montage import from_planes, join_cells, split_cells, to_planes

# Arrays by name; those of a view stand in a mapping of their own under its name.
Batch = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Feed:
    """How a batch comes about on the device; part of the compiled step.

    Attributes:
      prepare: pure, (arrays, host batch) -> the batch that the method's loss takes, sharded as the host batch is.
      arrays: what lies on the devices all the time; an argument of the step, so that it is no constant of the program.
      dispatch: steps that may be started by one call.
    """

    prepare: Callable[[Any, Batch], Batch]
    arrays: Any = ()
    dispatch: int = 1


HOST_FEED = Feed(lambda _, batch: dict(batch))
"""The host did everything."""


def device_feed(views: Sequence[View]) -> Feed:
    """The host cut and pasted; jitter, grayscale, blur, solarize and flip of each crop follow here, by the parameters that came along.

    They are a function of (seed, epoch, example, view, position), drawn on the host (`data/augment/parameters.py`): the pictures are those
    of data.augment=host. A crop is augmented where its picture lies: nothing is sent between devices.
    """

    def prepare(_: Any, batch: Batch) -> Batch:
        return {**batch, **{view.name: _coloured(view, batch[view.name]) for view in views}}

    return Feed(prepare)


def pictures_of(view: View, crops: UInt8[Array, "n side side 3"]) -> UInt8[Array, "..."]:
    """The pictures of a view from its crops in the order of its cells."""
    if view.montage:
        return join_cells(crops, view.montage)
    return crops.reshape(-1, view.crops, *crops.shape[1:])


def _coloured(view: View, arrays: Mapping[str, Array]) -> dict[str, Array]:
    image, records = arrays["image"], arrays["augment"]
    crops = split_cells(image, view.montage) if view.montage else image.reshape(-1, *image.shape[2:])
    planes = augment(to_planes(crops), by_name(records.reshape(-1, records.shape[-1])), view.colours)
    rest = {name: array for name, array in arrays.items() if name != "augment"}
    return {**rest, "image": pictures_of(view, from_planes(planes))}


def prepared_batch(feed: Feed, batch: Batch) -> dict[str, Any]:
    """One batch as the method would get it, outside of a step: for pictures and measurements."""
    return dict(jax.jit(feed.prepare)(feed.arrays, batch))
