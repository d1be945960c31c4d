"""Where a run's batches come from, by `config.data.augment`: the host's pipeline, its first half, or resident images."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jigclu_jax.data.input.cell_stream import CellStream
from jigclu_jax.data.input.index_stream import IndexStream
from jigclu_jax.data.input.pipeline import train_batches
from jigclu_jax.data.input.plan import plan_for, with_layout
from jigclu_jax.data.sources.opening import Source
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.device import resident
from jigclu_jax.device.feed import Feed, device_feed, host_feed, prepared_batch
from jigclu_jax.device.mesh import to_device
from jigclu_jax.train.counting import counter

_DISPATCH = 8  # steps a call on an accelerator: what the host does between two is then hidden behind even short steps


@runtime_checkable
class Batches(Protocol):
    """An iterator over host batches that knows which images it had to leave out."""

    @property
    def skipped(self) -> dict[int, str]: ...
    def __next__(self) -> dict[str, np.ndarray]: ...
    def __iter__(self) -> Iterator[dict[str, np.ndarray]]: ...
    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class Supply:
    """Host batches and what becomes of them.

    Attributes:
      batches: (first step, step after the last) -> host batches of this process.
      feed: what the device does to them.
      mesh: where they go.
      skipped: images left out while a resident data set was loaded, index -> message.
    """

    batches: Callable[[int, int], Batches]
    feed: Feed
    mesh: Mesh
    skipped: Mapping[int, str] = dataclasses.field(default_factory=dict)

    def first(self) -> dict[str, jax.Array]:
        """The first batch of a run, as its method gets it."""
        stream = self.batches(0, 1)
        try:
            return prepared_batch(self.feed, to_device(next(stream), self.mesh))
        finally:
            stream.close()


def open_supply(config: ConfigDict, source: Source, view: str, steps_per_epoch: int, mesh: Mesh) -> Supply:
    """The supply of a run, everything about it checked; resident images are loaded here.

    Raises:
      UserError: a configuration that cannot work, or a data set that does not fit into the devices' memory.
      ImageError: an image of a resident data set that cannot be used (data.on_error=stop).
    """
    data, host, hosts = with_layout(config), jax.process_index(), jax.process_count()
    # montages have no use for labels, which may lie inside the records, but for the online head
    labelled = view == "crop" or ("online" in config and config.online.head)
    plan = plan_for(source, data, config.augment, view, config.batch_size, steps_per_epoch, host, hosts)
    shared: dict[str, Any] = {
        "view": view,
        "seed": config.seed,
        "batch_size": config.batch_size,
        "steps_per_epoch": steps_per_epoch,
        "host": host,
        "hosts": hosts,
    }
    if data.augment == "host":

        def pipeline(start_step: int, stop_step: int) -> Batches:
            return train_batches(source, data, config.augment, start_step=start_step, stop_step=stop_step, labelled=labelled, **shared)

        pipeline(0, 0).close()  # builds the pipeline once: what it refuses is told before anything is written
        return Supply(pipeline, host_feed(), mesh)
    reader = ImageReader(source, plan.min_side, data.on_error, "data")
    if data.augment == "device":

        def cells(start_step: int, stop_step: int) -> Batches:
            workers = data.workers if stop_step - start_step > 1 else 0  # one batch is there before a process has started
            options = {"threads": data.threads, "labelled": labelled, "start_step": start_step, "stop_step": stop_step} | shared
            return CellStream(reader, config.augment, plan, workers=workers, **options)

        return Supply(cells, device_feed(config.augment, plan.grid), mesh)
    side = resident.resident_side(reader, data.resident_side, data.image_size)
    what = f"loading {source.name} into device memory as squares of {side}"
    images, facts = resident.load(source, side, reader, mesh, counter(what))
    dispatch = data.dispatch_steps or (1 if jax.default_backend() == "cpu" else _DISPATCH)
    feed = resident.resident_feed(images, facts[:, :2], config.augment, plan, side=side, seed=config.seed, mesh=mesh, dispatch=dispatch)
    labels = source.labels if labelled else None
    if labels is not None:
        labels = labels[facts[: len(source), 2]]  # of the image that was read, where one gave way to the next
    stream = functools.partial(IndexStream, len(source), labels, plan, **shared)
    return Supply(lambda start, stop: stream(start_step=start, stop_step=stop), feed, mesh, reader.skipped)
