"""The errors that a person caused and can mend: one clear line each, no traceback (`__main__` prints them)."""

from collections.abc import Mapping


class UserError(Exception):
    """Something the user can mend: the text says in one line what is wrong, where, and what to do. Exit code 2."""


class ImageError(UserError):
    """One image that cannot be used (damaged, too small): named in the text. Skipped when `data.on_error=skip`.

    `remedy` is what can be done about it.
    """

    remedy = "mend it"


class RecordError(ImageError):
    """A record of a prepared shard that cannot be used."""

    remedy = "delete the shard and start the prepare job again"


class NonFiniteError(Exception):
    """The loss or a gradient is no longer a finite number: the run stops, the last good checkpoint stays. Exit code 1.

    `step` is the first such step, `metrics` what is known of it.
    """

    def __init__(self, text: str, *, step: int = 0, metrics: Mapping[str, float] | None = None) -> None:
        super().__init__(text)
        self.step, self.metrics = step, dict(metrics or {})


class PeerError(Exception):
    """Another process of this run has failed, was lost, or never came. Exit code 1."""


class Preempted(Exception):
    """The run was asked to stop (SIGTERM or a preemption notice) and has completed its save. Exit code 75."""
