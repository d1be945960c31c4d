"""Source of the shards that the `prepare` job wrote: ArrayRecord files of encoded or raw images, and an index beside them.

A folder holds, for each split, `SPLIT.json` (what was prepared, written last), `SPLIT-00000.array_record` with one image a record
(a JPEG file, or raw RGB bytes), and `SPLIT-00000.npz` with each record's id, label, size and CRC-32, and the bytes of the shard.
"""

import bisect
import contextlib
import io
import itertools
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from jigclu_jax.atomic_file import is_remote
from jigclu_jax.data.sources.decode import decode_rgb
from jigclu_jax.errors import ImageError, RecordError, UserError, counted, one_line
from jigclu_jax.json_file import NOTHING, check_kinds, parse_json

Say = Callable[[int, int], None]  # images done, images in all
FORMAT_VERSION = 1
FORMATS = ("jpeg", "raw")
INSTALL = "pip install array-record"
COLUMNS = ("id", "label", "height", "width", "crc32")  # of an index: str, int32 (-1: none), int32, int32, uint32
AGAIN = "start the prepare job again"  # a shard that is not whole is written anew then
_BAD_INDEX = (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)  # what np.load raises for damaged files


def shard_path(folder: Path, split: str, number: int) -> Path:
    """The records of a shard; its index stands beside it with the ending `.npz`."""
    return folder / f"{split}-{number:05d}.array_record"


def is_prepared(folder: str | Path) -> bool:
    """Whether a local folder is one that the prepare job writes to, finished or not."""
    root = Path(folder).expanduser()
    return not is_remote(folder) and root.is_dir() and (any(root.glob("*-00000.array_record")) or any(root.glob(".*.preparing")))


def read_summary(folder: str | Path, split: str) -> tuple[Path, dict[str, Any]]:
    """(folder, contents of SPLIT.json); split "" takes the only one there is.

    Raises:
      UserError: no such folder or split, a preparation that was not finished, or an index of another version.
    """
    if is_remote(folder):
        raise UserError(f"{folder}: prepared images are read from a local folder: copy it to this machine first")
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(f"{root}: no such folder: set path to the output of the prepare job")
    found = sorted(path.stem for path in root.glob("*.json") if _may_be_summary(path))
    if not found:
        begun = any(root.glob(".*.preparing"))
        what = f"the preparation was not finished: {AGAIN}" if begun else "no prepared images: run the prepare job"
        raise UserError(f"{root}: {what}")
    if not split and len(found) > 1:
        raise UserError(f"{root}: set split to one of {', '.join(found)}")
    name = split or found[0]
    if name not in found:
        raise UserError(f"{root}: there is no split {name!r} here: choose {', '.join(found)}")
    path = root / f"{name}.json"
    try:
        summary = parse_json(path.read_bytes(), {"version": (int,)})
        version = summary["version"]
        if version == FORMAT_VERSION:  # another version may have other fields
            _check_summary(summary, name)
    except (ValueError, OSError) as error:
        what = f"no index of prepared images ({one_line(error)})"
        raise UserError(f"{path}: {what}: put back a copy of it, or prepare the images again in an empty folder") from error
    if version != FORMAT_VERSION:
        raise UserError(f"{path}: index version {version}, this library reads {FORMAT_VERSION}: prepare the images again")
    return root, summary


def _check_summary(summary: Mapping[str, Any], split: str) -> None:
    """ValueError where an index does not hold what the prepare job writes."""
    check_kinds(summary, {"split": (str,), "format": (str,), "classes": (list, NOTHING), "shards": (list,)})
    if summary["split"] != split:
        raise ValueError(f"`split` is {summary['split']!r}")
    if summary["format"] not in FORMATS:
        raise ValueError(f"`format` is {summary['format']!r} and not {' or '.join(FORMATS)}")
    if not all(isinstance(name, str) for name in summary["classes"] or ()):
        raise ValueError("`classes` is no list of names")
    if not summary["shards"]:
        raise ValueError("`shards` is empty")
    for shard in summary["shards"]:
        if not isinstance(shard, dict):
            raise ValueError("`shards` is no list of objects")
        check_kinds(shard, {"file": (str,), "images": (int,), "bytes": (int,)})
        if not re.fullmatch(rf"{re.escape(split)}-\d+\.array_record", shard["file"]):
            raise ValueError(f"`file` is {shard['file']!r} and no shard of this split")
        if shard["images"] < 1 or shard["bytes"] < 0:
            raise ValueError(f"{shard['file']} with `images` {shard['images']}, `bytes` {shard['bytes']}")


def _may_be_summary(path: Path) -> bool:
    """Not another JSON file: a job's result, say. A damaged one may be."""
    try:
        contents = parse_json(path.read_bytes())
    except (ValueError, OSError):
        return True
    return bool({"shards", "version", "short_side"} & contents.keys())


def open_index(shard: Path) -> Any:
    """The arrays of a shard's index, as a context; raises what numpy does for files that are missing or damaged."""
    return np.load(io.BytesIO(shard.with_suffix(".npz").read_bytes()))  # given a name, numpy leaves damaged files open


def read_index(shard: Path) -> dict[str, np.ndarray]:
    """The columns of a shard's index; UserError where it is missing or damaged."""
    path = shard.with_suffix(".npz")
    try:
        with open_index(shard) as columns:
            index = {name: columns[name] for name in COLUMNS}
        if len({len(column) for column in index.values()}) != 1:
            raise ValueError("columns of different lengths")
    except _BAD_INDEX as error:
        raise UserError(f"{path}: missing or damaged index ({one_line(error)}): {AGAIN}") from error
    return index


def whole_index(shard: Path) -> tuple[dict[str, np.ndarray], dict[str, str]] | None:
    """(columns of the index, image left out -> why) of a shard that has the bytes its index names; None for any other."""
    try:
        index = read_index(shard)
        with open_index(shard) as columns:
            whole = shard.stat().st_size == int(columns["bytes"])
            skipped = left_out(columns)
    except (UserError, *_BAD_INDEX):
        return None
    return (index, skipped) if whole else None


def left_out(columns: Any) -> dict[str, str]:
    """Image -> why it was left out, of a shard's index; ValueError where that is no such thing."""
    skipped = parse_json(str(columns["skipped"]))
    check_kinds(skipped, dict.fromkeys(skipped, (str,)))
    return skipped


def array_records(shards: Sequence[Path]) -> Any:
    """The reader of several files, by number of the record; raises UserError naming the shard that cannot be opened."""
    reader = reader_class()
    try:
        return reader([str(shard) for shard in shards])
    except Exception as error:  # the C++ reader raises RuntimeError or ValueError for a file whose end is damaged, and does not name it
        for shard in shards:
            try:
                reader([str(shard)])
            except Exception as reason:
                advice = f"delete the shard and {AGAIN}"
                raise UserError(f"{shard}: cannot be opened, all its records are lost: {one_line(reason)}: {advice}") from error
        raise UserError(f"{shards[0].parent}: the shards cannot be opened: {one_line(error)}") from error


def reader_class() -> Any:
    """ArrayRecord's reader; raises UserError where the package is not installed."""
    try:
        from array_record.python.array_record_data_source import ArrayRecordDataSource
    except ImportError as error:
        raise UserError(f"prepared images need a package that is not installed ({error.name}): {INSTALL}") from error
    return ArrayRecordDataSource


class Records:
    """The images of some shards by number, checked against their indices."""

    def __init__(self, shards: Sequence[Path], indices: Sequence[Mapping[str, np.ndarray]], records: Any, *, raw: bool) -> None:
        self.index = {name: np.concatenate([index[name] for index in indices]) for name in COLUMNS}
        self.ids: tuple[str, ...] = tuple(self.index["id"].tolist())
        self._ends = list(itertools.accumulate(len(index["id"]) for index in indices))
        self._shards, self._records, self._raw = shards, records, raw

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Image `index` as RGB, uint8[h, w, 3]; raises ImageError naming shard, record and id."""
        return self._picture(index, self._record(index))

    def _picture(self, index: int, record: bytes) -> UInt8[np.ndarray, "h w 3"]:
        if not self._raw:
            return decode_rgb(record, self.describe(index))
        shape = int(self.index["height"][index]), int(self.index["width"][index]), 3
        if len(record) != math.prod(shape):
            raise RecordError(f"{self.describe(index)}: {len(record)} bytes, the index says {shape[0]} x {shape[1]} pixels")
        return np.frombuffer(record, np.uint8).reshape(shape)

    def check(self, index: int) -> None:
        """Read, decode and compare with the index's CRC-32; raises ImageError for a record that fails.

        ArrayRecord itself finds damage whenever it reads, by a hash of every chunk, so the CRC tells whole files apart that got mixed up.
        """
        record = self._record(index)
        self._picture(index, record)
        if not self._is_indexed(index, record):
            raise RecordError(f"{self.describe(index)}: not the record that the index was written for, its checksum differs")

    def _is_indexed(self, index: int, record: bytes) -> bool:
        return zlib.crc32(record) == int(self.index["crc32"][index])

    def _record(self, index: int) -> bytes:
        try:
            record: bytes = self._records[index]
        except Exception as error:  # the C++ reader raises RuntimeError, ValueError or IndexError for damaged files
            raise RecordError(f"{self.describe(index)}: cannot be read: {one_line(error)}") from error
        return record

    def check_shards(self) -> None:
        """UserError for a shard whose first record is not the index's: another shard under its name, of the same size."""
        for shard, first, end in zip(self._shards, [0, *self._ends], self._ends, strict=False):
            with contextlib.suppress(ImageError):  # damaged: for whoever reads it
                if first < end and not self._is_indexed(first, self._record(first)):
                    raise UserError(f"{shard}: not the shard that its index was written for: copy both from one place")

    def describe(self, index: int) -> str:
        """Shard, number in it and id of image `index`."""
        shard = bisect.bisect_right(self._ends, index)
        first = self._ends[shard - 1] if shard else 0
        return f"{self._shards[shard]}, record {index - first} ({self.ids[index]})"


class PreparedSource:
    """Prepared images below `path`; raises UserError where the index does not match the shards."""

    def __init__(self, path: str, split: str = "") -> None:
        if not path:
            raise UserError("path='': source 'prepared' needs path, the output of the prepare job")
        root, summary = read_summary(path, split)
        self.name = f"{root} ({summary['split']})"
        self._shards = [root / shard["file"] for shard in summary["shards"]]
        indices = []
        for shard, facts in zip(self._shards, summary["shards"], strict=True):
            if not shard.exists():
                raise UserError(f"{shard}: this shard is missing: copy it here, or {AGAIN}")
            if shard.stat().st_size != facts["bytes"]:
                size = f"{shard.stat().st_size} bytes, the index says {facts['bytes']}"
                raise UserError(f"{shard}: {size}: {AGAIN}")
            index = read_index(shard)
            if len(index["id"]) != facts["images"]:
                found = f"{counted(len(index['id']), 'record')}, {root / summary['split']}.json says {facts['images']}"
                raise UserError(f"{shard.with_suffix('.npz')}: {found}: copy both from one place")
            indices.append(index)
        self._images = Records(self._shards, indices, array_records(self._shards), raw=summary["format"] == "raw")
        self._images.check_shards()
        self.ids: tuple[str, ...] = self._images.ids
        self.classes: tuple[str, ...] | None = tuple(summary["classes"]) if summary["classes"] is not None else None
        self.labels: Int32[np.ndarray, " n"] | None = self._images.index["label"] if self.classes is not None else None

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Image `index` as RGB, uint8[h, w, 3]; raises ImageError naming shard, record and id."""
        return self._images.read(index)

    def describe(self, index: int) -> str:
        """Shard, number in it and id of image `index`."""
        return self._images.describe(index)
