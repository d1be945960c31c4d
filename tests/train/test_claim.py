"""Claims on a workdir: by a lock, and by a lease where there are no locks."""

import os
import threading
import time
from pathlib import Path

import pytest

from jigclu_jax.errors import UserError
from jigclu_jax.json_file import parse_json
from jigclu_jax.train import claim
from jigclu_jax.train.claim import claimed, claimed_workdir


@pytest.fixture(params=["lock", "lease"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(claim, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(claim, "LEASE_SECONDS", 0.5)
    if request.param == "lease":
        monkeypatch.setattr(claim, "is_remote", lambda path: True)
    return str(request.param)


def test_the_second_is_told_who_has_the_workdir_and_since_when(kind: str, tmp_path: Path) -> None:
    with claimed_workdir(tmp_path / "run"):
        with pytest.raises(UserError) as raised, claimed_workdir(tmp_path / "run"):
            pass
        text = str(raised.value)
        assert f"process {os.getpid()} since 2" in text and os.uname().nodename in text and "UTC" in text and "\n" not in text
        with claimed_workdir(tmp_path / "other"):
            pass
    with claimed_workdir(tmp_path / "run"):
        pass


def test_a_lease_that_is_not_renewed_is_taken_and_its_holder_finds_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "BEAT_SECONDS", 0.3)
    monkeypatch.setattr(claim, "LEASE_SECONDS", 0.6)
    monkeypatch.setattr(claim, "is_remote", lambda path: True)
    awake, write = threading.Event(), claim._Lease._write
    paused: list[object] = []

    def pausable(self: claim._Lease) -> None:
        if paused and paused[0] is self:
            awake.wait()
            return  # the beat of before the pause comes to nothing
        write(self)

    monkeypatch.setattr(claim._Lease, "_write", pausable)
    with claimed(tmp_path / "claim") as first:
        assert first
        paused.append(next(thread._target.__self__ for thread in threading.enumerate() if thread.name == "claim"))  # type: ignore[attr-defined]
        with claimed(tmp_path / "claim") as second:
            assert second
            awake.set()
            deadline = time.monotonic() + 10
            while not first.lost_to and time.monotonic() < deadline:
                time.sleep(0.01)
            with pytest.raises(UserError, match="paused for so long"):
                first.check()
            second.check()
        assert not (tmp_path / "claim").exists()


@pytest.mark.parametrize("content", ["", "{}", "host process 3", '{"beat": "x"}', '{"beat": 1.0, "holder": "gone"}'])
def test_a_lease_that_nobody_holds_is_taken(tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(claim, "is_remote", lambda path: True)
    (tmp_path / "claim").write_text(content)
    with claimed(tmp_path / "claim") as mine:
        assert mine
        assert f"process {os.getpid()}" in str(parse_json((tmp_path / "claim").read_bytes())["holder"])


def test_a_disk_without_locks_has_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(claim.fcntl, "flock", no_locks)
    monkeypatch.setattr(claim, "BEAT_SECONDS", 0.05)
    with claimed(tmp_path / "claim") as mine:
        assert mine and b"beat" in (tmp_path / "claim").read_bytes()
