"""Converts weights between PyTorch's names and layouts and our trees, in numpy alone."""

from jigclu_jax.interop.authors import from_authors, to_authors
from jigclu_jax.interop.torchvision import from_torchvision, to_torchvision

__all__ = ["from_authors", "from_torchvision", "to_authors", "to_torchvision"]
