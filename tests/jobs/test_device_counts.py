"""A run that goes on with other numbers of devices ends as one that kept its own, but for rounding."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jobs import tiny
from tiny_backbone import tiny_backbone

from jigclu_jax.errors import Preempted
from jigclu_jax.jobs import pretrain
from jigclu_jax.methods import jigclu
from jigclu_jax.train.checkpoint import read_checkpoint
from jigclu_jax.train.stop import STOP
from jigclu_jax.train.writers import JsonlWriter, read_metrics


@pytest.mark.slow
@pytest.mark.devices8
def test_one_then_four_then_two_devices(float64: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, devices = JsonlWriter.write, jax.devices()
    monkeypatch.setattr(jigclu, "build_backbone", lambda model: tiny_backbone(model.dtype, blocks=1))
    monkeypatch.setattr(pretrain, "export_last", lambda *what: None)  # three blocks are no ResNet of any format

    def run(workdir: str, count: int, stop_after: int | None) -> None:
        def stop_at(self: JsonlWriter, step: int, metrics: Mapping[str, Any]) -> None:
            write(self, step, metrics)
            if step == stop_after:
                STOP.request()

        monkeypatch.setattr(JsonlWriter, "write", stop_at)
        monkeypatch.setattr(jax, "devices", lambda *_: devices[:count])
        config = tiny.pretrain_config()
        config.model.dtype = "float64"
        config.optimizer.learning_rate = 0.002
        if stop_after is None:
            pretrain.run(config, tmp_path / workdir)
        else:
            with pytest.raises(Preempted):
                pretrain.run(config, tmp_path / workdir)
            STOP.clear()

    run("straight", 1, None)
    for count, stop_after in ((1, 3), (4, 8), (2, None)):
        run("changing", count, stop_after)
    rows = [read_metrics(tmp_path / name) for name in ("straight", "changing")]
    assert [row["step"] for row in rows[1]] == list(range(1, 13))
    for name in ("loss", "loss_cluster", "loss_location", "gradient_norm"):
        np.testing.assert_allclose([row[name] for row in rows[1]], [row[name] for row in rows[0]], rtol=1e-6, err_msg=name)
    (step, _, straight), (same, _, changing) = (read_checkpoint(tmp_path / name) for name in ("straight", "changing"))
    assert step == same == 12
    for group in ("params", "stats", "opt"):
        for (path, left), right in zip(jax.tree_util.tree_leaves_with_path(straight[group]), jax.tree.leaves(changing[group]), strict=True):
            error = np.abs(np.asarray(left) - np.asarray(right)).max() / max(np.abs(left).max(), 1e-30)
            assert error <= 1e-6, f"{group}{jax.tree_util.keystr(path)}: {error}"
