"""Supplies a run's batches by `config.data.augment`: the host's pipeline, its first half, or resident images."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jigclu_jax.data.input.cell_stream import CellStream
from jigclu_jax.data.input.index_stream import IndexStream
from jigclu_jax.data.input.pipeline import train_batches
from jigclu_jax.data.input.sampler import EpochOrder, Sampler
from jigclu_jax.data.sources.opening import Source
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.data.view import View
from jigclu_jax.device import resident
from jigclu_jax.device.feed import HOST_FEED, Feed, device_feed, prepared_batch
from jigclu_jax.device.mesh import to_device
from jigclu_jax.errors import UserError
from jigclu_jax.methods import DataFacts, Method
from jigclu_jax.train.counting import announce, counter


@runtime_checkable
class Batches(Protocol):
    """An iterator over host batches that knows which images it had to leave out."""

    @property
    def skipped(self) -> dict[int, str]: ...
    def __next__(self) -> dict[str, Any]: ...
    def __iter__(self) -> Iterator[dict[str, Any]]: ...
    def close(self) -> None: ...


@runtime_checkable
class BatchesBetween(Protocol):
    """Opens the batches of some steps."""

    def __call__(self, start_step: int, stop_step: int, order: EpochOrder | None = None) -> Batches: ...


@dataclasses.dataclass(frozen=True)
class Supply:
    """Host batches and what becomes of them.

    Attributes:
      batches: (first step, step after the last) -> host batches of this process; a third argument orders the images of an epoch.
      feed: what the device does to them.
      mesh: where they go.
      skipped: images left out while a resident data set was loaded, index -> message.
    """

    batches: BatchesBetween
    feed: Feed
    mesh: Mesh
    skipped: Mapping[int, str] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def prepared(self, count: int) -> Iterator[Iterator[dict[str, Any]]]:
        """The first `count` batches of a run, as its method gets them."""
        with contextlib.closing(self.batches(0, count)) as stream:
            yield (prepared_batch(self.feed, to_device(batch, self.mesh)) for batch in stream)

    def first(self) -> dict[str, Any]:
        """The first batch of a run, as its method gets it."""
        with self.prepared(1) as batches:
            return next(batches)


def open_supply(config: ConfigDict, source: Source, method: Method, facts: DataFacts, mesh: Mesh) -> Supply:
    """The supply of a run, everything about it checked; resident images are loaded here. The mesh's processes share a batch.

    Raises:
      UserError: a configuration that cannot work, or a data set that does not fit into the devices' memory.
      ImageError: an image of a resident data set that cannot be used (data.on_error=stop).
    """
    data, views = config.data, method.views
    if data.workers and data.augment != "device":
        raise UserError(
            f"data.workers={data.workers}: processes make pictures for data.augment=device, this is {data.augment!r}: set it to 0"
        )
    for view in views:
        _check_pictures(view, config, mesh)
    sizes = {"seed": config.seed, "batch_size": facts.batch_size, "steps_per_epoch": facts.steps_per_epoch}
    processes = sorted({device.process_index for device in mesh.devices.flat})
    sampler = Sampler(facts.images, views, host=processes.index(jax.process_index()), hosts=len(processes), **sizes)
    reader = ImageReader(source, smallest_side(data, views), data.on_error, "data")
    # labels may lie inside the records: they are read only for those who want them
    labelled = method.wants_labels and source.classes is not None

    if data.augment == "host":

        def pipeline(start_step: int, stop_step: int, order: EpochOrder | None = None) -> Batches:
            own = sampler if order is None else sampler.in_order(order)
            return train_batches(reader, data, own, start_step=start_step, stop_step=stop_step, labelled=labelled)

        if "tensorflow" not in sys.modules:
            announce("input: loading TensorFlow")
        pipeline(0, 0).close()  # builds the pipeline once: what it refuses is told before anything is written
        return Supply(pipeline, HOST_FEED, mesh)
    if data.augment == "device":

        def cells(start_step: int, stop_step: int, order: EpochOrder | None = None) -> Batches:
            own = sampler if order is None else sampler.in_order(order)
            workers = data.workers if stop_step - start_step > 1 else 0  # one batch is there before a process has started
            options = {"threads": data.threads, "workers": workers, "labelled": labelled}
            return CellStream(reader, own, start_step=start_step, stop_step=stop_step, **options)

        return Supply(cells, device_feed(views), mesh)
    side = resident.resident_side(reader, data.resident_side, data.image_size)
    what = f"loading {source.name} into device memory as squares of {side}"
    images, about = resident.load(source, side, reader, mesh, counter(what))
    # one step a call: while the device works on it, the next one waits in its queue. Several are a loop whose length a GPU's host asks for
    # after every turn, within the call
    dispatch = max(data.dispatch_steps, 1)
    feed = resident.resident_feed(images, about, views, side=side, seed=config.seed, mesh=mesh, dispatch=dispatch)
    labels = source.labels if labelled else None
    if labels is not None:
        labels = labels[about[: len(source), 2]]  # of the image that was read, where one gave way to the next

    def numbers(start_step: int, stop_step: int, order: EpochOrder | None = None) -> Batches:
        return IndexStream(sampler if order is None else sampler.in_order(order), labels, start_step, stop_step)

    return Supply(numbers, feed, mesh, reader.skipped)


def smallest_side(data: ConfigDict, views: Sequence[View]) -> int:
    """The smaller side, in pixels, that images must have: `data.min_side`, or for -1 the side of a patch where there are montages."""
    if data.min_side >= 0:
        return max(data.min_side, 1)
    return max((view.side for view in views if view.montage), default=1)


def _check_pictures(view: View, config: ConfigDict, mesh: Mesh) -> None:
    count = mesh.size * config.accumulate
    pictures = view.pictures(config.batch_size)
    if pictures % count:
        raise UserError(
            f"config.batch_size={config.batch_size} makes {pictures} pictures of view {view.name!r}, which {mesh.size} devices cannot share"
            f" in config.accumulate={config.accumulate} micro-batches: use a batch_size that makes a multiple of {count} pictures"
        )
