"""The errors that a person caused and can mend, and the text of their lines (`__main__` prints them without a traceback)."""

import re
from collections.abc import Mapping, Sequence

_LONGEST, _LONGEST_WORD = 300, 200  # characters


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


class UnknownWhite(ImageError):
    """An image whose file leaves open which sample is white; never skipped, since all it needs is a number, `data.white`."""


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


def one_line(error: BaseException | str) -> str:
    """The text of `error` without line breaks and cut to 300 characters; of an OSError what the system says, without the path."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    line = _escaped(" ".join(str(text).split()))
    if "allow_pickle" in line:  # numpy's advice is to trust the file
        line = "it holds Python objects and no arrays"
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def counted(number: int, noun: str) -> str:
    """`1 image`, `2,934 images`, `2 classes`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}{'es' if noun.endswith('s') else 's'}"


def plain(text: str) -> str:
    """A text that a file may have put names into: characters that do not print are escaped, words cut to 200 characters."""
    return re.sub(rf"(\S{{{_LONGEST_WORD}}})\S+", r"\1...", _escaped(text))


def _escaped(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def first_few(names: Sequence[object], most: int = 5) -> str:
    """`a, b, c, d, e and 4 more`."""
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
