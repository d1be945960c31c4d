"""Stands in for checkpoints where a loop is timed."""

from jigclu_jax.train.checkpoint import Checkpoints


class NoCheckpoints(Checkpoints):
    """Saves nothing: what saving costs depends on the disk and on `saving.every_epochs`, not on the loop."""

    def save(self, *_: object) -> None:
        pass
