"""A save that fails says what its one error says; nothing of the work it abandons, and nothing else is kept quiet."""

import asyncio
import logging
import sys
import warnings
from collections.abc import Callable, Iterator

import pytest

from jigclu_jax.train.orbax_logging import quiet_orbax


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[type[BaseException]]]:
    """The types of what reaches the hook that was there before; this process's filters are put back after the test."""
    before = {name: list(logging.getLogger(name).filters) for name in ("absl", "asyncio")}
    types: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: types.append(unraisable.exc_type))
    yield types
    for name, filters in before.items():
        logging.getLogger(name).filters[:] = filters


async def write_fragment() -> None:
    """As orbax calls one of its own."""


async def other() -> None:
    """Somebody else's."""


def unbegun(coroutine: Callable[[], object]) -> None:
    coroutine()


class Ends:
    """What it does when it goes away has nobody to raise to."""

    def __init__(self, report: Callable[[], object]) -> None:
        self.report = report

    def __del__(self) -> None:
        self.report()


def test_files_that_outlive_a_failed_save_print_nothing_and_other_exceptions_are_passed_on(seen: list[type[BaseException]]) -> None:
    loop = asyncio.new_event_loop()
    loop.close()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Ends(lambda: loop.call_soon_threadsafe(print))
        unbegun(write_fragment)
        assert seen == [RuntimeError, RuntimeWarning], "what it is without the filter"
        seen.clear()
        quiet_orbax()
        hook = sys.unraisablehook
        quiet_orbax()
        assert sys.unraisablehook is hook
        warnings.simplefilter("error")  # before the filter for runs in which warnings are printed
        Ends(lambda: loop.call_soon_threadsafe(print))
        unbegun(write_fragment)
        assert seen == []
        unbegun(other)
        Ends(lambda: {}["x"])
        assert seen == [RuntimeWarning, KeyError]
    with warnings.catch_warnings(record=True) as heard:
        warnings.resetwarnings()
        quiet_orbax()
        unbegun(write_fragment)
        unbegun(other)
    assert ["other" in str(warning.message) for warning in heard] == [True]


def test_asyncio_is_heard_but_for_what_orbax_abandoned(seen: list[type[BaseException]], caplog: pytest.LogCaptureFixture) -> None:
    quiet_orbax()
    logger = logging.getLogger("asyncio")
    logger.error("Future exception was never retrieved\nfuture: <Future finished exception=ValueError('... [tensorstore_spec=...]')>")
    logger.error("Task was destroyed but it is pending!\ntask: <Task pending coro=<save() running at /x/orbax/checkpoint/y.py:1>>")
    logger.error("Task was destroyed but it is pending!\ntask: <Task pending coro=<mine() running at /home/me/mine.py:1>>")
    assert [record.getMessage().count("mine.py") for record in caplog.records] == [1]
