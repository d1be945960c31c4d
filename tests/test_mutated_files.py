"""Own JSON files with something exchanged anywhere in them: every reader gives one line, or what it can make of the rest."""

import copy
import dataclasses
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_checkpoint import tiny_config

from jigclu_jax.config import check_config, read_config
from jigclu_jax.data.sources.prepared import read_summary
from jigclu_jax.errors import UserError
from jigclu_jax.metrics import accuracy_spec, loss_spec
from jigclu_jax.report.workdir_files import read_run
from jigclu_jax.train.workdir import config_as_dict, read_result, write_result

VALUES = (
    None,
    True,
    -1,
    0.5,
    10**30,
    float("nan"),
    float("inf"),
    "",
    "\u732b\0",
    "../elsewhere",
    "x" * 5000,
    [],
    {},
    [None],
    {"": {}},
    [[[]]],
)
SHARD = {"file": "train-00000.array_record", "images": 3, "bytes": 100}
SUMMARY = {"version": 1, "split": "train", "format": "jpeg", "classes": ["a", "b"], "shards": [SHARD]}


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """(node, key) of everything below a tree."""
    items = list(tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ())
    for key, child in items:
        yield tree, key
        yield from places(child)


@pytest.mark.parametrize("name", ["config.json", "result.json", "metric_specs.json", "train.json"])
def test_whatever_stands_in_a_file_is_read_or_named(tmp_path: Path, name: str) -> None:
    write_result(tmp_path, {"job": "pretrain", "seed": 0, "seconds": 1.0, "search": [{"top1": 0.5}]})
    (tmp_path / "config.json").write_text(json.dumps(config_as_dict(tiny_config())))
    (tmp_path / "train.json").write_text(json.dumps(SUMMARY))
    specs = [dataclasses.asdict(spec) for spec in (accuracy_spec("top1", "top-1", 0.1), loss_spec("loss", "loss"))]
    (tmp_path / "metric_specs.json").write_text(json.dumps(specs))
    whole = json.loads((tmp_path / name).read_text())
    draw = random.Random(name)
    for _ in range(150):
        tree = copy.deepcopy(whole)
        node, key = draw.choice(list(places(tree)))
        if draw.random() < 0.2:
            del node[key]
        else:
            node[key] = draw.choice(VALUES)
        (tmp_path / name).write_text(json.dumps(tree))
        try:
            if name == "config.json":
                check_config(read_config(tmp_path))
            elif name == "train.json":
                read_summary(tmp_path, "train")
            else:
                read_result(tmp_path)
                read_run(tmp_path)
        except UserError as error:
            assert "\n" not in str(error)
