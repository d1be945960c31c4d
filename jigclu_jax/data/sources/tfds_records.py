"""Reads the records of a TFDS split by number, from array_record or tfrecord files."""

import bisect
import itertools
import os
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from etils import epath

from jigclu_jax.data.sources.cache import file_stamp
from jigclu_jax.data.sources.tfrecord_index import Shard, index_shards
from jigclu_jax.errors import ImageError, UserError, counted, one_line

INSTALL = "pip install tensorflow-datasets array-record importlib-resources"


@runtime_checkable
class FileInstruction(Protocol):
    """What TFDS says about the part of a file that belongs to a split."""

    @property
    def filename(self) -> os.PathLike[str] | str: ...
    @property
    def skip(self) -> int: ...
    @property
    def take(self) -> int: ...
    @property
    def examples_in_shard(self) -> int: ...


class Records:
    """Which record of which file is record `index` of the split; a file may occur twice ("train[:5%]+train[90%:]")."""

    def __init__(self, instructions: Sequence[FileInstruction]) -> None:
        self._paths = [os.fspath(part.filename) for part in instructions]
        self._skips = [part.skip for part in instructions]
        self._ends = list(itertools.accumulate(part.take for part in instructions))
        parts = zip(self._paths, self._skips, instructions, strict=True)
        self.key = "\n".join(f"{path}[{skip}:{skip + part.take}]" for path, skip, part in parts)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, index: int, check: bool = True) -> bytes:
        """The bytes of record `index`; raises ImageError where they are damaged (looked for with `check`)."""
        raise NotImplementedError

    def describe(self, index: int) -> str:
        """The file of record `index` and its number in there."""
        part, position = self.locate(index)
        return f"{self._paths[part]}, record {position}"

    def stamp(self) -> str:
        """Text that differs when one of the files was written anew."""
        return "\n".join(file_stamp(path) for path in self._paths)

    def locate(self, index: int) -> tuple[int, int]:
        """Numbers of the part and of the record in its file; raises IndexError."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        part = bisect.bisect_right(self._ends, index)
        before = self._ends[part - 1] if part else 0
        return part, self._skips[part] + index - before


class TfrecordRecords(Records):
    """Records of tfrecord files, through `index_shards`; raises UserError for files that are missing or damaged."""

    def __init__(self, instructions: Sequence[FileInstruction]) -> None:
        super().__init__(instructions)
        expected = dict(zip(self._paths, (part.examples_in_shard for part in instructions), strict=True))
        shards = dict(zip(expected, index_shards(list(expected)), strict=True))
        for path, shard in shards.items():
            if len(shard) != expected[path]:
                raise UserError(f"{path}: {counted(len(shard), 'record')}, its data set says {expected[path]}: prepare the data set again")
        self._shards: list[Shard] = [shards[path] for path in self._paths]

    def read(self, index: int, check: bool = True) -> bytes:
        """The bytes of record `index`; raises ImageError where they are damaged (looked for with `check`)."""
        part, position = self.locate(index)
        return self._shards[part].read(position, check)

    def stamp(self) -> str:
        """Text that differs when one of the files was written anew."""
        return "\n".join(shard.stamp for shard in self._shards)


class ArrayRecordRecords(Records):
    """Records of array_record files; raises UserError for files that are missing and where array_record is."""

    def __init__(self, instructions: Sequence[FileInstruction]) -> None:
        super().__init__(instructions)
        try:
            from array_record.python.array_record_data_source import ArrayRecordDataSource
        except ImportError as error:
            raise UserError(f"array_record files need a package that is not installed ({error.name}): {INSTALL}") from error
        for path in self._paths:
            if not epath.Path(path).exists():  # the reader's own error comes with the first read, as a page of C++ status
                raise UserError(f"{path}: no such file: prepare the data set again")
        self._source = ArrayRecordDataSource(instructions)

    def read(self, index: int, check: bool = True) -> bytes:
        """The bytes of record `index`; raises ImageError where they are damaged (the format always looks)."""
        self.locate(index)
        try:
            record: bytes = self._source[index]
        except Exception as error:  # the C++ reader raises RuntimeError, ValueError or IndexError for damaged files
            raise ImageError(f"{self.describe(index)}: cannot be read: {one_line(error)}") from error
        if not record:  # what the reader gives for a file cut at certain places
            raise ImageError(f"{self.describe(index)}: cannot be read: the file is truncated or damaged")
        return record
