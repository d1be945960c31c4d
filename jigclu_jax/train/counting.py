"""Progress line of work that counts images or epochs (done, rate, time left), and the point where such work can be stopped."""

import sys
import time
from collections.abc import Callable

from jigclu_jax.device import distributed
from jigclu_jax.errors import Preempted, counted
from jigclu_jax.train.progress import duration
from jigclu_jax.train.stop import STOP

_SECONDS = 5.0  # between two lines


def announce(work: str) -> None:
    """Prints that work begins which has nothing to count and may take a while, on the process that speaks."""
    if distributed.is_main():
        print(work, flush=True)


def counter(what: str, unit: str = "images") -> Callable[[int, int], None]:
    """A function (units done, units in all) that prints at the first call, now and then, and at the end, on the process that speaks."""
    begun = last = time.monotonic()
    first: int | None = None
    ended = False

    def say(done: int, count: int) -> None:
        nonlocal last, first, ended
        if first is None:
            first = done
            if done < count and distributed.is_main():
                print(f"{what}: {counted(count, unit.removesuffix('s'))}", flush=True)
        now = time.monotonic()
        if ended or not distributed.is_main() or (now - last < _SECONDS and done < count):
            return
        last, ended = now, done >= count
        rate = (done - first) / max(now - begun, 1e-9) or done / max(now - begun, 1e-9)
        rest = f"took {duration(now - begun)}" if ended else f"{duration((count - done) / max(rate, 1e-9))} left"
        print(f"{what}: {done}/{count} {unit}  {rate:.3g} {unit}/s  {rest}", file=sys.stderr, flush=True)

    return say


def stopping(say: Callable[[int, int], None], kept: str) -> Callable[[int, int], None]:
    """`say`, which also looks whether the job is to stop; `kept` tells what stays.

    Raises (from the returned function):
      Preempted: SIGTERM has come before the end.
    """

    def looking(done: int, count: int) -> None:
        if STOP.requested and done < count:
            raise Preempted(f"after {done} of {counted(count, 'image')}: {kept}, start the same command again to go on")
        say(done, count)

    return looking
