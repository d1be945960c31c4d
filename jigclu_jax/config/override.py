"""Sets one field of a config from the text on the command line, by the type of its default."""

import ast
from typing import Any

from ml_collections import ConfigDict

from jigclu_jax.config.check import field_names, meant
from jigclu_jax.config.jobs import use_method
from jigclu_jax.config.stored import RENAMED
from jigclu_jax.errors import UserError

_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def override(config: ConfigDict, name: str, text: str | bool | None, where: str = "this config") -> None:
    """Set `config.name` ("optimizer.learning_rate") to the value that the text stands for.

    Args:
      config: changed in place.
      name: dotted path of the field.
      text: what stood after `=`; None where there was nothing (True for a switch), False for `--noconfig.name`.
      where: the config's file, for messages.

    Raises:
      UserError: no such field (the nearest is named), a group of fields, or a text of another type.
    """
    *groups, leaf = name.split(".")
    node: Any = config
    above = config
    for group in groups:
        above, node = node, node[group] if isinstance(node, ConfigDict) and group in node else None
    if not isinstance(node, ConfigDict) or leaf not in node:
        raise UserError(f"config.{name} is no field of {where}: {meant(name, field_names(config))}")
    if isinstance(node[leaf], ConfigDict):
        if name in RENAMED:
            raise UserError(f"config.{name} is now a group of fields: it is called config.{RENAMED[name]}")
        inside = ", ".join(f"config.{name}.{field}" for field in field_names(node[leaf]))
        raise UserError(f"config.{name} is a group of fields: set one of {inside}")
    if leaf == "name" and groups[-1:] == ["method"]:
        use_method(above, str(text))
        return
    node[leaf] = _value(f"config.{name}", text, node[leaf], node.get_type(leaf))


def _value(name: str, text: str | bool | None, old: Any, kind: type) -> Any:
    if kind is bool:
        if isinstance(text, bool) or text is None:
            return text is None or text
        if text.lower() in _TRUTH:
            return _TRUTH[text.lower()]
        raise UserError(f"{name}={text} is not of type bool: use True or False")
    if isinstance(text, bool):
        raise UserError(f"--no{name}: {name} is no switch but of type {kind.__name__}: use --{name}=VALUE")
    if text is None:
        raise UserError(f"--{name} has no value: use --{name}=VALUE")
    if kind is tuple:
        return _tuple(name, text, old)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            whole = "a whole number" if kind is int else "a number"
            raise UserError(f"{name}={text} is not of type {kind.__name__}: give {whole}, it is {old}") from None
    if kind is str:
        return text
    raise UserError(f"{name} is of type {kind.__name__}, which the command line cannot set: set it in the config file")


def _tuple(name: str, text: str, old: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numbers in parentheses or without, whole ones where the default's are; where that holds none, also texts and tuples of them."""
    shown = ",".join(map(str, old)) if _numbers(old) else ""
    fault = UserError(f"{name}={text} is not of type tuple: give numbers as in --{name}={shown or '60,80'}")
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise fault from None
    values = tuple(found) if isinstance(found, tuple | list) else (found,)
    if old and _numbers(old) and not _numbers(values):
        raise fault
    return tuple(float(value) for value in values) if old and isinstance(old[0], float) else values


def _numbers(values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


__all__ = ["override"]
