"""How far the host is ahead of the device: calls become short where steps are slow, so that a stop comes soon."""

import pytest

from jigclu_jax.train.pace import SECONDS, Pace
from jigclu_jax.train.plan import Plan


class Device:
    """Does one call after the other, `step` seconds a step; waiting for it moves the clock."""

    def __init__(self, step: float) -> None:
        self.step, self.now, self.free = step, 0.0, 0.0

    def call(self, count: int) -> float:
        """When the call will have ended."""
        self.free = max(self.now, self.free) + count * self.step
        return self.free

    def wait(self, end: float) -> None:
        self.now = max(self.now, end)


def late(step: float, dispatch: int, calls: int, adapts: bool = True, host: float = 0.001) -> tuple[float, float]:
    """(seconds of work that a stop would have had to wait for, at most, once the pace is known; idle part of the device's time)."""
    device = Device(step)
    pace = Pace(dispatch, adapts, device.wait, lambda: device.now)
    latest = idle = 0.0
    for number in range(calls):
        count = pace.steps
        device.now += host  # the batch
        pace.make_room()
        idle += max(device.now - device.free, 0.0) if number > 3 else 0.0
        called = device.now
        pace.started(count, called, device.call(count))
        if number == 0:
            pace.first()
        if number > 3:
            latest = max(latest, device.free - device.now)
    return latest, idle / device.now


@pytest.mark.parametrize("step", [0.001, 0.02, 0.1, 0.3, 2.0, 60.0])
@pytest.mark.parametrize("dispatch", [1, 8])
def test_a_stop_waits_for_a_step_or_half_a_second(step: float, dispatch: int) -> None:
    waited, idle = late(step, dispatch, calls=40)
    assert waited <= max(step, 2 * SECONDS) + 1e-6
    assert idle < 0.01


def test_quick_steps_are_started_together() -> None:
    device = Device(0.001)
    pace = Pace(8, True, device.wait, lambda: device.now)
    counts = []
    for number in range(8):
        counts.append(pace.steps)
        pace.make_room()
        pace.started(counts[-1], device.now, device.call(counts[-1]))
        if number == 0:
            pace.first()
    assert counts[0] == 1 and counts[-1] == 8


def test_several_processes_make_the_same_calls() -> None:
    assert Pace(8, False, print).steps == 8
    assert late(60.0, 8, 20, adapts=False)[0] > 60


@pytest.mark.parametrize("most", [1, 3, 8])
def test_calls_end_where_rows_and_checkpoints_are(most: int) -> None:
    plan = Plan(total_steps=23, steps_per_epoch=10, log_every=4, save_every=7, dispatch=8)
    step, ends = 0, []
    while step < plan.total_steps:
        step += plan.steps_from(step, most)
        ends.append(step)
    assert {4, 7, 8, 10, 12, 14, 16, 20, 21, 23} <= set(ends)
    assert max(after - before for before, after in zip([0, *ends], ends, strict=False)) <= most
