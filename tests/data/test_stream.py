"""A stream may be dropped, closed, or left to the end of the interpreter while its calls are under way."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import tensorflow as tf
from data.batches import CROP, montage, sampler

from jigclu_jax.config import pipeline_config
from jigclu_jax.data.input.pipeline import train_batches
from jigclu_jax.data.sources.arrays import ArraySource
from jigclu_jax.data.sources.reader import ImageReader

_LEFT_OPEN = """
import sys, threading
import numpy as np
sys.path.insert(0, "tests")
from data.batches import CROP, montage, sampler
from jigclu_jax.config import pipeline_config
from jigclu_jax.data.sources.arrays import ArraySource
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.data.input.pipeline import train_batches

images = np.random.default_rng(0).integers(0, 256, (512, 200, 200, 3), dtype=np.uint8)


def open_stream():
    reader = ImageReader(ArraySource(images), 1, "stop", "data")
    return train_batches(reader, pipeline_config(), sampler(512, montage(32, CROP)), stop_step=10**9)


for _ in range(8):  # freed, closed, and left to the interpreter's end, each while calls are under way
    next(open_stream())
    stream = open_stream()
    next(stream)
    stream.close()
last = open_stream()
next(last)
print("done", flush=True)
"""


def test_a_stream_can_be_left_at_any_moment() -> None:
    """TensorFlow frees an iterator with the interpreter lock held: a call under way would wait for that lock for ever."""
    run = subprocess.run(
        [sys.executable, "-c", _LEFT_OPEN], capture_output=True, text=True, timeout=180, check=False, cwd=Path(__file__).parents[2]
    )
    assert run.stdout == "done\n", run.stderr[-2000:]
    assert run.returncode == 0, run.stderr[-2000:]


def test_a_stream_can_be_collected_while_another_is_traced() -> None:
    """The collector runs at any moment, also where TensorFlow records calls instead of making them."""
    images = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), dtype=np.uint8)
    reader = ImageReader(ArraySource(images), 1, "stop", "data")
    streams = [train_batches(reader, pipeline_config(), sampler(8, montage(32, CROP)), stop_step=10**9)]
    dropped = weakref.ref(streams[0])

    def traced(number: tf.Tensor) -> tf.Tensor:
        streams.clear()
        gc.collect()
        return number + 1

    assert list(tf.data.Dataset.range(2).map(traced).as_numpy_iterator()) == [1, 2]
    assert dropped() is None
