"""Notices that the process was asked to stop."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TypeVar

from jigclu_jax.run_scope import at_end_of_run, is_lost, set_signal

T = TypeVar("T")
STOPPED = 75
_PATIENCE = 2.0  # seconds that a compilation, which cannot be interrupted, may take to end by itself


class Stopped(BaseException):
    """SIGTERM has come before there was anything to save. Exit code 75. No Exception: nobody shall take it for a damaged file, say."""


class Interrupted(Exception):
    """A stop was requested in the middle of an evaluation, which can be done again."""


class StopRequest:
    """Set by SIGTERM; the loop looks at it after every step, saves and leaves.

    The handler goes in before the slow imports, so that a signal during start-up is not lost; where JAX's own
    preemption service is on (several processes), JAX installs its handler over this one and tells through orbax.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._at_once = self._raised = False
        self.interrupts = False  # whether an evaluation may be left half-way: in a loop that makes up for it
        self.starting = False  # whether modules are being imported, and the process is one alone: nothing is begun

    def install(self) -> None:
        """Take SIGTERM over until the run ends; only the main thread may. A request is forgotten with its run."""
        set_signal(signal.SIGTERM, self._handle)
        at_end_of_run(self.clear)

    def leave_at_once(self) -> None:
        """From now on SIGTERM raises `Stopped`, where it is not deferred: for a run that is one process alone."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._at_once = True
        if self.requested:
            raise Stopped
        self._watch()

    def defer(self) -> None:
        """From now on the run looks at `requested` itself, and has something to save."""
        self._at_once = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.starting:
            os.write(2, b"stopped: nothing was begun\n")
            os._exit(STOPPED)
        self._event.set()
        if self._at_once and not self._raised and not is_lost(number, frame):
            self._raised = True
            raise Stopped

    def _watch(self) -> None:
        """Python runs a handler once the main thread is out of the compiler; a thread hears of the signal at once, and ends the process."""
        here, there = socket.socketpair()
        there.setblocking(False)
        before = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
        if before != -1:  # somebody else's: an event loop around the run
            signal.set_wakeup_fd(before)
            return

        def close() -> None:
            if threading.current_thread() is threading.main_thread():
                signal.set_wakeup_fd(-1)
                there.close()

        at_end_of_run(close)

        def watch() -> None:
            with here:
                while numbers := here.recv(16):
                    if signal.SIGTERM not in numbers or not self._at_once:
                        continue
                    time.sleep(_PATIENCE)
                    if self._at_once and not self._raised:
                        print("stopped: before the first step, nothing was to be saved", file=sys.stderr, flush=True)
                        os._exit(STOPPED)

        threading.Thread(target=watch, name="stop", daemon=True).start()

    def watched(self, items: Iterator[T]) -> Iterator[T]:
        """The items, for an evaluation; raises `Interrupted` in place of the next one once a stop is requested, where that is welcome."""
        for item in items:
            if self.interrupts and self.requested:
                raise Interrupted
            yield item

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
        self._at_once = self._raised = self.interrupts = False

    @property
    def requested(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()


STOP = StopRequest()
