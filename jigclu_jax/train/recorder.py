"""Rows of metrics, fetched without making the host wait for the device, and the watch for non-finite numbers."""

import collections
import math
from collections.abc import Mapping

import jax

from jigclu_jax.errors import NonFiniteError
from jigclu_jax.train.idle import IdleMeter
from jigclu_jax.train.plan import Plan
from jigclu_jax.train.progress import Progress
from jigclu_jax.train.state import TrainState
from jigclu_jax.train.step import Metrics
from jigclu_jax.train.writers import MetricWriter

_RECENT = 1000  # calls of the step whose metrics are kept for a report, at most


class Recorder:
    """Holds a row until its metrics can be fetched without waiting, and watches for non-finite numbers."""

    def __init__(self, plan: Plan, writer: MetricWriter, progress: Progress, meter: IdleMeter) -> None:
        self._plan, self._writer, self._progress, self._meter = plan, writer, progress, meter
        self._held: tuple[int, Metrics, jax.Array, dict[str, float]] | None = None
        self._shown = 0
        # still on the device: those of the first bad step are told when it is found out, some steps later
        self._recent: collections.deque[tuple[int, Metrics]] = collections.deque(maxlen=_RECENT)

    def started(self, step: int, metrics: Metrics) -> None:
        """Every call of the step."""
        self._recent.append((step, metrics))

    def first(self, step: int, metrics: Metrics) -> None:
        """The first step of this process: starts the clock."""
        self._progress.update(step, {name: float(value) for name, value in metrics.items()})
        self._shown = step

    def hold(self, step: int, metrics: Metrics, state: TrainState) -> None:
        """Keep a row's metrics, still on the device."""
        # a copy, because the next step is given the state's own buffer
        self._held = (step, metrics, state.sums["nonfinite_step"] + 0, {})

    def join(self, more: Mapping[str, float]) -> None:
        """Add an epoch's evaluations to the row being held."""
        if self._held:
            names = self._held[1].keys()
            self._held[3].update({name: value for name, value in more.items() if name not in names})

    def flush(self) -> None:
        """Write the row being held."""
        if not self._held:
            return
        (step, metrics, bad, more), self._held = self._held, None
        row: dict[str, float] = {name: float(value) for name, value in metrics.items()} | more
        row["input_wait"] = self._meter.fraction()
        rate = self._progress.update(step, row) if step > self._shown else math.nan
        self._shown = step
        self._writer.write(step, {"epoch": step / self._plan.steps_per_epoch, **row, "images_per_second": rate})
        self._check(int(bad), step)

    def means(self, step: int, state: TrainState) -> dict[str, float]:
        """Mean of each metric over the epoch so far; waits for the step under way."""
        sums = jax.device_get(state.sums)
        count = max(int(sums["count"]), 1)
        means = {name: float(value) / count for name, value in sums.items() if name not in ("count", "nonfinite_step")}
        if int(sums["nonfinite_step"]) >= 0:
            self.flush()
        self._check(int(sums["nonfinite_step"]), step)
        return means

    def _check(self, bad: int, seen: int) -> None:
        """`bad` is the first non-finite step up to step `seen`, -1 for none."""
        if bad < 0:
            while self._recent and self._recent[0][0] <= seen:
                self._recent.popleft()
            return
        self._writer.flush()
        # a call of several steps leaves the metrics of the last
        found = next((metrics for step, metrics in self._recent if step >= bad), {})
        values = {name: float(value) for name, value in found.items()}
        shown = [*sorted(name for name in values if name.startswith("loss")), "gradient_norm", "learning_rate"]
        text = ", ".join(f"{name} {values[name]:.4g}" for name in shown if name in values)
        raise NonFiniteError(
            f"loss or gradient is not finite since step {bad} ({text}): the last checkpoint is kept; "
            "lower config.optimizer.learning_rate, or train in float32",
            step=bad,
            metrics=values,
        )
