"""Micro-batches: with the memory of one of them, and refused where they do not come out even (exactness: `test_accumulate_groups.py`)."""

import jax
import pytest
from tiny_backbone import step_memory, tiny_batch, tiny_step

from jigclu_jax.device.feed import Feed
from jigclu_jax.device.mesh import check_batch, create_mesh, stacked_to_device, to_device
from jigclu_jax.errors import UserError


@pytest.mark.slow
def test_memory_is_that_of_one_micro_batch() -> None:
    """At 4 montages a micro-batch: eight of them take little more than two, and much less than the 32 in one piece."""
    two, eight = (step_memory(batch=4 * parts, accumulate=parts) for parts in (2, 8))
    whole = step_memory(batch=32, accumulate=1)
    assert eight < 1.3 * two and eight < 0.4 * whole, (two, eight, whole)


@pytest.mark.slow
def test_several_steps_a_call_accumulate_as_well() -> None:
    feed = Feed(lambda _, batch: batch, (), 2)
    mesh = create_mesh(jax.devices()[:1])
    state, single = tiny_step(accumulate=2)
    batches = [tiny_batch(8, seed) for seed in (1, 2)]
    for batch in batches:
        state, metrics = single(state, to_device(batch, mesh))
    state_of_two, several = tiny_step(accumulate=2, feed=feed)
    state_of_two, metrics_of_two = several(state_of_two, stacked_to_device(batches, 2, mesh), 2)
    pairs = zip(jax.tree.leaves((state, metrics)), jax.tree.leaves((state_of_two, metrics_of_two)), strict=True)
    for one, two in pairs:
        assert jax.numpy.allclose(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("batch", "accumulate", "message"),
    [
        (
            12,
            8,
            r"config\.batch_size=12 cannot be shared by 1 device in config\.accumulate=8 micro-batches: use 8 or 16, or config",
        ),
        (12, 8, r"config\.accumulate=4 or 6 or 12$"),
        (3, 4, r"use 4, or config\.accumulate=1 or 3$"),
    ],
)
def test_micro_batches_that_do_not_come_out_even_are_refused(batch: int, accumulate: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_batch(batch, create_mesh(jax.devices()[:1]), accumulate=accumulate)
    check_batch(12, create_mesh(jax.devices()[:1]), accumulate=6)
