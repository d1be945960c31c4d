"""Vectors of length 1."""

from typing import Any

import numpy as np
from jaxtyping import Array, Float


def unit_length(x: Float[Array, "*n d"] | Float[np.ndarray, "*n d"]) -> Any:
    """Rows divided by their length, of numpy where `x` is; a row of zeros stays zero, with a finite gradient."""
    xp = x.__array_namespace__()
    squares = xp.sum(xp.square(x), axis=-1, keepdims=True)
    return x / xp.sqrt(xp.maximum(squares, 1e-24))
