"""Answers Ctrl-C and SIGTERM while `python -m jigclu_jax` or `jigclu` imports what it needs.

Nothing is begun yet: a line and an exit code will do. Imported with the package's first line, and light. Before it is Python's own start,
some hundredths of a second, in which Ctrl-C is Python's, with a traceback through its `site` and `runpy`.
"""

import os
import signal
import sys

INTERRUPTED, STOPPED = 130, 75
_COMMAND = __name__.partition("_")[0]
# what a launcher of several processes sets: they stop together
_GROUP = ("JAX_COORDINATOR_ADDRESS", "JIGCLU_DISTRIBUTED", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS", "TPU_WORKER_HOSTNAMES")


def is_command() -> bool:
    """Whether this process is `python -m jigclu_jax` or the command `jigclu`, which has not come further than to find the package."""
    if sys.argv[:1] == ["-m"]:
        return "jigclu_jax" in sys.orig_argv
    return "".join(sys.argv[:1]).rpartition(os.sep)[2].removesuffix(".exe") == _COMMAND


def in_group() -> bool:
    """Whether a launcher has started the process as one of several."""
    return any(name in os.environ for name in _GROUP)


def answer() -> None:
    """From now on, until `leave_off`; only where nobody has other wishes for these signals."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and not in_group():
        signal.signal(signal.SIGTERM, _stopped)


def leave_off() -> bool:
    """Ctrl-C is Python's again, where this is true; SIGTERM has been taken over by then."""
    answered = signal.getsignal(signal.SIGINT) is _interrupted
    if answered:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return answered


def _interrupted(number: int, frame: object) -> None:
    del number, frame
    os.write(2, b"interrupted: nothing was begun\n")
    os._exit(INTERRUPTED)


def _stopped(number: int, frame: object) -> None:
    del number, frame
    os.write(2, b"stopped: nothing was begun\n")
    os._exit(STOPPED)
