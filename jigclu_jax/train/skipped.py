"""Reports the images that a job left out (on_error=skip): counts them on the terminal, names them in images_skipped.txt."""

import sys
from collections.abc import Iterable

from etils import epath

from jigclu_jax.atomic_file import write_bytes
from jigclu_jax.errors import counted

FILE = "images_skipped.txt"


def read_skipped(workdir: epath.PathLike) -> list[str]:
    """Why each image was left out so far, naming it; empty where none was."""
    path = epath.Path(workdir) / FILE
    return path.read_bytes().decode("utf-8", "surrogateescape").splitlines() if path.exists() else []


def note_skipped(workdir: epath.PathLike, reasons: Iterable[str]) -> None:
    """Add to the list of a run that may have been stopped and gone on, and say how many there are; nothing where there are none."""
    every = {*read_skipped(workdir), *(" ".join(reason.splitlines()) for reason in reasons)}
    if not every:
        return
    path = epath.Path(workdir) / FILE
    # names of files may be no text
    write_bytes(path, "".join(f"{line}\n" for line in sorted(every)).encode("utf-8", "surrogateescape"))
    print(f"{counted(len(every), 'image')} left out (on_error=skip): {path} names them", file=sys.stderr, flush=True)
