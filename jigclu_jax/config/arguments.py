"""Arguments of a config file: `configs/NAME.py:arch=resnet18,epochs=20`."""

import difflib
from typing import Any

from jigclu_jax.errors import UserError


def parse_arg(text: str | None, **defaults: Any) -> dict[str, Any]:
    """ "a=1,b" -> a dict of the defaults with those changed, each of its default's type; a bare name means True.

    Raises:
      UserError: an unknown name (the nearest is named), or a value of another type.
    """
    values = dict(defaults)
    for part in filter(None, (piece.strip() for piece in (text or "").split(","))):
        name, equals, raw = part.partition("=")
        if name not in defaults:
            close = difflib.get_close_matches(name, defaults, 1, 0.5)
            hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(defaults) or 'none'}"
            raise UserError(f"config argument {name!r} is unknown: {hint}")
        if not equals and not isinstance(defaults[name], bool):
            raise UserError(f"config argument {name} has no value: use {name}=VALUE, by default {defaults[name]}")
        values[name] = _convert(name, raw if equals else "true", defaults[name])
    return values


def _convert(name: str, raw: str, default: Any) -> Any:
    kind = type(default)
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[raw.lower()]
        return kind(raw)
    except (KeyError, ValueError):
        raise UserError(f"config argument {name}={raw} is not of type {kind.__name__}") from None
