"""Claims on a workdir: by a lock, and by a lease where there are no locks."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import remote_bucket
from etils import epath

from jigclu_jax.errors import UserError
from jigclu_jax.json_file import parse_json
from jigclu_jax.train import claim
from jigclu_jax.train.claim import claimed, claimed_folder


@pytest.fixture(params=["lock", "lease"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(claim, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(claim, "LEASE_SECONDS", 0.5)
    if request.param == "lease":
        monkeypatch.setattr(claim, "is_remote", lambda path: True)
    return str(request.param)


def elsewhere(action: Callable[[], object]) -> object:
    """What the action gives or raises in another thread, which holds nothing of this one's."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(action).exception() or pool.submit(action).result()


def claim_it(folder: epath.PathLike) -> bool:
    with claimed_folder(folder):
        return True


def test_the_second_is_told_who_has_the_workdir_and_since_when(kind: str, tmp_path: Path) -> None:
    with claimed_folder(tmp_path / "run") as mine:
        told = elsewhere(lambda: claim_it(tmp_path / "run"))
        assert isinstance(told, UserError)
        text = str(told)
        assert f"process {os.getpid()} since 2" in text and os.uname().nodename in text and "UTC" in text and "\n" not in text
        assert elsewhere(lambda: claim_it(tmp_path / "other")) is True
        with claimed_folder(tmp_path / "run") as again:  # a job holds it already for its training
            assert again is mine
        assert isinstance(elsewhere(lambda: claim_it(tmp_path / "run")), UserError)
    assert elsewhere(lambda: claim_it(tmp_path / "run")) is True


def test_a_claim_leaves_nothing_behind(kind: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path / "deep" / "run", tmp_path / "mine"):
        with claimed_folder(folder):
            assert (folder / "claim").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"] or kind == "lease"  # an object store has no folders


def test_a_lock_on_a_file_that_went_with_its_holder_is_none(tmp_path: Path) -> None:
    """Opened before the holder removed it, locked after: the file of that name is another one."""
    path = tmp_path / "claim"
    opened = os.open(path, os.O_RDWR | os.O_CREAT)
    open_file, first = os.open, [opened]
    path.unlink()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(claim.os, "open", lambda *given: first.pop() if first else open_file(*given))
        with claimed(path) as mine:
            assert mine and path.exists()
            assert not elsewhere_claimed(path)


def elsewhere_claimed(path: Path) -> bool:
    with claimed(path) as found:
        return bool(found)


def test_a_bucket_is_held_by_a_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run is refused, a run that was killed is waited for, and then its workdir is taken."""
    monkeypatch.setattr(claim, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(claim, "LEASE_SECONDS", 0.6)
    bucket, stop = remote_bucket.serve(monkeypatch, tmp_path / "bucket")
    folder = f"{remote_bucket.PREFIX}/runs/one"
    try:
        with claimed_folder(folder):
            first = (bucket.root / "runs/one/claim").read_bytes()
            told = elsewhere(lambda: claim_it(folder))
            assert isinstance(told, UserError) and f"process {os.getpid()}" in str(told)
            time.sleep(0.5)
            left = (bucket.root / "runs/one/claim").read_bytes()
            assert left != first and "runs/one/claim" in bucket.written
        assert not (bucket.root / "runs/one/claim").exists()
        (bucket.root / "runs/one/claim").write_bytes(left)  # as after a kill
        begun = time.monotonic()
        with claimed_folder(folder):
            assert time.monotonic() - begun >= 0.6
            assert (bucket.root / "runs/one/claim").read_bytes() != left
    finally:
        stop()


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
