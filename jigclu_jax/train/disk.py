"""Recognises the errors of a disk that is full or cannot be written, or where another thing stands: a person can mend them."""

import errno
import os

from etils import epath

from jigclu_jax.errors import UserError, one_line

_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
# something else stands where a file of ours should be, or may not be touched
_IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM)
# tensorstore, which writes the arrays of a checkpoint, passes on the text alone
_TEXTS = {os.strerror(number).lower(): number for number in _NUMBERS}


def disk_error(error: BaseException, where: epath.PathLike, kept: str = "the last complete checkpoint is kept") -> UserError | None:
    """The error as one line, where it or what it came from is a disk that takes no more, or no file at that path; None for any other.

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
        if in_the_way := _in_the_way(found):
            return UserError(f"{in_the_way}: move away what is there, then start the same command again")
        waiting += [found.__cause__, found.__context__]
        if isinstance(found, BaseExceptionGroup):
            waiting += found.exceptions
    return None


def _in_the_way(error: BaseException) -> str:
    """The path where something else stands, or that may not be touched, and what the system says; empty for other errors."""
    if isinstance(error, OSError) and error.errno in _IN_THE_WAY and error.filename is not None:
        return f"{error.filename2 or error.filename}: {one_line(error).lower()}"
    own = (
        isinstance(error, IsADirectoryError | NotADirectoryError | FileExistsError) and error.errno is None
    )  # epath's, which names the path
    return one_line(error) if own else ""


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno in _NUMBERS:
        return error.errno
    text = str(error).lower()
    return next((number for words, number in _TEXTS.items() if words in text), None)
