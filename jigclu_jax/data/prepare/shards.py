"""Writes the images of any source as prepared shards (`data/sources/prepared.py`), so that a kill loses at most one shard."""

import dataclasses
import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jigclu_jax.atomic_file import is_remote, write_bytes
from jigclu_jax.data.sources.opening import Source, encoded_image
from jigclu_jax.data.sources.prepared import (
    COLUMNS,
    FORMAT_VERSION,
    INSTALL,
    Records,
    Say,
    array_records,
    left_out,
    open_index,
    read_index,
    shard_path,
    whole_index,
)
from jigclu_jax.errors import ImageError, UnknownWhite, UserError, counted, one_line
from jigclu_jax.json_file import parse_json

Record = tuple[bytes, int, int]  # contents, height, width
_Numbered = Iterator[tuple[int, Record | ImageError]]  # number of the image, its record or why there is none
_JPEG_SIDE = 65_500  # of libjpeg
_LATER = ("min_side", "labels")
_AHEAD = 64  # images a thread pool may have finished before they are written: bounds the memory


@dataclasses.dataclass(frozen=True)
class Settings:
    """How images are stored.

    Attributes:
      split: name of the split in the output.
      format: "jpeg" (re-encoded) or "raw" (RGB bytes, for small images).
      short_side: larger images are reduced to it, in pixels; smaller ones stay as they are.
      quality: of the JPEG encoder; a JPEG file that needs no reduction is kept byte for byte.
      shard_images: images a shard.
      min_side: images with a smaller side are refused, in pixels.
    """

    split: str
    format: str
    short_side: int
    quality: int
    shard_images: int
    min_side: int = 1


@dataclasses.dataclass(frozen=True)
class Written:
    """Result of a preparation: images stored, image -> why it was left out, bytes, shards found complete at the start."""

    images: int
    skipped: dict[str, str]
    bytes: int
    shards_kept: int


def write_shards(
    source: Source, output: str | Path, settings: Settings, *, on_error: str = "stop", threads: int = 0, say: Say = lambda done, count: None
) -> Written:
    """Store every image of `source` in `output`. The same bytes, however often it was killed.

    Complete shards of an earlier try are kept where their images are the source's, by name, label and a look at the first of them.

    Raises:
      UserError: a source without images or without a length, or a folder that holds another preparation of this split or cannot be
        written.
      ImageError: an image that cannot be used, where on_error is "stop".
    """
    if is_remote(output):
        raise UserError(f"{output}: prepared images are written to a local folder: choose one, and copy it afterwards")
    root = Path(output).expanduser()
    count = _count(source)
    names = [_identity(source, number) for number in range(count)]
    facts = {**dataclasses.asdict(settings), "source": source.name, "count": count, "ids": _digest(names), "labels": _labels(source)}
    _claim(root, settings.split, facts)
    shards: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    kept = 0
    with ThreadPoolExecutor(threads or max(os.cpu_count() or 1, 2), "prepare") as pool:
        for number, first in enumerate(range(0, count, settings.shard_images)):
            last = min(first + settings.shard_images, count)
            shard = shard_path(root, settings.split, number)
            # what was cut, exchanged or made of other images must not become what the new index calls right
            if _is_kept(source, range(first, last), names[first:last], shard, settings, on_error):
                kept += 1
            else:
                _write_shard(source, names[first:last], _records(source, range(first, last), settings, pool), shard, on_error, say)
            index = read_index(shard)
            skipped |= _left_out(shard)
            if len(index["id"]):  # not where every image of it was left out
                shards.append({"file": shard.name, "images": len(index["id"]), "bytes": shard.stat().st_size})
            say(last, count)
    if not sum(shard["images"] for shard in shards):
        raise UserError(f"of {counted(count, 'image')} of {source.name} none can be used; the first: {next(iter(skipped.values()), '')}")
    classes = list(source.classes) if source.classes is not None else None
    summary = {"version": FORMAT_VERSION, "classes": classes, "shards": shards, **facts}
    path = root / f"{settings.split}.json"
    write_bytes(path, (json.dumps(summary, indent=2) + "\n").encode(), partial=f"{path.name}.part")
    (root / f".{settings.split}.preparing").unlink(missing_ok=True)
    return Written(sum(shard["images"] for shard in shards), skipped, sum(shard["bytes"] for shard in shards), kept)


def _write_shard(source: Source, names: list[str], records: _Numbered, shard: Path, on_error: str, say: Say) -> None:
    """Records under another name, then the index, then the name that makes them count."""
    try:
        from array_record.python.array_record_module import ArrayRecordWriter
    except ImportError as error:
        raise UserError(f"the prepare job needs a package that is not installed ({error.name}): {INSTALL}") from error
    part = shard.with_suffix(".array_record.part")
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    skipped: dict[str, str] = {}
    labels = source.labels
    try:
        # one record a group: any of them is read alone; JPEG does not compress further
        writer = ArrayRecordWriter(str(part), "group_size:1,uncompressed")
        try:
            for name, (number, record) in zip(names, records, strict=True):
                if isinstance(record, ImageError):
                    if on_error != "skip":
                        raise ImageError(f"{record}: mend it, or set data.on_error=skip to leave such images out") from record
                    skipped[name] = str(record)
                    continue
                contents, height, width = record
                writer.write(contents)
                label = -1 if labels is None else int(labels[number])
                for column, value in zip(COLUMNS, (name, label, height, width, zlib.crc32(contents)), strict=True):
                    columns[column].append(value)
                say(number + 1, len(source))
        finally:
            writer.close()
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    types = {"label": np.int32, "height": np.int32, "width": np.int32, "crc32": np.uint32}
    held = io.BytesIO()
    arrays: dict[str, Any] = {name: np.array(values, types.get(name, np.str_)) for name, values in columns.items()}
    np.savez_compressed(held, **arrays, skipped=np.array(json.dumps(skipped)), bytes=np.int64(part.stat().st_size))
    write_bytes(shard.with_suffix(".npz"), held.getvalue(), partial=f"{shard.stem}.npz.part")
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    part.replace(shard)


def _records(source: Source, numbers: range, settings: Settings, pool: ThreadPoolExecutor) -> _Numbered:
    """Of each image, made ahead by the pool's threads."""

    def one(number: int) -> tuple[int, Record | ImageError]:
        try:
            return number, _encode(source, number, settings)
        except UnknownWhite:  # a sound image is not left out
            raise
        except ImageError as error:
            return number, error

    for start in range(numbers.start, numbers.stop, _AHEAD):
        yield from pool.map(one, range(start, min(start + _AHEAD, numbers.stop)))


def _is_kept(source: Source, numbers: range, names: list[str], shard: Path, settings: Settings, on_error: str) -> bool:
    """Whether a shard of an earlier try holds what would be written now, as far as names, labels and its first image tell."""
    found = whole_index(shard)
    if found is None:
        return False
    index, skipped = found
    if skipped and on_error != "skip":  # each may have been mended
        return False
    stored = [(number, name) for number, name in zip(numbers, names, strict=True) if name not in skipped]
    if [name for _, name in stored] != index["id"].tolist():
        return False
    if source.labels is not None and [int(source.labels[number]) for number, _ in stored] != index["label"].tolist():
        return False
    try:
        for number, name in zip(numbers, names, strict=True):
            if name in skipped and _is_usable(source, number, settings):
                return False
        if stored:
            Records([shard], [index], array_records([shard]), raw=settings.format == "raw").check_shards()
            return zlib.crc32(_encode(source, stored[0][0], settings)[0]) == int(index["crc32"][0])
    except UserError:
        return False
    return True


def _is_usable(source: Source, number: int, settings: Settings) -> bool:
    try:
        _encode(source, number, settings)
    except ImageError:
        return False
    return True


def _encode(source: Source, number: int, settings: Settings) -> Record:
    image = Image.fromarray(source.read(number))
    short = min(image.size)
    where, size_in_words = source.describe(number), f"{image.width} x {image.height} pixels"
    if short < settings.min_side:
        raise ImageError(f"{where}: {size_in_words}, but the smaller side must have data.min_side={settings.min_side}")
    if short > settings.short_side:
        scale = settings.short_side / short
        size = tuple(max(round(side * scale), settings.short_side) for side in image.size)
        # the sharpest of Pillow's filters: training's own crop takes detail away again, and can give none back
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    if settings.format == "raw":
        return image.tobytes(), image.height, image.width
    if max(image.size) > _JPEG_SIDE:
        raise ImageError(f"{where}: {size_in_words}, more than a JPEG file can hold ({_JPEG_SIDE} a side): prepare with format=raw")
    if short <= settings.short_side:
        original = encoded_image(source, number)
        if original is not None and original[:3] == b"\xff\xd8\xff":
            return original, image.height, image.width
    held = io.BytesIO()
    image.save(held, "JPEG", quality=settings.quality)
    return held.getvalue(), image.height, image.width


def _identity(source: Source, number: int) -> str:
    """What the source calls the image, without the folder that all of them share: the same on every machine."""
    where, shared = source.describe(number), source.name
    while True:
        rest = where.removeprefix(shared).lstrip("/, ")
        if where.startswith(shared) and rest:
            return rest
        shorter = re.sub(r" \([^()]*\)$", "", shared)  # "(4 of 11)" of a subset, which no image's name has
        if shorter == shared:
            return where.rpartition("/")[2]  # a TFDS record, named by its file
        shared = shorter


def _count(source: Source) -> int:
    try:
        count = len(source)
    except TypeError as error:
        raise UserError(
            f"{source.name}: a source without a length cannot be prepared: store its images as a folder or .npz file"
        ) from error
    if not count:
        raise UserError(f"{source.name}: there are no images to prepare")
    return count


def _digest(names: Iterable[str]) -> str:
    return hashlib.sha256(b"".join(os.fsencode(name) + b"\0" for name in names)).hexdigest()


def _labels(source: Source) -> str:
    """Digest of the class list and of every image's label; empty without labels."""
    if source.labels is None:
        return ""
    labels = hashlib.sha256(np.ascontiguousarray(source.labels, np.int32).tobytes()).hexdigest()
    return _digest([*(source.classes or ()), labels])


def _left_out(shard: Path) -> dict[str, str]:
    with open_index(shard) as columns:
        return left_out(columns)


def _claim(root: Path, split: str, facts: dict[str, Any]) -> None:
    """Make the folder this preparation's, or check that it is."""
    claim, done = root / f".{split}.preparing", root / f"{split}.json"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for path in (done, claim):
            if path.exists():
                before = _facts_in(path)
                # an earlier version did not write the last two
                changed = [name for name, value in facts.items() if before.get(name, value if name in _LATER else None) != value]
                if changed:
                    raise UserError(
                        f"{root} holds another preparation of split {split!r} ({', '.join(changed)} differ): use another config.output"
                    )
                return
        if any(root.glob(f"{split}-*")):
            raise UserError(f"{root} holds files of a split {split!r} without its index: use another config.output, or delete them")
        write_bytes(claim, (json.dumps(facts, indent=2) + "\n").encode(), partial=f"{claim.name}.part")
    except (OSError, ValueError) as error:
        raise UserError(f"{root}: cannot be written: {one_line(error)}") from error


def _facts_in(path: Path) -> dict[str, Any]:
    try:
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: damaged ({one_line(error)}): put back a copy of it, or use another config.output") from error
