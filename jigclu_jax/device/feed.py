"""What the accelerator does to a host batch before the method sees it: nothing, colour and flip, or everything from resident images."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from jigclu_jax.data.augment.parameters import PACKED, Steps
from jigclu_jax.ops.colour import augment
from jigclu_jax.ops.montage import from_planes, join_cells, split_cells, to_planes

Batch = Mapping[str, jax.Array]


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


def host_feed() -> Feed:
    """The host did everything."""
    return Feed(lambda _, batch: batch)


def device_feed(augment_config: ConfigDict, grid: int) -> Feed:
    """The host cut and pasted; jitter, grayscale, blur and flip of each cell follow here, by the parameters that came along.

    They are a function of (seed, epoch, example, position), drawn on the host (`data/augment/parameters.py`): the pictures are those of
    data.augment=host. A cell is augmented where its montage lies: nothing is sent between devices.
    """
    steps = Steps.of(augment_config)

    def prepare(_: Any, batch: Batch) -> Batch:
        packed = batch["augment"].reshape(-1, PACKED)
        planes = augment(to_planes(split_cells(batch["image"], grid)), packed, steps)
        rest = {name: value for name, value in batch.items() if name != "augment"}
        return {**rest, "image": join_cells(from_planes(planes), grid)}

    return Feed(prepare)


def prepared_batch(feed: Feed, batch: Batch) -> dict[str, jax.Array]:
    """One batch as the method would get it, outside of a step: for pictures and measurements."""
    return dict(jax.jit(feed.prepare)(feed.arrays, batch))
