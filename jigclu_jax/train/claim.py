"""One process at a time on a workdir, or on a piece of a sweep.

On a disk with file locks a claim is a lock on a file, which the system releases however its process ends: a claim of a dead process is
none, and a process that is stopped or paused keeps its own. Locks reach over the processes of a machine, and over machines that share
a disk with file locks (NFS has them). Where there are none, on an object store above all, a claim is a lease: a file that its
holder writes anew now and then. A lease that is not renewed counts as left behind; a holder that was paused so long finds that out before
it writes its next checkpoint.
"""

import contextlib
import datetime
import errno
import fcntl
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator

from etils import epath

from jigclu_jax.atomic_file import is_remote, write_text
from jigclu_jax.errors import UserError
from jigclu_jax.json_file import parse_json

FILE = "claim"
BEAT_SECONDS, LEASE_SECONDS = 15.0, 60.0
_LONG_AGO = 600.0  # a lease as old as this needs no watching: no two clocks differ by so much
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class Claim:
    """Whether the claim was given, and who holds it where it was not ("HOST process 12 since 2026-01-31 09:00:00 UTC")."""

    def __init__(self, holder: str = "") -> None:
        self.holder = holder
        self.lost_to = ""

    def __bool__(self) -> bool:
        return not self.holder

    def check(self) -> None:
        """UserError where the claim was given, and another process has taken it since."""
        if self.lost_to:
            raise UserError(f"this process was paused for so long that {self.lost_to} has taken its workdir: it writes nothing more")


@contextlib.contextmanager
def claimed(path: epath.PathLike) -> Iterator[Claim]:
    """Holds the claim `path` (made where it is not there) for the block; gives a false one where another process holds it.

    The file keeps the name of the last holder, for a person.
    """
    if is_remote(path):
        with _leased(path) as claim:
            yield claim
        return
    epath.Path(path).parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(os.fspath(path), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield Claim(os.read(handle, 200).decode(errors="replace").strip() or "another process")
            return
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            with _leased(path) as claim:
                yield claim
            return
        os.ftruncate(handle, 0)
        os.write(handle, f"{_this_process()}\n".encode())
        yield Claim()
    finally:
        os.close(handle)  # which releases the lock


@contextlib.contextmanager
def claimed_workdir(workdir: epath.PathLike) -> Iterator[Claim]:
    """Holds the workdir for the block.

    Raises:
      UserError: another process has it; names it, its host, and since when.
    """
    with contextlib.ExitStack() as stack:
        try:
            claim = stack.enter_context(claimed(epath.Path(workdir) / FILE))
        except OSError as error:
            raise UserError(f"--workdir={workdir} cannot be written: {error.strerror or error}") from None
        if not claim:
            raise UserError(f"--workdir={workdir} is being worked on by {claim.holder}: wait for it, stop it, or use another workdir")
        yield claim


def _this_process() -> str:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{socket.gethostname()} process {os.getpid()} since {now}"


@contextlib.contextmanager
def _leased(path: epath.PathLike) -> Iterator[Claim]:
    lease = _Lease(epath.Path(path))
    holder = lease.take()
    if holder:
        yield Claim(holder)
        return
    claim, ended = Claim(), threading.Event()
    beating = threading.Thread(target=lease.keep, args=(claim, ended), name="claim", daemon=True)
    beating.start()
    try:
        yield claim
    finally:
        ended.set()
        beating.join()
        if not claim.lost_to:
            lease.give_back()


class _Lease:
    """A file with the holder's name and the time of its last sign of life, by its own clock."""

    def __init__(self, path: epath.Path) -> None:
        self._path, self._holder, self._token = path, _this_process(), uuid.uuid4().hex

    def take(self) -> str:
        """Empty once this process has it, else the holder's name."""
        found = self._read()
        if found is not None and self._is_alive(found):
            return str(found.get("holder"))
        self._write()
        time.sleep(min(2.0, BEAT_SECONDS))  # of several that take it together, the last to write has it
        found = self._read() or {}
        return "" if found.get("token") == self._token else str(found.get("holder"))

    def keep(self, claim: Claim, ended: threading.Event) -> None:
        """Renew the lease until `ended`, or until it is found to be another process's."""
        while not ended.wait(BEAT_SECONDS):
            with contextlib.suppress(Exception):  # the store does not answer: the next beat may reach it
                found = self._read()
                if found is not None and found.get("token") != self._token:
                    claim.lost_to = str(found.get("holder"))
                    return
                self._write()

    def give_back(self) -> None:
        """Remove the file."""
        with contextlib.suppress(Exception):
            self._path.unlink(missing_ok=True)

    def _is_alive(self, found: dict[str, object]) -> bool:
        """Whether the holder gives a sign of life within the time of a lease; clocks of two machines are not compared but coarsely."""
        beat = found.get("beat")
        if not isinstance(beat, int | float) or time.time() - beat > _LONG_AGO:
            return False
        if time.time() - beat > BEAT_SECONDS:
            print(f"{self._path.parent} was {found.get('holder')}'s: looking whether it is alive, {LEASE_SECONDS:.0f} s", file=sys.stderr)
        deadline = time.monotonic() + LEASE_SECONDS
        while time.monotonic() < deadline:
            time.sleep(min(BEAT_SECONDS / 3, 1.0))
            now = self._read()
            if now is None:
                return False  # given back
            if now != found:
                return True
        return False

    def _read(self) -> dict[str, object] | None:
        try:
            return parse_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:  # somebody else's file, or one of a lock
            return {}

    def _write(self) -> None:
        write_text(self._path, f'{{"holder": "{self._holder}", "token": "{self._token}", "beat": {time.time()}}}\n')


__all__ = ["FILE", "Claim", "claimed", "claimed_workdir"]
