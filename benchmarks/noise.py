"""Batches of a method without a data set: laid out as a run lays them out, with pictures of noise."""

from typing import Any

import numpy as np

from jigclu_jax.data.input.index_stream import IndexStream
from jigclu_jax.data.input.sampler import Sampler
from jigclu_jax.data.view import shape_of
from jigclu_jax.methods import DataFacts, Method


def numbers(method: Method, facts: DataFacts, step: int = 0) -> dict[str, Any]:
    """What a host sends for resident images at that step of a run."""
    sampler = Sampler(facts.images, method.views, seed=0, batch_size=facts.batch_size, steps_per_epoch=facts.steps_per_epoch)
    return next(IndexStream(sampler, None, step))


def noise_batch(method: Method, facts: DataFacts, step: int = 0) -> dict[str, Any]:
    """The host's batch at that step, every picture uint8 noise."""
    batch, rng = numbers(method, facts, step), np.random.default_rng(step)
    for view in method.views:
        batch[view.name]["image"] = rng.integers(0, 255, shape_of(view, facts.batch_size), np.uint8)
    return batch
