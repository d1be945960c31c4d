"""The boundary between flax.nnx modules and everything else: `init` and `apply` over nested dicts of arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from jigclu_jax.errors import UserError
from jigclu_jax.models.architectures import DTYPES, check_choice

Tree: TypeAlias = dict[str, "Array | Tree"]

_Module = TypeVar("_Module", bound=nnx.Module)


class Init(Protocol):
    """Draws parameters and statistics from a key."""

    def __call__(self, key: PRNGKeyArray) -> tuple[Tree, Tree]: ...


class Apply(Protocol):
    """Maps an input to an output and the statistics after it (the same ones when `train` is False)."""

    def __call__(self, params: Tree, stats: Tree, x: Float[Array, "..."], train: bool) -> tuple[Float[Array, "..."], Tree]: ...


@dataclass(frozen=True)
class Functional:
    """A network as two pure functions, safe under jit, grad, eval_shape and export.

    `init(key) -> (params, stats)`; `apply(params, stats, x, train) -> (y, new_stats)`; both trees are nested dicts with
    string keys, e.g. `params["layer1"]["block0"]["conv1"]["kernel"]`; `dim` is the size of the output's last axis.
    """

    init: Init
    apply: Apply
    dim: int


def functional(build: Callable[[nnx.Rngs], _Module], dim: int) -> Functional:
    """Wraps a module class whose `__call__(x, train)` updates its BatchStats in place."""
    # The structure alone is kept: merging plain dicts into it while tracing costs nothing once a step is compiled, where
    # passing module objects through jit costs tens of milliseconds a step.
    structure = nnx.graphdef(nnx.eval_shape(lambda: build(nnx.Rngs(0))))

    def init(key: PRNGKeyArray) -> tuple[Tree, Tree]:
        _, params, stats = nnx.split(build(nnx.Rngs(key)), nnx.Param, nnx.BatchStat)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(stats)

    def apply(params: Tree, stats: Tree, x: Float[Array, "..."], train: bool) -> tuple[Float[Array, "..."], Tree]:
        module = nnx.merge(structure, params, stats)
        y = module(x, train)
        return y, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    return Functional(init=init, apply=apply, dim=dim)


def compute_dtype(name: str) -> jnp.dtype:
    """The dtype that `model.dtype` names; UserError for an unknown one, and for float64 where JAX has it switched off."""
    check_choice("model.dtype", name, DTYPES)
    if name == "float64" and not jax.config.read("jax_enable_x64"):
        raise UserError("model.dtype=float64: JAX computes in 32 bits here, set the environment variable JAX_ENABLE_X64=1")
    return jnp.dtype(name)


def storage_dtype(compute: jnp.dtype) -> jnp.dtype:
    """The dtype in which parameters and statistics are kept: never below float32."""
    return jnp.promote_types(compute, jnp.float32)
