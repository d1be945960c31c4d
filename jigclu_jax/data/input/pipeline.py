"""From a source to batches of montages or of single crops, on the host: tf.data around Pillow, one index law for every run.

A few examples at a time are read and cut in one Python call (Pillow frees the interpreter lock), colour and blur follow in TensorFlow,
then patches are shuffled within groups and pasted. Nothing depends on threads, hosts or where a run began.
"""

from collections.abc import Callable
from typing import Any, SupportsInt

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8
from ml_collections import ConfigDict

from jigclu_jax.data.augment import host_pictures as tf_ops
from jigclu_jax.data.augment.boxes import patch_boxes
from jigclu_jax.data.augment.crops import write_patches
from jigclu_jax.data.augment.parameters import PACKED, Steps, draw_many
from jigclu_jax.data.input import montage
from jigclu_jax.data.input.order import EpochOrders, host_positions
from jigclu_jax.data.input.plan import Plan, plan_for
from jigclu_jax.data.input.stream import BatchStream, ErrorBox
from jigclu_jax.data.lazy_tf import Tensor, tensorflow
from jigclu_jax.data.sources.opening import Source
from jigclu_jax.data.sources.reader import ImageReader

# patches of all examples one after the other, their Draws.pack(), a label an example
Cut = tuple[UInt8[np.ndarray, "ck p p 3"], Float32[np.ndarray, "ck 12"], Int32[np.ndarray, " c"]]

_FOREVER = 1 << 40
_PADDING = -2  # instead of a label, until the mask is made


def train_batches(
    source: Source,
    data_config: ConfigDict,
    augment_config: ConfigDict,
    *,
    view: str,
    seed: int,
    batch_size: int,
    steps_per_epoch: int,
    start_step: int = 0,
    stop_step: int | None = None,
    host: int = 0,
    hosts: int = 1,
    labelled: bool = False,
) -> BatchStream:
    """Batches of steps start_step..stop_step of this host, as dicts of numpy arrays with b = batch_size / hosts.

    view "montage": image uint8[b, S, S, 3], cluster int32[b, m, m] (the image's position in the global batch), location
    int32[b, m, m]; an epoch's incomplete last batch is dropped; if `labelled`, also label int32[b] of the images (-1: none), that of
    cluster k at place k of the global batch. view "crop": image uint8[b, S, S, 3], one random resized crop an
    image, label int32[b] (-1: none), mask bool[b] (False: padding of an epoch's last batch). Raises UserError
    for a configuration that cannot work; the iterator raises ImageError for an image that cannot be used (data.on_error=stop).
    """
    plan = plan_for(source, data_config, augment_config, view, batch_size, steps_per_epoch, host, hosts)
    tf = tensorflow()
    errors = ErrorBox()
    reader = ImageReader(source, plan.min_side, data_config.on_error, "data")
    orders = EpochOrders(seed, len(source))
    cut = _cutter(reader, augment_config, plan, seed)
    columns = plan.grid * plan.grid
    steps = Steps.of(augment_config)

    def indices(step: SupportsInt) -> tuple[Int64[np.ndarray, " b"], Int64[np.ndarray, " b"]]:
        epoch, positions = host_positions(int(step), steps_per_epoch, batch_size, host, hosts)
        order = orders(epoch)
        inside = positions < len(order)
        examples = np.where(inside, order[np.minimum(positions, len(order) - 1)], -1)
        return np.full_like(examples, epoch), examples

    def elements(step: Tensor) -> Any:
        pair = tf.numpy_function(errors.guard(indices), [step], [tf.int64, tf.int64], stateful=False)
        return tf.data.Dataset.from_tensor_slices(tuple(tf.reshape(x, [plan.share // plan.chunk, plan.chunk]) for x in pair))

    def load(epoch: Tensor, examples: Tensor) -> tuple[Tensor, Tensor]:
        patches, packed, label = tf.numpy_function(errors.guard(cut), [epoch, examples], [tf.uint8, tf.float32, tf.int32], stateful=False)
        count, side = plan.chunk * columns, plan.side
        patches = tf_ops.augment(tf.ensure_shape(patches, [count, side, side, 3]), tf.ensure_shape(packed, [count, PACKED]), steps)
        return patches, tf.ensure_shape(label, [plan.chunk])

    def paste(number: Tensor, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        order, cluster, location = tf.numpy_function(errors.guard(labels), [number], [tf.int32, tf.int32, tf.int32], stateful=False)
        images = montage.assemble_tf(tf.reshape(batch[0], [-1, plan.side, plan.side, 3]), order, plan.grid)
        return images, cluster, location, batch[1]

    groups_a_share = plan.share // plan.group

    def labels(number: SupportsInt) -> tuple[Int32[np.ndarray, " gk"], Int32[np.ndarray, "g m m"], Int32[np.ndarray, "g m m"]]:
        step, group = divmod(int(number), groups_a_share)
        return montage.group_layout(seed, start_step + step, host * groups_a_share + group, plan.group, plan.grid)

    def merge_groups(*parts: Tensor) -> dict[str, Tensor]:
        m, size = plan.grid, plan.grid * plan.side
        shapes = {"image": [size, size, 3], "cluster": [m, m], "location": [m, m], "label": []}
        batch = {name: tf.reshape(part, [plan.share, *shape]) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        return batch if labelled else {name: part for name, part in batch.items() if name != "label"}

    def merge_chunks(images: Tensor, label: Tensor) -> dict[str, Tensor]:
        return _labelled(tf.reshape(images, [plan.share, plan.side, plan.side, 3]), tf.reshape(label, [plan.share]))

    # autograph would try to read the functions' source, and has nothing to convert in them
    plain = tf.autograph.experimental.do_not_convert
    parallel = {"num_parallel_calls": data_config.threads or tf.data.AUTOTUNE, "deterministic": True}
    dataset = _until_closed(tf.data.Dataset.range(start_step, _FOREVER if stop_step is None else stop_step), errors)
    dataset = dataset.flat_map(plain(elements)).map(plain(load), **parallel)
    if view == "montage":
        dataset = dataset.batch(plan.group // plan.chunk).enumerate().map(plain(paste), num_parallel_calls=2, deterministic=True)
        if groups_a_share > 1:
            dataset = dataset.batch(groups_a_share)  # a copy that a single group is spared
        dataset = dataset.map(plain(merge_groups))
    else:
        dataset = dataset.batch(plan.share // plan.chunk).map(plain(merge_chunks))
    return BatchStream(dataset, reader, errors, data_config.threads)


def _until_closed(dataset: Any, errors: ErrorBox) -> Any:
    """The dataset, ending when its stream is closed."""
    tf = tensorflow()

    def is_open(_: Tensor) -> Tensor:
        return tf.ensure_shape(tf.numpy_function(errors.is_open, [], tf.bool, stateful=True), [])

    return dataset.take_while(tf.autograph.experimental.do_not_convert(is_open))


def _cutter(
    reader: ImageReader, augment: ConfigDict, plan: Plan, seed: int
) -> Callable[[Int64[np.ndarray, " c"], Int64[np.ndarray, " c"]], Cut]:
    """The Python call of a few examples of one epoch: read, draw, cut; zeros for a place of padding (example -1)."""
    k, side = plan.grid * plan.grid, plan.side

    def cut(epoch: Int64[np.ndarray, " c"], examples: Int64[np.ndarray, " c"]) -> Cut:
        patches = np.empty((len(examples), k, side, side, 3), np.uint8)
        packed = np.zeros((len(examples), k, PACKED), np.float32)
        labels = np.full(len(examples), _PADDING, np.int32)
        known = np.flatnonzero(examples >= 0)
        patches[examples < 0] = 0
        if not len(known):
            return patches.reshape(-1, side, side, 3), packed.reshape(-1, PACKED), labels
        read = [reader(int(examples[place])) for place in known]
        boxes = [patch_boxes(image.shape[1], image.shape[0], plan.grid, plan.overlap) for image, _ in read]
        # keyed by the example that stood here, so that a replacement is not the copy of its own appearance in the epoch
        draws = draw_many(augment, seed, int(epoch[0]), examples[known].tolist(), boxes)
        packed[known] = draws.pack().reshape(-1, k, PACKED)
        box, flip = draws.box.tolist(), draws.flip.tolist()
        for start, place, (image, used) in zip(range(0, len(box), k), known.tolist(), read, strict=True):
            write_patches(patches[place], image, box[start : start + k], flip[start : start + k])
            labels[place] = -1 if reader.source.labels is None else reader.source.labels[used]
        return patches.reshape(-1, side, side, 3), packed.reshape(-1, PACKED), labels

    return cut


def _labelled(images: Tensor, label: Tensor) -> dict[str, Tensor]:
    tf = tensorflow()
    mask = tf.not_equal(label, _PADDING)
    return {"image": images, "label": tf.where(mask, label, -1), "mask": mask}
