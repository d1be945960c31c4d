"""Recognises the errors of a disk that is full or cannot be written, which whoever started the run can mend."""

import errno
import os

from etils import epath

from jigclu_jax.errors import UserError

_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
# tensorstore, which writes the arrays of a checkpoint, passes on the text alone
_TEXTS = {os.strerror(number).lower(): number for number in _NUMBERS}


def disk_error(error: BaseException, where: epath.PathLike, kept: str = "the last complete checkpoint is kept") -> UserError | None:
    """The error as one line, where it or what it came from is a disk that takes no more; None for any other.

    A disk is full or read-only for every restart as well, so it counts as a mistake that a person has to mend (exit code 2).
    """
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or found in seen:
            continue
        seen.append(found)
        number = _number(found)
        if number is not None:
            return UserError(
                f"{where} cannot be written any more: {os.strerror(number).lower()}; {kept}: make room, then start the same command again"
            )
        waiting += [found.__cause__, found.__context__]
        if isinstance(found, BaseExceptionGroup):
            waiting += found.exceptions
    return None


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno in _NUMBERS:
        return error.errno
    text = str(error).lower()
    return next((number for words, number in _TEXTS.items() if words in text), None)
