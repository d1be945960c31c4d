"""Errors that a user can mend are one line that names what is wrong and where: tests look at the names, not at the sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jigclu_jax.errors import UserError


def assert_names(text: str, *names: str) -> None:
    """`text` is one line and holds these fields, files, values and choices."""
    assert "\n" not in text.removesuffix("\n"), text
    missing = [name for name in names if name not in text]
    assert not missing, f"{missing} not named in: {text}"


@contextmanager
def raises_naming(*names: str, kind: type[Exception] = UserError) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """The block must raise `kind`, whose message is one line that holds these fields, files, values and choices."""
    with pytest.raises(kind) as raised:
        yield raised
    assert_names(str(raised.value), *names)
