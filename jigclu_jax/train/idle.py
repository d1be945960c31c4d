"""Measures how long the accelerator stood idle between two steps because no batch was there."""

import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import jax


class IdleMeter:
    """Measures the time between the end of one step on the device and the start of the next, without holding up the loop.

    A thread of its own waits for each step's output; the loop only hands it over. `wait` and `clock` are there for tests.
    """

    def __init__(self, wait: Callable[[Any], Any] = jax.block_until_ready, clock: Callable[[], float] = time.monotonic) -> None:
        self._wait, self._clock = wait, clock
        self._steps: queue.SimpleQueue[tuple[float, Any, bool] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._done: float | None = None  # when the last step ended
        self._idle = self._all = 0.0  # seconds since the last question
        self._counted = False  # the gap before the first step is start-up
        self._thread = threading.Thread(target=self._follow, name="idle-meter", daemon=True)
        self._thread.start()

    def now(self) -> float:
        """The time to give to `started`, taken BEFORE the step is called: a call may hold the host until the device has done it."""
        return self._clock()

    def started(self, output: Any, called: float) -> None:
        """A step was handed to the device by a call that began at `called`; `output` is what it will give."""
        self._steps.put((called, output, self._counted))
        self._counted = True

    def pause(self) -> None:
        """The gap before the next step is an evaluation or a save, not the input's."""
        self._counted = False

    def fraction(self) -> float:
        """Idle fraction of the time since the last call, over the steps that have ended; NaN where none has."""
        with self._lock:
            fraction = self._idle / self._all if self._all > 0 else math.nan
            self._idle = self._all = 0.0
        return fraction

    def close(self) -> None:
        """End the thread once the steps under way have ended."""
        self._steps.put(None)
        self._thread.join()

    def _follow(self) -> None:
        while (step := self._steps.get()) is not None:
            called, output, counted = step
            try:
                self._wait(output)
            except Exception:  # a step that failed: the loop meets the error itself
                continue
            now = self._clock()
            with self._lock:
                if counted and self._done is not None:
                    self._idle += max(called - self._done, 0.0)
                    self._all += now - self._done
                self._done = now
