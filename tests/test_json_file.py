"""Own files that hold something else: one line that names the file, by every reader."""

import json
from pathlib import Path
from typing import Any

import pytest

from jigclu_jax.config import read_config
from jigclu_jax.data.sources.prepared import read_summary
from jigclu_jax.errors import UserError
from jigclu_jax.json_file import DamagedFile, check_kinds, read_json, read_objects
from jigclu_jax.report.workdir_files import read_run
from jigclu_jax.train.workdir import read_result, write_result
from jigclu_jax.train.writers import read_metrics

CONTENTS = {
    "empty": b"",
    "cut short": b'{"job": "pre',
    "a list": b"[1]",
    "a number": b"3",
    "no UTF-8": b"\xff\xfe\x00",
    "deep objects": b'{"a":' * 100_000,
    "deep lists": b"[" * 100_000,
    "deep, and complete": b'{"job": ' * 80 + b"1" + b"}" * 80,
}


def put(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if content == "a folder":
        path.mkdir()
    else:
        path.write_bytes(CONTENTS[content])


@pytest.mark.parametrize("content", [*CONTENTS, "a folder"])
@pytest.mark.parametrize("name", ["config.json", "result.json", "metrics.jsonl", "metric_specs.json", "train.json"])
def test_every_reader_names_the_file(tmp_path: Path, name: str, content: str) -> None:
    put(tmp_path / name, content)
    if name == "metric_specs.json" and content == "a list":
        content = "a list, of numbers"
    readers = {"config.json": read_config, "result.json": read_result, "metrics.jsonl": read_metrics, "metric_specs.json": read_run}
    if name == "metrics.jsonl" and content != "a folder":  # a last line that was cut short is left out
        (tmp_path / name).write_bytes(CONTENTS[content] + b"\n")
        if content == "empty":
            return
    with pytest.raises(UserError) as raised:
        read_summary(tmp_path, "train") if name == "train.json" else readers[name](tmp_path)
    assert str(tmp_path / name) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"seconds": "long"},
        {"seconds": True},
        {"seconds": float("nan")},
        {"probe_top1_last": [1]},
        {"job": None},
        {"version": 3},
        {"commit": {}},
    ],
)
def test_a_result_with_fields_of_other_types_is_damaged(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_result(tmp_path, {"job": "pretrain", "seed": 0, "seconds": 1.0})
    assert (read_result(tmp_path) or {})["seconds"] == 1.0
    (tmp_path / "result.json").write_text(json.dumps(json.loads((tmp_path / "result.json").read_text()) | changes))
    with pytest.raises(DamagedFile, match=next(iter(changes))):
        read_result(tmp_path)


SHARD = {"file": "train-00000.array_record", "images": 3, "bytes": 100}
SUMMARY = {"version": 1, "split": "train", "format": "jpeg", "classes": ["a", "b"], "shards": [SHARD]}


def test_an_index_as_the_prepare_job_writes_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(json.dumps(SUMMARY))
    assert read_summary(tmp_path, "")[1] == SUMMARY


@pytest.mark.parametrize(
    "changes",
    [
        {"shards": []},
        {"shards": {}},
        {"shards": [3]},
        {"shards": [SHARD | {"file": 3}]},
        {"shards": [SHARD | {"file": "../elsewhere"}]},
        {"shards": [SHARD | {"file": "/etc/passwd"}]},
        {"shards": [SHARD | {"file": "train-0/../../x.array_record"}]},
        {"shards": [SHARD | {"images": -1}]},
        {"shards": [SHARD | {"images": 2.5}]},
        {"shards": [SHARD | {"bytes": "many"}]},
        {"shards": [{"file": SHARD["file"]}]},
        {"format": "exe"},
        {"format": None},
        {"classes": "ab"},
        {"classes": [1, 2]},
        {"split": 3},
        {"split": "val"},
        {"version": "1"},
    ],
)
def test_an_index_that_prepare_has_not_written_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "train.json").write_text(json.dumps(SUMMARY | changes))
    with pytest.raises(UserError) as raised:
        read_summary(tmp_path, "train")
    assert str(tmp_path / "train.json") in str(raised.value) and "\n" not in str(raised.value)


def test_types_are_told_apart() -> None:
    check_kinds({"a": 1, "b": 1.5, "c": None}, {"a": (float,), "b": (int, float), "c": (str, type(None))})
    for wrong in ({}, {"a": True}, {"a": 1.5}, {"a": "1"}, {"a": None}, {"a": float("inf")}):
        with pytest.raises(ValueError, match="`a`"):
            check_kinds(wrong, {"a": (int,)})


def test_a_list_of_objects(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('[{"name": "a"}, {"name": "b"}]')
    assert [item["name"] for item in read_objects(tmp_path / "x.json", {"name": (str,)}, "mend it")] == ["a", "b"]
    with pytest.raises(DamagedFile, match="mend it"):
        read_json(tmp_path / "x.json", {}, "mend it")
