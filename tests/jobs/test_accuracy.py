"""Results of a classifier from the rows of its run."""

from pathlib import Path

import numpy as np
import pytest
from named_errors import raises_naming

from jigclu_jax.config import probe_config
from jigclu_jax.data.sources.arrays import ArraySource
from jigclu_jax.jobs.accuracy import accuracy_results
from jigclu_jax.json_file import DamagedFile
from jigclu_jax.train.writers import JsonlWriter


@pytest.mark.parametrize(("classes", "top5"), [(5, None), (6, 0.975)])
def test_top5_is_a_result_where_it_can_be_wrong(tmp_path: Path, classes: int, top5: float | None) -> None:
    writer = JsonlWriter(tmp_path)
    for epoch, top1 in ((1, 0.5), (2, 0.4)):
        writer.write(epoch, {"epoch": epoch, "probe_top1": top1, "probe_top5": 0.975})
    writer.close()
    labels = np.arange(40, dtype=np.int32) % classes
    source = ArraySource(np.zeros((40, 2, 2, 3), np.uint8), labels)
    found = accuracy_results(tmp_path, probe_config(), source)
    assert (found["probe_top1_last"], found["probe_top1_best"], found["probe_best_epoch"]) == (0.4, 0.5, 1)
    assert found["probe_top5_last"] == top5 and (found["probe_top5_last_interval"] is None) == (top5 is None)


@pytest.mark.parametrize(
    "row", [b"", b"junk", b'{"step": 3, "probe_top1": 0.5, "epoch": 1}', b'{"step": 3, "probe_top1": 7, "probe_top5": 1, "epoch": 1}']
)
def test_rows_without_an_accuracy_are_named(tmp_path: Path, row: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(row)
    with raises_naming(f"{tmp_path}/metrics.jsonl", "probe_top1", kind=DamagedFile):
        accuracy_results(tmp_path, probe_config(), ArraySource(np.zeros((4, 2, 2, 3), np.uint8), np.arange(4)))
