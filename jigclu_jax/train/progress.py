"""Progress line of a run, and the rate that it measures."""

import contextlib
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, SupportsFloat, runtime_checkable

from jigclu_jax.metrics import MetricSpec

INPUT_BOUND = 0.1  # from this fraction of idle time on, a run is said to be input-bound
_MEMORY_SECONDS = 60.0  # the rate shown is that of about the last minute: steady, yet it follows a machine that slows down


@runtime_checkable
class Stream(Protocol):
    """What is asked of the place that the line goes to: a file, a terminal or a notebook's stand-in for one."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...

    def isatty(self) -> bool: ...


class Progress:
    """Prints `step 1200/25020  epoch 4.8/100  loss 7.123 (cluster 5.901, location 1.222)  612 images/s  12:34 left`.

    Call `update` right after the first step, when it has been compiled and computed, then at every logged step: the
    time up to the first call is in no rate. On a terminal the line overwrites itself and stays once an epoch;
    elsewhere each call prints a line; with `stream=None` (every process but the first) it prints nothing and measures
    all the same. `batch_size` is the global number of images a step; `timed` is what earlier parts of the run had timed; `specs` say
    which metrics join the line.
    """

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        batch_size: int,
        stream: Stream | None = sys.stderr,
        clock: Callable[[], float] = time.monotonic,
        timed: tuple[int, float] = (0, 0.0),
        specs: Sequence[MetricSpec] = (),
    ):
        self._total_steps = total_steps
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = batch_size
        self._stream = stream
        self._terminal = self._stream is not None and self._stream.isatty()
        self._clock = clock
        self._first_step: int | None = None
        self._last_step = 0
        self._last_time = 0.0
        self._steps = self._seconds = 0.0  # decayed sums, of which the rate is the quotient
        self._all_seconds = 0.0
        self._earlier = timed
        self._shown = [spec for spec in specs if spec.short]
        self._paused = 0.0  # since the last update
        self._all_paused = 0.0
        self._open_line = False

    @property
    def timed(self) -> tuple[int, float]:
        """(steps, their seconds) without the first one updated with and without pauses, earlier parts of the run included."""
        steps, seconds = self._earlier
        return steps + self._last_step - (self._first_step or 0), seconds + self._all_seconds

    @property
    def average(self) -> float:
        """Images/s over the steps in `timed`; NaN before there is one."""
        steps, seconds = self.timed
        return self._batch_size * steps / seconds if seconds > 0 else math.nan

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside (an evaluation, a save) counts towards the time left but not as training."""
        start = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - start

    def update(self, step: int, metrics: Mapping[str, SupportsFloat]) -> float:
        """Prints the line of `step` (steps done so far) and returns the images/s of about the last minute.

        NaN at the first call, and as long as no step has been timed. `metrics` may hold `loss`, its parts `loss_*` and accuracies.
        """
        now = self._clock()
        if self._first_step is None:
            self._first_step = step
        elif step > self._last_step:
            seconds = max(now - self._last_time - self._paused, 1e-9)
            kept = math.exp(-seconds / _MEMORY_SECONDS)
            self._steps = self._steps * kept + (step - self._last_step)
            self._seconds = self._seconds * kept + seconds
            self._all_seconds += seconds
            self._all_paused += self._paused
        rate = self._batch_size * self._steps / self._seconds if self._seconds > 0 else math.nan
        epoch_done = step // self._steps_per_epoch > self._last_step // self._steps_per_epoch
        self._last_step, self._last_time, self._paused = step, now, 0.0
        self._show(self._line(step, metrics, rate), keep=epoch_done or step >= self._total_steps)
        return rate

    def say(self, text: str) -> None:
        """Prints a line of its own, without spoiling a progress line that overwrites itself."""
        if self._stream is not None:
            self._stream.write(("\r\x1b[K" if self._open_line else "") + text + "\n")
            self._stream.flush()
            self._open_line = False

    def close(self) -> None:
        """Ends a line that was going to be overwritten."""
        if self._stream is not None and self._open_line:
            self._stream.write("\n")
            self._stream.flush()
            self._open_line = False

    def _line(self, step: int, metrics: Mapping[str, SupportsFloat], rate: float) -> list[str]:
        epochs = self._total_steps / self._steps_per_epoch
        parts = [f"step {step}/{self._total_steps}", f"epoch {step / self._steps_per_epoch:.1f}/{epochs:.4g}", _losses(metrics)]
        parts += [f"{spec.short} {_number(spec, metrics[spec.name])}" for spec in self._shown if spec.name in metrics]
        if math.isfinite(rate):
            parts.append(f"{rate:.0f} images/s" if rate >= 10 else f"{rate:.2g} images/s")
            wait = float(metrics.get("input_wait", 0.0))
            if wait >= INPUT_BOUND:
                parts.append(f"input-bound: {100 * wait:.0f} % of the time waiting for images")
            done = step - (self._first_step or 0)
            seconds = (self._total_steps - step) * (self._batch_size / rate + self._all_paused / done)
            parts += [f"{duration(seconds)} left"] if step < self._total_steps else []
        return [part for part in parts if part]

    def _show(self, parts: list[str], keep: bool) -> None:
        if self._stream is None:
            return
        if self._terminal:
            # a line that wraps cannot be overwritten: leave out the accuracies first, then what does not fit
            columns = shutil.get_terminal_size().columns
            if len("  ".join(parts)) >= columns:
                parts = [part for part in parts if not part.endswith(" %")]
            text = "  ".join(parts)
            self._stream.write(f"\r\x1b[K{text if keep else text[: columns - 1]}" + ("\n" if keep else ""))
            self._open_line = not keep
        else:
            self._stream.write("  ".join(parts) + "\n")
        self._stream.flush()


def duration(seconds: SupportsFloat) -> str:
    """Seconds as a person reads them: `0:07`, `12:34`, `5:07:12`, `3 d 4 h`."""
    whole = round(max(float(seconds), 0.0))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour} h"
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def _number(spec: MetricSpec, value: SupportsFloat) -> str:
    return f"{100 * float(value):.1f} %" if spec.unit == "%" else f"{float(value):.3g} {spec.unit}".strip()


def _losses(metrics: Mapping[str, SupportsFloat]) -> str:
    if "loss" not in metrics:
        return ""
    parts = ", ".join(f"{name.removeprefix('loss_')} {float(value):.3f}" for name, value in metrics.items() if name.startswith("loss_"))
    return f"loss {float(metrics['loss']):.3f}" + (f" ({parts})" if parts else "")
