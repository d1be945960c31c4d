"""Reads every record of prepared shards (`data/sources/prepared.py`) and names each that is damaged."""

from pathlib import Path
from typing import Any

from jigclu_jax.data.sources.prepared import Records, Say, array_records, read_index, read_summary, reader_class
from jigclu_jax.errors import ImageError, UserError, counted


def verify_shards(output: str | Path, split: str, say: Say = lambda done, count: None) -> tuple[int, list[str]]:
    """(images read, a line for each record or shard that is damaged); raises UserError where there is nothing to verify."""
    reader_class()  # not installed is no damage
    root, summary = read_summary(output, split)
    damaged, read, count = [], 0, sum(shard["images"] for shard in summary["shards"])
    for facts in summary["shards"]:
        shard = root / facts["file"]
        try:
            damaged += _verify_shard(shard, facts, summary)
        except UserError as error:
            damaged.append(str(error))
        read += facts["images"]
        say(read, count)
    return read, damaged


def _verify_shard(shard: Path, facts: dict[str, Any], summary: dict[str, Any]) -> list[str]:
    """What is wrong with a shard of which SPLIT.json tells `facts`; UserError where its index cannot be read or the shard is missing."""
    index = read_index(shard)
    if not shard.exists():
        raise UserError(f"{shard}: this shard is missing")
    problems, size = [], shard.stat().st_size
    if size != facts["bytes"]:
        problems.append(f"{shard}: {size} bytes, the index says {facts['bytes']}")
    if len(index["id"]) != facts["images"]:
        problems.append(f"{shard}: {counted(len(index['id']), 'record')} in its index, {summary['split']}.json says {facts['images']}")
    try:
        records = array_records([shard])
        found = len(records)
    except UserError as error:
        return [*problems, str(error)]
    if found != len(index["id"]):
        return [*problems, f"{shard}: {counted(found, 'record')}, the index says {len(index['id'])}"]
    images = Records([shard], [index], records, raw=summary["format"] == "raw")
    for number in range(found):
        try:
            images.check(number)
        except ImageError as error:
            problems.append(str(error))
    return problems
