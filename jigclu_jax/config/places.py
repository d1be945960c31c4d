"""Where a path that a person gives may lead: to this machine, or into a bucket of Google Cloud Storage."""

import os
import re

from etils import epath

from jigclu_jax.config.fields import Field
from jigclu_jax.errors import UserError

_WHAT = "be a path of this machine, or gs://BUCKET/DIR"
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def _is_place(text: str) -> bool:
    """False for other addresses (https://, s3://, file://), several with commas between them included."""
    return all(part.startswith("gs://") or not _ADDRESS.match(part) for part in text.split(","))


PLACE = Field("", rule=_is_place, what=_WHAT)


def to_path(given: epath.PathLike, name: str) -> epath.Path:
    """The path, ~ expanded; UserError, with the name of the argument, for an address that no file system here has."""
    if not _is_place(os.fspath(given)):
        raise UserError(f"{name}={os.fspath(given)} must {_WHAT}")
    return epath.Path(given).expanduser()
