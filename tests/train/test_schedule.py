"""The learning rate against its formulas."""

import math

import jax.numpy as jnp
import pytest

from jigclu_jax.config import optimizer_config
from jigclu_jax.errors import UserError
from jigclu_jax.train.schedule import create_schedule


def rates(steps_per_epoch: int, epochs: float, **fields: object) -> list[float]:
    config = optimizer_config()
    config.update(fields)
    schedule = create_schedule(config, steps_per_epoch, epochs)
    return [float(schedule(jnp.asarray(step))) for step in range(round(steps_per_epoch * epochs))]


def test_cosine_changes_once_an_epoch() -> None:
    # the authors: lr * 0.5 * (1 + cos(pi * epoch / epochs)), set at the start of each epoch
    expected = [0.03 * 0.5 * (1 + math.cos(math.pi * (step // 5) / 4)) for step in range(20)]
    assert rates(5, 4) == pytest.approx(expected, rel=1e-6)


def test_cosine_per_step() -> None:
    expected = [0.03 * 0.5 * (1 + math.cos(math.pi * step / 20)) for step in range(20)]
    assert rates(5, 4, per_epoch=False) == pytest.approx(expected, rel=1e-5)


def test_warm_up_rises_linearly_and_meets_the_cosine() -> None:
    found = rates(10, 5, per_epoch=False, warmup_epochs=1.0)
    assert found[:10] == pytest.approx([0.03 * (step + 1) / 10 for step in range(10)], rel=1e-5)
    assert found[10] == pytest.approx(0.03)
    assert found[30] == pytest.approx(0.03 * 0.5 * (1 + math.cos(math.pi * 20 / 40)), rel=1e-5)


def test_steps_at_milestones() -> None:
    found = rates(2, 10, schedule="step", milestones=(6, 8), learning_rate=10.0)
    assert found == pytest.approx([10.0] * 12 + [1.0] * 4 + [0.1] * 4)


def test_constant() -> None:
    assert rates(3, 2, schedule="constant", learning_rate=0.5) == pytest.approx([0.5] * 6)


def test_warm_up_as_long_as_the_run_is_refused() -> None:
    with pytest.raises(UserError, match="warmup_epochs=4"):
        rates(1, 4, warmup_epochs=4.0)
