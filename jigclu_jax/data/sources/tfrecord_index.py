"""Random access to TFRecord files: where each record begins, found once, then ranged reads.

A record is its length (uint64), the CRC of the length (uint32), the bytes, and the CRC of the bytes (uint32), all little
endian. Finding the records needs no TensorFlow and, on a local disk, reads the lengths alone.
"""

import concurrent.futures
import dataclasses
import os
import struct
from collections.abc import Sequence
from typing import BinaryIO, cast

import google_crc32c
import numpy as np
from etils import epath
from jaxtyping import Int64

from jigclu_jax.data.sources.cache import cached, file_stamp
from jigclu_jax.errors import ImageError, UserError, one_line

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8  # TFRecord stores CRCs rotated and shifted by this
# A local disk is asked for each header; a remote one gives large pieces, as every request costs milliseconds.
_REMOTE_WINDOW = 8 * 2**20
_SHARD_THREADS = 16


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file and, for each record, the position and number of its bytes."""

    path: str
    offsets: Int64[np.ndarray, " n"]
    lengths: Int64[np.ndarray, " n"]
    stamp: str

    def __len__(self) -> int:
        return len(self.offsets)

    def read(self, index: int, check: bool = True) -> bytes:
        """The bytes of record `index`; raises ImageError where they cannot be read or, with `check`, fail their CRC."""
        where = f"{self.path}, record {index}"
        length = int(self.lengths[index])
        try:
            with _open(self.path) as file:
                file.seek(int(self.offsets[index]))
                data = file.read(length + _FOOTER.size)
        except Exception as error:  # remote file systems raise other things than OSError, TensorFlow's its own
            raise ImageError(f"{where}: cannot be read: {one_line(error)}") from error
        if len(data) < length + _FOOTER.size:
            raise ImageError(f"{where}: the file has become shorter since it was indexed")
        payload, footer = data[:length], data[length:]
        if check and masked_crc32c(payload) != _FOOTER.unpack(footer)[0]:
            raise ImageError(f"{where}: damaged: the bytes do not match their checksum")
        return payload


def index_shards(paths: Sequence[epath.PathLike]) -> list[Shard]:
    """The records of each TFRecord file of `paths`, from the cache where the file has not changed since.

    Raises UserError naming the file that is missing, truncated, or no TFRecord file.
    """
    with concurrent.futures.ThreadPoolExecutor(_SHARD_THREADS) as pool:
        return list(pool.map(_index_shard, (os.fspath(epath.Path(path)) for path in paths)))


def _index_shard(path: str) -> Shard:
    try:
        stamp = file_stamp(path)
        arrays = cached("tfrecord", path, stamp, lambda: _find_records(path, int(stamp.split(":")[0])))
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file: prepare the data set again") from error
    except Exception as error:  # as in Shard.read
        raise UserError(f"{path}: cannot be read: {one_line(error)}") from error
    return Shard(path, arrays["offsets"], arrays["lengths"], stamp)


def _find_records(path: str, size: int) -> dict[str, np.ndarray]:
    window_size = _REMOTE_WINDOW if "://" in path else _HEADER.size
    offsets: list[int] = []
    lengths: list[int] = []
    position, window, window_start = 0, b"", 0
    with _open(path) as file:
        while position < size:
            header = window[position - window_start : position - window_start + _HEADER.size]
            if len(header) < _HEADER.size:
                file.seek(position)
                window, window_start = file.read(window_size), position
                header = window[: _HEADER.size]
            if len(header) < _HEADER.size:
                raise UserError(f"{path}: truncated in the header of record {len(offsets)}: prepare the data set again")
            length, crc = _HEADER.unpack(header)
            if masked_crc32c(header[:8]) != crc:
                what = f"damaged in the header of record {len(offsets)}" if offsets else "not a TFRecord file"
                raise UserError(f"{path}: {what}: prepare the data set again")
            position += _HEADER.size
            if position + length + _FOOTER.size > size:
                raise UserError(f"{path}: truncated in record {len(offsets)}: prepare the data set again")
            offsets.append(position)
            lengths.append(length)
            position += length + _FOOTER.size
    return {"offsets": np.array(offsets, np.int64), "lengths": np.array(lengths, np.int64)}


def masked_crc32c(data: bytes) -> int:
    """CRC-32C of `data` as TFRecord files store it."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _open(path: str) -> BinaryIO:
    # unbuffered on a local disk: a buffer would read 8 KiB for a header of 12 bytes
    return cast(BinaryIO, epath.Path(path).open("rb") if "://" in path else open(path, "rb", buffering=0))
