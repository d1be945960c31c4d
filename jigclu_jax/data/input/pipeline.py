"""The tf.data pipeline: batches of every view, for data.augment=host, made by Pillow and TensorFlow.

A few images at a time are read and cut in one Python call (Pillow frees the interpreter lock), colour and blur follow in TensorFlow,
then the crops of a batch are pasted into montages. Nothing depends on threads, hosts or where a run began.
"""

from collections.abc import Callable
from typing import Any, SupportsInt

import numpy as np
from jaxtyping import Int64
from ml_collections import ConfigDict

from jigclu_jax.data.augment import host_pictures
from jigclu_jax.data.augment.crops import write_patches
from jigclu_jax.data.augment.parameters import RECORD
from jigclu_jax.data.input.cells import crop_parameters
from jigclu_jax.data.input.index_stream import about_images
from jigclu_jax.data.input.montage import GRIDS, assemble
from jigclu_jax.data.input.sampler import Sampler
from jigclu_jax.data.input.stream import BatchStream, ErrorBox
from jigclu_jax.data.lazy_tf import Tensor, tensorflow
from jigclu_jax.data.sources.reader import ImageReader

_FOREVER = 1 << 40
_CHUNK_PIXELS = 1 << 19  # of the pictures that one Python call makes: few calls, and enough of them for the threads


def train_batches(
    reader: ImageReader,
    data_config: ConfigDict,
    sampler: Sampler,
    *,
    start_step: int = 0,
    stop_step: int | None = None,
    labelled: bool = False,
) -> BatchStream:
    """Batches of steps start_step..stop_step of this host, as nested dicts of numpy arrays with b images.

    They hold example, epoch int32[b], mask bool[b] (False: padding of an epoch's last batch), if `labelled`, and there are labels, label
    int32[b] (-1: none); and under the name of each view its pictures, image uint8, for montages with cluster, position and location
    int32[g, m, m].
    The iterator raises ImageError for an image that cannot be used (data.on_error=stop).
    """
    tf = tensorflow()
    errors = ErrorBox()
    views, local = sampler.views, sampler.local
    chunk = _chunk(sampler)
    cut = _cutter(reader, sampler)
    source_labels = reader.source.labels if labelled else None

    def indices(step: SupportsInt) -> tuple[Int64[np.ndarray, " b"], Int64[np.ndarray, " b"]]:
        return sampler.draws(int(step)), sampler.examples(int(step))[1]

    def elements(step: Tensor) -> Any:
        pair = tf.numpy_function(errors.guard(indices), [step], [tf.int64, tf.int64], stateful=False)
        return tf.data.Dataset.from_tensor_slices(tuple(tf.reshape(x, [local // chunk, chunk]) for x in pair))

    def load(draws: Tensor, examples: Tensor) -> tuple[Tensor, ...]:
        used, *arrays = tf.numpy_function(errors.guard(cut), [draws, examples], [tf.int64, *[tf.uint8] * (2 * len(views))], stateful=False)
        pictures = []
        for view, patches, records in zip(views, arrays[::2], arrays[1::2], strict=True):
            count = chunk * view.crops
            patches = tf.ensure_shape(patches, [count, view.side, view.side, 3])
            pictures.append(host_pictures.augment(patches, tf.ensure_shape(records, [count, RECORD.itemsize]), view.colours))
        return (tf.ensure_shape(used, [chunk]), *pictures)

    def facts(step: SupportsInt, used: Int64[np.ndarray, " b"]) -> list[np.ndarray]:
        """The batch's small arrays, in the order of `small`; for montages also the order of their crops."""
        number = int(step)
        batch = about_images(sampler.examples(number)[0], used, source_labels)
        found = [batch[name] for name in small]
        for place in montages:
            layout = sampler.layout(place, number)
            found += [layout.order, *layout.grids().values()]
        return [np.asarray(array, bool if array.dtype == bool else np.int32) for array in found]

    small = ["example", "epoch", "mask", *(["label"] if source_labels is not None else [])]
    montages = [number for number, view in enumerate(views) if view.montage]
    kinds = [tf.bool if name == "mask" else tf.int32 for name in small] + [tf.int32] * ((1 + len(GRIDS)) * len(montages))

    def merge(number: Tensor, parts: tuple[Tensor, ...]) -> dict[str, Any]:
        used, *pictures = parts
        found = tf.numpy_function(errors.guard(facts), [start_step + number, tf.reshape(used, [local])], kinds, stateful=False)
        batch: dict[str, Any] = {name: tf.ensure_shape(array, [local]) for name, array in zip(small, found, strict=False)}
        rest = iter(found[len(small) :])
        for view, patches in zip(views, pictures, strict=True):
            patches = tf.reshape(patches, [-1, view.side, view.side, 3])
            if view.montage:
                shape = [view.pictures(local), view.montage, view.montage]
                image = assemble(patches, tf.ensure_shape(next(rest), [local * view.crops]), view.montage)
                grids = {name: tf.ensure_shape(next(rest), shape) for name in GRIDS}
                batch[view.name] = {"image": image, **grids}
            else:
                batch[view.name] = {"image": tf.reshape(patches, [local, view.crops, view.side, view.side, 3])}
        return batch

    # autograph would try to read the functions' source, and has nothing to convert in them
    plain = tf.autograph.experimental.do_not_convert
    parallel = {"num_parallel_calls": data_config.threads or tf.data.AUTOTUNE, "deterministic": True}
    dataset = _until_closed(tf.data.Dataset.range(start_step, _FOREVER if stop_step is None else stop_step), errors)
    dataset = dataset.flat_map(plain(elements)).map(plain(load), **parallel).batch(local // chunk).enumerate()
    dataset = dataset.map(plain(lambda number, parts: merge(number, parts)), num_parallel_calls=2, deterministic=True)
    return BatchStream(dataset, reader, errors, data_config.threads)


def _chunk(sampler: Sampler) -> int:
    """Images that are read, cut and coloured in one call: a divisor of the host's part."""
    pixels = sum(view.crops * view.side * view.side for view in sampler.views)
    most = min(sampler.local, max(_CHUNK_PIXELS // pixels, 1))
    return max(d for d in range(1, most + 1) if sampler.local % d == 0)


def _until_closed(dataset: Any, errors: ErrorBox) -> Any:
    """The dataset, ending when its stream is closed."""
    tf = tensorflow()

    def is_open(_: Tensor) -> Tensor:
        return tf.ensure_shape(tf.numpy_function(errors.is_open, [], tf.bool, stateful=True), [])

    return dataset.take_while(tf.autograph.experimental.do_not_convert(is_open))


def _cutter(reader: ImageReader, sampler: Sampler) -> Callable[[Int64[np.ndarray, " c"], Int64[np.ndarray, " c"]], list[np.ndarray]]:
    """The Python call of a few images, with what they are drawn by: read, draw, cut, flip.

    It gives the indices of the images that were read, int64[c], then for each view crops uint8[c * k, side, side, 3] and their
    records; zeros for padding (example -1).
    """

    def cut(draws: Int64[np.ndarray, " c"], examples: Int64[np.ndarray, " c"]) -> list[np.ndarray]:
        used = np.full(len(examples), -1, np.int64)
        known = np.flatnonzero(examples >= 0)
        read = [reader(int(examples[place])) for place in known]
        used[known] = [index for _, index in read]
        sizes = [(image.shape[1], image.shape[0]) for image, _ in read]
        arrays: list[np.ndarray] = [used]
        for number, view in enumerate(sampler.views):
            padded = len(known) < len(examples)
            patches = (np.zeros if padded else np.empty)((len(examples), view.crops, view.side, view.side, 3), np.uint8)
            records = np.zeros((len(examples), view.crops, RECORD.itemsize), np.uint8)
            if len(known):
                # keyed by the example that stood here, so that a replacement is not the copy of its own appearance in the epoch
                parameters = crop_parameters(view, number, sampler.seed, draws[known], examples[known].tolist(), sizes)
                records[known] = parameters.records().reshape(-1, view.crops, RECORD.itemsize)
                box, flip = (values.reshape(len(known), view.crops, -1).tolist() for values in (parameters.box, parameters.flip))
                for place, (image, _), boxes, flips in zip(known.tolist(), read, box, flip, strict=True):
                    write_patches(patches[place], image, boxes, [mirrored for (mirrored,) in flips])
            arrays += [patches.reshape(-1, view.side, view.side, 3), records.reshape(-1, RECORD.itemsize)]
        return arrays

    return cut
