"""Stores features on disk under a key of everything that they depend on; a second evaluation reads them."""

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from jigclu_jax.atomic_file import write_file
from jigclu_jax.errors import one_line
from jigclu_jax.evals.features import FeatureBank

_FORMAT = 1
_FIELDS = ("features", "labels", "indices")


def bank_key(**parts: Any) -> str:
    """Name of the bank that depends on these JSON values: digest of the weights, fingerprint of the images, sizes, dtype."""
    return hashlib.sha256(json.dumps({"format": _FORMAT, **parts}, sort_keys=True).encode()).hexdigest()[:24]


def read_bank(folder: epath.PathLike, key: str) -> FeatureBank | None:
    """The bank of that key; None where there is none, or a damaged one."""
    path = _path(folder, key)
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return _checked(FeatureBank(*(archive[name] for name in _FIELDS)))
    except Exception as error:  # whatever a damaged archive makes a reader raise
        logging.warning("%s cannot be read (%s): its features are computed anew", path, one_line(error))
        return None


def write_bank(folder: epath.PathLike, key: str, bank: FeatureBank, about: Mapping[str, Any]) -> epath.Path | None:
    """Store a bank, whole or not at all; None where the folder takes no file: the features are then computed again next time."""
    path = _path(folder, key)
    arrays = {name: getattr(bank, name) for name in _FIELDS} | {"about": np.array(json.dumps(about))}
    try:
        write_file(path, lambda file: np.savez(file, **arrays))
    except OSError as error:
        logging.warning("features are not kept, %s cannot be written: %s", path, error.strerror or error)
        return None
    return path


def _checked(bank: FeatureBank) -> FeatureBank:
    """The bank; ValueError where its arrays are not those of one."""
    found = [(array.ndim, str(array.dtype)) for array in (bank.features, bank.labels, bank.indices)]
    if found != [(2, "float32"), (1, "int32"), (1, "int64")] or not len(bank.features) == len(bank.labels) == len(bank.indices):
        raise ValueError("not the arrays of a feature bank")
    return bank


def _path(folder: epath.PathLike, key: str) -> epath.Path:
    return epath.Path(folder) / f"{key}.npz"
