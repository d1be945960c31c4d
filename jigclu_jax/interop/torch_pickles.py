"""Reads pickles of PyTorch without running anything that they name.

A pickle is a program. Here its opcodes build dicts, lists and tensors alone; whatever else it names becomes a `Thing`, which is never
imported or called.
"""

import io
import pickletools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

_MOST_OPCODES = 2**20  # that of a ResNet with its optimizer's state takes less than a hundredth
_DTYPES: dict[str, Any] = {
    **{"Float": np.float32, "Double": np.float64, "Half": np.float16, "BFloat16": ml_dtypes.bfloat16},
    **{"Long": np.int64, "Int": np.int32, "Short": np.int16, "Char": np.int8, "Byte": np.uint8, "Bool": np.bool_},
}
# Of tensors that have no storage of their own kind, but bytes.
_OF_BYTES: dict[str, Any] = {
    **{f"torch.{name}": getattr(ml_dtypes, name) for name in ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")},
    **{f"torch.{name}": getattr(np, name) for name in ("uint16", "uint32", "uint64")},
}
_DICTS = ("collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PLAIN = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)


class Storage(NamedTuple):
    """Numbers in a row."""

    key: str
    dtype: np.dtype
    numel: int


class Tensor(NamedTuple):
    """A view of a storage, in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(eq=False)
class Thing:
    """Whatever is neither number, text, container nor tensor: a name (of a class or function), and what it was to be given."""

    name: str
    state: Any = None


def unknown_dtype(kind: str) -> np.dtype:
    """Stands for a dtype that NumPy does not have."""
    return np.dtype([(kind, "V1")])


def unpickled(file: io.BytesIO, storages: dict[str, Storage] | None = None) -> Any:
    """The value of one pickle; fills in the storages that it names. ValueError for an opcode that is unknown here, or out of place."""
    stack: list[Any] = []
    below: list[list[Any]] = []  # the stacks under the marks
    memo: dict[int, Any] = {}
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        name = opcode.name
        if number > _MOST_OPCODES:
            raise ValueError("its pickle is longer than that of any weights")
        try:
            if name in _PLAIN:
                stack.append(argument)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif name == "STOP":
                return stack.pop()
            elif name == "MARK":
                below.append(stack)
                stack = []
            elif name in _ON_MARK:
                items, stack = stack, below.pop()
                _ON_MARK[name](stack, items)
            elif name in _ON_STACK:
                _ON_STACK[name](stack)
            elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
                memo[len(memo) if name == "MEMOIZE" else int(argument or 0)] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[int(argument or 0)])
            elif name == "GLOBAL":
                stack.append(Thing(str(argument).replace(" ", ".")))
            elif name == "BINPERSID":
                stack.append(_storage(stack.pop(), {} if storages is None else storages))
            elif name not in ("PROTO", "FRAME"):
                raise ValueError(f"its pickle holds the opcode {name}")
        except (IndexError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"its pickle is damaged at {name}") from error
    raise ValueError("its pickle has no end")


def _storage(identity: Any, storages: dict[str, Storage]) -> Any:
    if isinstance(identity, tuple) and identity[0] == "module":  # source code of a class, in the older form
        return identity[1]
    _, kind, key, _, numel, *_ = identity
    match = re.fullmatch(r"torch\.(?:cuda\.|storage\.)?(\w+)Storage", kind.name if isinstance(kind, Thing) else "")
    dtype = None if match is None else np.uint8 if match[1] in ("Untyped", "Typed") else _DTYPES.get(match[1])
    if dtype is None:
        return Thing(getattr(kind, "name", "storage"))
    if type(numel) is not int or numel < 0:
        raise ValueError("a storage has no size")
    storages[str(key)] = Storage(str(key), np.dtype(dtype), numel)
    return storages[str(key)]


def _reduce(stack: list[Any]) -> None:
    arguments, function = stack.pop(), stack.pop()
    stack.append(_called(function, arguments))


def _called(function: Any, arguments: Any) -> Any:
    """What a call would have given: tensors and dicts, for all else the name of what was not called."""
    name = function.name if isinstance(function, Thing) else type(function).__name__
    if name in _DICTS:
        pairs = arguments[-1] if arguments and isinstance(arguments[-1], list | tuple) else ()
        return _put({}, [part for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2 for part in pair])
    if name in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2") and isinstance(arguments[0], Storage):
        storage, offset, shape, stride = arguments[:4]
        if not all(type(number) is int for number in (offset, *shape, *stride)) or len(shape) != len(stride):
            raise ValueError("a tensor has no shape")
        return Tensor(storage, offset, tuple(shape), tuple(stride))
    if name == "torch._utils._rebuild_tensor_v3" and isinstance(storage := arguments[0], Storage):
        kind = getattr(arguments[6], "name", "a dtype")
        if kind not in _OF_BYTES:
            return _unreadable(kind)
        dtype = np.dtype(_OF_BYTES[kind])
        of_dtype = Storage(storage.key, dtype, storage.numel * storage.dtype.itemsize // dtype.itemsize)
        return _called(Thing("torch._utils._rebuild_tensor_v2"), (of_dtype, *arguments[1:]))
    if name.startswith("torch._utils._rebuild_parameter"):
        return arguments[0]
    if name in ("torch._tensor._rebuild_from_type_v2", "torch._tensor._rebuild_from_type"):
        return _called(arguments[0], arguments[2])
    if name == "torch.Size":
        return arguments[0]
    if name.startswith("torch._utils._rebuild_"):  # quantised, sparse, complex ones, without numbers, ...
        kind = arguments[0].name if arguments and isinstance(arguments[0], Thing) else ""
        return _unreadable(kind if kind.endswith("Storage") else name)
    return Thing(name)


def _unreadable(kind: str) -> Tensor:
    """Stands for a tensor whose numbers are not read: who wants it is told its kind."""
    return Tensor(Storage("", unknown_dtype(kind), 0), 0, (), ())


def _build(stack: list[Any]) -> None:
    state = stack.pop()
    if isinstance(thing := stack[-1], Thing):  # of a module: its parts; of a class that is a dict they come beside its items
        thing.state = state if thing.state is None else [thing.state, state]


def _put(target: Any, items: list[Any]) -> Any:
    """Pairs into a dict; keys that are no names are left out, as hashing what was made of them could take for ever."""
    if isinstance(target, Thing):  # of a class that is a dict
        target.state = {} if target.state is None else target.state
        target = target.state
    if isinstance(target, dict):
        target.update({key: value for key, value in zip(items[::2], items[1::2], strict=True) if isinstance(key, str | int)})
    return target


def _append(target: Any, items: Iterable[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)


def _pair(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    _put(stack[-1], [key, value])


def _one(stack: list[Any]) -> None:
    value = stack.pop()
    _append(stack[-1], [value])


def _tuple(count: int) -> Callable[[list[Any]], None]:
    def make(stack: list[Any]) -> None:
        items = tuple(stack.pop() for _ in range(count))[::-1]
        stack.append(items)

    return make


def _global(stack: list[Any]) -> None:
    name, module = stack.pop(), stack.pop()
    stack.append(Thing(f"{module}.{name}"))


def _new(stack: list[Any]) -> None:
    del stack[-1]  # its arguments
    stack.append(Thing(stack.pop().name))


_ON_STACK: dict[str, Callable[[list[Any]], object]] = {
    "EMPTY_LIST": lambda stack: stack.append([]),
    "EMPTY_SET": lambda stack: stack.append([]),
    "EMPTY_DICT": lambda stack: stack.append({}),
    "EMPTY_TUPLE": lambda stack: stack.append(()),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "APPEND": _one,
    "SETITEM": _pair,
    "STACK_GLOBAL": _global,
    "REDUCE": _reduce,
    "BUILD": _build,
    "NEWOBJ": _new,
    "POP": lambda stack: stack.pop(),
    "DUP": lambda stack: stack.append(stack[-1]),
}
_ON_MARK: dict[str, Callable[[list[Any], list[Any]], object]] = {
    "LIST": lambda stack, items: stack.append(items),
    "TUPLE": lambda stack, items: stack.append(tuple(items)),
    "DICT": lambda stack, items: stack.append(_put({}, items)),
    "FROZENSET": lambda stack, items: stack.append(items),
    "APPENDS": lambda stack, items: _append(stack[-1], items),
    "ADDITEMS": lambda stack, items: _append(stack[-1], items),
    "SETITEMS": lambda stack, items: _put(stack[-1], items),
    "POP_MARK": lambda stack, items: None,
}
