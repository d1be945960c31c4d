"""What sits on a backbone's vectors: location head, clustering projection, classifier. All compute in float32 or better."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jigclu_jax.models.functional import Draw, Functional, compute_dtype, functional, storage_dtype
from jigclu_jax.models.layers import BatchNorm, Linear
from jigclu_jax.ops.unit_length import unit_length


class LinearHead(Linear):
    """One linear layer."""

    def __call__(self, x: Float[Array, "*n i"], train: bool = False) -> Float[Array, "*n o"]:
        del train
        return super().__call__(x)


class Projection(nnx.Module):
    """Linear, ReLU, linear, unit length (the authors' `fc_clu` and the normalisation after it); BatchNorm before the ReLU where `norm`."""

    def __init__(self, dim: int, embedding_dim: int, *, norm: bool, dtype: jnp.dtype, draw: Draw) -> None:
        self.hidden = Linear(dim, dim, dtype=dtype, draw=draw)
        self.norm = BatchNorm(dim, dtype=storage_dtype(dtype)) if norm else None
        self.output = Linear(dim, embedding_dim, dtype=dtype, draw=draw)

    def __call__(self, x: Float[Array, "*n d"], train: bool) -> Float[Array, "*n e"]:
        x = self.hidden(x)
        x = x if self.norm is None else self.norm(x, train)
        return unit_length(self.output(jax.nn.relu(x)))


class MLP(nnx.Module):
    """Linear layers with BatchNorm and ReLU between them; behind the last one BatchNorm alone where `norm_last`."""

    def __init__(self, dims: Sequence[int], *, norm: bool, norm_last: bool, affine_last: bool, dtype: jnp.dtype, draw: Draw) -> None:
        self.layers = len(dims) - 1
        for number in range(self.layers):
            last = number + 1 == self.layers
            setattr(self, f"linear{number}", Linear(dims[number], dims[number + 1], dtype=dtype, draw=draw))
            if norm_last if last else norm:
                own = BatchNorm(dims[number + 1], affine=affine_last or not last, dtype=storage_dtype(dtype))
                setattr(self, f"bn{number}", own)

    def __call__(self, x: Float[Array, "*n d"], train: bool) -> Float[Array, "*n e"]:
        for number in range(self.layers):
            x = getattr(self, f"linear{number}")(x)
            if hasattr(self, f"bn{number}"):
                x = getattr(self, f"bn{number}")(x, train)
            x = x if number + 1 == self.layers else jax.nn.relu(x)
        return x


def create_linear(dim_in: int, dim_out: int, *, dtype: str = "float32") -> Functional:
    """A linear layer [..., dim_in] -> [..., dim_out] that starts as PyTorch's `nn.Linear` does; params `kernel`, `bias`.

    `dtype` float64 keeps float64 parameters; float32 and bfloat16 both compute in float32.
    """
    compute = compute_dtype(dtype)
    return functional(lambda draw: LinearHead(dim_in, dim_out, dtype=compute, draw=draw), dim=dim_out, dtype=compute)


def create_projection(dim: int, embedding_dim: int, *, norm: bool = False, dtype: str = "float32") -> Functional:
    """The clustering branch's MLP [..., dim] -> unit vectors [..., embedding_dim] (paper section 3.3); params `hidden`, `output`.

    With `norm`, which is not the paper's, BatchNorm (params and statistics `norm`) stands before its ReLU. `dtype` as in `create_linear`.
    """
    compute = compute_dtype(dtype)
    return functional(lambda draw: Projection(dim, embedding_dim, norm=norm, dtype=compute, draw=draw), dim=embedding_dim, dtype=compute)


def create_classifier(dim: int, classes: int, *, dtype: str = "float32") -> Functional:
    """The linear probe's layer [..., dim] -> logits [..., classes]: weights N(0, 0.01), bias 0 (authors' main_lincls.py)."""
    compute = compute_dtype(dtype)
    return functional(lambda draw: LinearHead(dim, classes, std=0.01, dtype=compute, draw=draw), dim=classes, dtype=compute)


def create_mlp(
    dims: Sequence[int], *, norm: bool = True, norm_last: bool = False, affine_last: bool = True, dtype: str = "float32"
) -> Functional:
    """A projection or predictor [..., dims[0]] -> [..., dims[-1]] as contrastive methods have them; params `linear0`, `bn0`, ...

    Rows do not come out with unit length. Source: Chen et al. 2020, "A simple framework for contrastive learning".

    Args:
      dims: sizes from input to output, two or more.
      norm: whether BatchNorm over all axes but the last stands before each ReLU.
      norm_last: whether it stands behind the last layer, too.
      affine_last: whether that one has scale and bias.
      dtype: as in `create_linear`.
    """
    compute, sizes = compute_dtype(dtype), tuple(dims)
    options = {"norm": norm, "norm_last": norm_last, "affine_last": affine_last}
    return functional(lambda draw: MLP(sizes, **options, dtype=compute, draw=draw), dim=sizes[-1], dtype=compute)
