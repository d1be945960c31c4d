"""Field: one setting's default and the values that it may have. Trees of fields describe whole configs (`schema.py`, `jobs.py`)."""

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from jigclu_jax.errors import UserError

MOST_SEED = 2**63 - 1
_ITEMS = {int: "whole numbers", float: "numbers", str: "texts"}


@dataclasses.dataclass(frozen=True)
class Field:
    """A default of type int, float, bool, str or tuple, whose type every value must have (a float may be given as an int).

    Attributes:
      default: what holds where nothing is said.
      low, high: the least and the greatest number, or the bounds of a tuple's items; every number has two bounds, both finite.
      above, below: the same, where the bound itself is excluded.
      choices: the texts that are known, of a tuple the items; () for any.
      item: type of a tuple's items: int, float or str; None: that of the default's.
      least, most: how many items a tuple may have.
      order: "ascending", or "distinct" for items without repetition.
      rule: what no range says: value -> whether it is good.
      what: the values that `rule` wants, or an explanation of the range, for messages.
    """

    default: Any
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    item: type | None = None
    least: int = 0
    most: int = 1000
    order: str = ""
    rule: Callable[[Any], bool] | None = None
    what: str = ""

    def __post_init__(self) -> None:
        kind = self._item_kind() if self.kind is tuple and self.rule is None else self.kind
        bounds = [bound for bound in (self.low, self.above) if bound is not None], [b for b in (self.high, self.below) if b is not None]
        if kind in (int, float) and not all(len(side) == 1 and math.isfinite(side[0]) for side in bounds):
            raise ValueError(f"a number needs a finite lower and a finite upper bound: {self}")

    @property
    def kind(self) -> type:
        """The type of the setting."""
        return type(self.default)

    def of_type(self, value: Any) -> bool:
        """Whether a value has the setting's type."""
        return _is(value, self.kind)

    def problem(self, value: Any) -> str:
        """What is wrong with a value, as the end of a sentence that it begins ("must be from 1 to 16"); "" for a good one."""
        if not self.of_type(value):
            return f"is of type {type(value).__name__}, it must be {self.kind.__name__}"
        if self.rule is not None:
            return "" if self.rule(value) else f"must {self.what}"
        if self.kind is not tuple:
            return "" if self._good(value) else self._wanted("", value)
        kind = self._item_kind()
        good = all(_is(item, kind) and self._good(item) for item in value) and self.least <= len(value) <= self.most
        if good and self.order:
            good = list(value) == sorted(value) if self.order == "ascending" else len(set(value)) == len(value)
        return "" if good else self._wanted(f"hold {self._count()}{self.order}{' ' if self.order else ''}{_ITEMS[kind]}")

    def _item_kind(self) -> type:
        return self.item or type(self.default[0])

    def _good(self, value: Any) -> bool:
        if isinstance(value, bool):
            return True
        if isinstance(value, str):
            return not self.choices or value in self.choices
        low = value >= self.low if self.low is not None else value > self.above
        return bool(low and (value <= self.high if self.high is not None else value < self.below))

    def _count(self) -> str:
        if self.least == self.most:
            return f"{self.least} "
        return f"{self.least} or more " if self.least else ""

    def _wanted(self, items: str, value: Any = "") -> str:
        because = f": {self.what}" if self.what else ""
        if self.choices:
            known = " or ".join(map(repr, self.choices)) if len(self.choices) < 4 else f"one of {', '.join(map(repr, self.choices))}"
            near = difflib.get_close_matches(str(value), self.choices, 1, 0.4)
            hint = f"did you mean {near[0]!r}? " if near else ""
            return f"{'must hold known names' if items else 'is unknown'}: {hint}use {known}{because}"
        if self.item is str:
            return f"must {items}{because}"
        low = f"from {_shown(self.low)}" if self.low is not None else f"above {_shown(self.above)}"
        joint = " to " if self.low is not None else " and "
        high = _shown(self.high) if self.high is not None else f"below {_shown(self.below)}"
        if self.low is None and self.high is not None:
            high = f"at most {high}"
        return f"must {items or 'be'} {low}{joint}{high}{because}"


Fields = Mapping[str, Any]  # name -> Field, or a tree of them for a group, or a function () -> ConfigDict for the config of another job


def changed(fields: Fields, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with other defaults, given by dotted path; a group that is given replaces the group."""
    tree = dict(fields)
    for path, value in defaults.items():
        name, dot, rest = path.partition(".")
        if dot:
            tree[name] = changed(tree[name], {rest: value})
        elif isinstance(tree[name], Field) and not isinstance(value, Field):
            tree[name] = dataclasses.replace(tree[name], default=value)
        else:
            tree[name] = value
    return tree


def flat(fields: Fields, prefix: str = "") -> dict[str, Any]:
    """Dotted path -> Field (or the function of a config inside), in the schema's order."""
    found: dict[str, Any] = {}
    for name, node in fields.items():
        found |= flat(node, f"{prefix}{name}.") if isinstance(node, Mapping) else {f"{prefix}{name}": node}
    return found


def check_values(values: Mapping[str, Any] | ConfigDict, fields: Mapping[str, Field], prefix: str = "") -> None:
    """UserError, naming the field, where one of these values is not as its field says: for what is built without a whole config."""
    for name, field in fields.items():
        if problem := field.problem(values[name]):
            raise UserError(f"{prefix}{name}={values[name]!r} {problem}")


def _is(value: Any, kind: type) -> bool:
    accepted = (int, float) if kind is float else kind
    return isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))


def _shown(bound: float | None) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"
