"""Normalises bytes by ImageNet's mean and deviation."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in 0..1, torchvision's constants
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize(image: UInt8[Array, "*n 3"] | Float[Array, "*n 3"], dtype: str | jnp.dtype = "float32") -> Float[Array, "*n 3"]:
    """RGB of 0..255 to (x / 255 - mean) / std in `dtype`; the arithmetic is float32 at least."""
    wanted = jnp.dtype(dtype)
    wide = jnp.promote_types(wanted, jnp.float32)
    scaled = image.astype(wide) / jnp.asarray(255.0, wide)
    return ((scaled - jnp.asarray(IMAGENET_MEAN, wide)) / jnp.asarray(IMAGENET_STD, wide)).astype(wanted)
