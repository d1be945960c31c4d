"""The text of an exception, fit for one line of an error message."""

_LONGEST = 300


def one_line(error: BaseException) -> str:
    """The text of `error` without line breaks and cut to 300 characters; the operating system's text for an OSError."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    line = " ".join(str(text).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
