"""How long a run trains, and which of its steps log, save and end an epoch."""

import dataclasses
from collections.abc import Iterator


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
