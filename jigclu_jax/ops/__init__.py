"""Pure array functions between the host's batch and the heads."""

from jigclu_jax.ops.decouple import decouple, decouple_size
from jigclu_jax.ops.normalize import IMAGENET_MEAN, IMAGENET_STD, normalize

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "decouple", "decouple_size", "normalize"]
