"""Time to read and decode one image: original files, prepared shards (ArrayRecord), and the same records as TFRecord.

    python benchmarks/read_records.py --data FOLDER --prepared DIR [--rounds 5]

Every row reads all images once a round in one shuffled order, on one thread, from a warm page cache; the rows take turns, and the
value is the median of the rounds in ms an image. ArrayRecord checks each record in C++, and `decode` of prepared images the CRC-32
of their index besides. TFRecord is read as `source=tfds` does, with google-crc32c; the row without check is the format alone.
`opening_s` is the time to open the set, for TFRecord to find its records.
"""

import argparse
import os
import random
import statistics
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rows import print_row

from jigclu_jax.data.sources.decode import decode_rgb
from jigclu_jax.data.sources.folder import FolderSource
from jigclu_jax.data.sources.prepared import PreparedSource, array_records, reader_class
from jigclu_jax.data.sources.tfrecord_index import index_shards, masked_crc32c


def as_tfrecord(records: list[bytes], path: Path) -> None:
    """The records as TensorFlow's writer would store them."""
    with open(path, "wb") as file:
        for record in records:
            length = struct.pack("<Q", len(record))
            file.write(length + struct.pack("<I", masked_crc32c(length)) + record + struct.pack("<I", masked_crc32c(record)))


def milliseconds(call: Callable[[int], object], order: list[int]) -> float:
    begun = time.perf_counter()
    for index in order:
        call(index)
    return 1000 * (time.perf_counter() - begun) / len(order)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="any tree of images")
    parser.add_argument("--prepared", required=True, help="shards of the same images, written by the prepare job")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    files = FolderSource(arguments.data)
    reader_class()  # its import is no part of opening
    begun = time.perf_counter()
    prepared = PreparedSource(arguments.prepared)
    opening = {"prepared": time.perf_counter() - begun}
    if len(files) != len(prepared):
        parser.error(f"{len(files)} files, {len(prepared)} prepared images: prepare all of them")
    order = list(range(len(files)))
    random.Random(0).shuffle(order)
    records = array_records(sorted(Path(arguments.prepared).glob("*.array_record")))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JIGCLU_JAX_CACHE"] = folder  # the index is made here, not taken from an earlier run
        path = Path(folder) / "images.tfrecord"
        as_tfrecord([records[index] for index in range(len(prepared))], path)
        begun = time.perf_counter()
        shard = index_shards([path])[0]
        opening["tfrecord"] = time.perf_counter() - begun
        rows: dict[str, Callable[[int], object]] = {
            "files, read": files.encoded,
            "files, read and decode": files.read,
            "prepared, read": records.__getitem__,
            "prepared, read and decode": prepared.read,
            "tfrecord, read without check": lambda index: shard.read(index, check=False),
            "tfrecord, read": shard.read,
            "tfrecord, read and decode": lambda index: decode_rgb(shard.read(index), "record"),
        }
        for call in rows.values():  # page cache, tables
            milliseconds(call, order)
        times: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(arguments.rounds):
            for name, call in rows.items():
                times[name].append(milliseconds(call, order))
    peer = statistics.median(times["files, read and decode"])
    for name, found in times.items():
        value, place = statistics.median(found), name.partition(",")[0]
        spread = {"low": round(min(found), 4), "high": round(max(found), 4), "images": len(order)}
        seconds = {"opening_s": round(opening[place], 4)} if place in opening else {}
        print_row(name, round(value, 4), "ms/image", peer="files, read and decode", peer_value=round(peer, 4), **spread, **seconds)


if __name__ == "__main__":
    main()
