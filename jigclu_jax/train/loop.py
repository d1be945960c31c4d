"""The training loop: batches through the step, metrics out, checkpoints kept. It never learns a method's name."""

import collections
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from jax.sharding import Mesh

from jigclu_jax.device.mesh import device_batches, stacked_to_device
from jigclu_jax.errors import NonFiniteError, Preempted, one_line
from jigclu_jax.metrics import MetricSpec
from jigclu_jax.train.checkpoint import Checkpoints
from jigclu_jax.train.idle import IdleMeter
from jigclu_jax.train.pace import Pace
from jigclu_jax.train.progress import Progress
from jigclu_jax.train.state import TrainState
from jigclu_jax.train.step import Metrics, Step
from jigclu_jax.train.stop import Interrupted, StopRequest
from jigclu_jax.train.trace import Trace
from jigclu_jax.train.writers import MetricWriter

# What the loop adds to every row.
ROW_METRICS = (MetricSpec("images_per_second", "images per second"), MetricSpec("input_wait", "time spent waiting for images", "%"))
UNMEASURED = "unmeasured"  # in a checkpoint's meta: the evaluations of its epoch were interrupted
_RECENT = 1000  # calls of the step whose metrics are kept for a report, at most

# (first step, step after the last, state) -> host batches (nested dicts of numpy arrays).
BatchesBetween = Callable[[int, int, TrainState], Iterator[dict[str, Any]]]
# Before an epoch's first step: its number and the state -> the state with which it begins.
BeforeEpoch = Callable[[int, TrainState], TrainState]


@dataclasses.dataclass(frozen=True)
class EpochHook:
    """An evaluation after each epoch.

    Attributes:
      metrics: what it measures.
      measure: (steps done, state) -> metrics that join the epoch's row; none in an epoch that it leaves out.
    """

    metrics: tuple[MetricSpec, ...]
    measure: Callable[[int, TrainState], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long to train, and how often to log and to save, all in steps.

    Attributes:
      total_steps: updates in all.
      steps_per_epoch: updates an epoch.
      log_every: a row of metrics at least that often; epochs end with a row in any case.
      save_every: a checkpoint that often; the last step is saved in any case.
      dispatch: at most that many steps are started by one call; none of them but the last logs, saves or ends an epoch.
    """

    total_steps: int
    steps_per_epoch: int
    log_every: int
    save_every: int
    dispatch: int = 1

    def logs(self, step: int) -> bool:
        """Whether a row is written after `step` updates."""
        return step % self.log_every == 0 or self.ends_epoch(step)

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is written after `step` updates."""
        return step % self.save_every == 0 or step == self.total_steps

    def ends_epoch(self, step: int) -> bool:
        """Whether `step` updates complete an epoch, or the run."""
        return step % self.steps_per_epoch == 0 or step == self.total_steps

    def parts(self, first: int, by_epoch: bool) -> Iterator[tuple[int, int]]:
        """(first step, step after the last) of what is asked for at once from step `first` on: the whole run, or each epoch."""
        step = first
        while step < self.total_steps:
            end = min((step // self.steps_per_epoch + 1) * self.steps_per_epoch, self.total_steps) if by_epoch else self.total_steps
            yield step, end
            step = end

    def steps_from(self, step: int, most: int) -> int:
        """How many steps one call makes after `step` updates, at most `most`."""
        ends = range(step + 1, step + most)
        return next((end - step for end in ends if self.logs(end) or self.saves(end)), most)


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a finished loop hands back: the last state, steps of this process, seconds and images/s over all restarts."""

    state: TrainState
    steps: int
    seconds: float
    images_per_second: float | None


def fit(
    *,
    state: TrainState,
    step_fn: Step,
    batches_between: BatchesBetween,
    mesh: Mesh,
    plan: Plan,
    checkpoints: Checkpoints,
    meta: Mapping[str, Any],
    writer: MetricWriter,
    progress: Progress,
    stop: StopRequest,
    trace: Trace | None = None,
    before_epoch: BeforeEpoch | None = None,
    epoch_hooks: tuple[EpochHook, ...] = (),
    unmeasured: bool = False,
) -> Trained:
    """Train from `state.step` to `plan.total_steps`.

    The host does not wait for a quick step that it has just started: a row's metrics are fetched once the next step is under way. Nor
    does it run ahead of the device by more than half a second (`train/pace.py`), so that a stop comes after the step under way.

    Args:
      state: where to start; donated.
      step_fn: the compiled step.
      batches_between: opens host batches of this process; with `before_epoch` epoch by epoch, else once.
      mesh: where batches go.
      plan: lengths and intervals.
      checkpoints: where states go.
      meta: what each checkpoint carries beside the state; `seconds`, `timed` (see `Progress`) and `epoch_metrics` are added.
      writer: rows of metrics.
      progress: the line a person sees; measures images/s.
      stop: looked at after every step.
      trace: profiles some of the steps.
      before_epoch: changes the state before an epoch's first step.
      epoch_hooks: evaluations after each epoch. A stop interrupts them; they are made up for when the run goes on.
      unmeasured: the run was stopped during those of `state`.

    Raises:
      NonFiniteError: a loss or gradient was not finite; what was saved before stays.
      Preempted: a stop was requested, and the state is saved; before the first step there is nothing to save.
    """
    begun, before, first = time.monotonic(), float(meta.get("seconds", 0.0)), int(state.step)
    meter = IdleMeter()
    recorder = _Recorder(plan, writer, progress, meter)
    alone = jax.process_count() == 1
    pace = Pace(plan.dispatch, alone, jax.block_until_ready)
    sums: dict[str, float] = {}
    saved = first

    def save(step: int) -> None:
        writer.flush()  # a row must be on disk before the checkpoint that makes it count
        seconds = before + time.monotonic() - begun
        more = {"seconds": seconds, "timed": list(progress.timed), "epoch_metrics": sums, UNMEASURED: unmeasured}
        checkpoints.save(step, state, {**meta, **more}, sums if plan.ends_epoch(step) and not unmeasured else None)

    def measured(step: int) -> dict[str, float]:
        nonlocal unmeasured
        found: dict[str, float] = {}
        stop.interrupts, unmeasured = alone, True
        try:
            for hook in epoch_hooks:
                found |= hook.measure(step, state)
            unmeasured = False
        except Interrupted:
            return {}
        finally:
            stop.interrupts = False
        return found

    def calls() -> Iterator[tuple[int, tuple[Any, ...]]]:
        nonlocal state
        for begin, end in plan.parts(first, before_epoch is not None):
            if before_epoch is not None and begin % plan.steps_per_epoch == 0:
                with progress.paused():
                    state = before_epoch(begin // plan.steps_per_epoch, state)
                meter.pause()
            yield from _dispatches(batches_between(begin, end, state), plan, pace, (begin, end), mesh)

    def leave() -> NoReturn:
        nonlocal sums
        recorder.flush()
        if saved != step:
            sums = recorder.means(step, state)
            save(step)
        checkpoints.wait()
        progress.say(f"stopped on request after step {step}: saved, start the same command again to go on")
        raise Preempted(f"stopped after step {step}")

    if unmeasured:
        with progress.paused():
            found = measured(first)
            if not unmeasured:
                writer.write(first, found)
                sums = recorder.means(first, state) | found
                checkpoints.replace(first)
                save(first)
    if stop.requested and alone and (first < plan.total_steps or unmeasured):
        raise Preempted(f"before step {first + 1}: nothing was to be saved")
    step = first
    try:
        for count, batch in calls():
            pace.make_room()
            if stop.requested and alone and step > first:
                leave()
            if trace:
                trace.before(step, count)
            called = meter.now()
            try:
                state, metrics = step_fn(state, *batch)
            except FloatingPointError as error:  # raised where config.debug.nans is on
                raise NonFiniteError(f"step {step + count}: {one_line(error)}", step=step + count) from error
            meter.started(metrics, called)
            pace.started(count, called, metrics)
            step += count
            recorder.started(step, metrics)
            recorder.flush()  # the row before, now that the next step is under way
            if step == first + count:
                pace.first()  # compilation is in no rate
                recorder.first(step, metrics)
                stop.defer()
            if trace:
                trace.after(step, metrics)
            if plan.logs(step):
                recorder.hold(step, metrics, state)
            if plan.ends_epoch(step) or plan.saves(step):
                sums = recorder.means(step, state)  # waits for the steps under way: their time is no pause
                with progress.paused():
                    sums |= measured(step) if plan.ends_epoch(step) else {}
                    recorder.join(sums if plan.ends_epoch(step) else {})
                meter.pause()
            if plan.saves(step):
                recorder.flush()
                with progress.paused():
                    save(step)
                    saved = step
            if (stop.requested and alone) or checkpoints.reached_preemption(step):
                leave()
    finally:
        meter.close()
        if trace:
            trace.close()
    recorder.flush()
    checkpoints.wait()
    rate = progress.average
    return Trained(state, step - first, before + time.monotonic() - begun, rate if math.isfinite(rate) else None)


def _dispatches(
    batches: Iterator[dict[str, Any]], plan: Plan, pace: Pace, span: tuple[int, int], mesh: Mesh
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """(number of steps, what the step function takes beside the state), from the first step of the span to its end."""
    if plan.dispatch == 1:
        yield from ((1, (batch,)) for batch in device_batches(batches, mesh))
        return
    step, end = span
    while step < end:
        count = plan.steps_from(step, pace.steps)
        taken = list(itertools.islice(batches, count))
        yield count, (stacked_to_device(taken, plan.dispatch, mesh), np.int32(count))
        step += count


class _Recorder:
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
