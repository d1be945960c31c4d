"""Notices that the process was asked to stop."""

import os
import signal
import threading
from types import FrameType


class StopRequest:
    """Set by SIGTERM; the loop looks at it after every step, saves and leaves.

    The handler goes in before the slow imports, so that a signal during start-up is not lost; where JAX's own
    preemption service is on (several processes), JAX installs its handler over this one and tells through orbax.
    """

    def __init__(self) -> None:
        self._event = threading.Event()

    def install(self) -> None:
        """Take SIGTERM over; only the main thread may."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._event.set()

    def request(self) -> None:
        """Ask for the stop from within the process."""
        self._event.set()

    def pass_on(self) -> None:
        """Give a SIGTERM that came before JAX's preemption service was there to its handler, which tells all processes."""
        if self.requested:
            os.kill(os.getpid(), signal.SIGTERM)

    def clear(self) -> None:
        """Forget the request: for a process that starts another run."""
        self._event.clear()

    @property
    def requested(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()


STOP = StopRequest()
