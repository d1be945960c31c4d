"""The training loop: batches through the step, metrics out, checkpoints kept. It never learns a method's name."""

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
from jigclu_jax.train.plan import Plan
from jigclu_jax.train.progress import Progress
from jigclu_jax.train.recorder import Recorder
from jigclu_jax.train.state import TrainState
from jigclu_jax.train.step import Step
from jigclu_jax.train.stop import Interrupted, StopRequest
from jigclu_jax.train.trace import Trace
from jigclu_jax.train.writers import MetricWriter

# What the loop adds to every row.
ROW_METRICS = (MetricSpec("images_per_second", "images per second"), MetricSpec("input_wait", "time spent waiting for images", "%"))
UNMEASURED = "unmeasured"  # in a checkpoint's meta: the evaluations of its epoch were interrupted

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
class Start:
    """Where a process begins to train.

    Attributes:
      state: the state; donated.
      meta: what each checkpoint carries beside the state; `seconds`, `timed` (see `Progress`) and `epoch_metrics` are added.
      unmeasured: the run was stopped during the evaluations of `state`.
    """

    state: TrainState
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    unmeasured: bool = False


@dataclasses.dataclass(frozen=True)
class Input:
    """Batches, and where they go.

    Attributes:
      batches_between: opens host batches of this process; where something happens before an epoch, epoch by epoch, else once.
      mesh: the devices.
    """

    batches_between: BatchesBetween
    mesh: Mesh


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What training writes to.

    Attributes:
      checkpoints: where states go.
      writer: rows of metrics.
      progress: the line a person sees; measures images/s.
      trace: profiles some of the steps.
    """

    checkpoints: Checkpoints
    writer: MetricWriter
    progress: Progress
    trace: Trace | None = None


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What happens between epochs.

    Attributes:
      before_epoch: changes the state before an epoch's first step.
      after_epoch: evaluations. A stop interrupts them; they are made up for when the run goes on.
    """

    before_epoch: BeforeEpoch | None = None
    after_epoch: tuple[EpochHook, ...] = ()


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a finished loop hands back: the last state, steps of this process, seconds and images/s over all restarts."""

    state: TrainState
    steps: int
    seconds: float
    images_per_second: float | None


def fit(start: Start, step_fn: Step, source: Input, plan: Plan, outputs: Outputs, stop: StopRequest, hooks: Hooks | None = None) -> Trained:
    """Train from `start.state.step` to `plan.total_steps`.

    The host does not wait for a quick step that it has just started: a row's metrics are fetched once the next step is under way. Nor
    does it run ahead of the device by more than half a second (`train/pace.py`), so that a stop comes after the step under way.

    Args:
      start: the state to begin with, and what is known of it.
      step_fn: the compiled step.
      source: batches and devices.
      plan: lengths and intervals.
      outputs: checkpoints, rows, progress.
      stop: looked at after every step.
      hooks: what happens between epochs.

    Raises:
      NonFiniteError: a loss or gradient was not finite; what was saved before stays.
      Preempted: a stop was requested, and the state is saved; before the first step there is nothing to save.
    """
    return _Loop(start, step_fn, source, plan, outputs, stop, hooks or Hooks()).run()


class _Loop:
    """One call of `fit`: its arguments, and what changes from step to step."""

    def __init__(self, start: Start, step_fn: Step, source: Input, plan: Plan, outputs: Outputs, stop: StopRequest, hooks: Hooks) -> None:
        self.step_fn, self.source, self.plan, self.stop, self.hooks = step_fn, source, plan, stop, hooks
        self.checkpoints, self.progress, self.writer, self.trace = outputs.checkpoints, outputs.progress, outputs.writer, outputs.trace
        self.begun, self.meta = time.monotonic(), start.meta
        self.state, self.unmeasured = start.state, start.unmeasured
        self.step = self.first = self.saved = int(start.state.step)
        self.sums: dict[str, float] = {}  # of the epoch's metrics, at its last checkpoint
        self.meter = IdleMeter()
        self.recorder = Recorder(plan, self.writer, self.progress, self.meter)
        # several processes stop together, at a step that they agree on (`Checkpoints.reached_preemption`)
        self.alone = jax.process_count() == 1
        self.pace = Pace(plan.dispatch, self.alone, jax.block_until_ready)

    def run(self) -> Trained:
        if self.unmeasured:
            self._make_up()
        if self._stopped and (self.first < self.plan.total_steps or self.unmeasured):
            raise Preempted(f"before step {self.first + 1}: nothing was to be saved")
        try:
            for count, batch in self._calls():
                self.pace.make_room()
                if self._stopped and self.step > self.first:
                    self._leave()
                self._call(count, batch)
                self._between_calls()
                if self._stopped or self.checkpoints.reached_preemption(self.step):
                    self._leave()
        finally:
            self.meter.close()
            if self.trace:
                self.trace.close()
        self.recorder.flush()
        self.checkpoints.wait()
        rate = self.progress.average
        return Trained(self.state, self.step - self.first, self._seconds(), rate if math.isfinite(rate) else None)

    @property
    def _stopped(self) -> bool:
        return self.stop.requested and self.alone

    def _seconds(self) -> float:
        """Of training, in all processes so far."""
        return float(self.meta.get("seconds", 0.0)) + time.monotonic() - self.begun

    def _calls(self) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """(number of steps, what the step function takes beside the state), of the whole run."""
        before_epoch, per_epoch = self.hooks.before_epoch, self.plan.steps_per_epoch
        for begin, end in self.plan.parts(self.first, before_epoch is not None):
            if before_epoch is not None and begin % per_epoch == 0:
                with self.progress.paused():
                    self.state = before_epoch(begin // per_epoch, self.state)
                self.meter.pause()
            batches = self.source.batches_between(begin, end, self.state)
            yield from _dispatches(batches, self.plan, self.pace, (begin, end), self.source.mesh)

    def _call(self, count: int, batch: tuple[Any, ...]) -> None:
        """Start `count` steps, and write the row before them now that they are under way."""
        if self.trace:
            self.trace.before(self.step, count)
        called = self.meter.now()
        try:
            self.state, metrics = self.step_fn(self.state, *batch)
        except FloatingPointError as error:  # raised where config.debug.nans is on
            raise NonFiniteError(f"step {self.step + count}: {one_line(error)}", step=self.step + count) from error
        self.meter.started(metrics, called)
        self.pace.started(count, called, metrics)
        opening = self.step == self.first
        self.step += count
        self.recorder.started(self.step, metrics)
        self.recorder.flush()
        if opening:
            self.pace.first()  # compilation is in no rate
            self.recorder.first(self.step, metrics)
            self.stop.defer()
        if self.trace:
            self.trace.after(self.step, metrics)
        if self.plan.logs(self.step):
            self.recorder.hold(self.step, metrics, self.state)

    def _between_calls(self) -> None:
        """Evaluate at an epoch's end, and save where the plan says so."""
        ends, saves = self.plan.ends_epoch(self.step), self.plan.saves(self.step)
        if ends or saves:
            self.sums = self.recorder.means(self.step, self.state)  # waits for the steps under way: their time is no pause
            with self.progress.paused():
                self.sums |= self._measured() if ends else {}
                self.recorder.join(self.sums if ends else {})
            self.meter.pause()
        if saves:
            self.recorder.flush()
            with self.progress.paused():
                self._save()

    def _measured(self) -> dict[str, float]:
        """What the evaluations find; nothing where a stop interrupts them."""
        found: dict[str, float] = {}
        self.stop.interrupts, self.unmeasured = self.alone, True
        try:
            for hook in self.hooks.after_epoch:
                found |= hook.measure(self.step, self.state)
            self.unmeasured = False
        except Interrupted:
            return {}
        finally:
            self.stop.interrupts = False
        return found

    def _make_up(self) -> None:
        """The evaluations that a stop interrupted: their row, and the checkpoint once more, with its score."""
        with self.progress.paused():
            found = self._measured()
            if not self.unmeasured:
                self.writer.write(self.first, found)
                self.sums = self.recorder.means(self.first, self.state) | found
                self.checkpoints.replace(self.first)
                self._save()

    def _save(self) -> None:
        self.writer.flush()  # a row must be on disk before the checkpoint that makes it count
        more = {"seconds": self._seconds(), "timed": list(self.progress.timed), "epoch_metrics": self.sums, UNMEASURED: self.unmeasured}
        score = self.sums if self.plan.ends_epoch(self.step) and not self.unmeasured else None
        self.checkpoints.save(self.step, self.state, {**self.meta, **more}, score)
        self.saved = self.step

    def _leave(self) -> NoReturn:
        self.recorder.flush()
        if self.saved != self.step:
            self.sums = self.recorder.means(self.step, self.state)
            self._save()
        self.checkpoints.wait()
        self.progress.say(f"stopped on request after step {self.step}: saved, start the same command again to go on")
        raise Preempted(f"stopped after step {self.step}")


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
