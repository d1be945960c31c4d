"""Reads the library's own JSON files; what they hold is checked, and a damaged one is named in one line."""

import json
import math
from collections.abc import Mapping
from typing import Any

from etils import epath

from jigclu_jax.errors import UserError, one_line

# Field -> the types that it may have; NUMBER and OPTIONAL below. What is not named may be anything, or be missing.
Kinds = Mapping[str, tuple[type, ...]]
NUMBER = (int, float)
NOTHING = type(None)
_DEEPEST = 60  # levels; ours have less than ten
_NAMES = {dict: "object", list: "list", str: "text", int: "whole number", float: "number", bool: "true or false", NOTHING: "null"}


class DamagedFile(UserError):
    """A file of this library that is cut short, changed, or somebody else's. The text names it and says what to do."""


def read_json(path: epath.PathLike, kinds: Kinds, remedy: str) -> dict[str, Any]:
    """The object that a file holds.

    Args:
      path: the file.
      kinds: fields that must be there, and their types; a bool is no number, a whole number is one.
      remedy: what to do about a damaged file.

    Raises:
      DamagedFile: naming the path: it cannot be read, or holds something else.
    """
    try:
        return parse_json(epath.Path(path).read_bytes(), kinds)
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{path}: {reason(error)}: {remedy}") from error


def read_objects(path: epath.PathLike, kinds: Kinds, remedy: str) -> list[dict[str, Any]]:
    """The list of objects that a file holds, each as `read_json` says."""
    try:
        return [parse_json(json.dumps(item), kinds) for item in _parsed(epath.Path(path).read_bytes(), list)]
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{path}: {reason(error)}: {remedy}") from error


def parse_json(data: bytes | str, kinds: Kinds | None = None) -> dict[str, Any]:
    """The object in a JSON text.

    Raises:
      ValueError: it holds something else, or `kinds` (see `read_json`) are not met; the text is the reason.
    """
    found: dict[str, Any] = _parsed(data, dict)
    check_kinds(found, kinds or {})
    return found


def check_kinds(found: Mapping[str, Any], kinds: Kinds) -> None:
    """ValueError where a field is missing or of another type than `kinds` says, see `read_json`."""
    for name, types in kinds.items():
        if name not in found:
            raise ValueError(f"`{name}` is missing")
        value = found[name]
        accepted = isinstance(value, types) or (float in types and isinstance(value, int))
        if not accepted or (isinstance(value, bool) and bool not in types) or (isinstance(value, float) and not math.isfinite(value)):
            names = " or ".join(_NAMES.get(kind, kind.__name__) for kind in types)
            raise ValueError(f"`{name}` is {repr(value)[:60]} and no {names}")


def reason(error: Exception) -> str:
    """Why a file could not be read, in a few words on one line."""
    return f"cannot be read ({one_line(error)})" if isinstance(error, OSError) else f"damaged: {one_line(error)}"


def _parsed(data: bytes | str, kind: type) -> Any:
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:  # of JSON or of UTF-8
        raise ValueError(f"no JSON ({error})") from None
    if not isinstance(found, kind):
        raise ValueError(f"no JSON {_NAMES[kind]}")
    if _depth(found) > _DEEPEST:
        raise ValueError("nested too deeply")
    return found


def _depth(tree: Any) -> int:
    """Levels of objects and lists; counted without recursion."""
    level, depth = [tree], 0
    while level and depth <= _DEEPEST:
        depth += 1
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node) if isinstance(child, dict | list)]
    return depth
