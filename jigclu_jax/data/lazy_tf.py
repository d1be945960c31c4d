"""TensorFlow, imported when the first pipeline is built and kept off the accelerator, which belongs to JAX."""

import contextlib
import functools
import importlib.util
from types import ModuleType
from typing import Any

from jigclu_jax.errors import UserError
from jigclu_jax.run_scope import set_environment

# TensorFlow ships no annotations that a type checker could follow
Tensor = Any


@functools.cache
def tensorflow() -> ModuleType:
    """The tensorflow module, quiet and without GPUs; UserError where it is not installed."""
    set_environment("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UserError("this data source needs TensorFlow, which is not installed: pip install tensorflow-cpu") from error
    tf.config.set_visible_devices([], "GPU")
    with contextlib.suppress(RuntimeError):  # somebody else has begun to use TensorFlow in this process
        # pictures are made side by side already; splitting the work on one of them costs a fifth of the rate on two cores
        tf.config.threading.set_intra_op_parallelism_threads(1)
    return tf


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed; does not import it."""
    return importlib.util.find_spec("tensorflow") is not None
