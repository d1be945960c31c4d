"""Messages between the processes of one run beside their arrays: that they live, that they agree, that one has failed.

It goes through the key-value store that `jax.distributed` opens on process 0, so it works while a collective hangs. JAX's own
answer to a lost process is to abort the others with a page of C++; here they end with one line and a chosen exit code.
"""

import atexit
import contextlib
import dataclasses
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax

from jigclu_jax.errors import PeerError, UserError, first_few, one_line

FAILED, USER_ERROR = 1, 2
_BEAT_SECONDS = 1.0
_GRACE_SECONDS = 3.0  # for the main thread to leave in order; it may as well hang in a collective
_REASON_SECONDS = 2.0
_PARTING_SECONDS = 5.0  # that process 0, whose store dies with it, waits for the others to have read why
_SHOWN = 5


_BEFORE_END: list[Callable[[], object]] = []


@runtime_checkable
class Store(Protocol):
    """The part of JAX's distributed client that is used here."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None: ...
    def blocking_key_value_get(self, key: str, timeout_in_ms: int) -> str: ...
    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]: ...


@dataclasses.dataclass(frozen=True)
class Failure:
    """Which process ended the run, with what exit code, and its line."""

    process: int
    code: int
    text: str


class Peers:
    """One process among several.

    Args:
      store: shared by all of them.
      index: this process's number.
      count: how many there are.
      seconds: after that long without a sign of life a process counts as lost.
      end: how to end the process at once.
    """

    def __init__(self, store: Store, index: int, count: int, seconds: float, end: Callable[[int], None] = os._exit) -> None:
        self._store, self._index, self._count, self._seconds, self._end = store, index, count, seconds, end
        self._failure: Failure | None = None
        self._leaving, self._stopped = threading.Event(), threading.Event()
        self._round = 0
        self._heard: dict[int, tuple[str, float]] = {}
        self._answered = time.monotonic()
        self._threads = [threading.Thread(target=work, name="peers", daemon=True) for work in (self._watch, self._watch_store)]

    def start(self) -> None:
        """Begin to give and to look for signs of life."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """This process has done its part: nobody shall miss it."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._set(f"jigclu/done/{self._index}", "")
            # a thread that comes back from the runtime into an interpreter that is ending would abort the process
            for thread in self._threads:
                if thread.is_alive():
                    thread.join(10 * _BEAT_SECONDS)

    def agree(self, facts: Mapping[str, Any]) -> None:
        """Return once every process has come here with the same facts (name -> JSON value); all must make the same calls in the same order.

        Raises:
          UserError: they differ (fields and processes are named), or another process has met a mistake of the user's.
          PeerError: another process has failed or was lost.
        """
        key, self._round = f"jigclu/facts/{self._round}", self._round + 1
        text = json.dumps(facts, sort_keys=True, default=str)
        self._set(f"{key}/text/{self._index}", text)
        self._set(f"{key}/digest/{self._index}", hashlib.sha256(text.encode()).hexdigest())
        groups: dict[str, list[int]] = {}
        for process in range(self._count):
            groups.setdefault(self._wait_for(f"{key}/digest/{process}"), []).append(process)
        if len(groups) > 1:
            texts = [(json.loads(self._wait_for(f"{key}/text/{members[0]}")), members) for members in groups.values()]
            raise UserError(f"the processes of this run do not agree: {differences(texts)}: start the same command on all of them")

    def broken(self, text: str) -> Exception:
        """What to say of a connection that broke: the line of the process that left, if it left one."""
        deadline = time.monotonic() + _REASON_SECONDS
        while self._failure is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return PeerError(f"lost contact to another process of this run ({text})") if self._failure is None else _as_error(self._failure)

    def leave(self, code: int, text: str) -> None:
        """Tell the others why, and end this process without waiting for them."""
        self._leaving.set()
        if self._failure is None:
            self._set("jigclu/failure", json.dumps([self._index, code, text]))
        self._part(code)

    def _part(self, code: int) -> None:
        if time.monotonic() - self._answered < self._seconds:
            self._set(f"jigclu/left/{self._index}", "")
        deadline = time.monotonic() + _PARTING_SECONDS
        while self._index == 0 and time.monotonic() < deadline and len(self._keys("jigclu/left")) < self._count:
            time.sleep(0.05)
        sys.stdout.flush()
        sys.stderr.flush()
        self._end(code)

    def _wait_for(self, key: str) -> str:
        while True:
            try:
                return self._store.blocking_key_value_get(key, 200)
            except Exception as error:
                if self._failure is None and not _is_timeout(error):
                    self._failure = _unreachable()
            if self._failure is not None:
                raise _as_error(self._failure)

    def _watch(self) -> None:
        beat, begun = 0, time.monotonic()
        self._heard = {process: ("", begun) for process in range(self._count) if process != self._index}
        while not self._stopped.is_set():
            beat += 1
            failure: Failure | None = None
            try:
                self._store.key_value_set(f"jigclu/beat/{self._index}", str(beat), allow_overwrite=True)
                self._answered = time.monotonic()
                failure = Failure(*json.loads(self._store.blocking_key_value_get("jigclu/failure", int(1000 * _BEAT_SECONDS))))
            except Exception as error:
                if not _is_timeout(error):
                    failure = _unreachable()
                elif self._index == 0:
                    failure = self._silent()
            if self._stopped.is_set() or self._leaving.is_set():
                return
            if failure is not None:
                self._obey(failure)
                return

    def _watch_store(self) -> None:
        """A call to a store whose machine has vanished does not return for long: another thread looks at the clock."""
        while not self._stopped.wait(_BEAT_SECONDS):
            if time.monotonic() - self._answered > self._seconds and not self._leaving.is_set() and self._failure is None:
                self._obey(Failure(0, FAILED, f"nothing was heard of it for {self._seconds:.0f} seconds"))
                return

    def _obey(self, failure: Failure) -> None:
        self._failure = failure
        if self._leaving.wait(_GRACE_SECONDS) or self._stopped.is_set():
            return
        for action in reversed(_BEFORE_END):
            with contextlib.suppress(Exception):
                action()
        kind = "error" if failure.code == USER_ERROR else "failed"
        sys.stderr.write(f"{kind}: {_line(failure)}\n")  # in one piece: several may speak at once
        sys.stderr.flush()
        self._part(failure.code)

    def _silent(self) -> Failure | None:
        """On process 0: whom nothing was heard of for too long; told to all."""
        now, done = time.monotonic(), {key.rpartition("/")[2] for key in self._keys("jigclu/done")}
        beats = {int(key.rpartition("/")[2]): value for key, value in self._store.key_value_dir_get("jigclu/beat/")}
        for process, (value, when) in self._heard.items():
            if beats.get(process, "") != value:
                self._heard[process] = (beats[process], now)
            elif now - when > self._seconds and str(process) not in done:
                text = f"nothing was heard of it for {self._seconds:.0f} seconds"
                self._set("jigclu/failure", json.dumps([process, FAILED, text]))
                return Failure(process, FAILED, text)
        return None

    def _keys(self, folder: str) -> list[str]:
        try:
            return [key for key, _ in self._store.key_value_dir_get(f"{folder}/")]
        except Exception:  # process 0 has gone
            return []

    def _set(self, key: str, value: str) -> None:
        try:
            self._store.key_value_set(key, value)
        except Exception:  # it is there already, or process 0 has gone: whoever waits for it finds that out
            return


def differences(facts: Sequence[tuple[Mapping[str, Any], Sequence[int]]]) -> str:
    """`batch_size is 8 on process 0 and 16 on processes 1, 2; ...` for groups of processes, each with its facts."""
    names = sorted({name for fact, _ in facts for name in fact if any(fact.get(name) != other.get(name) for other, _ in facts)})
    parts = []
    for name in names[:_SHOWN]:
        by_value: dict[str, list[int]] = {}
        for fact, members in facts:
            by_value.setdefault(repr(fact[name]) if name in fact else "missing", []).extend(members)
        parts.append(f"{name} is " + " and ".join(f"{value} on {_processes(members)}" for value, members in by_value.items()))
    return "; ".join(parts) + (f"; and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _processes(members: Sequence[int]) -> str:
    return f"process{'es' if len(members) > 1 else ''} {first_few(sorted(members), _SHOWN)}"


def _line(failure: Failure) -> str:
    if failure.code == USER_ERROR:
        return f"process {failure.process}: {failure.text}"
    return f"process {failure.process} of this run has ended ({failure.text}): start all of them again to go on from the last checkpoint"


def _as_error(failure: Failure) -> Exception:
    return UserError(_line(failure)) if failure.code == USER_ERROR else PeerError(_line(failure))


def _unreachable() -> Failure:
    return Failure(0, FAILED, "it cannot be reached")


def _is_timeout(error: Exception) -> bool:
    return "DEADLINE_EXCEEDED" in str(error)


_PEERS: Peers | None = None


def join(seconds: float) -> None:
    """Watch the other processes from now on; `jax.distributed` has been started."""
    global _PEERS
    # there is no public name for the store; orbax takes it from the same place
    from jax._src import distributed

    state = distributed.global_state
    if _PEERS is None and state.client is not None and state.num_processes > 1:
        _PEERS = Peers(state.client, state.process_id, state.num_processes, seconds)
        _PEERS.start()
        atexit.register(_PEERS.stop)  # before JAX waits for the others, and this thread stands still


@contextlib.contextmanager
def before_end(action: Callable[[], object]) -> Iterator[None]:
    """For the block: what is done before this process is ended in the middle of it, because another one has failed."""
    _BEFORE_END.append(action)
    try:
        yield
    finally:
        _BEFORE_END.remove(action)


def agree(facts: Mapping[str, Any]) -> None:
    """`Peers.agree`; one process alone agrees with itself."""
    if _PEERS is not None:
        _PEERS.agree(facts)


def leave(code: int, text: str) -> None:
    """`Peers.leave`: does not return where this process is one of several, does nothing where it is alone."""
    if _PEERS is not None:
        _PEERS.leave(code, text)


def lost_contact(error: Exception) -> Exception | None:
    """What an error of the runtime means where another process was lost: a UserError or PeerError; None for a fault here."""
    text = str(error)
    if _PEERS is None or not isinstance(error, ValueError | jax.errors.JaxRuntimeError) or not _mentions_transport(text):
        return None
    return _PEERS.broken(one_line(text))


def _mentions_transport(text: str) -> bool:
    return any(word in text for word in ("Gloo", "Connection reset", "Connection closed", "Socket closed", "heartbeat", "UNAVAILABLE"))
