"""One process at a time on a workdir, or on a piece of a sweep.

On a disk with file locks a claim is a lock on a file, which the system releases however its process ends: a claim of a dead process is
none, and a process that is stopped or paused keeps its own. Locks reach over the processes of a machine, and over machines that share
a disk with file locks (NFS has them). Where there are none, on an object store above all, a claim is a lease: a file that its
holder writes anew now and then. A lease that is not renewed counts as left behind; a holder that was paused so long finds that out before
it writes its next checkpoint.
"""

import contextlib
import contextvars
import datetime
import errno
import fcntl
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence

from etils import epath

from jigclu_jax.atomic_file import is_remote, write_text
from jigclu_jax.device import peers
from jigclu_jax.errors import UserError
from jigclu_jax.json_file import parse_json

FILE = "claim"
BEAT_SECONDS, LEASE_SECONDS = 15.0, 60.0
_LONG_AGO = 600.0  # a lease as old as this needs no watching: no two clocks differ by so much
# Claims that this thread holds, by the names of their files.
_HELD: contextvars.ContextVar[Mapping[str, "Claim"]] = contextvars.ContextVar("held", default={})  # noqa: B039 (never changed)
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

    The file has the name of its holder, for a person, and goes with the claim.
    """
    if is_remote(path):
        with _leased(path) as claim:
            yield claim
        return
    epath.Path(path).parent.mkdir(parents=True, exist_ok=True)
    locks = True
    try:
        handle, holder = _locked(path)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        locks = False
    if not locks:
        with _leased(path) as claim:
            yield claim
        return
    if holder:
        yield Claim(holder)
        return
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"{_this_process()}\n".encode())
        yield Claim()
    finally:
        with contextlib.suppress(OSError):
            if _is_file(handle, path):
                epath.Path(path).unlink()
        os.close(handle)  # which releases the lock


@contextlib.contextmanager
def claimed_folder(folder: epath.PathLike, name: str = FILE, option: str = "--workdir") -> Iterator[Claim]:
    """Holds a folder (made where it is not there) for the block, or a part of it by the name of its claim.

    Whoever holds it already, in this thread, holds it again. A folder made for the claim alone goes with it.

    Raises:
      UserError: another process has it; names the option, the process, its host, and since when.
    """
    path = epath.Path(folder) / name
    key = os.fspath(path if is_remote(path) else path.resolve())
    held = _HELD.get()
    if key in held:
        yield held[key]
        return
    made = [] if is_remote(path) else [parent for parent in path.parents if not parent.exists()]
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_empty, made)  # once the claim is gone
        try:
            claim = stack.enter_context(claimed(path))
        except OSError as error:
            raise UserError(f"{option}={folder} cannot be written: {error.strerror or error}") from None
        if not claim:
            raise UserError(f"{option}={folder} is being worked on by {claim.holder}: wait for it, stop it, or use another folder")
        stack.callback(_HELD.reset, _HELD.set({**held, key: claim}))
        stack.enter_context(peers.before_end(lambda: _leave(path, made)))
        yield claim


def holder_of(folder: epath.PathLike) -> str:
    """Who works on a folder, "" where nobody does. Nothing is written or waited for: a lease counts by its last sign of life."""
    path = epath.Path(folder) / FILE
    try:
        if not is_remote(path):
            handle = os.open(os.fspath(path), os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return os.read(handle, 200).decode(errors="replace").strip() or "another process"
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            finally:
                os.close(handle)
        found = parse_json(path.read_bytes())
    except (OSError, ValueError):  # no claim, or one of a lock that its process has left behind
        return ""
    beat = found.get("beat")
    return str(found.get("holder")) if isinstance(beat, int | float) and time.time() - beat < LEASE_SECONDS else ""


def _leave(path: epath.Path, made: Sequence[epath.Path]) -> None:
    """What the end of the block does, where the process ends before it."""
    path.unlink(missing_ok=True)
    _remove_empty(made)


def _locked(path: epath.PathLike) -> tuple[int, str]:
    """The file, open and locked, and ""; or -1 and the name of who holds it. OSError where it cannot be opened or locked."""
    while True:
        handle = os.open(os.fspath(path), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_file(handle, path):
                return handle, ""
        except BlockingIOError:
            holder = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            os.close(handle)
            return -1, holder
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder has ended, and the file with it, before the lock came


def _is_file(handle: int, path: epath.PathLike) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        named = os.open(os.fspath(path), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return _inode(handle) == _inode(named)
    finally:
        os.close(named)


def _inode(handle: int) -> tuple[int, int]:
    found = os.fstat(handle)
    return found.st_dev, found.st_ino


def _remove_empty(folders: Sequence[epath.Path]) -> None:
    with contextlib.suppress(OSError):  # where something is in one
        for folder in folders:
            os.rmdir(folder)


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
