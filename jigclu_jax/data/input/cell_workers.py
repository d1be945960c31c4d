"""Processes that make cells (`data/input/cells.py`) in shared memory, since threads of one interpreter wait for each other.

A process is this module, started anew (a fork would copy JAX's threads in mid-work). It gets a pickled `CellMaker` and then tasks over a
socket, writes pixels into the shared memory, and ends when the socket does, so that none outlives a run that was killed.
"""

import mmap
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import traceback
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from typing import IO, Any, cast

import numpy as np
from jaxtyping import Int, Int64

from jigclu_jax.data.augment.parameters import RECORD
from jigclu_jax.data.input.cells import CellMaker, Pictures
from jigclu_jax.data.view import View, shape_of
from jigclu_jax.errors import UserError, one_line

_START = "from jigclu_jax.data.input.cell_workers import serve; serve({socket}, {memory})"
_PATIENCE = 10.0  # seconds that a process gets to end by itself


class CellWorkers:
    """Some processes and a few slots of shared memory, each as large as a batch of so many images.

    Raises UserError where the source cannot be handed to another process.
    """

    def __init__(self, maker: CellMaker, images: int, processes: int, slots: int) -> None:
        self._reader, self._views, self._images = maker.reader, maker.views, images
        try:
            hello = pickle.dumps((maker, images, slots), protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # whatever the source's own parts raise
            raise UserError(
                f"{maker.reader.source.name}: cannot be opened in other processes ({one_line(error)}): set data.workers=0"
            ) from error
        memory = _anonymous_file(slots * _slot_bytes(maker.views, images))
        self._memory = mmap.mmap(memory.fileno(), 0)
        self._idle: queue.SimpleQueue[tuple[subprocess.Popen[bytes], Connection]] = queue.SimpleQueue()
        started = [_start(memory) for _ in range(processes)]
        self._finalizer = weakref.finalize(self, _end, started)  # also for workers that nobody closes
        memory.close()
        for worker in started:
            self._idle.put(worker)
            try:
                worker[1].send_bytes(hello)
            except OSError as error:
                raise _lost(worker[0]) from error

    def slot(self, number: int) -> list[Pictures]:
        """Pictures and records of each view in a slot of the shared memory."""
        return _arrays(self._memory, self._views, self._images, number)

    def make(
        self, slot: int, draws: Int64[np.ndarray, " c"], examples: Sequence[int], cells: Sequence[Int[np.ndarray, "c _"]]
    ) -> list[int]:
        """`CellMaker.__call__` into a slot, by whichever process is idle; may be called from as many threads as there are processes.

        Raises what the maker raises, and UserError where the process was lost.
        """
        worker = self._idle.get()
        process, socket = worker
        try:
            socket.send((slot, draws, examples, cells))
            result, skipped = socket.recv()
        except (EOFError, OSError) as error:
            raise _lost(process) from error
        finally:
            self._idle.put(worker)
        self._reader.skipped.update(skipped)
        if isinstance(result, BaseException):
            raise result
        return cast(list[int], result)

    def close(self) -> None:
        """End the processes, in no task of which anybody is interested any more."""
        self._finalizer()


def serve(socket: int, memory: int) -> None:
    """What a process does: tasks from one file descriptor into the memory of another, until the run closes its end."""
    # Ctrl-C, or a scheduler's notice to all processes: the run decides, and may want a batch more for its last step
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Connection(socket) as connection:
        try:
            hello = connection.recv_bytes()
            try:
                maker, images, slots = pickle.loads(hello)
                buffer = mmap.mmap(memory, 0)
                batches = [_arrays(buffer, maker.views, images, slot) for slot in range(slots)]
            except Exception as error:  # told in answer to the first task
                text = f"the source cannot be opened in other processes ({one_line(error)}): set data.workers=0"
                connection.recv()
                connection.send((UserError(text), {}))
                return
            told: set[int] = set()
            while True:
                slot, draws, examples, cells = connection.recv()
                result: Any
                try:
                    result = maker(batches[slot], draws, examples, cells)
                except UserError as error:
                    result = error
                except Exception:  # a fault of the program's: its traceback would be lost on the way
                    result = RuntimeError(f"in an input process:\n{traceback.format_exc()}")
                skipped = {index: text for index, text in maker.reader.skipped.items() if index not in told}
                told |= skipped.keys()
                connection.send((result, skipped))
        except (EOFError, OSError):
            return  # the run has ended, or was killed


def _start(memory: IO[bytes]) -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = Pipe()
    with theirs:
        descriptors = {"socket": theirs.fileno(), "memory": memory.fileno()}
        process = subprocess.Popen(
            [sys.executable, "-c", _START.format(**descriptors)],
            stdin=subprocess.DEVNULL,
            pass_fds=tuple(descriptors.values()),
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
    return process, ours


def _end(workers: Sequence[tuple[subprocess.Popen[bytes], Connection]]) -> None:
    for _, socket in workers:
        socket.close()
    for process, _ in workers:
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _lost(process: subprocess.Popen[bytes]) -> UserError:
    try:
        code = process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        code = 0
    how = f"by signal {-code} (9: often for lack of memory)" if code < 0 else f"with code {code}"
    return UserError(f"an input process ended {how}: set data.workers to fewer, or to 0 for threads")


def _slot_bytes(views: Sequence[View], images: int) -> int:
    bytes_ = sum(int(np.prod(shape)) for pair in _shapes(views, images) for shape in pair)
    return -(-bytes_ // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY


def _arrays(memory: mmap.mmap, views: Sequence[View], images: int, slot: int) -> list[Pictures]:
    start = slot * _slot_bytes(views, images)
    found: list[Pictures] = []
    for pair in _shapes(views, images):
        pictures = np.ndarray(pair[0], np.uint8, memory, start)
        records = np.ndarray(pair[1], np.uint8, memory, start + pictures.nbytes)
        start += pictures.nbytes + records.nbytes
        found.append((pictures, records))
    return found


def _shapes(views: Sequence[View], images: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return [(shape_of(view, images), (images * view.crops, RECORD.itemsize)) for view in views]


def _anonymous_file(size: int) -> IO[bytes]:
    # not /dev/shm, of which containers often have no more than 64 MB
    file = os.fdopen(os.memfd_create("jigclu-cells"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()  # noqa: SIM115
    file.truncate(size)
    return file
