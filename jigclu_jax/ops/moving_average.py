"""Exponential moving averages of parameters."""

from typing import Any

import jax


def moving_average(old: Any, new: Any, momentum: Any) -> Any:
    """momentum * old + (1 - momentum) * new, leaf by leaf of two trees of arrays, in the dtypes of `old`."""
    return jax.tree.map(lambda a, b: (momentum * a + (1 - momentum) * b).astype(a.dtype), old, new)
