"""Learning rate as a function of the step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jigclu_jax.errors import UserError

Schedule = Callable[[jax.Array], jax.Array]


def create_schedule(config: ConfigDict, steps_per_epoch: int, epochs: float) -> Schedule:
    """The schedule that `config.optimizer` describes.

    Cosine: rate * (1 + cos(pi * t / T)) / 2 with t the epoch, counted whole when `per_epoch` (the authors' code) and in
    fractions else. Step: rate * gamma^(milestones passed). Both start after `warmup_epochs` of a linear rise from 0.

    Raises:
      UserError: a warm-up as long as the run.
    """
    if config.warmup_epochs and not 0 <= config.warmup_epochs < epochs:
        raise UserError(f"config.optimizer.warmup_epochs={config.warmup_epochs} must lie in 0..{epochs} (config.epochs)")
    rate, warmup = config.learning_rate, config.warmup_epochs
    warmup_steps = round(warmup * steps_per_epoch)
    milestones, gamma, per_epoch, kind = tuple(config.milestones), config.gamma, config.per_epoch, config.schedule

    def schedule(step: jax.Array) -> jax.Array:
        epoch = step // steps_per_epoch if per_epoch else step / steps_per_epoch
        if kind == "cosine":
            # a per-epoch rate stays on whole epochs, also while the warm-up of a fraction of an epoch ends within one
            progress = jnp.clip((epoch - warmup) / max(epochs - warmup, 1e-9), 0.0, 1.0)
            factor = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        elif kind == "step":
            passed = sum((jnp.asarray(epoch >= milestone, jnp.float32) for milestone in milestones), jnp.zeros((), jnp.float32))
            factor = gamma**passed
        else:
            factor = jnp.ones(())
        if warmup_steps:
            factor = jnp.where(step < warmup_steps, (step + 1) / warmup_steps, factor)
        return jnp.asarray(rate * factor, jnp.result_type(float))

    return schedule
