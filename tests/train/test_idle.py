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


def run(times: list[tuple[float, float]], pause_after: int | None = None) -> float:
    """Idle fraction of steps (handed over at, ended at)."""
    clock, ended = Clock(), threading.Event()

    def wait(end: float) -> None:
        clock.now = end
        ended.set()

    meter = IdleMeter(wait, clock)
    for number, (start, end) in enumerate(times):
        clock.now = max(clock.now, start)
        meter.started(end)
        assert ended.wait(10)
        ended.clear()
        while meter._done != end:  # until the thread has booked it
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


def test_an_input_bound_run_says_so_and_by_how_much() -> None:
    out = io.StringIO()
    progress = Progress(10, 5, 4, stream=out, clock=Clock())
    progress.update(1, {"loss": 1.0})
    progress.update(2, {"loss": 1.0, "input_wait": 0.43})
    progress.update(3, {"loss": 1.0, "input_wait": 0.05})
    lines = out.getvalue().splitlines()
    assert "input-bound: 43 % of the time waiting for images" in lines[1]
    assert "input-bound" not in lines[2]
