"""The boundary between flax.nnx modules and everything else: `init` and `apply` over nested dicts of arrays."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from jigclu_jax.errors import UserError
from jigclu_jax.models.architectures import DTYPES, check_choice

Tree: TypeAlias = dict[str, Any]  # nested; the leaves are jax.Array


@runtime_checkable
class Init(Protocol):
    """Draws parameters and statistics from a key."""

    def __call__(self, key: PRNGKeyArray) -> tuple[Tree, Tree]: ...


@runtime_checkable
class Apply(Protocol):
    """Maps an input to an output and the statistics after it (the same ones when `train` is False).

    `key` is for layers that draw random numbers; there are none yet. `groups`, which divides the rows of x, is `BatchNorm.batch_groups`.
    """

    def __call__(
        self, params: Tree, stats: Tree, x: Float[Array, "..."], train: bool, key: PRNGKeyArray | None = None, groups: int = 1
    ) -> tuple[Any, Tree]: ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Frozen:
    """A statistic that stands still: the layer it belongs to runs in eval mode, whatever `train` says."""

    value: Any


@dataclass(frozen=True)
class Functional:
    """A network as two pure functions, safe under jit, grad, eval_shape and export.

    `init(key) -> (params, stats)`; `apply(params, stats, x, train, key=None, groups=1) -> (y, new_stats)`; both trees are nested dicts
    with string keys, e.g. `params["layer1"]["block0"]["conv1"]["kernel"]`; `dim` is the size of the last axis of y, or of a
    backbone's features. Leaves of `stats` may be `Frozen`, and are so again in `new_stats`.
    """

    init: Init
    apply: Apply
    dim: int


class Draw:
    """Hands initial values to layers, one after the other, from two long random vectors.

    One draw of all weights compiles in a second; a generator for every tensor takes XLA most of a minute for a ResNet-18.
    """

    def __init__(self, normal: Float[Array, " n"] | None = None, uniform: Float[Array, " u"] | None = None) -> None:
        self._pools = {"normal": normal, "uniform": uniform}
        self.taken = {"normal": 0, "uniform": 0}

    def normal(self, shape: tuple[int, ...], std: float, dtype: jnp.dtype) -> Float[Array, "..."]:
        """Values of N(0, std)."""
        return std * self._next("normal", shape, dtype)

    def uniform(self, shape: tuple[int, ...], bound: float, dtype: jnp.dtype) -> Float[Array, "..."]:
        """Values of U(-bound, bound)."""
        return bound * self._next("uniform", shape, dtype)

    def _next(self, kind: str, shape: tuple[int, ...], dtype: jnp.dtype) -> Float[Array, "..."]:
        start, size = self.taken[kind], math.prod(shape)
        self.taken[kind] = start + size
        pool = self._pools[kind]
        if pool is None:  # only shapes are wanted
            return jnp.zeros(shape, dtype)
        return pool[start : start + size].reshape(shape).astype(dtype)


def functional(build: Callable[[Draw], nnx.Module], dim: int, dtype: jnp.dtype, precision: str = "default") -> Functional:
    """Wraps a module class whose `__call__(x, train)` updates its BatchStats in place; `dtype` is that of its computation.

    `precision` is that of its convolutions and products: "default" leaves it to JAX, "highest" is `lax.Precision.HIGHEST`.
    """
    counted = Draw()
    # The structure alone is kept: merging plain dicts into it while tracing costs nothing once a step is compiled, where
    # passing module objects through jit costs tens of milliseconds a step.
    structure = nnx.graphdef(nnx.eval_shape(lambda: build(counted)))
    totals = dict(counted.taken)
    kept = storage_dtype(dtype)

    def init(key: PRNGKeyArray) -> tuple[Tree, Tree]:
        for_normal, for_uniform = jax.random.split(key)
        pools = (
            jax.random.normal(for_normal, (totals["normal"],), kept),
            jax.random.uniform(for_uniform, (totals["uniform"],), kept, -1.0, 1.0),
        )
        # the barrier keeps XLA from generating the whole vector once again for each of its slices
        module = build(Draw(*jax.lax.optimization_barrier(pools)))
        return nnx.to_pure_dict(nnx.state(module, nnx.Param)), nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    def apply(
        params: Tree, stats: Tree, x: Float[Array, "..."], train: bool, key: PRNGKeyArray | None = None, groups: int = 1
    ) -> tuple[Any, Tree]:
        del key
        # statistics are written in place below, which would reach into numpy arrays of the caller
        values = jax.tree.map(lambda leaf: leaf.value if _is_frozen(leaf) else leaf, stats, is_leaf=_is_frozen)
        module = nnx.merge(structure, *jax.tree.map(jnp.asarray, (params, values)))
        _freeze(module, stats)
        if groups > 1:
            module.set_attributes(batch_groups=groups, raise_if_not_found=False)
        # derivatives keep the precision that an operation was traced with
        with contextlib.nullcontext() if precision == "default" else jax.default_matmul_precision(precision):
            y = module(x, train)
        after = nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))
        return y, jax.tree.map(lambda old, new: old if _is_frozen(old) else new, stats, after, is_leaf=_is_frozen)

    return Functional(init=init, apply=apply, dim=dim)


def init_parts(keys: jax.Array, **parts: Functional) -> tuple[Tree, Tree]:
    """Parameters and statistics of several networks by name, the n-th drawn from the n-th key; statistics of those that have any."""
    made = {name: part.init(key) for (name, part), key in zip(parts.items(), keys, strict=False)}
    return {name: params for name, (params, _) in made.items()}, {name: stats for name, (_, stats) in made.items() if stats}


def _is_frozen(node: Any) -> bool:
    return isinstance(node, Frozen)


def _freeze(module: Any, stats: Tree) -> None:
    """Marks the layers whose statistics are `Frozen`."""
    for name, node in stats.items():
        if _is_frozen(node):
            module.frozen = True
        elif isinstance(node, dict):
            _freeze(getattr(module, name), node)


def compute_dtype(name: str) -> jnp.dtype:
    """The dtype that `model.dtype` names; UserError for an unknown one, and for float64 where JAX has it switched off."""
    check_choice("model.dtype", name, DTYPES)
    if name == "float64" and not jax.config.read("jax_enable_x64"):
        raise UserError("model.dtype=float64: JAX computes in 32 bits here, set the environment variable JAX_ENABLE_X64=1")
    return jnp.dtype(name)


def storage_dtype(compute: jnp.dtype) -> jnp.dtype:
    """The dtype in which parameters and statistics are kept: never below float32."""
    return jnp.promote_types(compute, jnp.float32)
