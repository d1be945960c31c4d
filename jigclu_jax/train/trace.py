"""Profiles a few steps into `DIR/profile/`, which TensorBoard and Perfetto open."""

from typing import Any

import jax
from etils import epath

FOLDER = "profile"


class Trace:
    """Switches JAX's profiler on and off around some steps.

    Args:
      workdir: `profile/` is made in it.
      window: first and last step, counted from 1; None: no trace.
    """

    def __init__(self, workdir: epath.PathLike, window: tuple[int, int] | None) -> None:
        self._folder, self._window, self._on = epath.Path(workdir) / FOLDER, window, False

    def before(self, done: int, count: int) -> None:
        """`done` steps were made, and `count` follow in one call."""
        if self._window and not self._on and done + count >= self._window[0] and done < self._window[1]:
            self._folder.mkdir(parents=True, exist_ok=True)
            jax.profiler.start_trace(str(self._folder), create_perfetto_trace=True)
            self._on = True

    def after(self, done: int, output: Any) -> None:
        """`done` steps were started, and the last gives `output`."""
        if self._on and self._window and done >= self._window[1]:
            jax.block_until_ready(output)
            self.close()

    def close(self) -> None:
        """Write what there is: a run may end before its window does."""
        if self._on:
            self._on, self._window = False, None
            jax.profiler.stop_trace()


def profile_window(text: str, done: int) -> tuple[int, int] | None:
    """First and last step of `config.profile`, counted from 1; None for "".

    Args:
      text: "A-B" for these steps, "N" for the N steps after the first of this process, which compiles.
      done: steps made before this process started.
    """
    first, dash, last = text.strip().partition("-")
    if not first:
        return None
    return (int(first), int(last)) if dash else (done + 2, done + 1 + int(first))
