"""The idle meter against steps whose times are known, and the line that a person sees."""

import io
import math
import threading

from jigclu_jax.train.idle import IdleMeter
from jigclu_jax.train.progress import Progress


class Clock:
    """Time that only moves when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(times: list[tuple[float, float]], pause_after: int | None = None, returned: list[float] | None = None) -> float:
    """Idle share of steps (called at, ended at); the calls return at once, or when `returned` says."""
    clock, ended = Clock(), threading.Event()

    def wait(end: float) -> None:
        clock.now = max(clock.now, end)
        ended.set()

    meter = IdleMeter(wait, clock)
    for number, (start, end) in enumerate(times):
        clock.now = max(clock.now, start) if returned is None else start
        called = meter.now()
        if returned is not None:
            clock.now = returned[number]
        meter.started(end, called)
        assert ended.wait(10)
        ended.clear()
        while meter._done is None or meter._done < end:  # until the thread has booked it
            pass
        if number == pause_after:
            meter.pause()
    fraction = meter.fraction()
    meter.close()
    return fraction


def test_gaps_between_steps_are_idle() -> None:
    assert math.isnan(run([(0, 1)])), "start-up is no waiting"
    assert run([(0, 1), (1, 2), (2, 3)]) == 0.0
    assert run([(0, 1), (2, 3), (4, 5)]) == 0.5
    assert run([(0, 1), (11, 12), (12, 13)], pause_after=0) == 0.0, "an evaluation is no waiting for images"


def test_a_device_whose_calls_hold_the_host_is_busy() -> None:
    """Each call is made while the step before runs, and returns when its own step ends, or just before."""
    assert run([(0, 1), (1, 2), (2, 3), (3, 4)], returned=[1, 2, 3, 4]) == 0.0
    assert run([(0, 1), (1, 2), (2, 3)], returned=[0.9, 1.9, 2.9]) == 0.0
    # and one that was idle for half of the time before each call
    assert run([(0, 1), (2, 3), (4, 5)], returned=[1, 3, 5]) == 0.5


def test_an_input_bound_run_says_so_and_by_how_much() -> None:
    out = io.StringIO()
    progress = Progress(10, 5, 4, stream=out, clock=Clock())
    progress.update(1, {"loss": 1.0})
    progress.update(2, {"loss": 1.0, "input_wait": 0.43})
    progress.update(3, {"loss": 1.0, "input_wait": 0.05})
    lines = out.getvalue().splitlines()
    assert "input-bound: 43 % of the time waiting for images" in lines[1]
    assert "input-bound" not in lines[2]
