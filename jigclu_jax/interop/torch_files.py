"""Reads the tensors of a file of PyTorch without PyTorch, and without running anything that the file names.

`torch.save` writes a pickle and the raw numbers beside it: parts of a zip archive, or one after the other before version 1.6. A pickle is a
program. Here its opcodes build dicts, lists and tensors alone; whatever else it names becomes a `Thing`, which is never imported or called.
"""

import contextlib
import io
import math
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

_MOST_PICKLE, _MOST_OPCODES = 2**24, 2**20  # bytes of a pickle; that of a ResNet with its optimizer's state takes less than a hundredth
_LONGEST_NAME, _DEEPEST = 500, 50
_MAGIC = 0x1950A86A20F9469CFC6C  # of the form before PyTorch 1.6
_DTYPES: dict[str, Any] = {
    **{"Float": np.float32, "Double": np.float64, "Half": np.float16, "BFloat16": ml_dtypes.bfloat16},
    **{"Long": np.int64, "Int": np.int32, "Short": np.int16, "Char": np.int8, "Byte": np.uint8, "Bool": np.bool_},
}
_DICTS = ("collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PLAIN = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, not read yet: its shape and dtype as the file tells, and the function that reads it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


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


@contextlib.contextmanager
def torch_arrays(file: Any) -> Iterator[tuple[dict[str, StoredArray], list[str]]]:
    """Tensors of an opened file by their dotted path through dicts, lists and modules, and the names of the things that were not made.

    Raises:
      ValueError, and what zipfile, pickletools and damage lead to.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            yield _zipped(archive)
    else:
        yield _in_a_row(file)


def _zipped(archive: zipfile.ZipFile) -> tuple[dict[str, StoredArray], list[str]]:
    sizes = {info.filename: info for info in archive.infolist()}
    found = sorted((name for name in sizes if name.rpartition("/")[2] == "data.pkl" and name.count("/") <= 1), key=len)
    if not found:
        raise ValueError("the archive holds no data.pkl")
    root = found[0].removesuffix("data.pkl")
    if f"{root}byteorder" in sizes and archive.read(f"{root}byteorder")[:10] != b"little":
        raise ValueError("it was written on a big-endian machine")
    if sizes[found[0]].file_size > _MOST_PICKLE:
        raise ValueError(f"its data.pkl claims {sizes[found[0]].file_size:,} bytes")

    def raw(storage: Storage, begin: int, count: int) -> bytes:
        info = sizes.get(f"{root}data/{storage.key}") or sizes.get(f"{root}tensors/{storage.key}")
        if info is None or info.compress_type != zipfile.ZIP_STORED or begin + count > info.file_size:
            raise ValueError(f"its part data/{storage.key} is missing, compressed or too short")
        with archive.open(info) as part:
            part.seek(begin)
            return part.read(count)

    return _named(_unpickled(io.BytesIO(archive.read(found[0]))), raw)


def _in_a_row(file: Any) -> tuple[dict[str, StoredArray], list[str]]:
    """The form before PyTorch 1.6: five pickles, then for each storage the number of its elements and the elements."""
    file.seek(0)
    head = io.BytesIO(file.read(_MOST_PICKLE))
    storages: dict[str, Storage] = {}
    magic, version, machine = (_unpickled(head) for _ in range(3))
    if magic != _MAGIC or version != 1001:
        raise ValueError("it is no file of torch.save")
    if isinstance(machine, dict) and machine.get("little_endian") is False:
        raise ValueError("it was written on a big-endian machine")
    value, keys = _unpickled(head, storages), _unpickled(head)
    begins, at = {}, head.tell()
    for key in keys if isinstance(keys, list) else []:
        if str(key) not in storages:
            raise ValueError(f"storage {str(key)[:40]} is of no tensor")
        begins[str(key)] = at + 8
        at += 8 + storages[str(key)].numel * storages[str(key)].dtype.itemsize

    def raw(storage: Storage, begin: int, count: int) -> bytes:
        if storage.key not in begins:
            raise ValueError(f"storage {storage.key} is missing")
        file.seek(begins[storage.key] + begin)
        return file.read(count)

    return _named(value, raw)


def _named(value: Any, raw: Callable[[Storage, int, int], bytes]) -> tuple[dict[str, StoredArray], list[str]]:
    """Every tensor by its path. A container counts once, where it is met first: pickles may share them, and be circular."""
    arrays: dict[str, StoredArray] = {}
    things: dict[str, None] = {}
    seen: set[int] = set()
    waiting: list[tuple[str, int, Any]] = [("", 0, value)]
    while waiting:
        path, depth, node = waiting.pop()
        if isinstance(node, Tensor):
            arrays.setdefault(path, StoredArray(node.shape, node.storage.dtype, _reader(node, raw)))
            continue
        if isinstance(node, Thing):
            things.setdefault(node.name)
            node = node.state
        if id(node) in seen or depth > _DEEPEST or not isinstance(node, dict | list | tuple):
            continue
        seen.add(id(node))
        children = node.items() if isinstance(node, dict) else enumerate(node)
        for name, child in reversed([(name, child) for name, child in children if isinstance(child, Thing | dict | list | tuple)]):
            # a module keeps its parts in dicts of these names
            below = path if name in ("_modules", "_parameters", "_buffers") else f"{path}.{name}" if path else str(name)
            if len(below) <= _LONGEST_NAME:
                waiting.append((below, depth + 1, child))
    return arrays, list(things)


def _reader(tensor: Tensor, raw: Callable[[Storage, int, int], bytes]) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        storage, offset, shape, stride = tensor
        size, extent = storage.dtype.itemsize, 0 if 0 in shape else 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        if offset < 0 or min((*shape, *stride), default=0) < 0 or max(math.prod(shape), offset + extent) > storage.numel:
            raise ValueError(f"a tensor of shape {shape} does not lie within its storage of {storage.numel} elements")
        data = raw(storage, offset * size, extent * size)
        if len(data) != extent * size:
            raise ValueError(f"storage {storage.key} is cut off")
        flat = np.frombuffer(data, storage.dtype)
        return np.lib.stride_tricks.as_strided(flat, shape, [size * step for step in stride]).copy()

    return read


def _unpickled(file: io.BytesIO, storages: dict[str, Storage] | None = None) -> Any:
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
    if name.startswith("torch._utils._rebuild_parameter"):
        return arguments[0]
    if name in ("torch._tensor._rebuild_from_type_v2", "torch._tensor._rebuild_from_type"):
        return _called(arguments[0], arguments[2])
    if name == "torch.Size":
        return arguments[0]
    return Thing(name)


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
