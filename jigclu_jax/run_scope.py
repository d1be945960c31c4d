"""Process-wide settings of a run, put back when it ends: signals, filters, hooks, environment, flags and outputs.

So a second run in the process, or the notebook around it, finds what the first one found.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from jigclu_jax.first_signals import INTERRUPTED

Action = Callable[[], object]
_LOCK = threading.RLock()
_UNHEARD, _AGAIN = ("_xla_gc_callback", "__del__"), 0.02  # functions whose exceptions Python ignores; seconds
_ACTIVE = 0
_ENDING: contextlib.ExitStack | None = None


class Lasting:
    """A text stream that nobody may read any more: what cannot be written is dropped, and the run goes on.

    Args:
      stream: the real one; None where the process was started without it.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Returns the length of the text, whatever becomes of it."""
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed pipe, lost terminal, full disk; closed; None
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """`write` of each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Never fails."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def isatty(self) -> bool:
        """False where there is no telling."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return bool(self._stream.isatty())
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def run_scope() -> Iterator[None]:
    """A run, or a part of one: when the last that is under way ends, everything given to `at_end_of_run` is done, the last first.

    Warning filters and the outputs are kept and put back by itself. May be nested, and entered by several threads.
    """
    global _ACTIVE, _ENDING
    with _LOCK:
        _ACTIVE += 1
        if _ENDING is None:
            _ENDING = contextlib.ExitStack()
            _ENDING.enter_context(warnings.catch_warnings())
            for name in ("stdout", "stderr"):
                before = getattr(sys, name)
                setattr(sys, name, Lasting(before))
                _ENDING.callback(setattr, sys, name, before)
            _ENDING.callback(_drop_handlers)
    try:
        yield
    finally:
        with _LOCK:
            _ACTIVE -= 1
            if not _ACTIVE and _ENDING is not None:
                ending, _ENDING = _ENDING, None
                ending.close()


def _drop_handlers() -> None:
    """Remove what Python's first warning has added to the root logger, where it writes into an output of a run."""
    for handler in list(logging.root.handlers):
        if isinstance(getattr(handler, "stream", None), Lasting):
            logging.root.removeHandler(handler)


def at_end_of_run(action: Action) -> None:
    """Have `action` done when the run ends; never, where none is under way: then a setting is the caller's own."""
    with _LOCK:
        if _ENDING is not None:
            _ENDING.callback(action)


def set_environment(name: str, value: str) -> None:
    """Set an environment variable that is not set yet, until the run ends."""
    if name not in os.environ:
        os.environ[name] = value
        at_end_of_run(lambda: os.environ.pop(name, None))


def set_signal(number: int, handler: Any) -> None:
    """Handle a signal until the run ends; nothing happens in a thread, where Python lets nobody set a handler."""
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(number, handler)
        at_end_of_run(lambda: _put_back(number, before))


def _put_back(number: int, handler: Any) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def is_lost(number: int, frame: FrameType | None) -> bool:
    """Whether what a handler raises in `frame`, within a garbage collection, would end as a traceback; the signal comes again soon."""
    while frame is not None and frame.f_code.co_name not in _UNHEARD:
        frame = frame.f_back
    if frame is not None:
        threading.Timer(_AGAIN, os.kill, (os.getpid(), number)).start()
    return frame is not None


def interrupt_once(number: int, frame: FrameType | None) -> None:
    """A handler of Ctrl-C for a process of its own: the first one raises KeyboardInterrupt, the next one ends the process."""
    if not is_lost(number, frame):
        signal.signal(number, lambda *_: os._exit(INTERRUPTED))
        raise KeyboardInterrupt


def fill_descriptors() -> None:
    """Put nothing where the process was started without standard input, output or errors, at its very beginning.

    Else the first file that is opened takes that number, and libraries in C write their messages into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free


def close_outputs() -> None:
    """At the very end of the process: what cannot be written by now never will, and must not change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
