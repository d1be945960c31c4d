"""Writes a file that `torch.load` reads, with its weights_only, without PyTorch: a zip archive of a pickle and the raw numbers."""

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

_STORAGES = {"float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage", "int64": "LongStorage"}


def torch_bytes(value: Mapping[str, Any]) -> bytes:
    """The file of a dict of arrays (float16, float32, float64, int64), or of such dicts, as `torch.save` would write it."""
    parts: list[bytes] = []
    pickled = b"\x80\x02" + _dict(value, parts) + b"."
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:

        def put(name: str, data: bytes) -> None:  # with a fixed date, so that equal weights are equal files
            archive.writestr(zipfile.ZipInfo(f"archive/{name}", (1980, 1, 1, 0, 0, 0)), data)

        put("data.pkl", pickled)
        put("byteorder", b"little")
        for key, data in enumerate(parts):
            put(f"data/{key}", data)
        put("version", b"3\n")
    return buffer.getvalue()


def _dict(value: Mapping[str, Any], parts: list[bytes]) -> bytes:
    items = (_text(name) + (_dict(child, parts) if isinstance(child, Mapping) else _tensor(child, parts)) for name, child in value.items())
    return b"}(" + b"".join(items) + b"u"


def _tensor(array: np.ndarray, parts: list[bytes]) -> bytes:
    """The opcodes of torch._utils._rebuild_tensor_v2(storage, 0, shape, stride, False, OrderedDict())."""
    array = np.asarray(array, order="C")
    kind = _STORAGES[array.dtype.name].encode()
    key, strides = _text(str(len(parts))), tuple(step // array.itemsize for step in array.strides)
    parts.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
    storage = b"(" + _text("storage") + b"ctorch\n" + kind + b"\n" + key + _text("cpu") + _whole(array.size) + b"tQ"
    rest = _whole(0) + _wholes(array.shape) + _wholes(strides) + b"\x89" + b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _whole(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def _wholes(numbers: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_whole, numbers)) + b"t"
