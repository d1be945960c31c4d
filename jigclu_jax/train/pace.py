"""Decides how many steps the host may be ahead of the device, so that a stop waits for the step under way and little more."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

SECONDS = 0.25  # that a call may take; what the host does between two calls is less than a hundredth of it
# Calls under way at most where steps are quick: one that the device works on and one that waits for it.
_CALLS = 2


class Pace:
    """The calls of the step that are under way, and how long a step takes.

    Quick steps (less than `SECONDS`): several of them a call, two calls under way. Slow ones: one step, and the next when it is done.

    Args:
      dispatch: steps a call at most.
      adapts: whether the number of steps a call may change; several processes have to make the same calls.
      wait: returns once a call's output is there.
      clock: for tests.
    """

    def __init__(
        self,
        dispatch: int,
        adapts: bool,
        wait: Callable[[Any], Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dispatch, self._adapts, self._wait, self._clock = dispatch, adapts, wait, clock
        self._under_way: deque[tuple[int, float, Any]] = deque()
        self._ended = 0.0
        self._step: float | None = None  # seconds; None: no call but the first, which is compiled, has been seen

    @property
    def steps(self) -> int:
        """Steps of the next call at most."""
        if not self._adapts:
            return self._dispatch
        if self._step is None:
            return 1
        return max(min(int(SECONDS / max(self._step, 1e-9)), self._dispatch), 1)

    def started(self, count: int, called: float, output: Any) -> None:
        """A call of `count` steps began at `called`, by the same clock; `output` is what it will give."""
        self._under_way.append((count, called, output))

    def make_room(self) -> None:
        """Wait until another call may be started."""
        most = 1 if self._step is not None and self._step >= SECONDS else _CALLS
        while len(self._under_way) >= most:
            self._wait_for_one()

    def first(self) -> None:
        """Wait for the first call, whose time is the compiler's."""
        self._wait(self._under_way.popleft()[2])
        self._ended = self._clock()

    def _wait_for_one(self) -> None:
        count, called, output = self._under_way.popleft()
        self._wait(output)
        now = self._clock()
        self._step = (now - max(called, self._ended)) / count
        self._ended = now
