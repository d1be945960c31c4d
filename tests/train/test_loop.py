"""What the loop books as training time and what as a pause."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jigclu_jax.device.mesh import create_mesh
from jigclu_jax.errors import Preempted
from jigclu_jax.train.checkpoint import Checkpoints
from jigclu_jax.train.idle import IdleMeter
from jigclu_jax.train.loop import EpochHook, Hooks, Input, Outputs, Start, fit
from jigclu_jax.train.plan import Plan
from jigclu_jax.train.progress import Progress
from jigclu_jax.train.state import TrainState
from jigclu_jax.train.stop import StopRequest
from jigclu_jax.train.writers import MetricWriter

BATCH = 8


class Queued:
    """A number on the device that is there once the steps under way have ended, ten seconds after it is asked for."""

    def __init__(self, value: float, clock: list[float]) -> None:
        self.value, self.clock = value, clock

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        self.clock[0] += 10
        return np.asarray(self.value)


def test_waiting_for_an_epochs_steps_is_training_and_its_evaluation_is_not() -> None:
    clock = [0.0]
    epochs, per_epoch = 3, 4
    sums = {"count": Queued(4.0, clock), "loss": 4.0, "nonfinite_step": jnp.int32(-1)}
    state = Mock(spec=TrainState, step=0, sums=sums)
    checkpoints = Mock(spec=Checkpoints)
    checkpoints.reached_preemption.return_value = False

    def step_fn(state: Any, _: Any) -> Any:  # returns at once, as a call on an accelerator does
        return state, {"loss": jnp.float32(1.0)}

    def batches(*_: Any) -> Iterator[dict[str, np.ndarray]]:
        return iter([{"image": np.zeros((BATCH, 2), np.uint8)}] * (epochs * per_epoch))

    def evaluate(_: int, __: Any) -> dict[str, float]:
        clock[0] += 100
        return {}

    progress = Progress(epochs * per_epoch, per_epoch, BATCH, None, clock=lambda: clock[0])
    trained = fit(
        Start(state),
        step_fn,
        Input(batches, create_mesh(jax.devices()[:1])),
        Plan(total_steps=epochs * per_epoch, steps_per_epoch=per_epoch, log_every=100, save_every=2 * per_epoch),
        Outputs(checkpoints, Mock(spec=MetricWriter), progress),
        Mock(spec=StopRequest, requested=False),
        Hooks(after_epoch=(EpochHook((), evaluate),)),
    )
    assert checkpoints.save.call_count == 2
    # the first step starts the clock; each epoch's ten seconds are its steps', hooks are not
    assert trained.images_per_second == pytest.approx(BATCH * (epochs * per_epoch - 1) / (epochs * 10))


@pytest.mark.parametrize("stop_after", [None, 1, 40])
def test_the_host_is_ahead_by_two_calls_at_most_and_a_stop_starts_no_more(stop_after: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    deepest = calls = ended = 0  # of the steps, those that the loop has waited for

    def wait(metrics: Any) -> Any:
        nonlocal ended
        ended = max(ended, int(metrics["loss"]))
        return metrics

    # the meter would wait for the steps, too
    monkeypatch.setattr("jigclu_jax.train.loop.IdleMeter", lambda: IdleMeter(lambda _: None))
    monkeypatch.setattr(jax, "block_until_ready", wait)
    stop = StopRequest()

    def step_fn(state: Any, _: Any) -> Any:
        nonlocal deepest, calls
        calls += 1
        deepest = max(deepest, calls - ended)
        if calls == stop_after:
            stop.request()
        return state, {"loss": jnp.float32(calls)}

    checkpoints = Mock(spec=Checkpoints)
    checkpoints.reached_preemption.return_value = False
    sums = {"count": 4.0, "loss": 4.0, "nonfinite_step": jnp.int32(-1)}
    with contextlib.nullcontext() if stop_after is None else pytest.raises(Preempted):
        fit(
            Start(Mock(spec=TrainState, step=0, sums=sums)),
            step_fn,
            Input(lambda *_: iter([{"image": np.zeros((BATCH, 2), np.uint8)}] * 100), create_mesh(jax.devices()[:1])),
            Plan(total_steps=100, steps_per_epoch=100, log_every=1000, save_every=100),
            Outputs(checkpoints, Mock(spec=MetricWriter), Progress(100, 100, BATCH, None)),
            stop,
        )
    assert calls == (stop_after or 100)
    assert checkpoints.save.call_count == 1 and deepest <= 2


def test_a_stop_before_the_first_step_starts_and_saves_nothing() -> None:
    stop = StopRequest()
    stop.request()
    checkpoints, step_fn = Mock(spec=Checkpoints), Mock()
    with pytest.raises(Preempted):
        fit(
            Start(Mock(spec=TrainState, step=0)),
            step_fn,
            Input(lambda *_: iter(()), create_mesh(jax.devices()[:1])),
            Plan(total_steps=4, steps_per_epoch=4, log_every=1, save_every=4),
            Outputs(checkpoints, Mock(spec=MetricWriter), Progress(4, 4, BATCH, None)),
            stop,
        )
    assert not step_fn.called and not checkpoints.save.called


def test_a_stop_interrupts_an_evaluation_which_is_made_up_for() -> None:
    """Of epoch 1 of 2: saved without a score at once, measured, written and saved again before the next step."""
    looked = 0

    def evaluate(_: int, __: Any) -> dict[str, float]:
        nonlocal looked
        for number in stop.watched(iter(range(3))):
            looked += 1
            if number == 0 and interrupting:
                stop.request()
        return {"top1": 0.5}

    def run(step: int, unmeasured: bool) -> tuple[Mock, Mock]:
        checkpoints, writer = Mock(spec=Checkpoints), Mock(spec=MetricWriter)
        checkpoints.reached_preemption.return_value = False
        sums = {"count": 2.0, "loss": 2.0, "nonfinite_step": jnp.int32(-1)}
        with pytest.raises(Preempted) if interrupting else contextlib.nullcontext():
            fit(
                Start(Mock(spec=TrainState, step=step, sums=sums), unmeasured=unmeasured),
                lambda state, _: (state, {"loss": jnp.float32(1)}),
                Input(
                    lambda begin, end, _: iter([{"image": np.zeros((BATCH, 2), np.uint8)}] * (end - begin)), create_mesh(jax.devices()[:1])
                ),
                Plan(total_steps=4, steps_per_epoch=2, log_every=2, save_every=2),
                Outputs(checkpoints, writer, Progress(4, 2, BATCH, None)),
                stop,
                Hooks(after_epoch=(EpochHook((), evaluate),)),
            )
        return checkpoints, writer

    stop, interrupting = StopRequest(), True
    checkpoints, writer = run(0, False)
    [saved] = checkpoints.save.call_args_list
    assert looked == 1 and saved.args[0] == 2 and saved.args[2]["unmeasured"] is True and saved.args[3] is None
    assert all("top1" not in call.args[1] for call in writer.write.call_args_list)
    assert not stop.interrupts

    stop, interrupting, looked = StopRequest(), False, 0
    checkpoints, writer = run(2, True)
    assert looked == 6
    checkpoints.replace.assert_called_once_with(2)
    first, last = checkpoints.save.call_args_list
    assert [call.args[0] for call in (first, last)] == [2, 4] and all(call.args[2]["unmeasured"] is False for call in (first, last))
    assert first.args[3] == last.args[3] == {"loss": 1.0, "top1": 0.5}
    assert writer.write.call_args_list[0].args == (2, {"top1": 0.5})
