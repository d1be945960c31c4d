"""Claims a trial for one worker: a claim is a lock on a file, which the system releases however its process ends.

So a claim of a dead process is none: nothing has to be found stale, and a process that is stopped or paused keeps its own. Locks reach
over the processes of a machine, and over machines that share a disk with file locks (NFS has them).
"""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator

from etils import epath

from jigclu_jax.atomic_file import is_remote
from jigclu_jax.errors import UserError


@contextlib.contextmanager
def claimed(path: epath.PathLike) -> Iterator[bool]:
    """Holds the claim `path` (made where it is not there) for the block; gives False where another process holds it.

    On remote storage, which has no locks, every claim is granted: one process alone may work there. The file keeps the name of the
    last holder, for a person.

    Raises:
      UserError: a disk without file locks.
    """
    if is_remote(path):
        yield True
        return
    epath.Path(path).parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(os.fspath(path), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{path}: this disk has no file locks ({reason}), which tell processes apart: use another workdir") from None
        os.ftruncate(handle, 0)
        os.write(handle, f"{socket.gethostname()} process {os.getpid()}\n".encode())
        yield True
    finally:
        os.close(handle)  # which releases the lock


__all__ = ["claimed"]
