"""The training step: averages, dtypes, memory."""

import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_backbone import tiny_backbone, tiny_batch, tiny_facts, tiny_method, tiny_step

from jigclu_jax.config import pretrain_config
from jigclu_jax.device.mesh import create_mesh, to_device
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.state import init_state
from jigclu_jax.train.step import Update, train_step


def test_averages_are_those_of_a_loop_and_the_state_is_given_away() -> None:
    config = pretrain_config()
    config.ema_decay = 0.75
    state, step = tiny_step(config)
    mesh = create_mesh(jax.devices()[:1])
    bytes_of_state = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    batch = to_device(tiny_batch(8), mesh)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "donated buffers were not usable"
        compiled = step.lower(state, batch).compile()
        assert compiled.memory_analysis().alias_size_in_bytes >= bytes_of_state
        expected = jax.device_get({"params": state.params, "stats": state.stats})
        start = expected
        for _ in range(3):
            state, _ = compiled(state, batch)
            now = jax.device_get({"params": state.params, "stats": state.stats})
            expected = jax.tree.map(lambda old, new: np.float32(0.75) * old + np.float32(0.25) * new, expected, now)
    found = jax.device_get(state.ema)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7), found, expected)
    moved = jax.tree.map(lambda ours, then: float(np.abs(ours - then).max()), found, start)
    assert min(jax.tree.leaves(moved["stats"])) > 0 and max(jax.tree.leaves(moved["params"])) > 1e-3


def test_without_averages_the_state_holds_no_copy() -> None:
    config = pretrain_config()
    method, optimizer = tiny_method(config), create_optimizer(config.optimizer)
    assert jax.eval_shape(lambda: init_state(method, tiny_facts(config), optimizer, jax.random.key(0))).ema == {}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_in_bfloat16_convolutions_alone_are_narrow(name: str, accumulate: int) -> None:
    """Parameters, statistics, loss, gradients as they add up, and the optimizer's state are float32."""
    config = pretrain_config()
    config.model.dtype, config.optimizer.name, config.ema_decay = "bfloat16", name, 0.9
    method, optimizer = tiny_method(config), create_optimizer(config.optimizer)
    update = Update(optimizer, create_schedule(config.optimizer, 10, 1), 10, 0.9, accumulate)
    state = jax.eval_shape(lambda: init_state(method, tiny_facts(config), optimizer, jax.random.key(0), ema=True))
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tiny_batch(8))
    traced, (after, metrics) = jax.make_jaxpr(lambda s, b: train_step(method, update, s, b, unroll=False), return_shape=True)(state, batch)
    for leaf in jax.tree.leaves((state, after, metrics)):
        assert leaf.dtype in (jnp.float32, jnp.int32)
    seen: set[str] = set()
    for equation in _equations(traced.jaxpr):
        operation = equation.primitive.name
        dtypes = {getattr(variable.aval, "dtype", None) for variable in equation.invars}
        if operation == "conv_general_dilated":
            seen.add(operation)
            assert dtypes == {jnp.dtype(jnp.bfloat16)}
        elif operation in ("reduce_sum", "exp", "log", "rsqrt", "sqrt", "div"):
            # statistics, losses, and their derivatives
            seen.add(operation)
            assert jnp.bfloat16 not in dtypes, equation
        elif operation == "scan":
            seen.add(operation)
            # sums of gradients and statistics, and the outputs that the loss takes
            assert {variable.aval.dtype for variable in equation.outvars} <= {jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)}
    assert {"conv_general_dilated", "reduce_sum", "exp"} <= seen and ("scan" in seen) == (accumulate > 1)


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation of a program and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if hasattr(inner, "jaxpr"):
                    yield from _equations(inner.jaxpr)
                elif hasattr(inner, "eqns"):
                    yield from _equations(inner)


def test_with_remat_less_is_kept_for_the_gradient() -> None:
    """Bytes that the forward pass leaves to the backward pass; a compiled CPU step does not show them, XLA joins both passes there."""
    image = jax.ShapeDtypeStruct((8, 32, 32, 3), jnp.float32)

    def kept(blocks: int, remat: bool) -> int:
        backbone = tiny_backbone(blocks=blocks, remat=remat)
        params, stats = jax.eval_shape(backbone.init, jax.random.key(0))
        pulled = jax.eval_shape(lambda p, s, x: jax.vjp(lambda p: backbone.apply(p, s, x, True)[0], p)[1], params, stats, image)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pulled))

    activation = 8 * 16 * 16 * 8 * 4
    # a block keeps its input alone, and what it holds inside without
    assert activation <= kept(4, True) - kept(3, True) < 1.2 * activation
    assert kept(4, False) - kept(3, False) > 5 * activation


@pytest.mark.slow
def test_remat_computes_the_same() -> None:
    config, found = pretrain_config(), []
    for config.model.remat in (False, True):
        state, step = tiny_step(config, blocks=2)
        for seed in range(2):
            state, metrics = step(state, to_device(tiny_batch(8, seed), create_mesh(jax.devices()[:1])))
        found.append(jax.device_get((state.params, state.stats, metrics)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5), *found)
