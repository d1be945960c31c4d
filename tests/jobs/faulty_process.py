"""Run by test_processes.py: `python -m jigclu_jax` in which one thing goes wrong at the third batch, in this process alone.

python faulty_process.py image|disk|bug ARGUMENTS...
"""

import errno
import sys
from typing import Any

from jigclu_jax.__main__ import main
from jigclu_jax.data.input.cell_stream import CellStream
from jigclu_jax.errors import ImageError

FAULTS: dict[str, Exception] = {
    "image": ImageError("images[7]: damaged image"),
    "disk": OSError(errno.ENOSPC, "No space left on device"),
    "bug": ZeroDivisionError("division by zero"),
}


def break_third(fault: Exception) -> None:
    """The stream of batches raises once two of them were taken."""
    whole, taken = CellStream.__next__, []

    def broken(self: CellStream) -> dict[str, Any]:
        taken.append(1)
        if len(taken) > 5:  # two are read ahead
            raise fault
        return whole(self)

    CellStream.__next__ = broken  # type: ignore[method-assign]


if __name__ == "__main__":
    break_third(FAULTS[sys.argv[1]])
    sys.exit(main(sys.argv[2:]))
