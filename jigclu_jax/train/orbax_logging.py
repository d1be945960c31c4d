"""Filters the messages that orbax and asyncio print on their own: their errors are raised as well, and told in one line.

Orbax gives a save or a read up at the first file that fails, on a full disk, say, and closes the event loop below it. The
other files go on: what they report to that loop, and each task that was never begun, would be a traceback of its own.
"""

import functools
import gc
import inspect
import logging
import re
import sys
import warnings
from collections.abc import Callable

from jigclu_jax.run_scope import at_end_of_run

_UNBEGUN = r"coroutine '\S*(serialize|save|write|commit|finalize|metadata|restore|read)\S*' was never awaited"


def quiet_orbax() -> None:
    """Install the filters until the run ends; a second call changes nothing, and messages of others pass."""
    for name, keep in (("absl", _not_orbax), ("asyncio", _not_abandoned)):
        logger = logging.getLogger(name)
        if keep not in logger.filters:
            logger.addFilter(keep)
            at_end_of_run(functools.partial(logger.removeFilter, keep))
    warnings.filterwarnings("ignore", _UNBEGUN, RuntimeWarning)
    if not isinstance(sys.unraisablehook, _NotAbandoned):
        at_end_of_run(functools.partial(setattr, sys, "unraisablehook", sys.unraisablehook))
        sys.unraisablehook = _NotAbandoned(sys.unraisablehook)
        at_end_of_run(gc.collect)  # what is dropped is dropped while the hook is there


def _not_orbax(record: logging.LogRecord) -> bool:
    """Its warnings tell of defaults that are chosen here on purpose."""
    if "/orbax/" not in record.pathname.replace("\\", "/"):
        return True
    return record.levelno >= logging.ERROR and not record.exc_info


def _not_abandoned(record: logging.LogRecord) -> bool:
    """Tasks of orbax and writes of tensorstore that failed, or were dropped, after their save had failed."""
    return not re.search("orbax|tensorstore", record.getMessage())


class _NotAbandoned:
    """A hook for exceptions that nobody can catch, before the hook that was there."""

    def __init__(self, others: Callable[["sys.UnraisableHookArgs"], object]) -> None:
        self._others = others

    def __call__(self, unraisable: "sys.UnraisableHookArgs", /) -> None:
        error = unraisable.exc_value
        late = isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
        unbegun = isinstance(error, RuntimeWarning) and re.match(_UNBEGUN, str(error))  # where warnings are errors
        given_up = inspect.iscoroutine(unraisable.object) and "/orbax/" in unraisable.object.cr_code.co_filename.replace("\\", "/")
        if not late and not unbegun and not given_up:
            self._others(unraisable)
