"""What processes tell each other, with the store in memory and threads for processes; `tests/jobs/test_processes.py` has real ones."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jigclu_jax.device import peers
from jigclu_jax.device.peers import Peers, differences
from jigclu_jax.errors import PeerError, UserError


class MemoryStore:
    """Behaves as JAX's client does: a key that never comes is DEADLINE_EXCEEDED, one set twice an error."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.broken = ""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        self._check()
        if key in self.values and not allow_overwrite:
            raise RuntimeError(f"ALREADY_EXISTS: {key}")
        self.values[key] = value

    def blocking_key_value_get(self, key: str, timeout_in_ms: int) -> str:
        deadline = time.monotonic() + timeout_in_ms / 1000
        while time.monotonic() < deadline:
            self._check()
            if key in self.values:
                return self.values[key]
            time.sleep(0.002)
        raise RuntimeError(f"DEADLINE_EXCEEDED: {key}")

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        self._check()
        return [(name, value) for name, value in list(self.values.items()) if name.startswith(key)]

    def _check(self) -> None:
        if self.broken:
            raise RuntimeError(self.broken)


class Group:
    """Some processes, and what they ended with."""

    def __init__(self, count: int, seconds: float = 30.0) -> None:
        self.store, self.codes = MemoryStore(), dict[int, int]()
        self.all = [Peers(self.store, index, count, seconds, self._ends(index)) for index in range(count)]

    def _ends(self, index: int) -> Callable[[int], None]:
        return lambda code: self.codes.__setitem__(index, code)

    def agree(self, *facts: dict[str, Any] | None) -> list[Exception | None]:
        """Each process with its own facts, None: it does not come; what each raised."""
        raised: list[Exception | None] = [None] * len(facts)

        def one(index: int, fact: dict[str, Any]) -> None:
            try:
                self.all[index].agree(fact)
            except Exception as error:
                raised[index] = error

        threads = [threading.Thread(target=one, args=(index, fact)) for index, fact in enumerate(facts) if fact is not None]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        return raised

    def wait_for(self, codes: dict[int, int]) -> None:
        deadline = time.monotonic() + 10
        while self.codes != codes and time.monotonic() < deadline:
            time.sleep(0.005)
        assert self.codes == codes


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(peers, "_BEAT_SECONDS", 0.02)
    monkeypatch.setattr(peers, "_GRACE_SECONDS", 0.05)
    monkeypatch.setattr(peers, "_PARTING_SECONDS", 0.3)
    yield


@pytest.fixture
def group() -> Iterator[Callable[..., Group]]:
    made: list[Group] = []

    def make(count: int, seconds: float = 30.0) -> Group:
        made.append(Group(count, seconds))
        for one in made[-1].all:
            one.start()
        return made[-1]

    yield make
    for each in made:
        for one in each.all:
            one.stop()
            assert not any(thread.is_alive() for thread in one._threads)


def test_equal_facts_are_agreed_on_again_and_again(group: Callable[..., Group]) -> None:
    some = group(3)
    for number in range(3):
        assert some.agree(*[{"seed": number, "crop": [0.2, 1.0]}] * 3) == [None] * 3
    assert some.codes == {}


def test_every_process_is_told_what_differs_and_where(group: Callable[..., Group]) -> None:
    raised = group(4).agree(*({"config.seed": seed, "config.epochs": 2} for seed in (0, 1, 0, 1)))
    expected = "the processes of this run do not agree: config.seed is 0 on processes 0, 2 and 1 on processes 1, 3: start the same command"
    for error in raised:
        assert isinstance(error, UserError) and str(error).startswith(expected)


def test_a_mistake_met_by_one_process_ends_those_that_wait_for_it(group: Callable[..., Group]) -> None:
    some = group(3)
    some.all[1].leave(2, "/data: no such folder")
    raised = some.agree({}, None, {})
    for error in (raised[0], raised[2]):
        assert isinstance(error, UserError) and str(error) == "process 1: /data: no such folder"


def test_a_failure_of_one_process_is_no_mistake_of_the_others(group: Callable[..., Group]) -> None:
    some = group(2)
    some.all[1].leave(1, "OSError: no device")
    error = some.agree({}, None)[0]
    assert isinstance(error, PeerError) and str(error).startswith("process 1 of this run has ended (OSError: no device): start all of them")


def test_a_process_that_hangs_is_ended_with_the_code_and_line_of_the_one_that_failed(
    group: Callable[..., Group], capfd: pytest.CaptureFixture[str]
) -> None:
    some = group(3)
    some.all[2].leave(2, "image.jpg: damaged")
    some.wait_for({0: 2, 1: 2, 2: 2})
    assert capfd.readouterr().err.splitlines() == ["error: process 2: image.jpg: damaged"] * 2


@pytest.mark.parametrize("silent", [1, 2])
def test_a_silent_process_ends_the_others_after_the_time_that_was_stated(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], silent: int
) -> None:
    some = Group(3, 0.5)
    for index, one in enumerate(some.all):
        if index != silent:
            one.start()
    begun = time.monotonic()
    some.wait_for({index: 1 for index in range(3) if index != silent})
    assert time.monotonic() - begun > 0.5
    expected = f"failed: process {silent} of this run has ended (nothing was heard of it for 0 seconds): start all of them again"
    assert [line[: len(expected)] for line in capfd.readouterr().err.splitlines()] == [expected] * 2


def test_a_process_that_has_done_its_part_is_not_missed(group: Callable[..., Group]) -> None:
    some = group(2, 0.2)
    some.all[1].stop()
    time.sleep(0.6)
    assert some.codes == {}


@pytest.mark.parametrize("broken", ["UNAVAILABLE: Socket closed", "hangs"])
def test_a_lost_process_0_ends_the_others(group: Callable[..., Group], monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    some = group(2, 0.2)
    some.all[0].stop()
    if broken == "hangs":
        monkeypatch.setattr(MemoryStore, "key_value_set", lambda *_, **__: time.sleep(0.4))
    else:
        some.store.broken = broken
    some.wait_for({1: 1})


def test_differences_are_shortened() -> None:
    many = {f"field{number}": 0 for number in range(9)}
    other = {f"field{number}": 1 for number in range(8)}
    text = differences([(many, list(range(7))), (other, [7])])
    assert text.startswith("field0 is 0 on processes 0, 1, 2, 3, 4 and 2 more and 1 on process 7; field1 is")
    assert text.endswith("; and 4 more") and "field5" not in text
    assert differences([({"a": 1}, [0]), ({}, [1])]) == "a is 1 on process 0 and missing on process 1"


def test_one_process_alone_agrees_and_leaves_as_it_likes() -> None:
    peers.agree({"seed": 0})
    peers.leave(2, "nobody reads this")
    assert peers.lost_contact(ValueError("Gloo all-reduce failed")) is None


def test_a_broken_connection_is_told_by_the_line_of_the_process_that_left(
    group: Callable[..., Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks before the watching thread has read why."""
    some = group(2)
    monkeypatch.setattr(peers, "_PEERS", some.all[0])
    monkeypatch.setattr(peers, "_REASON_SECONDS", 0.3)
    error = ValueError("UNKNOWN: Gloo all-reduce failed: \n Connection closed by peer")
    assert str(peers.lost_contact(error)) == (
        "lost contact to another process of this run (UNKNOWN: Gloo all-reduce failed: Connection closed by peer)"
    )
    threading.Timer(0.1, some.all[1].leave, (2, "image.jpg: damaged")).start()
    told = peers.lost_contact(error)
    assert isinstance(told, UserError) and str(told) == "process 1: image.jpg: damaged"
    assert peers.lost_contact(ValueError("shapes differ")) is None
